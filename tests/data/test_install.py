"""Datasets linked from a folder or simulated: complete or not at all."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_dataset import files_under

from saltseg.cli import app
from saltseg.data import competition, install, kaggle
from saltseg.data.check import check_dataset
from saltseg.errors import InputError
from saltseg.synthetic import dataset


def test_a_folder_is_linked_and_found_again(original, tmp_path):
    before = files_under(original)
    root, how = install.link(tmp_path / "input", original, "tgs")
    assert how == "linked"
    assert root.is_symlink()
    assert competition.dataset_root(tmp_path / "input", "tgs").resolve() == original
    assert install.link(tmp_path / "input", original, "tgs") == (root, "already there")
    assert install.link(tmp_path / "input", original)[0] == tmp_path / "input/original"
    assert files_under(original) == before


def test_where_links_are_not_permitted_the_folder_is_copied(original, tmp_path, monkeypatch):
    def refuse(self, target, target_is_directory=False):
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    root, how = install.link(tmp_path / "input", original, "tgs")
    assert how == "copied"
    assert not root.is_symlink()
    assert files_under(root) == files_under(original)


def test_something_else_of_that_name_stays_unless_asked(original, make_dataset, tmp_path):
    other = make_dataset("other", n_train=2, n_test=1)
    root, _ = install.link(tmp_path / "input", other, "tgs")
    with pytest.raises(InputError, match=r"tgs exists; choose another --name, or .*--overwrite"):
        install.link(tmp_path / "input", original, "tgs")
    with pytest.raises(InputError, match="exists"):
        kaggle.download(tmp_path / "input")
    install.link(tmp_path / "input", original, "tgs", overwrite=True)
    assert root.resolve() == original
    assert check_dataset(other) == []  # only the link went


def test_a_folder_within_the_dataset_to_be_replaced_is_refused(original, tmp_path):
    inner = tmp_path / "input" / "tgs" / "inner"
    shutil.copytree(original, inner)
    with pytest.raises(InputError, match=r"inner lies in .*tgs, which --overwrite would remove; move it or choose"):
        install.link(tmp_path / "input", inner, "tgs", overwrite=True)
    assert check_dataset(inner) == []


def test_a_folder_with_problems_is_refused_with_its_first_problems(original, tmp_path):
    for path in list((original / "train/images").iterdir())[:5]:
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"problems: 5, first: train/images/\w+.png: not a read.*saltseg check /"):
        install.link(tmp_path / "input", original)
    assert competition.list_datasets(tmp_path / "input") == []
    with pytest.raises(InputError, match=r"no folder .*--source takes synthetic, kaggle or"):
        install.link(tmp_path / "input", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"problems: 5, first: train.csv: file is missing"):
        install.link(tmp_path / "input", tmp_path / "empty")
    with pytest.raises(InputError, match="dataset name"):
        install.link(tmp_path / "input", original, "../elsewhere")


# ---------------------------------------------------------------- simulated


def test_the_same_simulation_is_not_repeated(make_dataset, tmp_path, monkeypatch):
    calls = []

    def write(root, n_train, n_test, seed, progress=None):
        calls.append((n_train, n_test, seed))
        make_dataset("simulated", n_train=n_train, n_test=n_test).rename(root)
        if seed == 13:
            raise KeyboardInterrupt

    monkeypatch.setattr(dataset, "write_dataset", write)
    input_dir = tmp_path / "input"
    with pytest.raises(KeyboardInterrupt):
        dataset.simulate(input_dir, "demo", 4, 2, seed=13)
    (input_dir / ".download" / ".demo.written.x7y").mkdir()  # a killed process's
    assert competition.list_datasets(input_dir) == []
    root, how = dataset.simulate(input_dir, "demo", 4, 2, seed=1)
    assert (root, how) == (input_dir / "demo", "written")
    assert check_dataset(root) == []
    assert dataset.simulate(input_dir, "demo", 4, 2, seed=1)[1] == "already there"
    with pytest.raises(InputError, match="demo exists"):
        dataset.simulate(input_dir, "demo", 5, 2, seed=1)
    assert dataset.simulate(input_dir, "demo", 5, 2, seed=1, overwrite=True)[1] == "written"
    assert len(competition.read_train(root).ids) == 5
    assert calls == [(4, 2, 13), (4, 2, 1), (5, 2, 1)]
    assert list((input_dir / ".download").iterdir()) == []


HOLD = """
import sys
from pathlib import Path
from saltseg.data import install
with install.preparing(Path(sys.argv[1]), "demo"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_process_prepares_a_dataset_and_a_killed_one_leaves_it_free(original, tmp_path):
    input_dir = tmp_path / "input"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(input_dir)], text=True, **pipes)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        message = r"demo is being written by another process; wait for it or stop it"
        with pytest.raises(InputError, match=message):
            dataset.simulate(input_dir, "demo", 4, 2)
        with pytest.raises(InputError, match=message):
            install.link(input_dir, original, "demo", overwrite=True)
        with pytest.raises(InputError, match=message):
            kaggle.download(input_dir, "demo", client=object())  # type: ignore[arg-type]  # never used
        assert install.link(input_dir, original, "another")[1] == "linked"
    finally:
        other.kill()
        other.communicate()
    assert dataset.simulate(input_dir, "demo", 4, 2)[1] == "written"
    assert check_dataset(input_dir / "demo") == []
    assert list((input_dir / ".download").iterdir()) == []


def test_two_that_prepare_one_dataset_at_the_same_time_make_it_once(tmp_path):
    command = [sys.executable, "-m", "saltseg", "prepare", "--source", "synthetic", "--train", "60", "--test", "2"]
    command += ["--name", "demo", "--input", str(tmp_path)]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [(process.wait(), process) for process in both]
    errors = [process.stderr.read() for _, process in ended if process.stderr]
    for (code, _), error in zip(ended, errors, strict=True):
        assert (code, error.count("error: ")) in ((0, 0), (2, 1)), error
        assert "Traceback" not in error
    assert 0 in [code for code, _ in ended]
    assert check_dataset(tmp_path / "demo") == []


def test_the_command_links_simulates_and_refuses(original, tmp_path, capsys):
    def prepare(*arguments: object) -> int:
        return app.call(["prepare", "--input", str(tmp_path / "input"), *map(str, arguments)])

    assert prepare("--source", original, "--name", "mine") == 0
    linked = capsys.readouterr()
    assert linked.err == ""
    assert "mine: linked\nnext: saltseg check mine" in linked.out
    assert prepare("--source", "synthetic", "--train", 3, "--test", 1) == 0
    assert len(competition.read_train(tmp_path / "input/synthetic").ids) == 3
    assert check_dataset(tmp_path / "input/synthetic") == []
    capsys.readouterr()
    assert prepare("--source", "synthetic", "--name", "mine") == 2
    refused = capsys.readouterr().err
    assert refused.startswith("error: ")
    assert refused.count("\n") == 1

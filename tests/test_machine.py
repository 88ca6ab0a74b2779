"""Too little memory, a full disk, a missing folder: one line, exit code 2, and what is done stays."""

import errno
import os
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import in_process
import numpy as np
import pytest
import tiny_run
import torch
from tiny_run import Trained

from saltseg import io, runs
from saltseg.cli.command import VERBS
from saltseg.data import archive, image_files
from saltseg.errors import InputError, lacks_memory, of_machine, raise_if_of_machine
from saltseg.inference import predict
from saltseg.models import checkpoints, pretrained_sources, zoo
from saltseg.synthetic import tiles
from saltseg.training import fold, trainer
from saltseg.training.module import SaltModule

SMALL = (
    "data.size=32", "data.resize_mode=resize", "model.filters=2", "folds.count=3", "train.epochs=3",
    "train.batch_size=4",
)  # fmt: skip


def too_large(*_: Any, **__: Any) -> Any:
    """Ask for more memory than any machine has: torch's own error."""
    return torch.empty(2**58)


def raised(call: Any) -> BaseException:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (of whatever kind)
        call()
    return caught.value


def test_errors_for_want_of_memory_are_known_whatever_their_kind() -> None:
    found = [raised(too_large), raised(lambda: np.empty(2**58)), raised(lambda: bytearray(2**62))]
    assert [type(error) for error in found[::2]] == [RuntimeError, MemoryError]
    assert all(map(lacks_memory, found))
    assert lacks_memory(RuntimeError("CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has …"))
    assert lacks_memory(RuntimeError("could not create a primitive"))  # oneDNN's
    assert not lacks_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not lacks_memory(InputError("a.png is out of memory; cut it"))


def test_our_own_errors_are_not_the_machine_s() -> None:
    assert of_machine(ValueError("ours")) == of_machine(OSError("image file is truncated")) == ""
    assert of_machine(MemoryError()).startswith("not enough memory (MemoryError); close other programs and rerun")
    assert "\n" not in of_machine(RuntimeError("CUDA out of memory.\nTried to allocate"))
    with pytest.raises(OSError, match="broken disk"):
        raise_if_of_machine(OSError(errno.EIO, "broken disk"))
    raise_if_of_machine(OSError(errno.EINVAL, "before the first byte"))
    raise_if_of_machine(ValueError("damaged"))


class Wrong(torch.utils.data.Dataset[int]):
    """Our own mistake, in a process that loads data."""

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> int:
        raise ValueError("ours")


def test_a_process_that_loads_data_lacks_memory_only_if_it_was_killed() -> None:
    error = raised(lambda: next(iter(torch.utils.data.DataLoader(Wrong(), num_workers=1))))
    assert "DataLoader worker process 0" in str(error)
    assert of_machine(error) == ""
    for killed in (
        "DataLoader worker (pid 17) is killed by signal: Killed. ",
        "DataLoader worker (pid(s) 17, 18) exited unexpectedly",
    ):
        assert of_machine(RuntimeError(killed)).startswith("not enough memory (DataLoader worker (pid")


@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.EIO, "Input/output error")])
def test_readers_do_not_blame_a_file_for_it(error: Exception, trained: Trained, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Their advice is to delete the file, which may be the only copy."""
    tiny_run.checkpoint(trained, 0, 0.5)
    folder, (tile, *_) = trained.run.fold(0), sorted(trained.root.glob("train/images/*"))
    (trained.root / "a.zip").write_bytes(b"")
    io.write_atomic(folder.last, folder.network.read_bytes())
    for module, name in (
        (torch, "load"), (io, "_read_members"), (image_files, "_decode_png"), (archive.zipfile, "ZipFile"),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, mock.Mock(side_effect=error))
    for read in (
        lambda: checkpoints.load_network(trained.settings, folder.network),
        lambda: pretrained_sources.read(folder.network),
        lambda: trainer._read_last(folder),
        lambda: image_files.read_gray(tile),
        lambda: archive.unzip(trained.root / "a.zip", trained.root / "unpacked"),
        lambda: io.read_arrays(folder.oof, (), "predictions", "saltseg predict"),
    ):
        with pytest.raises(type(error)):
            read()
    assert (trained.root / "a.zip").exists()


def test_settings_are_not_blamed_for_it_either(trained: Trained, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(predict, "_predict_view", too_large)
    with pytest.raises(RuntimeError, match="allocate"):
        fold.check(trained.settings, 101, 101)
    monkeypatch.setattr(zoo, "SaltNetwork", too_large)
    with pytest.raises(RuntimeError, match="allocate"):
        zoo.build(zoo.SmpConfig(architecture="smp.Unet", encoder="tu-tf_efficientnet_lite0"), pretrained=False)


def line(capsys: pytest.CaptureFixture[str]) -> str:
    """The last line of standard error; the others are of progress bars."""
    *_, last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()
    return last


def train(trained: Trained) -> int:
    places = ["--input", str(trained.input), "--output", str(trained.output)]
    changes = [f"--set={change}" for change in SMALL]
    return in_process.call("train", "unet", "--data", "tiny", "--name", "new", "--folds", "0", *changes, *places)


def test_a_training_without_memory_goes_on_from_the_last_epoch(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    original, new = SaltModule.training_step, runs.run_dir(trained.output, "new").fold(0)

    def step(module: SaltModule, batch: Any, index: int) -> Any:
        return too_large() if module.current_epoch == 2 else original(module, batch, index)

    with mock.patch.object(SaltModule, "training_step", step):
        assert train(trained) == 2
    assert line(capsys).startswith("error: not enough memory (")
    assert len(io.read_csv(new.log)) == 2
    assert new.last.is_file()
    with mock.patch.object(predict, "_predict_view", too_large):
        assert train(trained) == 2  # trained, and not yet predicted
    assert line(capsys).startswith("error: not enough memory (")
    assert len(io.read_csv(new.log)) == 3
    assert not new.finished()
    assert [path for path in new.path.iterdir() if path.name.endswith(".part")] == []
    assert train(trained) == 0
    assert new.finished()


def test_a_simulation_without_memory_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ("prepare", "--source", "synthetic", "--train", "4", "--test", "2", "--input", str(tmp_path))
    with mock.patch.object(tiles, "section", side_effect=lambda *_: np.empty(2**58)):
        assert in_process.call(*command) == 2
    assert line(capsys).startswith("error: not enough memory (Unable to allocate")
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name != ".lock"] == []


COMMANDS = {
    "prepare": "--source synthetic --train 4 --test 2 --name new -i",
    "check": "tiny -i",
    "realism": "--tiles 48 -i -o",
    "find-sections": "tiny -i",
    "train": f"unet --data tiny --name new --folds 0 {' '.join(f'--set {change}' for change in SMALL)} -i -o",
    "predict": "tiny-run -i -o",
    "tune": "tiny-run -i -o",
    "submit": "tiny-run -i -o",
    "report": "tiny-run -i -o",
    "leaderboard": "-o",
    "compare": "tiny-run other -i -o",
    "blend": "tiny-run other --name both -i -o",
    "publish": "tiny-run -i -o",
    "settings": "",
    "experiments": "",
}
OTHERS = sorted(set(VERBS) - set(COMMANDS))  # of these the help


def with_closed_output(words: list[str], error_path: Path) -> int:
    """The exit code of a command whose standard output nobody reads, in a child process."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 99
    try:
        torch.set_num_threads(1)  # a fork has no pool of threads
        read, write = os.pipe()
        os.close(read)
        os.dup2(write, 1)
        os.dup2(os.open(error_path, os.O_WRONLY | os.O_CREAT), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
        code = in_process.call(*words)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
@pytest.mark.parametrize("verb", [*COMMANDS, *OTHERS])
def test_every_verb_whose_reader_leaves_ends_quietly(verb: str, trained: Trained, tmp_path: Path) -> None:
    places = {"-i": ["--input", str(trained.input)], "-o": ["--output", str(trained.output)]}
    words = [part for word in COMMANDS.get(verb, "--help").split() for part in places.get(word, [word])]
    for name in ("predict", "tune", "submit"):
        in_process.call(name, "tiny-run", *places["-i"], *places["-o"])
    if verb in ("compare", "blend"):
        other = runs.run_dir(trained.output, "other")
        for path in (file for file in trained.run.path.iterdir() if file.is_file()):
            io.write_atomic(other.path / path.name, path.read_bytes())
    code = with_closed_output([verb, *words], tmp_path / "err")
    error = (tmp_path / "err").read_text()
    assert code in (0, 2, 141), error  # 2: `check`, and `publish`, to which the logs of the training are missing here
    assert error.count("error: ") == (code == 2 and verb != "check")
    assert "Traceback" not in error

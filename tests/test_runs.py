"""Files under output/: the lock, predictions joined by id, runs by name, versions."""

import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from saltseg import config, io, predictions, provenance, runs
from saltseg.errors import InputError
from saltseg.predictions import Predictions
from saltseg.runs import FoldDir


def some(*ids: str, fold: list[int] | None = None) -> Predictions:
    """Image k is filled with k."""
    pixels = np.arange(len(ids), dtype=np.uint8)[:, None, None] * np.ones((1, 3, 4), np.uint8)
    return Predictions(np.array(ids), pixels, None if fold is None else np.array(fold))


# ---------------------------------------------------------------- the lock

HOLD = """
import sys, time
from pathlib import Path
from saltseg.runs import FoldDir
with FoldDir(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_writes_a_fold_and_a_killed_one_holds_nobody_up(tmp_path: Path) -> None:
    fold = FoldDir(tmp_path / "fold_0")
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(fold.path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(InputError, match=r"fold_0 is being written by another process; wait for it or stop it"),
            fold.locked(),
        ):
            pytest.fail("two processes hold the fold")
        with FoldDir(tmp_path / "fold_1").locked():
            pass  # another fold is free
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    with fold.locked():
        pass


def test_an_exception_lets_go_of_the_lock(tmp_path: Path) -> None:
    fold = FoldDir(tmp_path / "fold_0")
    with pytest.raises(RuntimeError), fold.locked():
        raise RuntimeError
    code = HOLD.replace("time.sleep(60)", "pass")
    done = subprocess.run([sys.executable, "-c", code, str(fold.path)], capture_output=True, text=True, check=True)
    assert done.stdout == "held\n"


# ---------------------------------------------------------------- predictions


@given(st.permutations(range(6)), st.permutations(range(6)))
def test_probabilities_follow_their_id_into_any_order(stored: list[int], asked: list[int]) -> None:
    pixels = np.array(stored, np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    found = Predictions(np.array([f"id{k}" for k in stored]), pixels).select(tuple(f"id{k}" for k in asked))
    assert found[:, 0, 0].tolist() == asked
    assert (found == found[:, :1, :1]).all()


def test_a_part_may_be_asked_for_and_a_missing_id_is_named() -> None:
    assert some("a", "b", "c").select(np.array(["c", "a"]))[:, 0, 0].tolist() == [2, 0]
    with pytest.raises(InputError, match=r"no prediction for 2 ids, the first 'y'; run saltseg predict"):
        some("a").select(("a", "y", "x"))


def test_an_id_is_predicted_once() -> None:
    with pytest.raises(InputError, match=r"predictions hold id .*a.* more than once; predict again"):
        some("b", "a", "a")


def test_messages_name_ids_as_users_write_them() -> None:
    with pytest.raises(InputError, match=r"hold id 'a' more than once"):
        some("b", "a", "a")
    with pytest.raises(InputError, match=r"for 1 ids, the first 'y'"):
        some("a").select(np.array(["y"]))


@pytest.mark.parametrize("fold", [None, [0, 2, 1]])
def test_saved_predictions_come_back(fold: list[int] | None, tmp_path: Path) -> None:
    given_ = some("b", "long-identity", "a", fold=fold)
    predictions.save_predictions(tmp_path / "x.npz", given_)
    found = predictions.load_predictions(tmp_path / "x.npz")
    assert found.ids.tolist() == given_.ids.tolist()
    assert found.probabilities.dtype == np.uint8
    assert np.array_equal(found.probabilities, given_.probabilities)
    assert (found.fold is None) if fold is None else (found.fold.tolist() == fold)


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("exploded"),)


def test_a_pickle_inside_is_refused_and_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", ids=np.array([Bomb()], object), probabilities=np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(InputError, match=r"x.npz cannot be read as predictions \("):
        predictions.load_predictions(Path("x.npz"))
    assert not Path("exploded").exists()


def test_a_failing_writer_of_predictions_keeps_the_old_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "oof.npz"
    predictions.save_predictions(path, some("a"))

    def full(file, **arrays) -> None:  # type: ignore[no-untyped-def]
        file.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(OSError, match="no space"):
        predictions.save_predictions(path, some("b"))
    assert predictions.load_predictions(path).ids.tolist() == ["a"]
    assert [p.name for p in tmp_path.iterdir()] == ["oof.npz"]


@pytest.mark.parametrize("content", [b"", b"PK", b"not an archive at all", b"\x80\x04N."])
def test_a_damaged_file_is_refused_in_one_line(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"x.npz cannot be read as predictions .*; delete it and make") as refused:
        predictions.load_predictions(path)
    assert "\n" not in str(refused.value)


def test_a_cut_file_and_a_missing_part_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    predictions.save_predictions(path, some("a", "b"))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(InputError, match=r"cannot be read as predictions"):
        predictions.load_predictions(path)
    np.savez(path, ids=np.array(["a"]))
    with pytest.raises(InputError, match=r"no array 'probabilities' in it"):
        predictions.load_predictions(path)
    with pytest.raises(InputError, match=r"no predictions at .*y.npz; run saltseg train or"):
        predictions.load_predictions(tmp_path / "y.npz")


def write_flipped(path: Path) -> None:
    """Bits flipped in the middle of the compressed probabilities, as a failing disk leaves them."""
    rng = np.random.default_rng(0)
    predictions.save_predictions(path, Predictions(np.array(["a"]), rng.integers(0, 256, (1, 40, 40)).astype(np.uint8)))
    raw = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("probabilities.npy").header_offset + 60
    raw[start : start + 100] = bytes(byte ^ 0xFF for byte in raw[start : start + 100])
    path.write_bytes(bytes(raw))


def write_array(path: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))


@pytest.mark.parametrize(
    "write",
    [
        pytest.param(write_flipped, id="zlib.error"),
        pytest.param(write_array, id="one array instead of an archive"),
        pytest.param(lambda path: np.savez(path, ids=["a"], probabilities=np.zeros((1, 2, 2))), id="floats"),
        pytest.param(lambda path: np.savez(path, ids=["a"], probabilities=np.zeros(1, np.uint8)), id="one axis"),
        pytest.param(
            lambda path: np.savez(path, ids=["a", "b"], probabilities=np.zeros((1, 2, 2), np.uint8)), id="lengths"
        ),
    ],
)
def test_a_file_of_another_kind_is_refused(write, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "x.npz"
    write(path)
    with pytest.raises(InputError, match=r"x.npz cannot be read as predictions"):
        predictions.load_predictions(path)


# ---------------------------------------------------------------- runs by name


def test_a_run_without_networks_says_why(tmp_path: Path) -> None:
    run = finished(runs.RunDir(tmp_path / "runs" / "mine"), 1, 0)
    assert [fold.number for fold in run.trained_folds()] == [0, 1]
    with pytest.raises(InputError, match=r"run 'early' has no finished fold; continue it with saltseg train"):
        finished(runs.RunDir(tmp_path / "runs" / "early")).trained_folds()
    with pytest.raises(InputError, match=r"both is a blend and has no networks of its own; name one of its members"):
        finished(runs.RunDir(tmp_path / "blends" / "both")).trained_folds()


PROVENANCE = {"dataset": "tgs", "dataset_hash": "d", "folds_hash": "f", "synthetic": False}


def finished(run: runs.RunDir, *numbers: int) -> runs.RunDir:
    io.write_atomic(run.config, config.dump(config.Config()))
    io.write_json(run.provenance, PROVENANCE)
    for number in numbers:
        io.write_json(run.fold(number).metrics, {"fold": number})
    return run


def test_finished_folds_are_those_with_metrics_in_the_order_of_numbers(tmp_path: Path) -> None:
    run = finished(runs.run_dir(tmp_path, "x"), 10, 2, 0)
    io.write_atomic(run.fold(1).network, b"weights")  # still training
    assert [fold.number for fold in run.finished_folds()] == [0, 2, 10]


def test_a_copy_of_a_fold_is_no_fold(tmp_path: Path) -> None:
    run = finished(runs.run_dir(tmp_path, "x"), 0)
    io.write_json(run.path / "fold_0.bak" / "metrics.json", {})
    assert [fold.number for fold in run.finished_folds()] == [0]


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/x", "-x", ".x", "a b", "a\n", "ä"])
def test_a_name_cannot_leave_the_directory(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"name .*: use letters, digits"):
        runs.run_dir(tmp_path, name)


def test_runs_and_blends_are_found_and_misspelt_ones_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run called 'x': .*runs is empty; train one with saltseg train"):
        runs.existing_run(tmp_path, "x")
    for name in ("tgs-unet", "demo"):
        finished(runs.run_dir(tmp_path, name))
    finished(runs.RunDir(tmp_path / "blends" / "best"))
    finished(runs.RunDir(tmp_path / "blends" / ".half.saltseg.new"))  # left by a process that was killed
    (tmp_path / "runs" / "abandoned").mkdir()
    assert [run.name for run in runs.all_runs(tmp_path)] == ["demo", "tgs-unet", "best"]
    assert runs.existing_run(tmp_path, "best").path == tmp_path / "blends" / "best"
    assert runs.existing_run(tmp_path, "demo").path == tmp_path / "runs" / "demo"
    with pytest.raises(InputError, match=r"unknown run 'tgs-unte'; did you mean tgs-unet"):
        runs.existing_run(tmp_path, "tgs-unte")
    with pytest.raises(InputError, match=r"unknown run 'abandoned'; known: demo, tgs-unet, best"):
        runs.existing_run(tmp_path, "abandoned")


def test_what_a_killed_process_left_is_listed_nowhere_and_not_under_version_control(tmp_path: Path) -> None:
    finished(runs.run_dir(tmp_path, "demo"))
    for kind in ("runs", "blends", "published"):
        left = finished(runs.RunDir(tmp_path / kind / ".half.saltseg.new"), 0)
        io.write_csv(left.image_scores, [{"id": "a"}])
    assert [run.name for run in runs.all_runs(tmp_path)] == ["demo"]
    with pytest.raises(InputError, match=r"^unknown run 'zzz'; known: demo$"):
        runs.existing_run(tmp_path, "zzz", published=True)
    command = ["git", "check-ignore", "output/published/.x.saltseg.new/config.yaml", "output/published/x/config.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 128 or done.stdout.split() == command[2:3]  # 128: no repository


def test_a_run_without_configuration_names_those_with_one(tmp_path: Path) -> None:
    run = finished(runs.run_dir(tmp_path, "x"))
    assert run.read_config() == config.Config()
    assert run.read_provenance() == PROVENANCE
    with pytest.raises(InputError, match=r"y holds no config.yaml, so it is no run; known: x"):
        runs.run_dir(tmp_path, "y").read_config()


def test_default_names() -> None:
    assert runs.default_name("tgs", "unet", None) == "tgs-unet"
    assert runs.default_name("tgs", "unet_spec", 0.1) == "tgs-unet_spec-holdout0.1"


def test_provenance_records_versions_command_and_entries(monkeypatch: pytest.MonkeyPatch) -> None:
    for program in ("/home/me/bin/saltseg", "/home/me/saltseg/__main__.py"):
        monkeypatch.setattr(sys, "argv", [program, "train", "unet"])
        assert provenance.record()["command"] == "saltseg train unet"
    monkeypatch.setattr(sys, "argv", ["scripts/train.py", "unet"])
    record = provenance.record(dataset="tgs")
    assert record["command"] == "python scripts/train.py unet"
    assert record["dataset"] == "tgs"
    assert record["numpy"] == np.__version__
    assert record["python"] == sys.version.split()[0]
    assert record["created"].endswith("+00:00")


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert provenance.git_commit() is None
    assert provenance.record()["git_dirty"] is None


def test_a_repository_around_the_package_does_not_give_its_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    commit = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--allow-empty"]
    subprocess.run([*commit, "--quiet", "--message=theirs"], check=True)
    for place in ("venv/site-packages/x/saltseg", "src/saltseg"):
        monkeypatch.setattr(provenance, "__file__", str(tmp_path / place / "provenance.py"))
        (tmp_path / place).mkdir(parents=True)
        assert (provenance.git_commit() is None) == place.startswith("venv")

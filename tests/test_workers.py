"""Units of work in processes and on a Dask cluster: same results, whatever is killed in between."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import in_process
import numpy as np
import pytest
import segy_files
import tiny_run
import torch
from filelock import FileLock

from saltseg import io, predictions, workers
from saltseg.data import image_files
from saltseg.errors import InputError
from saltseg.models import zoo
from saltseg.seismic.headers import read_layout
from saltseg.seismic.traces import read_traces
from saltseg.synthetic import dataset
from saltseg.training import processes
from saltseg.workers import Workers

distributed = pytest.importorskip("distributed")


def square(number: int) -> int:
    return number * number


def refuse(number: int) -> int:
    if number == 2:
        raise InputError("2 is not possible")
    return number


def die_once(path: Path) -> str:
    """Kill this process, unless it has been done before."""
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster() -> Iterator["distributed.LocalCluster"]:
    """Two workers of one thread, each a process that is started again when it is killed."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs="ERROR"
    ) as started:
        yield started


@pytest.fixture(params=["processes", "cluster"])
def two(request: pytest.FixtureRequest) -> list[str]:
    """Options of a verb for two workers."""
    if request.param == "processes":
        return ["--parallel", "2"]
    return ["--cluster", request.getfixturevalue("cluster").scheduler_address]


def of(options: list[str]) -> Workers:
    return Workers(2) if options[0] == "--parallel" else Workers(cluster=options[1])


def worker_pid(cluster: "distributed.LocalCluster") -> int:
    return next(iter(cluster.workers.values())).process.pid


# ---------------------------------------------------------------- units


@pytest.mark.slow
def test_results_come_as_they_are_there_and_an_error_is_that_of_the_unit(two: list[str], tmp_path: Path) -> None:
    assert sorted(of(two).map(square, [(number,) for number in range(5)], tmp_path)) == [0, 1, 4, 9, 16]
    with pytest.raises(InputError, match=r"^2 is not possible$"):
        list(of(two).map(refuse, [(number,) for number in range(5)], tmp_path))


@pytest.mark.slow
def test_a_process_that_is_killed_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a process was killed, perhaps for want of memory; rerun with a lower"):
        list(Workers(2).map(die_once, [(tmp_path / "a",)], tmp_path))


@pytest.mark.slow
def test_the_unit_of_a_killed_worker_is_done_by_another(cluster: "distributed.LocalCluster", tmp_path: Path) -> None:
    where = Workers(cluster=cluster.scheduler_address)
    assert list(where.map(die_once, [(tmp_path / "a",)], tmp_path)) == ["a"]


def torch_threads(number: int) -> int:
    return torch.get_num_threads()


@pytest.mark.slow
def test_processes_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    share = max(1, workers.cores() // 2)
    assert list(Workers(2).map(torch_threads, [(0,), (1,)], tmp_path)) == [share, share]


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_ends_the_processes_at_once(tmp_path: Path, times: int) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom saltseg.workers import Workers\n"
        "if __name__ == '__main__':\n"
        f"    sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "    print('begun', flush=True)\n"
        f"    list(Workers(2).map(time.sleep, [(60,)] * 5, Path({str(tmp_path)!r})))\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    wait_for(lambda: len(children(process.pid)) >= 2)
    started, known = time.monotonic(), children(process.pid)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - started < 10
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in known), 10)


def children(pid: int) -> list[int]:
    """Processes that a process has started."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    if not path.exists():
        pytest.skip("only Linux lists the children of a process")
    return [int(word) for word in path.read_text().split()]


def test_a_worker_that_joins_late_is_checked_by_each_unit(tmp_path: Path) -> None:
    assert workers._do(workers.__version__, tmp_path, square, (3,)) == 9
    with pytest.raises(InputError, match=r"^a worker has saltseg .*, here is 9\.9; install the same$"):
        workers._do("9.9", tmp_path, square, (3,))
    with pytest.raises(InputError, match=r"^a worker does not see .*; give a folder that all machines share"):
        workers._do(workers.__version__, tmp_path / "no", square, (3,))


@pytest.mark.slow
def test_workers_that_cannot_do_the_work_are_refused(
    cluster: "distributed.LocalCluster", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = Workers(cluster=cluster.scheduler_address)
    with pytest.raises(InputError, match=f"^worker tcp://.* does not see {tmp_path / 'no'}; give a folder that all"):
        list(where.map(square, [(1,)], tmp_path / "no"))
    monkeypatch.setattr(workers, "__version__", "9.9")
    with pytest.raises(InputError, match=r"^worker tcp://.* has saltseg .*, here is 9\.9; install the same$"):
        list(where.map(square, [(1,)], tmp_path))


@pytest.mark.slow
def test_workers_of_several_threads_are_refused(tmp_path: Path) -> None:
    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as threads,
        pytest.raises(InputError, match="does 2 units at a time in one process; start it with --nthreads 1"),
    ):
        list(Workers(cluster=threads.scheduler_address).map(square, [(1,)], tmp_path))


def test_without_dask_or_a_scheduler_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "TO_CONNECT", 0.5)
    for address in ("tcp://127.0.0.1:9", "nonsense://a", "a b", "tls://127.0.0.1:9", "http://127.0.0.1:9"):
        with pytest.raises(InputError, match=f"^--cluster {address}: no Dask scheduler answers .*; give the address"):
            list(Workers(cluster=address).map(square, [(1,)], tmp_path))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match="needs Dask distributed, which is not installed; pip install"):
        list(Workers(cluster="tcp://127.0.0.1:9").map(square, [(1,)], tmp_path))
    with pytest.raises(InputError, match="--parallel 2 is for this machine and --cluster for others"):
        Workers(2, "tcp://127.0.0.1:9")


# ---------------------------------------------------------------- predictions


@pytest.fixture
def predict(trained: tiny_run.Trained) -> Callable[..., int]:
    """`saltseg predict tiny-run …` with networks of random weights."""
    for number in range(2):
        torch.manual_seed(number)
        torch.save({"state_dict": zoo.build(trained.settings.model).state_dict()}, trained.run.fold(number).network)
    io.remove(trained.run.fold(2).path)
    io.write_json(trained.run.postprocess, tiny_run.postprocess(threshold=120))
    places = ("--input", str(trained.input), "--output", str(trained.output))
    return lambda *words: in_process.call("predict", "tiny-run", *map(str, words), *places)


def survey(path: Path) -> Path:
    """16 inlines of 20 traces."""
    headers = segy_files.grid(range(10, 26), range(20))
    return segy_files.write(path, np.random.default_rng(1).normal(0, 100, (len(headers), 120)), headers)


def stored(path: Path) -> np.ndarray:
    layout = read_layout(path)
    return read_traces(layout, np.arange(layout.traces))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the page, whose pictures hold the time."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix != ".html"}


@pytest.mark.slow
def test_a_survey_is_the_same_to_the_byte(two: list[str], tmp_path: Path, predict: Callable[..., int]) -> None:
    source = survey(tmp_path / "a.sgy")
    assert predict(source, "--to", tmp_path / "one" / "salt.sgy") == 0
    assert predict(source, "--to", tmp_path / "two" / "salt.sgy", *two) == 0
    assert len(contents(tmp_path / "one")) == 5
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.mark.slow
def test_a_worker_notices_that_a_run_was_trained_again(
    cluster: "distributed.LocalCluster", tmp_path: Path, trained: tiny_run.Trained, predict: Callable[..., int]
) -> None:
    source, there = survey(tmp_path / "a.sgy"), ["--cluster", cluster.scheduler_address]
    assert predict(source, "--to", tmp_path / "before" / "salt.sgy", *there) == 0
    torch.manual_seed(9)
    torch.save({"state_dict": zoo.build(trained.settings.model).state_dict()}, trained.run.fold(0).network)
    assert predict(source, "--to", tmp_path / "one" / "salt.sgy") == 0
    assert predict(source, "--to", tmp_path / "two" / "salt.sgy", *there) == 0
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert contents(tmp_path / "two")["salt.sgy"] != contents(tmp_path / "before")["salt.sgy"]


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_of_a_survey_loses_nothing(
    cluster: "distributed.LocalCluster", tmp_path: Path, predict: Callable[..., int]
) -> None:
    source, parts = survey(tmp_path / "a.sgy"), tmp_path / "two" / ".salt.sgy.parts"
    assert predict(source, "--to", tmp_path / "one" / "salt.sgy") == 0
    seen = []

    def kill() -> None:
        wait_for(lambda: list(parts.glob("*.npy")))
        seen.append(len(list(parts.glob("*.npy"))))
        os.kill(worker_pid(cluster), signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    assert predict(source, "--to", tmp_path / "two" / "salt.sgy", "--cluster", cluster.scheduler_address) == 0
    killer.join()
    assert seen[0] < 32  # of 16 slabs in each direction
    assert contents(tmp_path / "two") == contents(tmp_path / "one")


@pytest.mark.slow
def test_without_its_scheduler_the_command_ends_in_one_line_and_goes_on_with_another(
    cluster: "distributed.LocalCluster",
    tmp_path: Path,
    predict: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source, parts = survey(tmp_path / "a.sgy"), tmp_path / "two" / ".salt.sgy.parts"
    assert predict(source, "--to", tmp_path / "one" / "salt.sgy") == 0
    dask = [sys.executable, "-m", "dask"]
    address = tmp_path / "scheduler.json"
    at = ["--scheduler-file", str(address), "--no-dashboard"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = subprocess.Popen([*dask, "scheduler", "--host", "127.0.0.1", "--port", "0", *at], **quiet)
    worker = subprocess.Popen([*dask, "worker", "--nthreads", "1", *at], **quiet)
    try:
        wait_for(address.exists)

        def kill() -> None:
            wait_for(lambda: list(parts.glob("*.npy")))
            scheduler.kill()

        killer = threading.Thread(target=kill)
        killer.start()
        capsys.readouterr()
        tcp = io.read_json(address)["address"]
        assert predict(source, "--to", tmp_path / "two" / "salt.sgy", "--cluster", tcp) == 2
        killer.join()
    finally:
        scheduler.kill()
        worker.kill()
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert errors == [
        f"error: --cluster {tcp}: the scheduler is gone; start it and run the same command again: it goes on there"
    ]
    done = sorted(parts.glob("*.npy"))
    assert 0 < len(done) < 32
    changed = np.load(done[0])
    np.save(done[0], np.full_like(changed, 255))  # to be seen in the result: what is there is not predicted again
    again = ["--cluster", cluster.scheduler_address]
    assert predict(source, "--to", tmp_path / "two" / "salt.sgy", *again) == 0
    one, two = (stored(tmp_path / name / "salt.sgy") for name in ("one", "two"))
    differ = (one != two).any(1)
    assert differ.sum() == len(changed)
    assert (two[differ] >= 0.5 - 1e-6).all()  # the mean of 1 and what the other direction says


@pytest.mark.slow
def test_a_folder_is_the_same_to_the_byte(two: list[str], tmp_path: Path, predict: Callable[..., int]) -> None:
    """300 tiles and a section: two shards."""
    images, dice = tmp_path / "images", np.random.default_rng(2)
    images.mkdir()
    for number in range(300):
        image_files.write_png(images / f"{number}.png", dice.integers(0, 256, (101, 101), np.uint8))
    image_files.write_png(images / "section.png", dice.integers(0, 256, (160, 210), np.uint8))
    batch = ["--set", "runtime.predict_batch_size=1"]  # so that batches are the same in shards
    assert predict(images, "--to", tmp_path / "one", *batch) == 0
    assert predict(images, "--to", tmp_path / "two", *batch, *two) == 0
    assert len(contents(tmp_path / "one")) == 603
    assert contents(tmp_path / "two") == contents(tmp_path / "one")
    assert not (tmp_path / ".two.done").exists()


def test_the_tiles_of_a_dataset_are_predicted_here(
    predict: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict("--parallel", "2") == 2
    assert "--parallel and --cluster are for images or a survey" in capsys.readouterr().err


# ---------------------------------------------------------------- trainings


def test_what_is_finished_is_skipped_side_by_side_too(
    trained: tiny_run.Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    assert processes.run({}, Workers(2), trained.output) == {}


def test_a_training_on_a_worker_waits_for_the_one_that_it_replaces(tmp_path: Path) -> None:
    code = "import os; from saltseg import io; print(os.environ[io.PATIENCE])"
    assert processes.run_command(["-c", code], tmp_path / "a.log", tmp_path) == 0
    assert float((tmp_path / "a.log").read_text()) == processes.TO_TAKE_OVER
    assert processes.run_command(["-c", code], tmp_path / "a.log", tmp_path / "no") == 2
    assert "error: [Errno 2]" in (tmp_path / "a.log").read_text()
    held = FileLock(tmp_path / "lock", thread_local=False)
    held.acquire()
    threading.Timer(0.5, held.release).start()
    with mock.patch.dict(os.environ, {io.PATIENCE: "20"}), io.locked(tmp_path / "lock", tmp_path):
        pass
    held.acquire()
    with pytest.raises(InputError, match="is being written by another process"), io.locked(tmp_path / "lock", tmp_path):
        pass


@pytest.mark.parametrize("words", [("train", "demo"), ("study", "benchmark")])
def test_a_cluster_that_is_not_there_leaves_no_begun_run(
    words: tuple[str, ...],
    trained: tiny_run.Trained,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(workers, "TO_CONNECT", 0.5)
    places = ["--input", str(trained.input), "--output", str(tmp_path / "new")]
    assert in_process.call(*words, "--data", "tiny", "--cluster", "nonsense://a", *places) == 2
    assert "--cluster nonsense://a" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_folds_on_a_cluster_one_of_whose_workers_is_killed(
    cluster: "distributed.LocalCluster", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The weights are those of a training in this process."""
    dataset.write_dataset(tmp_path / "input" / "tiny", n_train=24, n_test=4, seed=3)
    settings = ("train.epochs=30", "model.filters=4", "data.size=32", "folds.count=2", "train.precision=32")
    changes = [part for setting in settings for part in ("--set", setting)]
    places = ["--input", str(tmp_path / "input"), "--output", str(tmp_path / "output")]

    def train(name: str, *more: str) -> int:
        words = ["train", "unet", "--data", "tiny", "--name", name, "--set", "data.resize_mode=resize"]
        return in_process.call(*words, *changes, *places, *more)

    runs = tmp_path / "output" / "runs"

    def kill() -> None:
        wait_for(lambda: list((runs / "two").rglob("last.ckpt")), 120)
        os.kill(worker_pid(cluster), signal.SIGKILL)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as a worker has
    try:
        assert train("one") == 0
    finally:
        torch.set_num_threads(threads)
    killer = threading.Thread(target=kill)
    killer.start()
    capsys.readouterr()
    assert train("two", "--cluster", cluster.scheduler_address) == 0
    killer.join()
    assert "[2/2]" in capsys.readouterr().out
    for number in range(2):
        one, two = (predictions.load_predictions(runs / name / f"fold_{number}" / "oof.npz") for name in ("one", "two"))
        assert one.ids.tolist() == two.ids.tolist()
        assert np.array_equal(one.probabilities, two.probabilities)


def test_a_command_whose_workers_are_killed_stops_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A unit that cannot be done anywhere is one that failed."""

    def only_b(command: list[str], log: Path, folder: Path) -> int:
        if "a" in command:
            raise InputError("a worker has saltseg 9.9, here is 0.1; install the same")
        return 0

    @contextmanager
    def threads(self: Workers, shared: Path) -> Iterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(1) as executor:
            yield executor

    monkeypatch.setattr(Workers, "executor", threads)
    monkeypatch.setattr(processes, "run_command", only_b)
    assert processes.run({"a": ["a"], "b": ["b"]}, Workers(cluster="tcp://x:1"), tmp_path) == {"a": 1, "b": 0}
    assert "a ended with exit code 1: a worker has saltseg 9.9" in capsys.readouterr().out

"""Units of work side by side: in processes of this machine, or on the workers of a Dask cluster.

A unit is a function at the top of a module and its arguments, which are pickled. It writes what it makes to files in a
folder that all workers share, whole or not there. So a unit may be lost at any time, and done again.
"""

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from saltseg import __version__
from saltseg.errors import InputError, reason

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

    from distributed import Client

CHILD = "SALTSEG_CHILD"  # environment variable of the processes that commands start
TO_CONNECT = 10.0  # seconds
TO_LOOK = 1.0  # seconds between two looks at the connection
TO_LOOK_FOR_PARENT = 2.0
T = TypeVar("T")


@dataclass(frozen=True)
class Workers:
    """Where units of work are done.

    Attributes:
        parallel: units at a time, each in a process of this machine; 1: one after the other in this process.
        cluster: address of a Dask scheduler, such as ``tcp://host:8786``; "": none.
    """

    parallel: int = 1
    cluster: str = ""

    def __post_init__(self) -> None:
        if self.cluster and self.parallel > 1:
            raise InputError(
                f"--parallel {self.parallel} is for this machine and --cluster for others; leave one of the two out"
            )

    @property
    def here(self) -> bool:
        """Whether units are done in this process."""
        return self.parallel == 1 and not self.cluster

    def require(self) -> None:
        """Raise InputError now where the cluster cannot be used, before anything is written."""
        if self.cluster:
            with self.executor(Path.cwd()):
                pass

    def map(self, function: Callable[..., T], units: Iterable[tuple[Any, ...]], shared: Path) -> Iterator[T]:
        """Do units of work, as many at a time as there are workers.

        Args:
            function: at the top of a module.
            units: the arguments of each call.
            shared: folder that the units write to.

        Yields:
            The results, in the order in which they are there.

        Raises:
            InputError: of a unit; a process was killed; the scheduler is not there or has gone; a worker cannot do the
                work.
        """
        with self.executor(shared) as executor:
            waiting = set(submit(executor, shared, function, units))
            try:
                while waiting:
                    done, waiting = futures.wait(waiting, TO_LOOK, futures.FIRST_COMPLETED)
                    yield from (future.result() for future in done)
                    if waiting:
                        check(executor)
            finally:
                for future in waiting:
                    future.cancel()

    @contextmanager
    def executor(self, shared: Path) -> Iterator[futures.Executor]:
        """What units are submitted to; its errors become InputError. While waiting, call `check` now and then."""
        if self.cluster:
            with _connected(self.cluster, shared.resolve()) as executor:
                yield executor
            return
        before, spawn = set(multiprocessing.active_children()), multiprocessing.get_context("spawn")
        start = (spawn.Value("i", 0), [share(number, self.parallel) for number in range(self.parallel)])
        try:
            with ProcessPoolExecutor(self.parallel, spawn, _start_process, start) as executor:
                try:
                    yield executor
                except BaseException:  # Ctrl-C, too: what is half done is done again
                    for process in set(multiprocessing.active_children()) - before:
                        process.terminate()
                    raise
        except BrokenProcessPool:
            raise InputError(
                "a process was killed, perhaps for want of memory; rerun with a lower --parallel: it goes on there"
            ) from None


def submit(
    executor: futures.Executor, shared: Path, function: Callable[..., T], units: Iterable[tuple[Any, ...]]
) -> list["futures.Future[T]"]:
    """Hand over units, see `Workers.map`; processes that start with them leave Ctrl-C to this one."""
    with _interrupts_held():
        return [executor.submit(_do, __version__, shared.resolve(), function, unit) for unit in units]


def check(executor: futures.Executor) -> None:
    """Raise `Lost` where the workers of an executor can no longer be reached; their units would never end."""
    client = getattr(executor, "client", None)
    if client is not None and client.status != "running":
        raise Lost


class Lost(Exception):
    """The scheduler of a cluster is gone."""


def _do(version: str, shared: Path, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    """A unit of work, on a worker; one at a time, also where a worker has several threads."""
    if version != __version__:
        raise InputError(f"a worker has saltseg {__version__}, here is {version}; install the same")
    if not shared.is_dir():
        raise InputError(f"a worker does not see {shared}; give a folder that all machines share")
    with _ONE_AT_A_TIME:
        return function(*arguments)


_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """SIGINT waits until the end; processes that are started meanwhile never see it, not even while they import."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_process(started: "Synchronized[int]", shares: Sequence[dict[str, str]]) -> None:
    """Give a new process its share of cores and GPUs; torch, which reads the variables, is not imported yet."""
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    os.environ.update(shares[number])
    os.environ[CHILD] = "1"
    end_with_parent()


def share(number: int, parallel: int) -> dict[str, str]:
    """Environment variables for process ``number`` of ``parallel``: its threads and its GPU.

    Threads wait for each other at every layer, so processes with fewer threads each are faster together
    (``benchmarks/bench.py --only tried``).
    """
    variables = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, cores() // parallel)))}
    found = gpus()
    return variables | ({"CUDA_VISIBLE_DEVICES": found[number % len(found)]} if len(found) > 1 else {})


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def gpus() -> list[str]:
    """The GPUs that this process sees, by their names in CUDA_VISIBLE_DEVICES."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def is_child() -> bool:
    """Whether another command started this process; that command reports the result."""
    return CHILD in os.environ


def end_with_parent() -> None:
    """Have this process stop, as by SIGTERM, when its parent is gone: one that is killed cannot end its children."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(TO_LOOK_FOR_PARENT)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


# ---------------------------------------------------------------- Dask


@contextmanager
def _connected(address: str, shared: Path) -> Iterator[futures.Executor]:
    """An executor of a scheduler whose workers can do our work; InputError otherwise, and when it is lost."""
    try:
        import distributed
    except ImportError:
        raise InputError(
            "--cluster needs Dask distributed, which is not installed; pip install -e '.[cluster]'"
        ) from None
    for name in ("distributed.client", "distributed.core", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # our one line says it
    client = _client(address)
    try:
        _check_workers(client, [shared, Path.cwd()])
        executor = client.get_executor(pure=False)
        executor.client = client
        yield executor
    except distributed.KilledWorker as error:
        raise InputError(
            f"--cluster {address}: the workers of one unit were killed again and again, for want of memory or of time; "
            "see their logs, and run the same command again: it goes on there"
        ) from error
    except (Lost, futures.CancelledError, OSError) as error:
        if isinstance(error, OSError) and client.status == "running":
            raise  # of a unit
        raise InputError(
            f"--cluster {address}: the scheduler is gone; start it and run the same command again: it goes on there"
        ) from error
    finally:
        client.close(timeout=2)


def _client(address: str) -> "Client":
    """A client of the scheduler at an address; what is there may be anything, and may never answer."""
    import distributed

    connected = futures.Future[distributed.Client]()

    def connect() -> None:
        try:
            connected.set_result(distributed.Client(address, timeout=TO_CONNECT, name="saltseg"))
        except Exception as error:  # of many kinds: OSError, ValueError, AssertionError, TypeError …
            connected.set_exception(error)

    threading.Thread(target=connect, daemon=True).start()
    try:
        return connected.result(TO_CONNECT + 5)
    except Exception as error:
        raise InputError(
            f"--cluster {address}: no Dask scheduler answers ({reason(error)}); give the address that it printed when "
            "it started, such as tcp://host:8786"
        ) from error


def _check_workers(client: "Client", folders: Sequence[Path]) -> None:
    """Raise InputError where workers differ from this process, or do not see our folders.

    Workers that join later are checked by each unit.
    """
    try:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        described = client.run(_describe, folders, on_error="return")
    except TypeError as error:
        raise InputError(
            f"--cluster {client.scheduler.address}: a worker, not the scheduler, or an old one ({reason(error)})"
        ) from error
    if not workers:
        sys.stderr.write("the scheduler has no worker yet; waiting for one\n")
    for address, worker in workers.items():
        if worker["nthreads"] > 1:
            raise InputError(
                f"worker {address} does {worker['nthreads']} units at a time in one process; start it with "
                "--nthreads 1, and more of them with --nworkers"
            )
    for address, found in described.items():
        if isinstance(found, Exception):
            raise InputError(f"worker {address} cannot work ({reason(found)}); install the same saltseg there")
        version, unseen = found
        if version != __version__:
            raise InputError(f"worker {address} has saltseg {version}, here is {__version__}; install the same")
        if unseen:
            raise InputError(f"worker {address} does not see {unseen[0]}; give a folder that all machines share")


def _describe(folders: Sequence[Path]) -> tuple[str, list[Path]]:
    """The version of a worker, and the folders that it does not see."""
    return __version__, [folder for folder in folders if not folder.is_dir()]

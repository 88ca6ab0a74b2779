"""Files and folders that are written completely or not at all, and readers that name a damaged file in one line.

A reader never sees half a file, a killed writer loses nothing, and what was renamed into place survives a power cut.
Temporary files and folders begin with a dot; the next writer removes those of killed processes.
"""

import csv
import glob
import io
import json
import math
import os
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from pydantic_core import from_json

from saltseg.errors import InputError, raise_if_of_machine, reason

MAX_BYTES = 4 * 2**30  # of the arrays in a file: predictions for 400,000 tiles
MAX_TEXT_BYTES = 20_000_000  # of a JSON or CSV file: scores of 400,000 images
# Python unpacks a zip file's other methods a megabyte of the file at a time, of which bzip2 makes 20 GB and more.
BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)

PATIENCE = "SALTSEG_LOCK_SECONDS"
OURS = ".saltseg"  # in hidden names beside a folder that is being made, so that those of other programs are left alone

# ---------------------------------------------------------------- atomic files and folders


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write to; renamed onto ``path`` on success, removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        _remove_abandoned(left)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    temporary = Path(name)
    held = _hold(handle)
    if not held:
        os.close(handle)  # Windows renames no open file
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes private files; results are as readable as any other
        _sync(temporary)  # a rename may reach the disk before the content does
        temporary.replace(path)
        _sync_dir(path.parent)
    finally:
        if held:
            os.close(handle)
        temporary.unlink(missing_ok=True)


def _hold(handle: int) -> bool:
    """Lock an open file until it is closed or the process dies; False if another process holds it."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):  # Windows, or a file system without locks: nothing is known to be abandoned
        return False
    return True


def _remove_abandoned(temporary: Path) -> None:
    """Remove a temporary file unless the process that writes it lives."""
    with suppress(OSError), temporary.open("rb") as file:
        if _hold(file.fileno()):
            temporary.unlink()


@contextmanager
def atomic_dir(path: Path, replace: bool = False) -> Iterator[Path]:
    """A new folder beside ``path`` to fill; renamed to ``path`` on success, removed on failure.

    Args:
        path: the folder to make.
        replace: remove what is at ``path`` once the new folder is in its place.

    Raises:
        InputError: ``path`` exists and is not to be replaced, or another process is making it.
    """
    lock, new, old = _beside(path)
    taken = InputError(f"{path} exists; choose another name or remove it")
    for other in path.parent.glob(f".*{OURS}.lock"):  # of folders being made, or that a killed process was making
        if other != lock:
            with suppress(InputError), locked(other, other):
                _recover(other.with_name(other.name[1 : -len(f"{OURS}.lock")]))
                other.unlink()
    with locked(lock, path):
        try:
            _recover(path)
            if path.exists() and not replace:
                raise taken
            new.mkdir()
            yield new
            if path.exists() and not replace:  # something else made it meanwhile
                raise taken
            _sync_all()
            _swap(path, new, old)
        finally:
            remove(new)
            lock.unlink(missing_ok=True)


def _beside(path: Path) -> tuple[Path, Path, Path]:
    """The lock of a folder, its next and its last version."""
    lock, new, old = (path.with_name(f".{path.name}{OURS}.{kind}") for kind in ("lock", "new", "old"))
    return lock, new, old


def _recover(path: Path) -> None:
    """Remove what a killed process left of a folder that it was making; the caller holds the folder's lock."""
    _, new, old = _beside(path)
    if old.exists() and not path.exists():  # it was killed between the two renames of `_swap`
        old.rename(path)
    remove(old)
    remove(new)


def _swap(path: Path, new: Path, old: Path) -> None:
    """Rename ``new`` to ``path``; what was there is moved to ``old`` first and removed at last."""
    if path.exists():
        path.rename(old)
    try:
        new.rename(path)
    except OSError:
        if old.exists():
            old.rename(path)
        raise
    _sync_dir(path.parent)
    remove(old)


@contextmanager
def locked(lock: Path, path: Path) -> Iterator[None]:
    """Hold the file ``lock`` for one process; the operating system releases it when the process dies.

    Raises:
        InputError: another process holds it, and for as many seconds as the environment variable `PATIENCE` says.
            The message names ``path``, which is what the lock protects.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(lock, timeout=float(os.environ.get(PATIENCE, 0)))
    try:
        held.acquire()
    except Timeout:
        raise InputError(f"{path} is being written by another process; wait for it or stop it") from None
    try:
        yield
    finally:
        held.release()


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def _sync(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_dir(path: Path) -> None:
    """The same for the list of files in a folder."""
    with suppress(OSError):  # Windows and some network drives cannot
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _sync_all() -> None:
    """The same for everything that was written, in one call: a dataset has 22,000 files."""
    if sys.platform != "win32":
        os.sync()


def irregular(path: Path, max_bytes: int) -> str:
    """What speaks against reading a file, "" for nothing: it is no regular file (a pipe would wait for ever, a device
    may have no end) or has more than ``max_bytes``. It is not opened. Raises OSError if it is missing.
    """
    info = path.stat()
    if stat.S_ISDIR(info.st_mode):
        return "a folder"
    if not stat.S_ISREG(info.st_mode):
        return "a pipe, a device or a socket"
    return f"{info.st_size:,} bytes, at most {max_bytes:,}" if info.st_size > max_bytes else ""


def require_folder(folder: Path) -> None:
    """Raise InputError if a folder that is being filled is gone: what was written to it now would be half of it."""
    if not folder.is_dir():
        raise InputError(f"{folder} was removed or moved while it was being written; run the command again")


def remove(path: Path) -> None:
    """Remove a file, a folder or a link, never what a link points to; nothing happens if there is none."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


# ---------------------------------------------------------------- text, JSON, CSV, arrays


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write ``data`` (text as UTF-8) so that ``path`` holds the old or the new content, never half."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically; NaN is refused with a ValueError."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_json_lines(path: Path, mapping: dict[str, Any]) -> None:
    """`write_json` with one line per key, for mappings with long lists; `read_json` reads it."""
    lines = (f'"{key}": {json.dumps(value, allow_nan=False, ensure_ascii=False)}' for key, value in mapping.items())
    write_atomic(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_json(path: Path) -> Any:
    """Read JSON whose numbers are finite; raises InputError for a missing, damaged, huge or deeply nested file."""
    text = _read_text(path)
    try:
        value = from_json(text, allow_inf_nan=False)  # lists and objects at most 200 deep
        if not _finite(value):
            raise ValueError("it holds an infinite number")
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({reason(error)}); delete it and run the step again") from None
    return value


def _finite(value: Any) -> bool:
    """Whether all numbers are finite: 1e999 is read as infinity."""
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    return all(map(_finite, value)) if isinstance(value, list) else not isinstance(value, float) or math.isfinite(value)


def _read_text(path: Path) -> str:
    """The text of a file; raises InputError for a missing, unreadable or huge one, or no UTF-8."""
    try:
        if wrong := irregular(path, MAX_TEXT_BYTES):
            raise InputError(f"{path} cannot be read ({wrong}); delete it and run the step again")
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"no file {path}; run the step that writes it (saltseg run does all in order)") from None
    except OSError as error:
        raise InputError(f"{path} cannot be opened ({error.strerror}); check its rights and the disk") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 ({reason(error)}); delete it and run the step again") from None


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows (all with the keys of the first) as CSV atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read CSV rows as text; raises InputError for a missing, damaged or huge file."""
    try:
        return list(csv.DictReader(io.StringIO(_read_text(path), newline="")))
    except csv.Error as error:
        raise InputError(
            f"{path} is not a readable CSV file ({reason(error)}); delete it and run the step again"
        ) from None


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed ``.npz`` atomically; no array may have the name of a parameter of `numpy.savez_compressed`."""
    assert not {"file", "allow_pickle"} & arrays.keys()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its other parameter is no array


def read_arrays(path: Path, needed: Sequence[str], what: str, step: str) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote; never unpickles.

    Args:
        path: the ``.npz`` file.
        needed: names of arrays that must be in it.
        what: what messages call the file.
        step: what makes the file, for the message where there is none.

    Raises:
        InputError: the file is missing, damaged, declares more than `MAX_BYTES`, or lacks an array.
    """
    try:
        if wrong := irregular(path, MAX_BYTES):
            raise InputError(f"{path} cannot be opened ({wrong}); move it away and run {step} again")
        with zipfile.ZipFile(path) as file:
            arrays = _read_members(file)
    except FileNotFoundError:
        raise InputError(f"no {what} at {path}; run {step} first") from None
    except InputError:
        raise
    except Exception as error:  # from zip, zlib or numpy: all mean another kind of file
        if isinstance(error, OSError) and error.filename is not None:  # it could not even be opened
            raise InputError(f"{path} cannot be opened ({error.strerror}); check its rights and the disk") from None
        raise_if_of_machine(error)
        raise unreadable(path, what, error) from None
    if missing := [name for name in needed if name not in arrays]:
        raise unreadable(path, what, f"no array {missing[0]!r} in it")
    return arrays


def _read_members(file: zipfile.ZipFile) -> dict[str, np.ndarray]:
    """The arrays of an ``.npz``; ValueError before anything is read that declares more than there is or may be."""
    members = file.infolist()
    size = sum(member.file_size for member in members)  # reading stops there
    if size > MAX_BYTES:
        raise ValueError(f"{size:,} bytes of arrays, at most {MAX_BYTES:,}")
    if any(member.compress_type not in BOUNDED for member in members):
        raise ValueError("neither stored nor deflated")
    arrays = {}
    for member in members:
        with file.open(member) as stream:
            np.lib.format.read_magic(stream)
            shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
            if not dtype.itemsize or math.prod(shape) * dtype.itemsize != member.file_size - stream.tell():
                raise ValueError(f"{member.filename} declares {shape} {dtype} in {member.file_size:,} bytes")
        with file.open(member) as stream:
            arrays[member.filename.removesuffix(".npy")] = np.lib.format.read_array(stream, allow_pickle=False)
    return arrays


def unreadable(path: Path, what: str, error: Exception | str) -> InputError:
    """The InputError for a file that holds something else than ``what``."""
    return InputError(f"{path} cannot be read as {what} ({reason(error)}); delete it and make it again")

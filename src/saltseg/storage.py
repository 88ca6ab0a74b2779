"""Files that are whole or not there: written beside their target and renamed, read with one line for what is damaged.

So a reader never sees half a file, and a killed writer loses nothing.
"""

import csv
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from saltseg.errors import InputError, reason


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A path beside ``path`` to write to; renamed onto it on success, removed on failure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(handle)
    beside = Path(name)
    try:
        yield beside
        beside.chmod(0o666 & ~_umask())  # mkstemp is private; results are as readable as any file
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def atomic_dir(path: Path, replace: bool = False) -> Iterator[Path]:
    """A folder beside ``path`` to fill; renamed to ``path`` on success, removed on failure.

    replace: what is at ``path`` goes, once the new folder is in its place. Else InputError if something is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    old = beside.with_name(f"{beside.name}.old")
    try:
        yield beside
        beside.chmod(0o777 & ~_umask())
        if path.exists() and not replace:
            raise InputError(f"{path} has come into being meanwhile; remove it or choose another name")
        if path.exists():
            path.rename(old)
        try:
            beside.rename(path)
        except OSError:
            if old.exists():
                old.rename(path)
            raise
        remove(old)
    finally:
        remove(beside)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def remove(path: Path) -> None:
    """Remove a file, a folder or a link, never what a link points to; nothing happens if there is none."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def write_atomic(path: Path, data: bytes | str) -> None:
    """Write ``data`` (text as UTF-8) so that ``path`` holds the old or the new content, never half."""
    with atomic_path(path) as beside:
        beside.write_bytes(data.encode() if isinstance(data, str) else data)


def write_json(path: Path, value: Any) -> None:
    """Write readable JSON atomically; NaN is refused."""
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def write_json_lines(path: Path, mapping: dict[str, Any]) -> None:
    """`write_json` with one line per key, for mappings with long lists; `read_json` reads it."""
    lines = (f'"{key}": {json.dumps(value, allow_nan=False, ensure_ascii=False)}' for key, value in mapping.items())
    write_atomic(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_json(path: Path) -> Any:
    """Read JSON; raises InputError with the way out."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"no file {path}; run the step that writes it (scripts/run.py does all in order)") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}); delete it and run the step again") from None


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows (all with the keys of the first) as CSV atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(path, text.getvalue())


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed ``.npz`` atomically; no array may be called as a parameter of numpy's is."""
    assert not {"file", "allow_pickle"} & arrays.keys()
    with atomic_path(path) as beside, beside.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # its other parameter is no array


def read_arrays(path: Path, needed: Sequence[str], what: str, step: str) -> dict[str, np.ndarray]:
    """Read what `write_arrays` wrote; never unpickles. Raises InputError with the way out.

    needed: names of arrays that must be there. what: what messages call the file. step: what makes it, where it lacks.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            found = dict(file)
    except FileNotFoundError:
        raise InputError(f"no {what} at {path}; run {step} first") from None
    except Exception as error:  # zip, zlib and numpy: all mean another kind of file
        if isinstance(error, OSError) and error.filename is not None:  # it could not even be opened
            raise InputError(f"{path} cannot be opened ({error.strerror}); check its rights and the disk") from None
        raise unreadable(path, what, error) from None
    if lacking := [name for name in needed if name not in found]:
        raise unreadable(path, what, f"no array {lacking[0]!r} in it")
    return found


def unreadable(path: Path, what: str, error: Exception | str) -> InputError:
    """The refusal of a file that holds something else than ``what``."""
    return InputError(f"{path} cannot be read as {what} ({reason(error)}); delete it and make it again")


def read_csv(path: Path) -> list[dict[str, str]]:
    """Read CSV rows as text."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise InputError(f"no file {path}; run the step that writes it") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a readable CSV file ({error}); delete it and run the step again") from None

"""Files of a dataset, which others wrote: opened only if they are files, of a size that fits; hidden ones left out."""

import os
from pathlib import Path

from saltseg import io
from saltseg.errors import InputError, reason

MAX_BYTES = 256 * 2**20  # the largest file of the competition has 6 MB
SYSTEM_FILES = {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin"}


class FileProblem(InputError):
    """One file that cannot be used.

    Attributes:
        where: path of the file.
        what: what is wrong.
        fix: how to repair it.
        line: of a table, from 1; 0 for the file as a whole.
    """

    def __init__(self, where: Path, what: str, fix: str, line: int = 0) -> None:
        super().__init__(f"{where}{f' line {line}' if line else ''}: {what}; {fix}")
        self.where, self.what, self.fix, self.line = where, what, fix, line


def is_hidden(name: str) -> bool:
    """Whether macOS, Windows, a network drive or an office program left this file: .DS_Store, ._a.png, Thumbs.db, …"""
    return name.startswith((".", "~$")) or name.lower() in SYSTEM_FILES


def list_files(folder: Path) -> list[str]:
    """Sorted names of what is in `folder`, without hidden files; empty if there is no folder."""
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 (names, without a Path each)
    return sorted(name for name in names if not is_hidden(name))


def read_bytes(path: Path) -> bytes:
    """Content of a regular file, or of the one that a link leads to.

    Raises:
        FileProblem: the file is missing, not a regular file, larger than `MAX_BYTES` or cannot be opened.
    """
    try:
        if wrong := io.irregular(path, MAX_BYTES):
            raise FileProblem(path, f"cannot be read ({wrong})", "put a file in its place or leave it out")
        return path.read_bytes()
    except FileNotFoundError:
        raise FileProblem(path, "file is missing", "restore it; input/README.md describes the layout") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a zero byte
        if isinstance(error, FileProblem):
            raise
        why = error.strerror if isinstance(error, OSError) else reason(error)
        raise FileProblem(path, f"cannot be opened ({why})", "check its name and its permissions") from None

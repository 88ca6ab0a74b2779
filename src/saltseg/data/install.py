"""Install a dataset as `input/<name>`, complete or not at all.

A dataset is prepared in `input/.download` and renamed when it is complete.
"""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saltseg import io
from saltseg.data.check import check_dataset
from saltseg.data.competition import SOURCE_FILE, check_name, read_source
from saltseg.errors import InputError

QUOTED_PROBLEMS = 3  # in a message, before it refers to the whole list


def link(input_dir: Path, folder: Path, name: str | None = None, overwrite: bool = False) -> tuple[Path, str]:
    """Check the dataset in `folder` and link it as `input_dir/<name>`.

    Args:
        input_dir: parent of all datasets.
        folder: the dataset; nothing in it is changed.
        name: None for the name of `folder`.
        overwrite: replace what has that name.

    Returns:
        Path of the dataset, and "linked", "copied" (where links are not permitted, as on some Windows machines) or
        "already there".

    Raises:
        InputError: no such folder, the dataset has problems, or something else has that name.
    """
    if not folder.is_dir():
        raise InputError(f"no folder {str(folder)!r}; --source takes synthetic, kaggle or a dataset's folder")
    folder = folder.resolve()
    with preparing(input_dir, folder.name if name is None else name) as target:
        if target.exists() and target.resolve() == folder:
            return target, "already there"
        return target, _link(folder, target, overwrite)


def _link(folder: Path, target: Path, overwrite: bool) -> str:
    _check_free(target, overwrite)
    if not target.is_symlink() and folder.is_relative_to(target.resolve()):
        raise InputError(f"{folder} lies in {target}, which --overwrite would remove; move it or choose another --name")
    require_valid(folder)
    staged = staging_path(target, "linked")
    io.remove(staged)
    try:
        staged.symlink_to(folder, target_is_directory=True)
        how = "linked"
    except (OSError, NotImplementedError):
        shutil.copytree(folder, staged)
        how = "copied"
    move_into_place(staged, target)
    return how


@contextmanager
def preparing(input_dir: Path, name: str) -> Iterator[Path]:
    """Path of the dataset `name`, which no other process prepares meanwhile.

    Raises:
        InputError: `name` is not a file name, or another process prepares that dataset.
    """
    target = input_dir / check_name(name)
    lock = staging_path(target, "lock")
    with io.locked(lock, target):
        try:
            yield target
        finally:
            lock.unlink(missing_ok=True)


def exists_from(target: Path, source: dict[str, Any], overwrite: bool) -> bool:
    """Whether the dataset exists and was made from the same source, so that it can stay.

    Raises:
        InputError: something else has that name and `overwrite` is off.
    """
    exists = read_source(target) == source and not overwrite
    if not exists:
        _check_free(target, overwrite)
    return bool(exists)


def staging_path(target: Path, suffix: str) -> Path:
    """Path for unfinished data, on the file system of `target` so that renaming is atomic."""
    folder = target.parent / ".download"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{target.name}.{suffix}"


def move_into_place(staged: Path, target: Path, source: dict[str, Any] | None = None) -> None:
    """Record the source and rename `staged` to `target`; what was there is removed last."""
    if source is not None:
        (staged / SOURCE_FILE).write_text(json.dumps(source) + "\n", encoding="utf-8")
    old = staging_path(target, "old")
    io.remove(old)
    if target.exists() or target.is_symlink():
        target.rename(old)
    staged.rename(target)
    io.remove(old)


def require_valid(root: Path) -> None:
    """Raise InputError with the first problems of a dataset and the command that lists them all."""
    problems = [problem for problem in check_dataset(root) if not problem.is_note]
    if problems:
        first = " | ".join(str(problem) for problem in problems[:QUOTED_PROBLEMS])
        count = sum(len(problem.places) for problem in problems)
        raise InputError(f"{root}: problems: {count}, first: {first} | all of them: saltseg check {root}")


def _check_free(target: Path, overwrite: bool) -> None:
    if (target.exists() or target.is_symlink()) and not overwrite:
        raise InputError(f"{target} exists; choose another --name, or replace it with --overwrite")

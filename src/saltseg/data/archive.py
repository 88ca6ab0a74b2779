"""Unpacking the competition's archive, which comes from the network and so is trusted with nothing."""

import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from saltseg.errors import InputError

INNER_ARCHIVES = {"train.zip": "train", "test.zip": "test"}  # inside Kaggle's one big archive
MAX_BYTES = 4 * 2**30  # the real archive unpacks to well below 1 GB
MAX_FILES = 200_000  # and to some 45,000 files


def unzip(archive: Path, target: Path) -> None:
    """Unpack the competition's archive, with its inner train.zip and test.zip, into the new folder `target`.

    InputError for a member that would land outside of `target`, a link, an encrypted member, or more than
    `MAX_BYTES` / `MAX_FILES`; a damaged archive is removed, so that the next download starts afresh. `target`
    is there afterwards only if all went well.
    """
    target.mkdir(parents=True)
    try:
        _extract(archive, target)
        for inner, folder in INNER_ARCHIVES.items():
            if (target / inner).is_file():
                _extract(target / inner, target / folder)
                (target / inner).unlink()
                _flatten(target / folder, folder)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        archive.unlink()
        shutil.rmtree(target)
        what = f"{archive}: damaged archive ({error})"
        raise InputError(f"{what}; it has been removed, run the same command again") from None
    except BaseException:
        shutil.rmtree(target)
        raise


def _extract(archive: Path, target: Path) -> None:
    """Write the members of one archive below `target`, after all of them have been checked."""
    with zipfile.ZipFile(archive) as bundle:
        members = [member for member in bundle.infolist() if not member.is_dir()]
        for member in members:
            _refuse_member(archive, member)
        # Reading stops at the size that the member declares, so this sum cannot be exceeded either.
        size = sum(member.file_size for member in members)
        if size > MAX_BYTES or len(members) > MAX_FILES:
            what = f"{archive}: unpacks to {size:,} bytes in {len(members):,} files"
            raise InputError(f"{what}, limit {MAX_BYTES:,} in {MAX_FILES:,}; delete it and fetch it again")
        for member in members:
            parts = PurePosixPath(member.filename).parts
            if parts[0] == "__MACOSX" or (parts[-1].endswith(".zip") and parts[-1] not in INNER_ARCHIVES):
                continue  # the archive also holds everything a second time, and something of the organisers'
            path = target.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with bundle.open(member) as packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file, 2**20)


def _refuse_member(archive: Path, member: zipfile.ZipInfo) -> None:
    """InputError unless the member is a plain, readable file below the target."""
    name = member.filename
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not path.parts:
        reason = "outside of the target"
    elif stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        reason = "not a plain file"
    elif member.flag_bits & 1:
        reason = "encrypted"
    else:
        return
    raise InputError(f"{archive}: member {name!r} refused ({reason}); delete the archive and fetch it again")


def _flatten(folder: Path, name: str) -> None:
    """Move `folder/<name>/*` up into `folder`: a train.zip may hold images/ or train/images/."""
    doubled = folder / name
    if doubled.is_dir():
        for path in list(doubled.iterdir()):
            path.rename(folder / path.name)
        doubled.rmdir()

"""Unpack the competition's archive; it comes from the network, so every member is checked before it is written."""

import shutil
import stat
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from saltseg import io
from saltseg.data.files import is_hidden
from saltseg.errors import InputError, raise_if_of_machine, reason

INNER_ARCHIVES = {"train.zip": "train", "test.zip": "test"}  # inside Kaggle's one big archive
MAX_BYTES = 4 * 2**30  # the real archive unpacks to well below 1 GB
MAX_FILES = 200_000  # and to some 45,000 files
MAX_NAME = 200  # bytes of a path; a file system may refuse more


class _Refused(Exception):
    """What is wrong with an archive."""


def unzip(archive: Path, target: Path) -> None:
    """Unpack the competition's archive and its inner train.zip and test.zip.

    An archive that cannot be used is deleted, so that the next download starts over.

    Args:
        archive: zip file.
        target: new folder; exists afterwards only on success.

    Raises:
        InputError: the archive is damaged or exceeds `MAX_BYTES` or `MAX_FILES`, it holds a file twice, or a member
            lies outside of `target`, is a link or is encrypted.
    """
    target.mkdir(parents=True)
    try:
        _extract(archive, target)
        for inner, folder in INNER_ARCHIVES.items():
            if (target / inner).is_file():
                if (target / folder).exists():
                    raise _Refused(f"both {inner} and the folder {folder}")
                _extract(target / inner, target / folder)
                (target / inner).unlink()
                _flatten(target / folder, folder)
    except _Refused as error:
        archive.unlink()
        shutil.rmtree(target)
        raise InputError(f"{archive}: {error}; it has been removed, rerun to fetch it again") from None
    except BaseException:
        shutil.rmtree(target)
        raise


def _extract(archive: Path, target: Path) -> None:
    """Check all members of one archive, then write them below `target`; raise _Refused for what must not be there."""
    with _open(archive) as bundle:
        members = [member for member in bundle.infolist() if not member.is_dir()]
        for member in members:
            _check_member(member)
        # Reading stops at the size that the member declares, so this sum cannot be exceeded either.
        size = sum(member.file_size for member in members)
        if size > MAX_BYTES or len(members) > MAX_FILES:
            what = f"unpacks to {size:,} bytes in {len(members):,} files"
            raise _Refused(f"{what}, limit {MAX_BYTES:,} in {MAX_FILES:,}")
        wanted = [member for member in members if not _skipped(PurePosixPath(member.filename).parts)]
        _check_paths([PurePosixPath(member.filename) for member in wanted])
        for member in wanted:
            path = target.joinpath(*PurePosixPath(member.filename).parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb") as file:
                for part in _parts(bundle, member):
                    file.write(part)


def _open(archive: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(archive)
    except Exception as error:
        raise_if_of_machine(error)
        raise _damaged(error) from None


def _parts(bundle: zipfile.ZipFile, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """The content of a member, apart from writing it, whose errors have other reasons."""
    try:
        with bundle.open(member) as packed:
            while part := packed.read(2**20):
                yield part
    except Exception as error:
        raise_if_of_machine(error)
        raise _damaged(error) from None


def _damaged(error: Exception) -> _Refused:
    return _Refused(f"damaged archive ({reason(error)})")


def _skipped(parts: tuple[str, ...]) -> bool:
    """The archive also holds everything a second time, something of the organizers', and what macOS leaves."""
    return any(map(is_hidden, parts)) or (parts[-1].endswith(".zip") and parts[-1] not in INNER_ARCHIVES)


def _check_member(member: zipfile.ZipInfo) -> None:
    """Raise _Refused unless the member is a plain, readable file below the target."""
    name = member.filename
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or any(sign in name for sign in "\\:"):
        why = "outside of the target"
    elif not name.isprintable() or len(name.encode()) > MAX_NAME:
        why = "no file name"
    elif stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        why = "not a plain file"
    elif member.flag_bits & 1:
        why = "encrypted"
    elif member.compress_type not in io.BOUNDED:
        why = "neither stored nor deflated"
    else:
        return
    raise _Refused(f"member {name!r} refused ({why})")


def _check_paths(paths: list[PurePosixPath]) -> None:
    """Raise _Refused where two members would be one file, on some system, or one a folder of the other."""
    seen: set[str] = set()
    for path in paths:
        key = unicodedata.normalize("NFC", str(path)).casefold()
        if key in seen:
            raise _Refused(f"member {str(path)!r} refused (there are two)")
        seen.add(key)
    folders = {unicodedata.normalize("NFC", str(folder)).casefold() for path in paths for folder in path.parents}
    if both := sorted(seen & folders):
        raise _Refused(f"member {both[0]!r} refused (a file and a folder)")


def _flatten(folder: Path, name: str) -> None:
    """Move `folder/<name>/*` up into `folder`: a train.zip may hold images/ or train/images/, not both."""
    nested = folder / name
    if nested.is_dir():
        for path in list(nested.iterdir()):
            if (folder / path.name).exists():
                raise _Refused(f"both {path.name} and {name}/{path.name} in {name}.zip")
            path.rename(folder / path.name)
        nested.rmdir()

"""Getting a dataset to `input/<name>`: from Kaggle with the official client, simulated, or an existing copy.

Everything is made beside its target and renamed when it is whole, so that a dataset is there complete or not
at all. Whatever the client or the network gets wrong comes out as one line that says what to do.
"""

import contextlib
import errno
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from saltseg import storage
from saltseg.data import synthetic
from saltseg.data.archive import unzip
from saltseg.data.competition import Progress, check_name
from saltseg.data.verify import verify
from saltseg.errors import InputError

COMPETITION = "tgs-salt-identification-challenge"
RULES_URL = f"https://www.kaggle.com/c/{COMPETITION}/rules"
SOURCE_FILE = "source.json"  # in the dataset's folder: what it was made from, should the command be repeated
SHOWN = 3  # problems quoted in a message before it points to the whole list


class Client(Protocol):
    """The part of `kaggle.api.kaggle_api_extended.KaggleApi` that is used here."""

    def competition_download_files(self, competition: str, path: str, force: bool = False, quiet: bool = True) -> Any:
        """Download all files of a competition as `path/<competition>.zip`."""


# ---------------------------------------------------------------- Kaggle


def download(
    input_dir: Path,
    name: str = "tgs",
    client: Client | None = None,
    overwrite: bool = False,
    quiet: bool = True,
) -> tuple[Path, str]:
    """Download, unpack and verify the competition's data; return `input_dir/<name>` and "downloaded".

    An interrupted download is repeated by calling again: what has arrived stays in `input_dir/.download`, and
    the client goes on from there where the server permits. Data that came from Kaggle earlier are "already
    there". `client` is used in place of the official one. InputError: client or credentials missing, rules
    not accepted, network, damaged archive, data that fail verification, or something else of that name.
    """
    source = {"source": "kaggle", "competition": COMPETITION}
    target = Path(input_dir) / check_name(name)
    if _is_made_from(target, source) and not overwrite:
        return target, "already there"
    _refuse_existing(target, overwrite)
    if client is None:
        client = official_client()
    part = _work_dir(target, "part")
    part.mkdir(exist_ok=True)
    with _explained(f"run the same command again (what has arrived is kept in {part})"):
        client.competition_download_files(COMPETITION, path=str(part), force=False, quiet=quiet)
    archive = part / f"{COMPETITION}.zip"
    if not archive.is_file():
        raise InputError(f"download: no {archive.name} in {part}; update the client: pip install -U kaggle")
    unpacked = _work_dir(target, "unpacked")
    storage.remove(unpacked)
    unzip(archive, unpacked)
    _require_sound(unpacked)
    _put_in_place(unpacked, target, source)
    storage.remove(part)
    return target, "downloaded"


def official_client() -> Client:
    """Import and authenticate Kaggle's client; InputError if it or the credentials are missing or refused."""
    # Without credentials the client prints a page of help and exits, some versions as soon as imported.
    with contextlib.redirect_stdout(io.StringIO()), _explained("run the same command again"):
        try:
            from kaggle.api.kaggle_api_extended import KaggleApi
        except ImportError as error:
            if (error.name or "").split(".")[0] != "kaggle":  # installed, but something that it needs is not
                raise InputError(f"Kaggle's client: {error}; pip install {error.name}, try again") from error
            way_out = "in the checkout: pip install -e '.[kaggle]'"
            raise InputError(f"Kaggle's client (the package kaggle) is not installed; {way_out}") from None
        client: Any = KaggleApi()
        client.authenticate()
        return client


@contextlib.contextmanager
def _explained(again: str) -> Iterator[None]:
    """Turn whatever Kaggle's client raises, or its attempt to exit, into an InputError with a way out."""
    try:
        yield
    except InputError:
        raise
    except SystemExit:
        raise _credentials("none found, or no longer valid") from None
    except Exception as error:
        raise _explain(error, again) from error


def _explain(error: Exception, again: str) -> InputError:
    # Errors of requests carry a response; those of clients before 1.7 carry the status themselves.
    status = getattr(getattr(error, "response", None), "status_code", getattr(error, "status", None))
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    if status == 401:
        return _credentials("refused (401)")
    if status == 403:
        what = "Kaggle refuses the download (403): this account has not accepted the competition's rules"
        return InputError(f"{what}; join ('Late Submission') and accept them at {RULES_URL}, {again}")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return InputError(f"disk full: {text}; make room for 2 GB, {again}")
    if "kaggle.json" in text:
        return _credentials("none found")
    if isinstance(error, OSError) or type(error).__module__.startswith(("requests", "urllib3", "http")):
        return InputError(f"network: {text}; check the connection, {again}")
    return InputError(f"Kaggle's client failed: {type(error).__name__}: {text}; pip install -U kaggle, {again}")


def _credentials(what: str) -> InputError:
    token = "make a token at https://www.kaggle.com/settings/api"
    place = "put it into the variable KAGGLE_API_TOKEN or the file ~/.kaggle/access_token"
    again = "run the same command again"
    return InputError(f"Kaggle credentials: {what}; {token}, {place} (old clients: kaggle.json), {again}")


# ---------------------------------------------------------------- simulated, or an existing copy


def simulate(
    input_dir: Path,
    name: str = "synthetic",
    n_train: int = 1000,
    n_test: int = 500,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[Path, str]:
    """Write a synthetic dataset; return `input_dir/<name>` and "written".

    The same counts and seed are "already there" the second time. InputError: bad counts, or something else of
    that name.
    """
    source = {"source": "synthetic", "train": n_train, "test": n_test, "seed": seed}
    target = Path(input_dir) / check_name(name)
    if _is_made_from(target, source) and not overwrite:
        return target, "already there"
    _refuse_existing(target, overwrite)
    made = _work_dir(target, "written")
    for left in (made, *made.parent.glob(f".{made.name}.*")):  # by a process that was killed
        storage.remove(left)
    synthetic.write_dataset(made, n_train, n_test, seed, progress=progress)
    _put_in_place(made, target, source)
    return target, "written"


def link(input_dir: Path, folder: Path, name: str | None = None, overwrite: bool = False) -> tuple[Path, str]:
    """Verify the dataset in `folder` and make it `input_dir/<name>` (default: the folder's own name).

    Returns that path and "linked", "copied" (where links are not permitted, as on some Windows machines) or
    "already there". InputError: no such folder, failed verification, or something else of that name.
    """
    if not Path(folder).is_dir():
        raise InputError(f"no folder {str(folder)!r}; --source takes synthetic, kaggle or a dataset's folder")
    folder = Path(folder).resolve()
    target = Path(input_dir) / check_name(folder.name if name is None else name)
    if target.exists() and target.resolve() == folder:
        return target, "already there"
    _refuse_existing(target, overwrite)
    if not target.is_symlink() and folder.is_relative_to(target.resolve()):
        raise InputError(f"{folder} lies in {target}, which --overwrite would remove; move it or choose another --name")
    _require_sound(folder)
    made = _work_dir(target, "linked")
    storage.remove(made)
    try:
        made.symlink_to(folder, target_is_directory=True)
        how = "linked"
    except (OSError, NotImplementedError):
        shutil.copytree(folder, made)
        how = "copied"
    _put_in_place(made, target)
    return target, how


def _require_sound(root: Path) -> None:
    """InputError with the first problems and the command that lists them all, if `verify` finds any."""
    problems = verify(root)
    if problems:
        first = " | ".join(str(problem) for problem in problems[:SHOWN])
        command = f"python scripts/check_data.py {root}"
        raise InputError(f"{root}: problems: {len(problems)}, first: {first} | the whole list: {command}")


# ---------------------------------------------------------------- what is under input/<name>


def _is_made_from(root: Path, source: dict[str, Any]) -> bool:
    try:
        return bool(json.loads((root / SOURCE_FILE).read_text(encoding="utf-8")) == source)
    except (OSError, ValueError):
        return False


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if (target.exists() or target.is_symlink()) and not overwrite:
        raise InputError(f"{target} exists already; choose another --name, or replace it with --overwrite")


def _work_dir(target: Path, suffix: str) -> Path:
    """Path for unfinished things, on the file system of the target so that renaming is one step."""
    work = target.parent / ".download"
    work.mkdir(parents=True, exist_ok=True)
    return work / f"{target.name}.{suffix}"


def _put_in_place(made: Path, target: Path, source: dict[str, Any] | None = None) -> None:
    """Note the source and rename `made` to `target`; what was there goes only once the new is in place."""
    if source is not None:
        (made / SOURCE_FILE).write_text(json.dumps(source) + "\n", encoding="utf-8")
    old = _work_dir(target, "old")
    storage.remove(old)
    if target.exists() or target.is_symlink():
        target.rename(old)
    made.rename(target)
    storage.remove(old)

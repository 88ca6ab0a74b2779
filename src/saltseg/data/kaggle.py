"""Download the competition's data with Kaggle's own client.

Every failure of the client or the network becomes one line that names the way out.
"""

import contextlib
import errno
import io as stdio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from saltseg import io
from saltseg.data import install
from saltseg.data.archive import unzip
from saltseg.errors import InputError

COMPETITION = "tgs-salt-identification-challenge"
RULES_URL = f"https://www.kaggle.com/c/{COMPETITION}/rules"
TOKEN_URL = "https://www.kaggle.com/settings/api"


class Client(Protocol):
    """The part of `kaggle.api.kaggle_api_extended.KaggleApi` that is used here."""

    def competition_download_files(self, competition: str, path: str, force: bool = False, quiet: bool = True) -> Any:
        """Download all files of a competition as `path/<competition>.zip`."""


def download(
    input_dir: Path,
    name: str = "tgs",
    client: Client | None = None,
    overwrite: bool = False,
    quiet: bool = True,
) -> tuple[Path, str]:
    """Download, unpack and check the competition's data.

    After an interruption, call again: what has arrived stays in `input_dir/.download`, and the client resumes from
    there if the server permits.

    Args:
        input_dir: parent of all datasets.
        name: of the dataset.
        client: None for the official one.
        overwrite: replace what has that name.
        quiet: no progress bar of the client.

    Returns:
        `input_dir/<name>`, and "downloaded" or, for data downloaded earlier, "already there".

    Raises:
        InputError: client or credentials missing, rules not accepted, network failure, damaged archive, data that fail
            the check, or something else has that name.
    """
    source = {"source": "kaggle", "competition": COMPETITION}
    with install.preparing(input_dir, name) as target:
        if install.exists_from(target, source, overwrite):
            return target, "already there"
        client = client or official_client()
        part = install.staging_path(target, "part")
        part.mkdir(exist_ok=True)
        with _translate_errors(f"rerun (what has arrived is kept in {part})"):
            client.competition_download_files(COMPETITION, path=str(part), force=False, quiet=quiet)
        archive = part / f"{COMPETITION}.zip"
        if not archive.is_file():
            raise InputError(f"download: no {archive.name} in {part}; update the client: pip install -U kaggle")
        unpacked = install.staging_path(target, "unpacked")
        io.remove(unpacked)
        unzip(archive, unpacked)
        install.require_valid(unpacked)
        install.move_into_place(unpacked, target, source)
        io.remove(part)
    return target, "downloaded"


def official_client() -> Client:
    """Import and authenticate Kaggle's client.

    Raises:
        InputError: the client or the credentials are missing or refused.
    """
    # Without credentials the client prints a page of help and exits, some versions as soon as imported.
    with contextlib.redirect_stdout(stdio.StringIO()), _translate_errors("rerun"):
        try:
            from kaggle.api.kaggle_api_extended import KaggleApi
        except ImportError as error:
            if (error.name or "").split(".")[0] != "kaggle":  # installed, but one of its dependencies is not
                raise InputError(f"Kaggle's client: {error}; pip install {error.name}, then rerun") from error
            way_out = "in the checkout: pip install -e '.[kaggle]'"
            raise InputError(f"Kaggle's client (the package kaggle) is not installed; {way_out}") from None
        client: Any = KaggleApi()
        client.authenticate()
        return client


@contextlib.contextmanager
def _translate_errors(rerun: str) -> Iterator[None]:
    """Turn whatever Kaggle's client raises, SystemExit included, into an InputError."""
    try:
        yield
    except InputError:
        raise
    except SystemExit:
        raise _credentials_error("none found, or no longer valid") from None
    except Exception as error:
        raise _input_error(error, rerun) from error


def _input_error(error: Exception, rerun: str) -> InputError:
    # Errors of requests carry a response; those of clients before 1.7 carry the status themselves.
    status = getattr(getattr(error, "response", None), "status_code", getattr(error, "status", None))
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    if status == 401:
        return _credentials_error("refused (401)")
    if status == 403:
        what = "Kaggle refuses the download (403): this account has not accepted the competition's rules"
        return InputError(f"{what}; join ('Late Submission') and accept them at {RULES_URL}, then {rerun}")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return InputError(f"disk full: {text}; free 2 GB, then {rerun}")
    if "kaggle.json" in text:
        return _credentials_error("none found")
    if isinstance(error, OSError) or type(error).__module__.startswith(("requests", "urllib3", "http")):
        return InputError(f"network: {text}; check the connection, then {rerun}")
    return InputError(f"Kaggle's client failed: {type(error).__name__}: {text}; pip install -U kaggle, then {rerun}")


def _credentials_error(what: str) -> InputError:
    where = "the variable KAGGLE_API_TOKEN or the file ~/.kaggle/access_token (old clients: kaggle.json)"
    return InputError(f"Kaggle credentials: {what}; make a token at {TOKEN_URL}, put it into {where}, then rerun")

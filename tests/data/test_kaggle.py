"""Downloading the competition's data, by a fake client: complete or not at all."""

import errno
import io
import stat
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_dataset import files_under

from saltseg.data import archive, competition, kaggle
from saltseg.data.check import check_dataset
from saltseg.errors import InputError

ZIP_NAME = f"{kaggle.COMPETITION}.zip"


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def kaggle_zip(original) -> bytes:
    """The archive as Kaggle serves it: tables, zips inside the zip, and things nobody asked for."""
    files = files_under(original)
    members = {name: data for name, data in files.items() if name in ("train.csv", "sample_submission.csv")}
    for part in ("train", "test"):
        inner = {name.removeprefix(f"{part}/"): data for name, data in files.items() if name.startswith(part)}
        inner = {name: data for name, data in inner.items() if "/" in name}
        members[f"{part}.zip"] = zipped({**inner, "__MACOSX/images/._x.png": b"?", "images/.DS_Store": b"?"})
    return zipped({**members, "flamingo.zip": b"a zip in name only", "competition_data.zip": b"?"})


class FakeClient:
    """Follows a list of steps, one a call: bytes are written as the archive, an exception is raised."""

    def __init__(self, *steps: object) -> None:
        self.steps: Iterator[object] = iter(steps)
        self.found: list[int] = []  # size of what lay there at each call

    def competition_download_files(self, competition, path, force=False, quiet=True):
        assert competition == "tgs-salt-identification-challenge"
        assert not force  # or the client would not go on with what is there
        target = Path(path) / ZIP_NAME
        self.found.append(target.stat().st_size if target.is_file() else 0)
        step = next(self.steps)
        data, error = step if isinstance(step, tuple) else (step, None)
        if data is not None:
            target.write_bytes(data)
        if error is not None:
            raise error


def test_a_download_becomes_a_verified_dataset(kaggle_zip, original, tmp_path):
    client = FakeClient(kaggle_zip)
    root, how = kaggle.download(tmp_path / "new/input", client=client)
    assert (root, how) == (tmp_path / "new/input/tgs", "downloaded")
    assert check_dataset(root) == []
    wanted = files_under(original)
    got = files_under(root)
    for name in ("depths.csv", "solution.csv", "sections.csv"):
        del wanted[name]
    del got["source.json"]
    assert got == wanted
    assert list((tmp_path / "new/input/.download").iterdir()) == []
    assert kaggle.download(tmp_path / "new/input", client=client) == (root, "already there")
    assert client.found == [0]


def test_an_archive_that_repeats_its_folder_is_flattened(original, tmp_path):
    files = files_under(original)
    inner = zipped({name: data for name, data in files.items() if name.startswith("train/")})
    rest = {name: data for name, data in files.items() if not name.startswith("train/")}
    root, _ = kaggle.download(tmp_path / "input", client=FakeClient(zipped({**rest, "train.zip": inner})))
    assert check_dataset(root) == []
    assert not (root / "train/train").exists()


def test_an_interrupted_download_goes_on_with_what_has_arrived(kaggle_zip, tmp_path):
    half = kaggle_zip[: len(kaggle_zip) // 2]
    client = FakeClient((half, ConnectionResetError("reset by peer")), (half, KeyboardInterrupt()), kaggle_zip)
    with pytest.raises(InputError, match=r"network: reset by peer; check the connection, then rerun"):
        kaggle.download(tmp_path / "input", client=client)
    with pytest.raises(KeyboardInterrupt):
        kaggle.download(tmp_path / "input", client=client)
    assert not (tmp_path / "input/tgs").exists()
    root, _ = kaggle.download(tmp_path / "input", client=client)
    assert check_dataset(root) == []
    assert client.found == [0, len(half), len(half)]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "html"])
def test_a_damaged_archive_is_removed_and_fetched_again(kaggle_zip, tmp_path, damage):
    flipped = bytearray(kaggle_zip)
    flipped[len(flipped) // 2] ^= 0xFF
    data = {"truncated": kaggle_zip[:-500], "flipped": bytes(flipped), "html": b"<html>log in</html>"}[damage]
    client = FakeClient(data, kaggle_zip)
    with pytest.raises(InputError, match=r"damaged archive .*removed, rerun"):
        kaggle.download(tmp_path / "input", client=client)
    assert not (tmp_path / "input/tgs").exists()
    assert check_dataset(kaggle.download(tmp_path / "input", client=client)[0]) == []
    assert client.found == [0, 0]


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_method_whose_memory_is_not_bounded_is_refused_and_the_archive_removed(tmp_path, method):
    """A bzip2 member of 1,700 bytes took 2 GB, because Python unpacks a megabyte of the archive at a time."""
    (tmp_path / "a.zip").write_bytes(zipped({"train.csv": bytes(10)}, method))
    with pytest.raises(InputError, match=r"'train.csv' refused .neither stored nor deflated.; it has been removed"):
        archive.unzip(tmp_path / "a.zip", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["outer", "inner"])
def test_a_damaged_member_is_refused_and_the_archive_removed(original, tmp_path, where):
    files, method = files_under(original), zipfile.ZIP_DEFLATED
    if where == "inner":
        inner = {name: data for name, data in files.items() if name.startswith("train/")}
        files = {name: data for name, data in files.items() if name not in inner} | {"train.zip": zipped(inner, method)}
    data = bytearray(zipped(files, zipfile.ZIP_STORED if where == "inner" else method))
    for at in range(len(data) // 4, len(data) // 2, 50):
        data[at] ^= 0x55
    client = FakeClient(bytes(data), zipped(files))
    with pytest.raises(InputError, match=r"\.zip: damaged archive \(.*\); it has been removed, rerun") as refused:
        kaggle.download(tmp_path / "input", client=client)
    assert "\n" not in str(refused.value)
    assert check_dataset(kaggle.download(tmp_path / "input", client=client)[0]) == []
    assert client.found == [0, 0]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"train.zip": {"train/images/a.png": b"", "images/a.png": b""}}, "both images and train/images in train.zip"),
        ({"train.zip": {"images/a.png": b""}, "train/images/a.png": b""}, "both train.zip and the folder train"),
        ({"train": b"", "train/images/a.png": b""}, "'train' refused .a file and a folder."),
        ({"a/b": b"", "A": b""}, "'a' refused .a file and a folder."),
        ({"train.csv": b"", "TRAIN.csv": b""}, "'TRAIN.csv' refused .there are two."),
        ({"./train.csv": b"", "train.csv": b""}, "'train.csv' refused .there are two."),
        ({"n" * 250: b""}, "refused .no file name."),
        ({"a\nb": b""}, r"'a\\nb' refused .no file name."),
    ],
)
def test_an_archive_with_two_of_one_thing_is_refused_and_removed(tmp_path, members, message):
    members = {name: zipped(data) if isinstance(data, dict) else data for name, data in members.items()}
    (tmp_path / "a.zip").write_bytes(zipped(members))
    with pytest.raises(InputError, match=rf"{message}\)?; it has been removed, rerun"):
        archive.unzip(tmp_path / "a.zip", tmp_path / "target")
    assert list(tmp_path.iterdir()) == []


def test_what_an_archive_cannot_be_blamed_for_does_not_remove_it(kaggle_zip, tmp_path, monkeypatch):
    (tmp_path / "a.zip").write_bytes(kaggle_zip)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left"):
        archive.unzip(tmp_path / "a.zip", tmp_path / "target")
    assert (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", ["../evil.txt", "images/../../evil.txt", "/tmp/evil.txt", "..\\evil.txt", "C:evil"])
def test_members_that_would_land_elsewhere_are_refused(kaggle_zip, tmp_path, name, nested):
    bad = zipped({"train.csv": b"id\n", name: b"evil"})
    path = tmp_path / "a.zip"
    path.write_bytes(zipped({"train.zip": bad}) if nested else bad)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"member .*evil.* refused \(outside of the target\)"):
        archive.unzip(path, tmp_path / "out/target")
    assert set(tmp_path.rglob("*")) - before == {tmp_path / "out"}


def test_links_in_an_archive_are_refused(tmp_path):
    member = zipfile.ZipInfo("train/images")
    member.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as bundle:
        bundle.writestr(member, "/etc")
    with pytest.raises(InputError, match=r"'train/images' refused \(not a plain file\)"):
        archive.unzip(tmp_path / "a.zip", tmp_path / "target")


@pytest.mark.parametrize(("limit", "value"), [("MAX_BYTES", 999_999), ("MAX_FILES", 1)])
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch, limit, value):
    (tmp_path / "a.zip").write_bytes(zipped({"zeros": bytes(1_000_000), "x": b""}))
    archive.unzip(tmp_path / "a.zip", tmp_path / "fits")
    monkeypatch.setattr(archive, limit, value)
    with pytest.raises(InputError, match="unpacks to 1,000,000 bytes in 2 files, limit"):
        archive.unzip(tmp_path / "a.zip", tmp_path / "target")
    assert not (tmp_path / "target").exists()


class Refused(Exception):
    """As clients before 1.7 raise it, or as requests does, with a response."""

    def __init__(self, text: str, status: int | None = None, response_status: int | None = None) -> None:
        super().__init__(text)
        if status is not None:
            self.status = status
        if response_status is not None:
            self.response = types.SimpleNamespace(status_code=response_status)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Refused("Forbidden", status=403), r"not accepted the competition's rules; join .*challenge/rules"),
        (Refused("403 Client Error", response_status=403), r"not accepted the competition's rules"),
        (
            Refused("Unauthorized", response_status=401),
            r"credentials: refused \(401\); make a token at https",
        ),
        (SystemExit(1), r"credentials: none found.*KAGGLE_API_TOKEN"),
        (OSError("Could not find kaggle.json. Make sure"), r"credentials: none found"),
        (OSError(errno.ENOSPC, "No space left on device"), r"disk full: .*free 2 GB"),
        (TimeoutError(), r"network: TimeoutError; check the connection"),
        (Refused("a\nb"), r"Kaggle's client failed: Refused: a; pip install -U kaggle"),
    ],
)
def test_what_the_client_raises_is_explained_in_one_line(tmp_path, error, message):
    with pytest.raises(InputError, match=message) as raised:
        kaggle.download(tmp_path / "input", client=FakeClient((None, error)))
    assert "\n" not in str(raised.value)
    assert "rerun" in str(raised.value)


def test_a_client_that_downloads_nothing(tmp_path):
    with pytest.raises(InputError, match=rf"no {ZIP_NAME} in .*update the client"):
        kaggle.download(tmp_path / "input", client=FakeClient(None))


def test_data_that_fail_verification_do_not_become_a_dataset(original, tmp_path):
    files = files_under(original)
    lost = next(name for name in files if name.startswith("train/masks"))
    del files[lost]
    with pytest.raises(InputError, match=rf"problems: 1, first: {lost}: file is missing.*saltseg check .*unpacked"):
        kaggle.download(tmp_path / "input", client=FakeClient(zipped(files)))
    assert competition.list_datasets(tmp_path / "input") == []


def fake_kaggle(monkeypatch, authenticate) -> None:
    module = types.ModuleType("kaggle.api.kaggle_api_extended")
    module.KaggleApi = type("KaggleApi", (), {"authenticate": authenticate})
    for name in ("kaggle", "kaggle.api"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)


def test_the_official_client_without_credentials(monkeypatch, capsys):
    def authenticate(self):
        print("a page of help")
        sys.exit(1)

    fake_kaggle(monkeypatch, authenticate)
    with pytest.raises(InputError, match="credentials: none found, or no longer valid; make a token"):
        kaggle.official_client()
    assert capsys.readouterr().out == ""
    fake_kaggle(monkeypatch, lambda self: None)
    assert type(kaggle.official_client()).__name__ == "KaggleApi"


def test_the_official_client_not_installed_or_broken(monkeypatch):
    monkeypatch.setitem(sys.modules, "kaggle", None)
    with pytest.raises(InputError, match=r"not installed; in the checkout: pip install -e '.\[kaggle\]'"):
        kaggle.official_client()
    fake_kaggle(monkeypatch, lambda self: None)
    monkeypatch.delitem(sys.modules, "kaggle.api.kaggle_api_extended")

    def find(name, path=None, target=None):
        if name.startswith("kaggle.api."):
            raise ModuleNotFoundError("No module named 'six'", name="six")

    monkeypatch.setattr(sys, "meta_path", [types.SimpleNamespace(find_spec=find), *sys.meta_path])
    sys.modules["kaggle.api"].__path__ = []  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="No module named 'six'; pip install six"):
        kaggle.official_client()

"""Datasets from Kaggle (by a fake client), from a folder, simulated: complete or not at all."""

import errno
import io
import shutil
import stat
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from saltseg.data import archive, competition, download, synthetic
from saltseg.data.verify import verify
from saltseg.errors import InputError

ZIP_NAME = f"{download.COMPETITION}.zip"
SCRIPT = Path(__file__).resolve().parents[2] / "scripts/prepare_data.py"


def zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    return buffer.getvalue()


def files_under(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.fixture
def original(make_dataset, tmp_path) -> Path:
    """A sound dataset outside of input/."""
    return make_dataset("original", n_train=6, n_test=3).rename(tmp_path / "original")


@pytest.fixture
def kaggle_zip(original) -> bytes:
    """The archive as Kaggle serves it: tables, zips inside the zip, and things nobody asked for."""
    files = files_under(original)
    members = {name: data for name, data in files.items() if name in ("train.csv", "sample_submission.csv")}
    for part in ("train", "test"):
        inner = {name.removeprefix(f"{part}/"): data for name, data in files.items() if name.startswith(part)}
        inner = {name: data for name, data in inner.items() if "/" in name}
        members[f"{part}.zip"] = zipped({**inner, "__MACOSX/images/._x.png": b"?"})
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
    root, how = download.download(tmp_path / "new/input", client=client)
    assert (root, how) == (tmp_path / "new/input/tgs", "downloaded")
    assert verify(root) == []
    wanted = files_under(original)
    got = files_under(root)
    for name in ("depths.csv", "solution.csv", "sections.csv"):
        del wanted[name]
    del got["source.json"]
    assert got == wanted
    assert list((tmp_path / "new/input/.download").iterdir()) == []
    assert download.download(tmp_path / "new/input", client=client) == (root, "already there")
    assert client.found == [0]


def test_an_archive_that_repeats_its_folder_is_flattened(original, tmp_path):
    files = files_under(original)
    inner = zipped({name: data for name, data in files.items() if name.startswith("train/")})
    rest = {name: data for name, data in files.items() if not name.startswith("train/")}
    root, _ = download.download(tmp_path / "input", client=FakeClient(zipped({**rest, "train.zip": inner})))
    assert verify(root) == []
    assert not (root / "train/train").exists()


def test_an_interrupted_download_goes_on_with_what_has_arrived(kaggle_zip, tmp_path):
    half = kaggle_zip[: len(kaggle_zip) // 2]
    client = FakeClient((half, ConnectionResetError("reset by peer")), (half, KeyboardInterrupt()), kaggle_zip)
    with pytest.raises(InputError, match=r"network: reset by peer; check the connection, run the same command"):
        download.download(tmp_path / "input", client=client)
    with pytest.raises(KeyboardInterrupt):
        download.download(tmp_path / "input", client=client)
    assert not (tmp_path / "input/tgs").exists()
    root, _ = download.download(tmp_path / "input", client=client)
    assert verify(root) == []
    assert client.found == [0, len(half), len(half)]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "html"])
def test_a_damaged_archive_is_removed_and_fetched_again(kaggle_zip, tmp_path, damage):
    flipped = bytearray(kaggle_zip)
    flipped[len(flipped) // 2] ^= 0xFF
    data = {"truncated": kaggle_zip[:-500], "flipped": bytes(flipped), "html": b"<html>log in</html>"}[damage]
    client = FakeClient(data, kaggle_zip)
    with pytest.raises(InputError, match=r"damaged archive .*removed, run the same command again"):
        download.download(tmp_path / "input", client=client)
    assert not (tmp_path / "input/tgs").exists()
    assert verify(download.download(tmp_path / "input", client=client)[0]) == []
    assert client.found == [0, 0]


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
        (OSError(errno.ENOSPC, "No space left on device"), r"disk full: .*make room"),
        (TimeoutError(), r"network: TimeoutError; check the connection"),
        (Refused("a\nb"), r"Kaggle's client failed: Refused: a; pip install -U kaggle"),
    ],
)
def test_what_the_client_raises_is_explained_in_one_line(tmp_path, error, message):
    with pytest.raises(InputError, match=message) as raised:
        download.download(tmp_path / "input", client=FakeClient((None, error)))
    assert "\n" not in str(raised.value)
    assert "run the same command again" in str(raised.value)


def test_a_client_that_downloads_nothing(tmp_path):
    with pytest.raises(InputError, match=rf"no {ZIP_NAME} in .*update the client"):
        download.download(tmp_path / "input", client=FakeClient(None))


def test_data_that_fail_verification_do_not_become_a_dataset(original, tmp_path):
    files = files_under(original)
    lost = next(name for name in files if name.startswith("train/masks"))
    del files[lost]
    with pytest.raises(InputError, match=rf"problems: 1, first: {lost}: file is missing.*check_data.py .*unpacked"):
        download.download(tmp_path / "input", client=FakeClient(zipped(files)))
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
        download.official_client()
    assert capsys.readouterr().out == ""
    fake_kaggle(monkeypatch, lambda self: None)
    assert type(download.official_client()).__name__ == "KaggleApi"


def test_the_official_client_not_installed_or_broken(monkeypatch):
    monkeypatch.setitem(sys.modules, "kaggle", None)
    with pytest.raises(InputError, match=r"not installed; in the checkout: pip install -e '.\[kaggle\]'"):
        download.official_client()
    fake_kaggle(monkeypatch, lambda self: None)
    monkeypatch.delitem(sys.modules, "kaggle.api.kaggle_api_extended")

    def find(name, path=None, target=None):
        if name.startswith("kaggle.api."):
            raise ModuleNotFoundError("No module named 'six'", name="six")

    monkeypatch.setattr(sys, "meta_path", [types.SimpleNamespace(find_spec=find), *sys.meta_path])
    sys.modules["kaggle.api"].__path__ = []  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="No module named 'six'; pip install six"):
        download.official_client()


# ---------------------------------------------------------------- an existing copy


def test_a_folder_is_linked_and_found_again(original, tmp_path):
    before = files_under(original)
    root, how = download.link(tmp_path / "input", original, "tgs")
    assert how == "linked"
    assert root.is_symlink()
    assert competition.dataset_root(tmp_path / "input", "tgs").resolve() == original
    assert download.link(tmp_path / "input", original, "tgs") == (root, "already there")
    assert download.link(tmp_path / "input", original)[0] == tmp_path / "input/original"
    assert files_under(original) == before


def test_where_links_are_not_permitted_the_folder_is_copied(original, tmp_path, monkeypatch):
    def refuse(self, target, target_is_directory=False):
        raise OSError("A required privilege is not held by the client")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    root, how = download.link(tmp_path / "input", original, "tgs")
    assert how == "copied"
    assert not root.is_symlink()
    assert files_under(root) == files_under(original)


def test_something_else_of_that_name_stays_unless_asked(original, make_dataset, tmp_path):
    other = make_dataset("other", n_train=2, n_test=1)
    root, _ = download.link(tmp_path / "input", other, "tgs")
    with pytest.raises(InputError, match=r"tgs exists already; choose another --name, or .*--overwrite"):
        download.link(tmp_path / "input", original, "tgs")
    with pytest.raises(InputError, match="exists already"):
        download.download(tmp_path / "input", client=FakeClient())
    download.link(tmp_path / "input", original, "tgs", overwrite=True)
    assert root.resolve() == original
    assert verify(other) == []  # only the link went


def test_a_folder_within_the_dataset_to_be_replaced_is_refused(original, tmp_path):
    inner = tmp_path / "input" / "tgs" / "inner"
    shutil.copytree(original, inner)
    with pytest.raises(InputError, match=r"inner lies in .*tgs, which --overwrite would remove; move it or choose"):
        download.link(tmp_path / "input", inner, "tgs", overwrite=True)
    assert verify(inner) == []


def test_a_faulty_folder_is_refused_with_its_first_problems(original, tmp_path):
    for path in list((original / "train/images").iterdir())[:5]:
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"problems: 5, first: train/images/\w+.png: not a read.*check_data.py /"):
        download.link(tmp_path / "input", original)
    assert competition.list_datasets(tmp_path / "input") == []
    with pytest.raises(InputError, match=r"no folder .*--source takes synthetic, kaggle or"):
        download.link(tmp_path / "input", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"problems: 5, first: train.csv: file is missing"):
        download.link(tmp_path / "input", tmp_path / "empty")
    with pytest.raises(InputError, match="dataset name"):
        download.link(tmp_path / "input", original, "../elsewhere")


# ---------------------------------------------------------------- simulated


def test_the_same_simulation_is_not_repeated(make_dataset, tmp_path, monkeypatch):
    calls = []

    def write(root, n_train, n_test, seed, progress=None):
        calls.append((n_train, n_test, seed))
        make_dataset("made", n_train=n_train, n_test=n_test).rename(root)
        if seed == 13:
            raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "write_dataset", write)
    input_dir = tmp_path / "input"
    with pytest.raises(KeyboardInterrupt):
        download.simulate(input_dir, "demo", 4, 2, seed=13)
    (input_dir / ".download" / ".demo.written.x7y").mkdir()  # a killed process's
    assert competition.list_datasets(input_dir) == []
    root, how = download.simulate(input_dir, "demo", 4, 2, seed=1)
    assert (root, how) == (input_dir / "demo", "written")
    assert verify(root) == []
    assert download.simulate(input_dir, "demo", 4, 2, seed=1)[1] == "already there"
    with pytest.raises(InputError, match="demo exists already"):
        download.simulate(input_dir, "demo", 5, 2, seed=1)
    assert download.simulate(input_dir, "demo", 5, 2, seed=1, overwrite=True)[1] == "written"
    assert len(competition.read_train(root).ids) == 5
    assert calls == [(4, 2, 13), (4, 2, 1), (5, 2, 1)]
    assert list((input_dir / ".download").iterdir()) == []


def test_the_script_links_simulates_and_refuses(original, tmp_path):
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(SCRIPT), "--input", str(tmp_path / "input"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    linked = run("--source", original, "--name", "mine")
    assert (linked.returncode, linked.stderr) == (0, "")
    assert "mine: linked\nnext: python scripts/check_data.py mine" in linked.stdout
    simulated = run("--source", "synthetic", "--train", 3, "--test", 1)
    assert simulated.returncode == 0
    assert len(competition.read_train(tmp_path / "input/synthetic").ids) == 3
    assert verify(tmp_path / "input/synthetic") == []
    refused = run("--source", "synthetic", "--name", "mine")
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1

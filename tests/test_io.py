"""Files that are whole or not there, and the messages about those that cannot be read."""

import os
import stat
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest

from saltseg import io
from saltseg.errors import InputError, reason


@pytest.mark.parametrize("before", [None, "old"])
def test_an_exception_while_writing_leaves_the_old_file_and_no_litter(before: str | None, tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    if before:
        path.write_text(before)

    def write_half() -> None:
        with io.atomic_path(path) as beside:
            beside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [p.name for p in tmp_path.iterdir()] == ([path.name] if before else [])
    assert not before or path.read_text() == before


def test_the_target_is_never_seen_half_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.txt"
    io.write_atomic(path, "old")
    with io.atomic_path(path) as beside:
        assert beside.parent == path.parent  # a rename is atomic within one file system only
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["result.txt"]


def test_a_folder_is_whole_or_not_there_and_replaces_what_was_only_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder"
    with io.atomic_dir(target) as new:
        (new / "a").write_text("first")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["a"]
    with pytest.raises(RuntimeError), io.atomic_dir(target, replace=True) as new:
        raise RuntimeError
    with pytest.raises(InputError, match=r"folder exists; choose another name or remove it"), io.atomic_dir(target):
        pytest.fail("a folder is made where there is one")
    with pytest.raises(InputError, match=r"late exists; choose"), io.atomic_dir(tmp_path / "late"):
        (tmp_path / "late").mkdir()
    (tmp_path / "late").rmdir()
    with (
        monkeypatch.context() as patch,
        pytest.raises(OSError, match="refused"),
        io.atomic_dir(target, replace=True) as new,
    ):
        patch.setattr(Path, "rename", refusing(new))
    assert (target / "a").read_text() == "first"
    with io.atomic_dir(target, replace=True) as new:
        (new / "b").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "b"]


HOLD = """
import os, signal, sys
from pathlib import Path
from saltseg import io
with io.atomic_dir(Path(sys.argv[1]), replace=True) as new:
    (new / "half").touch()
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("before", [False, True], ids=["new", "replaced"])
def test_one_process_makes_a_folder_and_a_killed_one_leaves_nothing_behind(before: bool, tmp_path: Path) -> None:
    target = tmp_path / "folder"
    if before:
        (target / "old").mkdir(parents=True)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    maker = subprocess.Popen([sys.executable, "-c", HOLD, str(target)], text=True, **pipes)
    try:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "held\n"
        message = r"folder is being written by another process; wait for it or stop it"
        with pytest.raises(InputError, match=message), io.atomic_dir(target, replace=True):
            pytest.fail("two processes make one folder")
        with io.atomic_dir(tmp_path / "other"):
            pass
    finally:
        maker.kill()
        maker.communicate()
    assert [path.name for path in tmp_path.rglob("*") if path.name == "half"] == ["half"]
    with io.atomic_dir(target, replace=True) as new:
        assert list(new.iterdir()) == []
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "other"]


def test_a_process_killed_between_the_two_renames_has_lost_nothing(tmp_path: Path) -> None:
    (tmp_path / ".folder.saltseg.old" / "first").mkdir(parents=True)
    (tmp_path / ".folder.saltseg.new" / "second").mkdir(parents=True)
    with pytest.raises(InputError, match=r"folder exists"), io.atomic_dir(tmp_path / "folder"):
        pytest.fail("it is there again")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "first"]


HOLD_FILE = """
import sys
from pathlib import Path
from saltseg import io
with io.atomic_path(Path(sys.argv[1])) as beside:
    beside.write_text("half")
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows cannot tell which files are abandoned")
def test_temporary_files_of_killed_processes_go_and_those_of_live_ones_stay(tmp_path: Path) -> None:
    path = tmp_path / "result[1].txt"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    live, dead = (subprocess.Popen([sys.executable, "-c", HOLD_FILE, str(path)], text=True, **pipes) for _ in "ab")
    try:
        for process in (live, dead):
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
        assert len(list(tmp_path.iterdir())) == 2
        dead.kill()
        dead.communicate()
        io.write_atomic(tmp_path / "other.txt", "")  # cleans up for itself alone
        assert len(list(tmp_path.glob(".*"))) == 2
        io.write_atomic(path, "whole")
        assert (len(list(tmp_path.glob(".*"))), path.read_text()) == (1, "whole")
        live.communicate("")  # it ends: the last one to finish wins
        assert live.returncode == 0
    finally:
        live.kill()
        dead.kill()
    assert path.read_text() == "half"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["other.txt", "result[1].txt"]


def test_whoever_makes_a_folder_cleans_up_after_those_that_were_killed(tmp_path: Path) -> None:
    for name in ("killed", "swapped"):
        (tmp_path / f".{name}.saltseg.lock").touch()
        (tmp_path / f".{name}.saltseg.new" / "half").mkdir(parents=True)
    (tmp_path / ".swapped.saltseg.old" / "whole").mkdir(parents=True)  # killed between the two renames
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    live = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path / "live")], text=True, **pipes)
    try:
        assert live.stdout is not None
        assert live.stdout.readline() == "held\n"
        with io.atomic_dir(tmp_path / "other"):
            pass
        left = {".live.saltseg.lock", ".live.saltseg.new", "half", "other", "swapped", "whole"}
        assert {path.name for path in tmp_path.rglob("*")} == left
        live.communicate("")
    finally:
        live.kill()
    assert {path.name for path in tmp_path.iterdir()} == {"live", "other", "swapped"}


def test_hidden_files_of_other_programs_are_left_alone(tmp_path: Path) -> None:
    theirs = [".project.lock", ".data.lock", ".out.lock", ".project.new/x", ".data.old/y", ".out.new/z", ".out.old/z"]
    for name in theirs:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with io.atomic_dir(tmp_path / "out"):
        pass
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == set(theirs)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows syncs no folders")
def test_content_reaches_the_disk_before_its_name_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    fsync, replace, rename = os.fsync, Path.replace, Path.rename

    def of_handle(handle: int) -> None:
        folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        events.append("folder synced" if folder else "file synced")
        fsync(handle)

    def moved(own: Path, target: Path, by: Callable[[Path, Path], Path]) -> Path:
        events.append("renamed")
        return by(own, target)

    monkeypatch.setattr(os, "fsync", of_handle)
    monkeypatch.setattr(os, "sync", lambda: events.append("everything synced"))
    monkeypatch.setattr(Path, "replace", lambda own, target: moved(own, target, replace))
    monkeypatch.setattr(Path, "rename", lambda own, target: moved(own, target, rename))
    io.write_atomic(tmp_path / "x", "text")
    assert events == ["file synced", "renamed", "folder synced"]
    events.clear()
    with io.atomic_dir(tmp_path / "folder"):
        pass
    assert events == ["everything synced", "renamed", "folder synced"]


def refusing(path: Path) -> Callable[[Path, Path], Path]:
    """`Path.rename` that moves anything but this path."""
    rename = Path.rename

    def refuse(own: Path, target: Path) -> Path:
        if own == path:
            raise OSError("refused")
        return rename(own, target)

    return refuse


def test_removing_a_link_leaves_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "kept", target_is_directory=True)
    for name in ("link", "nothing"):
        io.remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_results_are_as_readable_as_any_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        io.write_atomic(tmp_path / "x", b"\x00")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_text_json_and_csv_are_read_as_written(tmp_path: Path) -> None:
    io.write_atomic(tmp_path / "x", "Ä→")
    assert (tmp_path / "x").read_bytes() == "Ä→".encode()
    value = {"score": 0.1, "name": "Ä", "rows": [1, None]}
    io.write_json(tmp_path / "x.json", value)
    assert io.read_json(tmp_path / "x.json") == value
    io.write_json_lines(tmp_path / "x.json", value)
    assert (tmp_path / "x.json").read_text() == '{\n"score": 0.1,\n"name": "Ä",\n"rows": [1, null]\n}\n'
    assert io.read_json(tmp_path / "x.json") == value
    io.write_csv(tmp_path / "x.csv", [{"a": 1, "b": "x, y"}, {"a": 2, "b": ""}])
    assert (tmp_path / "x.csv").read_text() == 'a,b\n1,"x, y"\n2,\n'
    assert io.read_csv(tmp_path / "x.csv") == [{"a": "1", "b": "x, y"}, {"a": "2", "b": ""}]


def test_json_that_is_none_is_neither_written_nor_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    io.write_json(path, 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        io.write_json(path, {"score": float("nan")})
    assert io.read_json(path) == 1
    path.write_bytes(b'{"half": ')
    with pytest.raises(InputError, match=r"x.json is not JSON \(.*\); delete it and run the step again"):
        io.read_json(path)
    with pytest.raises(InputError, match=r"no file .*y.json; run the step that writes it"):
        io.read_json(tmp_path / "y.json")
    with pytest.raises(InputError, match=r"no file .*y.csv; run the step that writes it"):
        io.read_csv(tmp_path / "y.csv")


def test_arrays_come_back_and_damaged_ones_are_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "arrays.npz"

    def read(path: Path, *needed: str) -> dict[str, np.ndarray]:
        return io.read_arrays(path, needed, "tiles", "a script")

    io.write_arrays(path, {"one": np.arange(3), "two": np.zeros((2, 2), np.uint8)})
    found = read(path, "one", "two")
    assert found["one"].tolist() == [0, 1, 2]
    assert (found["two"].shape, found["two"].dtype) == ((2, 2), np.uint8)
    with pytest.raises(InputError, match=r"no tiles at .*none.npz; run a script first"):
        read(tmp_path / "none.npz")
    with pytest.raises(InputError, match=r"new cannot be opened \(a folder\); move it away"):
        read(path.parent)  # and not: delete it
    with pytest.raises(
        InputError, match=r"cannot be read as tiles \(no array 'three' in it\); delete it and make it again"
    ):
        read(path, "one", "three")
    whole = path.read_bytes()
    end = whole.rindex(b"PK\x05\x06")  # the end of a zip file says where its table is: before the file's first byte
    for damaged in (b"", b"no zip", whole[:-40], whole[: end + 16] + b"\xff" * 4 + whole[end + 20 :]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"arrays.npz cannot be read as tiles \(.*; delete it") as refused:
            read(path)
        assert "\n" not in str(refused.value)
    np.savez(path, one=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="cannot be read as tiles"):
        read(path)  # nothing is unpickled


def npz(members: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return buffer.getvalue()


def npy(header: str, data: bytes = b"") -> bytes:
    """An array as numpy writes it, with any header."""
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


@pytest.mark.parametrize(
    "data",
    [
        npz({"a.npy": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (63000, 101, 101)}", b"few")}),
        npz({"a.npy": npy("{'descr': '<U1000000000', 'fortran_order': False, 'shape': (9,)}", b"few")}),
        npz({"a.npy": npy("{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}")}),
        npz({"a.npy": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,)}")}),
        npz({"a.npy": npy("[" * 100)}),
        npz({"a.npy": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}"}),
        npz({"a.npy": b""}),
        npy("{'descr': '|u1', 'fortran_order': False, 'shape': (10000000000000,)}"),
    ],
)
def test_arrays_that_declare_more_than_there_is_are_refused_before_they_are_read(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    tracemalloc.start()
    with pytest.raises(InputError, match=r"a\.npz cannot be read as tiles \(.*; delete it"):
        io.read_arrays(path, (), "tiles", "a script")
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_arrays_of_more_than_the_limit_are_refused_before_they_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.npz"
    io.write_arrays(path, {"a": np.zeros(10_000, np.uint8), "b": np.zeros(10_000, np.uint8)})
    assert path.stat().st_size < 1000
    monkeypatch.setattr(io, "MAX_BYTES", 20_256)
    assert io.read_arrays(path, ("a",), "tiles", "a script")["b"].shape == (10_000,)
    monkeypatch.setattr(io, "MAX_BYTES", 20_255)
    with pytest.raises(InputError, match=r"20,256 bytes of arrays, at most 20,255"):
        io.read_arrays(path, ("a",), "tiles", "a script")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_arrays_are_not_read_from_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npz")
    with pytest.raises(InputError, match=r"a\.npz cannot be opened \(a pipe, a device or a socket\); move it away"):
        io.read_arrays(tmp_path / "a.npz", (), "tiles", "a script")


def test_what_another_library_says_is_told_in_one_short_line() -> None:
    assert reason(ValueError("size  mismatch:\n\tfour is not\r\nfive")) == "size mismatch: four is not five"
    assert reason(ValueError("x" * 81)) == "x" * 80
    assert reason("x" * 81, 81) == "x" * 81
    assert reason(KeyError()) == "KeyError"

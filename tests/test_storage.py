"""Files that are whole or not there, and what is said about those that cannot be read."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from saltseg import storage
from saltseg.errors import InputError, reason


@pytest.mark.parametrize("before", [None, "old"])
def test_an_exception_while_writing_leaves_the_old_file_and_no_litter(before: str | None, tmp_path: Path) -> None:
    path = tmp_path / "result.txt"
    if before:
        path.write_text(before)

    def write_half() -> None:
        with storage.atomic_path(path) as beside:
            beside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()
    assert [p.name for p in tmp_path.iterdir()] == ([path.name] if before else [])
    assert not before or path.read_text() == before


def test_the_target_is_never_seen_half_written(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "result.txt"
    storage.write_atomic(path, "old")
    with storage.atomic_path(path) as beside:
        assert beside.parent == path.parent  # a rename is atomic within one file system only
        beside.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert [p.name for p in path.parent.iterdir()] == ["result.txt"]


def test_a_folder_is_whole_or_not_there_and_replaces_what_was_only_if_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "folder"
    with storage.atomic_dir(target) as beside:
        (beside / "a").write_text("first")
        assert not target.exists()
    assert [path.name for path in target.iterdir()] == ["a"]
    with pytest.raises(RuntimeError), storage.atomic_dir(target, replace=True) as beside:
        raise RuntimeError
    with (
        pytest.raises(InputError, match=r"folder has come into being meanwhile; remove it"),
        storage.atomic_dir(target),
    ):
        pass
    with pytest.raises(OSError, match="refused"), storage.atomic_dir(target, replace=True) as beside:
        monkeypatch.setattr(Path, "rename", refusing(beside))
    assert (target / "a").read_text() == "first"
    with storage.atomic_dir(target, replace=True) as beside:
        (beside / "b").touch()
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "b"]


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
        storage.remove(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]


def test_results_are_as_readable_as_any_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        storage.write_atomic(tmp_path / "x", b"\x00")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_text_json_and_csv_are_read_as_written(tmp_path: Path) -> None:
    storage.write_atomic(tmp_path / "x", "Ä→")
    assert (tmp_path / "x").read_bytes() == "Ä→".encode()
    value = {"score": 0.1, "name": "Ä", "rows": [1, None]}
    storage.write_json(tmp_path / "x.json", value)
    assert storage.read_json(tmp_path / "x.json") == value
    storage.write_json_lines(tmp_path / "x.json", value)
    assert (tmp_path / "x.json").read_text() == '{\n"score": 0.1,\n"name": "Ä",\n"rows": [1, null]\n}\n'
    assert storage.read_json(tmp_path / "x.json") == value
    storage.write_csv(tmp_path / "x.csv", [{"a": 1, "b": "x, y"}, {"a": 2, "b": ""}])
    assert (tmp_path / "x.csv").read_text() == 'a,b\n1,"x, y"\n2,\n'
    assert storage.read_csv(tmp_path / "x.csv") == [{"a": "1", "b": "x, y"}, {"a": "2", "b": ""}]


def test_json_that_is_none_is_neither_written_nor_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    storage.write_json(path, 1)
    with pytest.raises(ValueError, match="JSON compliant"):
        storage.write_json(path, {"score": float("nan")})
    assert storage.read_json(path) == 1
    path.write_bytes(b'{"half": \xff')
    with pytest.raises(InputError, match=r"x.json is not JSON \(.*\); delete it and run the step again"):
        storage.read_json(path)
    with pytest.raises(InputError, match=r"no file .*y.json; run the step that writes it"):
        storage.read_json(tmp_path / "y.json")
    with pytest.raises(InputError, match=r"no file .*y.csv; run the step that writes it"):
        storage.read_csv(tmp_path / "y.csv")


def test_arrays_come_back_and_damaged_ones_are_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "new" / "arrays.npz"

    def read(path: Path, *needed: str) -> dict[str, np.ndarray]:
        return storage.read_arrays(path, needed, "tiles", "a script")

    storage.write_arrays(path, {"one": np.arange(3), "two": np.zeros((2, 2), np.uint8)})
    found = read(path, "one", "two")
    assert found["one"].tolist() == [0, 1, 2]
    assert (found["two"].shape, found["two"].dtype) == ((2, 2), np.uint8)
    with pytest.raises(InputError, match=r"no tiles at .*none.npz; run a script first"):
        read(tmp_path / "none.npz")
    with pytest.raises(InputError, match=r"new cannot be opened \(Is a directory\); check"):
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


def test_what_another_library_says_is_told_in_one_short_line() -> None:
    assert reason(ValueError("size  mismatch:\n\tfour is not\r\nfive")) == "size mismatch: four is not five"
    assert reason(ValueError("x" * 81)) == "x" * 80
    assert reason("x" * 81, 81) == "x" * 81
    assert reason(KeyError()) == "KeyError"

"""Nothing but InputError comes out of a reader, whatever the bytes of a file are."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from fuzzing import FUZZ, Changes, changed, changes, only_input_errors
from hypothesis import given
from hypothesis import strategies as st
from odd_images import palette_png, png, saved, smooth, tiff

from saltseg import predictions
from saltseg.data import archive, competition, image_files, submission, tables

PICTURE = smooth(24, 24)
IMAGES = {
    "png": png((24, 24), b"".join(b"\0" + row.tobytes() for row in PICTURE)),
    "palette": palette_png([5, 240], 8, bytes(25), 24, alpha=b"\xff"),
    "tiff": tiff((24, 24), PICTURE.tobytes()),
    "deflated tiff": saved(PICTURE, "TIFF", compression="tiff_adobe_deflate"),
    "jpeg": saved(PICTURE, "JPEG"),
    "progressive": saved(smooth(24, 24, 3), "JPEG", progressive=True, restart_marker_blocks=2),
    "bmp": saved(PICTURE, "BMP"),
}


@pytest.mark.parametrize("kind", IMAGES)
@FUZZ
@given(changes())
def test_images(kind: str, tmp_path: Path, todo: Changes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(changed(IMAGES[kind], todo))
    for read in (image_files.read_gray, image_files.read_image, image_files.read_mask):
        only_input_errors(lambda: read(path))  # noqa: B023
    only_input_errors(lambda: image_files.read_image(path, (24, 24)))


SIZES = st.tuples(st.integers(0, 9), st.integers(0, 9))
CHUNKS = st.tuples(
    st.sampled_from([b"PLTE", b"tRNS", b"eXIf", b"IDAT", b"iCCP", b"zTXt", b"acTL"]), st.binary(max_size=40)
)


@FUZZ
@given(SIZES, st.binary(max_size=200), st.sampled_from([0, 1, 2, 4, 8, 16, 255]), st.integers(0, 7), st.lists(CHUNKS))
def test_png_with_right_checksums(tmp_path: Path, size, rows, bits, color, before) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "a.png").write_bytes(png(size, rows, bits, color, before))
    only_input_errors(lambda: image_files.read_gray(tmp_path / "a.png"))


TAGS = st.sampled_from([256, 259, 266, 273, 274, 278, 279, 284, 317, 338])
BITS = st.sampled_from([0, 1, 4, 8, 12, 16, 32, 64])
SMALL = st.integers(0, 8)
TIFFS = st.builds(
    tiff, SIZES, st.binary(max_size=400), BITS, SMALL, SMALL, SMALL, st.sampled_from("<>"),
    st.dictionaries(TAGS, st.integers(0, 40), max_size=3),
)  # fmt: skip


@FUZZ
@given(TIFFS)
def test_tiff_with_any_tags(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(data)
    only_input_errors(lambda: image_files.read_gray(tmp_path / "a.tif"))


TABLE = b'id,rle_mask,usage\n"a",1 3,Public\nb,,Private\nc,4 5 10 1,Public\n'


@FUZZ
@given(st.one_of(changes().map(lambda todo: changed(TABLE, todo)), st.binary(max_size=60)))
def test_tables(tmp_path: Path, data: bytes) -> None:
    for name in ("train", "sample_submission", "depths", "sections", "solution"):
        (tmp_path / f"{name}.csv").write_bytes(data)
    (tmp_path / "source.json").write_bytes(data)
    for read in (competition.read_depths, competition.read_sections, competition.read_source, competition.fingerprint):
        only_input_errors(lambda: read(tmp_path))  # noqa: B023
    table = tmp_path / "train.csv"
    only_input_errors(lambda: tables.read_columns(table, ("id", "rle_mask")))
    only_input_errors(lambda: submission.score(table, table))
    submission.check(table, ["a"])


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    return buffer.getvalue()


MEMBERS = {"train/images/a.png": IMAGES["png"], "train.csv": TABLE, "empty": b""}


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@FUZZ
@given(changes(), st.booleans())
def test_archives(method: int, tmp_path: Path, todo: Changes, nested: bool) -> None:
    inner = {name.removeprefix("train/"): data for name, data in MEMBERS.items() if "/" in name}
    data = changed(zipped(inner if nested else MEMBERS, method), todo)
    path, target = tmp_path / "a.zip", tmp_path / "target"
    path.write_bytes(zipped({"train.zip": data}) if nested else data)
    only_input_errors(lambda: archive.unzip(path, target))
    assert path.exists() == target.exists()  # unpacked, or removed
    for left in sorted(target.rglob("*"), reverse=True):
        left.unlink() if left.is_file() else left.rmdir()
    if target.exists():
        target.rmdir()


@FUZZ
@given(changes(), st.booleans())
def test_predictions(tmp_path: Path, todo: Changes, compressed: bool) -> None:
    path = tmp_path / "oof.npz"
    save = np.savez_compressed if compressed else np.savez
    save(path, ids=np.array(["a", "b"]), probabilities=np.zeros((2, 3, 3), np.uint8), fold=np.zeros(2, np.int16))
    path.write_bytes(changed(path.read_bytes(), todo))
    only_input_errors(lambda: predictions.load_predictions(path).fingerprint())

"""Image files: exact pixels, as a viewer shows them; damaged, ambiguous and huge ones are refused by name."""

import os
import socket
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from odd_images import chunk, oriented, palette_png, png, saved, smooth, tiff

from saltseg.data import files, image_files
from saltseg.data.files import FileProblem
from saltseg.errors import InputError


def put(path: Path, pixels: np.ndarray | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pixels if isinstance(pixels, bytes) else cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


def gray(path: Path, data: bytes) -> list[list[int]]:
    return image_files.read_gray(put(path, data)).tolist()


# ---------------------------------------------------------------- tiles and masks


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_gray_rgb_and_rgba_files_give_the_same_unscaled_image(tmp_path, channels):
    gray = np.array([[0, 1], [2, 3]], np.uint8)  # a dark tile stays dark
    pixels = gray if channels == 1 else np.repeat(gray[:, :, None], channels, axis=2)
    if channels == 4:
        pixels[..., 3] = 255
    image = image_files.read_image(put(tmp_path / "é.png", pixels))
    np.testing.assert_array_equal(image, gray)
    assert image.dtype == np.uint8


@pytest.mark.parametrize("white", [np.uint8(1), np.uint8(255), np.uint16(1), np.uint16(65535)])
def test_masks_of_any_depth_are_zero_and_one(tmp_path, white):
    salt = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
    for mask in (salt, np.ones_like(salt), np.zeros_like(salt)):
        stored = mask.astype(white.dtype) * white
        read = image_files.read_mask(put(tmp_path / "mask.png", stored))
        np.testing.assert_array_equal(read, mask)
        assert read.dtype == np.uint8


@pytest.mark.parametrize("values", [(0, 128), (0, 1, 255), (1, 255), (0, 254)])
def test_a_mask_of_other_values_is_refused(tmp_path, values):
    pixels = np.resize(np.array(values, np.uint8), (5, 5))
    with pytest.raises(InputError, match=rf"m\.png: not binary \(values {values[0]}, .*use 0 for no salt"):
        image_files.read_mask(put(tmp_path / "m.png", pixels))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("alpha", ["the mask", "one pixel", "nothing"])
def test_alpha_that_hides_anything_is_refused(tmp_path, kind, alpha):
    salt = np.eye(5, dtype=kind) * np.iinfo(kind).max
    pixels = np.full((5, 5, 4), np.iinfo(kind).max, kind)
    pixels[..., 3] = {
        "the mask": salt,
        "one pixel": pixels[0, 0, 0] - (np.arange(25).reshape(5, 5) == 7),
        "nothing": 0,
    }[alpha]
    with pytest.raises(FileProblem, match=r"m\.png: transparent pixels .*; save it without transparency"):
        image_files.read_mask(put(tmp_path / "m.png", pixels))
    pixels[..., 3] = np.iinfo(kind).max
    pixels[..., :3] = salt[..., None]
    assert np.array_equal(image_files.read_mask(put(tmp_path / "m.png", pixels)), np.eye(5))


# ---------------------------------------------------------------- what a viewer shows

RIGHT = {
    "1 bit": (png((1, 8), b"\0\xaa", bits=1), [[255, 0, 255, 0, 255, 0, 255, 0]]),
    "2 bits": (png((1, 4), b"\0\x1b", bits=2), [[0, 85, 170, 255]]),
    "4 bits": (png((1, 2), b"\0\x1f", bits=4), [[17, 255]]),
    "16 bits": (png((1, 3), b"\0\x01\x01\x80\x00\xff\xff", bits=16), [[1, 128, 255]]),
    "16-bit RGB": (png((1, 1), b"\0" + b"\x02\x02" * 3, bits=16, color=2), [[2]]),
    "palette": (palette_png([5, 240], 8, b"\0\x01\0", 2), [[240, 5]]),
    "palette of 1 bit": (palette_png([5, 240], 1, b"\0\x40", 2), [[5, 240]]),
    "opaque palette": (palette_png([5, 240], 8, b"\0\x01\0", 2, alpha=b"\xff\xff"), [[240, 5]]),
    "gray and alpha": (png((1, 2), b"\0\x07\xff\x09\xff", color=4), [[7, 9]]),
    "gamma": (png((1, 2), b"\0\x07\x09", before=[(b"gAMA", struct.pack(">I", 100000))]), [[7, 9]]),
    "PNG and more behind it": (png((1, 2), b"\0\x07\x09") + b"more", [[7, 9]]),
    "PNG turned by EXIF": (png((1, 2), b"\0\x07\x09", before=[(b"eXIf", oriented(6)[6:])]), [[7], [9]]),
    "TIFF": (tiff((1, 2), b"\x07\x09"), [[7, 9]]),
    "TIFF, 0 is white": (tiff((1, 2), b"\x07\x09", photometric=0), [[248, 246]]),
    "TIFF of 1 bit": (tiff((1, 8), b"\xaa", bits=1), [[255, 0, 255, 0, 255, 0, 255, 0]]),
    "TIFF of 1 bit, 0 is white": (tiff((1, 8), b"\xaa", bits=1, photometric=0), [[0, 255, 0, 255, 0, 255, 0, 255]]),
    "16 bits, low byte first": (tiff((1, 2), b"\x01\x01\x00\x80", bits=16), [[1, 128]]),
    "16 bits, high byte first": (tiff((1, 2), b"\x01\x01\x80\x00", bits=16, order=">"), [[1, 128]]),
    "RGB TIFF": (tiff((1, 2), b"\7\7\7\t\t\t", photometric=2, samples=3), [[7, 9]]),
    "RGB TIFF and a byte of no meaning": (tiff((1, 1), b"\7\7\7\5", photometric=2, samples=4, more={338: 0}), [[7]]),
    "BMP": (saved(np.array([[7, 9]], np.uint8), "BMP"), [[7, 9]]),
    "BMP of 1 bit": (saved(np.array([[True, False]]), "BMP"), [[255, 0]]),
}
REFUSED = {
    "colors": (png((1, 1), b"\0\x01\x02\x03", color=2), "color channels differ by up to 2; save it as grayscale"),
    "transparent color of a palette": (
        palette_png([5, 240], 8, b"\0\x01\0", 2, alpha=b"\xff\x80"),
        "transparent pixels",
    ),
    "transparent gray value": (png((1, 2), b"\0\x07\x09", before=[(b"tRNS", b"\0\x07")]), "transparent pixels"),
    "gray and alpha": (png((1, 2), b"\0\x07\xff\x09\xfe", color=4), "transparent pixels"),
    "animation": (png((1, 2), b"\0\x07\x09", before=[(b"acTL", struct.pack(">II", 2, 0))]), "an animation; save one"),
    "float": (tiff((1, 1), struct.pack("<f", 0.5), bits=32, number=3), "float32 pixels; save it as 8- or 16-bit gray"),
    "double": (tiff((1, 1), struct.pack("<d", 0.5), bits=64, number=3), "not a readable image"),
    "32 bits": (tiff((1, 1), struct.pack("<I", 5), bits=32), "signed or 32-bit pixels"),
    "signed 16 bits": (tiff((1, 1), struct.pack("<h", -5), bits=16, number=2), "signed or 32-bit pixels"),
    "signed 8 bits": (tiff((1, 1), b"\xfb", number=2), "signed or 32-bit pixels"),
    "12 bits": (tiff((1, 2), b"\x12\x3f\xff", bits=12), "12-bit"),
    "16 bits, 0 is white": (tiff((1, 1), b"\1\1", bits=16, photometric=0), "16-bit .*0 for white"),
    "16-bit RGB TIFF": (tiff((1, 1), b"\1\2" * 3, bits=16, photometric=2, samples=3), "16-bit RGB pixels"),
    "TIFF with alpha": (tiff((1, 1), b"\7\7\7\5", photometric=2, samples=4, more={338: 2}), "transparent pixels"),
    "gray TIFF with alpha": (tiff((1, 1), b"\7\5", samples=2, more={338: 2}), "transparent pixels"),
    "CMYK TIFF": (tiff((1, 1), b"\0\0\0\x50", photometric=5, samples=4), "CMYK pixels"),
    "CMYK JPEG": (saved(smooth(16, 16, 3), "JPEG", "CMYK"), "CMYK pixels"),
    "GIF": (saved(smooth(16, 16), "GIF"), "not a readable image .*: none of PNG, JPEG, TIFF and BMP"),
    "web page": (b"<html>log in</html>", "not a readable image"),
    "nothing": (b"", r"not a readable image \(0 bytes\)"),
}


@pytest.mark.parametrize("name", RIGHT)
def test_what_a_viewer_shows_is_read(tmp_path, name):
    data, expected = RIGHT[name]
    assert gray(tmp_path / "a.png", data) == expected


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_gray_picture_is_refused_by_name(tmp_path, name):
    data, message = REFUSED[name]
    with pytest.raises(FileProblem, match=rf"a\.png: {message}") as refused:
        gray(tmp_path / "a.png", data)
    assert "\n" not in str(refused.value)


TURNED = {
    1: [[1, 2, 3], [4, 5, 6]],
    2: [[3, 2, 1], [6, 5, 4]],
    3: [[6, 5, 4], [3, 2, 1]],
    4: [[4, 5, 6], [1, 2, 3]],
    5: [[1, 4], [2, 5], [3, 6]],
    6: [[4, 1], [5, 2], [6, 3]],
    7: [[6, 3], [5, 2], [4, 1]],
    8: [[3, 6], [2, 5], [1, 4]],
}


@pytest.mark.parametrize("number", TURNED)
def test_pictures_are_turned_as_exif_says(tmp_path, number):
    stored, expected = np.array(TURNED[1], np.uint8), TURNED[number]
    rows = b"".join(b"\0" + row.tobytes() for row in stored)
    assert gray(tmp_path / "a.png", png((2, 3), rows, before=[(b"eXIf", oriented(number)[6:])])) == expected
    assert gray(tmp_path / "a.tif", tiff((2, 3), stored.tobytes(), more={274: number})) == expected
    coarse = np.kron(40 * stored, np.ones((8, 8), np.uint8))  # whole blocks, which JPEG keeps
    turned = np.array(gray(tmp_path / "a.jpg", saved(coarse, "JPEG", quality=100, exif=oriented(number))))
    assert np.abs(turned[::8, ::8] - 40 * np.array(expected)).max() <= 1


@pytest.mark.parametrize("pages", [2, 3])
def test_a_picture_of_several_pages_is_refused(tmp_path, pages):
    from PIL import Image

    others = [Image.fromarray(smooth(9, 9))] * (pages - 1)
    data = saved(smooth(9, 9), "TIFF", save_all=True, append_images=others)
    with pytest.raises(FileProblem, match=r"a\.tif: several pages; save each to a file of its own"):
        gray(tmp_path / "a.tif", data)


# ---------------------------------------------------------------- damage

TILE = smooth(101, 101)
WHOLE = {
    "png": png((101, 101), b"".join(b"\0" + row.tobytes() for row in TILE)),
    "jpg": saved(TILE, "JPEG", quality=90),
    "progressive": saved(TILE, "JPEG", quality=90, progressive=True),
    "color": saved(smooth(101, 101, 3), "JPEG", quality=90),
    "tif": saved(TILE, "TIFF"),
    "deflated tif": saved(TILE, "TIFF", compression="tiff_adobe_deflate"),
    "bmp": saved(TILE, "BMP"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_is_cut_off_is_refused(tmp_path, kind):
    data = WHOLE[kind]
    assert np.array(gray(tmp_path / "a", data)).shape == (101, 101)
    padding = 3 if kind == "bmp" else 0  # of the last row, which nobody misses
    for length in (1, 30, len(data) // 4, len(data) // 2, len(data) - 30, len(data) - 1 - padding):
        with pytest.raises(FileProblem, match=rf"a: not a readable image \({length} bytes\)"):
            gray(tmp_path / "a", data[:length])


@pytest.mark.parametrize("kind", ["jpg", "progressive", "color"])
def test_a_jpeg_without_its_middle_is_refused(tmp_path, kind):
    data = WHOLE[kind]
    middle = len(data) // 2
    for damaged in (data[:middle] + b"\xff\xd9", data[:middle] + data[middle + 300 :]):
        with pytest.raises(FileProblem, match=r"a: not a readable image .*: .*; fetch the file again"):
            gray(tmp_path / "a", damaged)


def test_every_changed_byte_of_a_png_is_noticed(tmp_path):
    data = WHOLE["png"]
    for at in [*range(8, 60), *range(60, len(data) - 20, 97), *range(len(data) - 20, len(data))]:
        with pytest.raises(FileProblem, match=r"not a readable image|size"):
            gray(tmp_path / "a", data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])


@pytest.mark.parametrize(
    "stream",
    [
        zlib.compress(b"\0" + bytes(50)),  # half of the pixels
        zlib.compress(b"\0" + bytes(100))[:-4],  # no checksum
        zlib.compress(b"\x09" + bytes(100)),  # an unknown filter
    ],
)
def test_a_png_whose_pixels_are_not_all_there_is_refused(tmp_path, stream):
    with pytest.raises(FileProblem, match=r"not a readable image"):
        gray(tmp_path / "a.png", png((1, 100), b"", stream=stream))


# ---------------------------------------------------------------- before a file is decoded


@pytest.fixture
def no_decoder(monkeypatch):
    """Whoever decodes fails."""

    def fail(*_):
        pytest.fail("the file is decoded")

    monkeypatch.setattr(cv2, "imdecode", fail)
    monkeypatch.setattr(np, "asarray", fail)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", png((20000, 20000), bytes(100))),
        ("a.tif", tiff((20000, 20000), bytes(100))),
        ("a.bmp", WHOLE["bmp"][:18] + struct.pack("<ii", 20000, 20000) + WHOLE["bmp"][26:]),
        ("a.jpg", WHOLE["jpg"].replace(b"\x08\0\x65\0\x65", b"\x08" + struct.pack(">HH", 20000, 20000))),
    ],
)
def test_too_many_pixels_are_refused_before_they_are_decoded(tmp_path, name, data, no_decoder):
    with pytest.raises(FileProblem, match=r"more than 64 million.*; cut it into parts"):
        image_files.read_gray(put(tmp_path / name, data))
    for read in (image_files.read_image, image_files.read_mask):
        with pytest.raises(FileProblem, match=r"size 20000x20000, not 101x101|more than 64 million"):
            read(tmp_path / name, (101, 101))


def test_a_wrong_length_in_a_png_is_refused_before_it_is_decoded(tmp_path, no_decoder):
    data = WHOLE["png"]
    start = data.index(b"IDAT") - 4
    for length in (2**31 - 1, 2**32 - 1, 100_000):
        damaged = data[:start] + struct.pack(">I", length) + data[start + 4 :]
        with pytest.raises(FileProblem, match="cut off, or a wrong length in it"):
            gray(tmp_path / "a.png", damaged)
    with pytest.raises(FileProblem, match="no header at its beginning"):
        gray(tmp_path / "a.png", data[:8] + chunk(b"IEND", b""))


def test_what_is_no_regular_file_is_refused_and_not_opened(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    (tmp_path / "link.png").symlink_to("pipe.png")
    (tmp_path / "folder.png").mkdir()
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("the file is opened"))
    for name, what in (
        ("pipe", "a pipe"), ("socket", "a pipe, a device or a socket"), ("zero", "device"), ("link", "a pipe"),
        ("folder", "a folder"),
    ):  # fmt: skip
        with pytest.raises(FileProblem, match=rf"{name}\.png: cannot be read \(.*{what}"):
            image_files.read_image(tmp_path / f"{name}.png")


def test_other_files_that_cannot_be_opened_are_named(tmp_path, monkeypatch):
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    with pytest.raises(FileProblem, match=r"gone\.png: file is missing"):
        files.read_bytes(tmp_path / "gone.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    for name in ("loop.png", "a" * 300, "a\0b"):
        with pytest.raises(FileProblem, match=r"cannot be opened \(.*; check its name"):
            files.read_bytes(tmp_path / name)
    with (tmp_path / "large").open("wb") as file:
        file.truncate(files.MAX_BYTES + 1)  # sparse: it takes no room
    with pytest.raises(FileProblem, match=r"large: cannot be read \(268,435,457 bytes, at most 268,435,456\)"):
        files.read_bytes(tmp_path / "large")


# ---------------------------------------------------------------- folders


def test_folder_of_images_of_any_size_and_format(tmp_path):
    deep = np.array([[0, 256, 257], [32768, 65534, 65535]], np.uint16)
    put(tmp_path / "b.png", deep)
    put(tmp_path / "a.tif", np.full((2, 2), 257, np.uint16))  # dark, and not stretched to 255
    put(tmp_path / "c.BMP", np.full((5, 7, 3), 9, np.uint8))
    put(tmp_path / "d.jpg", np.full((16, 16, 3), 130, np.uint8))
    for name in ("notes.txt", ".DS_Store", "._a.png", "Thumbs.db", "desktop.ini", "Icon\r"):
        (tmp_path / name).write_text("no image")
    images = list(image_files.read_folder(tmp_path))
    assert [name for name, _ in images] == ["a", "b", "c", "d"]
    read = dict(images)
    assert read["b"].tolist() == [[0, 1, 1], [128, 255, 255]]  # value / 257, rounded
    assert read["a"].tolist() == [[1, 1], [1, 1]]
    assert (read["c"].shape, read["c"].max()) == ((5, 7), 9)
    assert abs(int(read["d"][8, 8]) - 130) <= 2
    assert {image.dtype for _, image in images} == {np.dtype(np.uint8)}
    paths, left_out = image_files.list_folder(tmp_path)
    assert ([path.name for path in paths], left_out) == (["a.tif", "b.png", "c.BMP", "d.jpg"], ("notes.txt",))


def test_folder_refusals(tmp_path):
    with pytest.raises(InputError, match="is no folder"):
        list(image_files.read_folder(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"no \.png .* in "):
        list(image_files.read_folder(tmp_path))
    put(tmp_path / "a.png", np.zeros((4, 4), np.uint8))
    put(tmp_path / "a.bmp", np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="a second image named 'a'"):
        list(image_files.read_folder(tmp_path))
    (tmp_path / "a.bmp").unlink()
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff.png", os.O_CREAT))
    with pytest.raises(InputError, match=r"an image is named '\\udcff\.png', which no table can hold; rename it"):
        list(image_files.read_folder(tmp_path))

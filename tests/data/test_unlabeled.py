"""Unlabeled images: cut into tiles, and without the labeled and test images of a dataset."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from loose_tiles import folder, noise

from saltseg.data import unlabeled
from saltseg.data.competition import Images
from saltseg.errors import InputError

NONE = np.zeros((0, 101, 101), np.uint8)


def test_one_pixel_makes_another_image_and_none_left_is_refused() -> None:
    pixels = noise(4)
    pixels[2] = 7  # constant: in the test set too, as every constant tile may be
    near = pixels[3].copy()
    near[50, 50] ^= 1
    found = Images(("a", "b", "c", "d"), pixels)
    left = unlabeled.exclude_known(found, NONE, np.stack([pixels[2], near, pixels[1]]), transduction=False)
    assert left.ids == ("a", "c", "d")
    assert np.array_equal(left.images, pixels[[0, 2, 3]])
    with pytest.raises(InputError, match="all of the images are labeled or test images"):
        unlabeled.exclude_known(Images(("b",), pixels[1:2]), NONE, pixels, transduction=False)
    with pytest.raises(InputError, match="or of one gray value throughout"):  # of a whole test set these are left
        unlabeled.exclude_known(Images(("b", "c"), pixels[1:3]), NONE, pixels, transduction=False)


def test_larger_images_are_cut_into_tiles_that_cover_them(tmp_path: Path) -> None:
    section = np.random.default_rng(0).integers(0, 256, (101, 250), dtype=np.uint8)
    path = folder(tmp_path, section[None])
    tile = section[:, 3:104]
    (path / "tile.png").write_bytes(cv2.imencode(".png", tile)[1].tobytes())
    found = unlabeled.read(path)
    assert found.ids == ("tile", "u0_0_0", "u0_0_74", "u0_0_149")
    broken = path / "zzz.png"
    broken.write_bytes(b"no image")  # never opened: the limit counts tiles, not files
    assert unlabeled.read(path, limit=2).ids == ("tile", "u0_0_0")
    broken.unlink()
    assert np.array_equal(found.images, np.stack([tile, *(section[:, left : left + 101] for left in (0, 74, 149))]))
    (path / "u0_0_74.png").write_bytes(cv2.imencode(".png", tile)[1].tobytes())
    with pytest.raises(InputError, match=r"two tiles would have the id 'u0_0_74'; rename"):
        unlabeled.read(path)
    for height, width in ((101, 101), (202, 303), (150, 1000), (102, 101)):
        seen = np.zeros((height, width), bool)
        for top, left in unlabeled.corners(height, width):
            assert seen[top : top + 101, left : left + 101].shape == (101, 101)
            seen[top : top + 101, left : left + 101] = True
        assert seen.all()
    assert len(unlabeled.corners(202, 303)) == 6


@pytest.mark.parametrize("shape", [(50, 101), (100, 500), (128, 128), (101, 201)])
def test_images_that_are_neither_tiles_nor_sections_are_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    (tmp_path / "u0.png").write_bytes(cv2.imencode(".png", np.zeros(shape, np.uint8))[1].tobytes())
    with pytest.raises(InputError, match=rf"u0: {shape[0]}x{shape[1]} pixels; a tile has 101x101, .* one side of 202;"):
        unlabeled.read(tmp_path)

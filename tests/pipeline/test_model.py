"""`saltseg.load`: what comes out, what goes in."""

import subprocess
import sys

import numpy as np
import pytest
from tiny_run import Trained, checkpoint, postprocess

import saltseg
from saltseg import io
from saltseg.errors import InputError
from saltseg.pipeline.model import Model


@pytest.fixture
def model(trained: Trained) -> Model:
    """Of a run whose folds predict 0.2, 0.4 and 0.9 for every pixel."""
    for number, probability in enumerate((0.2, 0.4, 0.9)):
        checkpoint(trained, number, probability)
    io.write_json(trained.run.postprocess, postprocess(threshold=127, min_area=60))
    return saltseg.load("tiny-run", trained.output)


@pytest.mark.parametrize("shape", [(101, 101), (7, 9), (230, 140)])
def test_probability_and_mask_have_the_pixels_of_the_image(model: Model, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    probability, mask = model.predict(image), model.mask(image)
    assert (probability.dtype, probability.shape) == (np.float32, shape)
    np.testing.assert_array_equal(probability, np.float32(128) / 255)  # the mean is 0.5, which rounds to 128/255
    assert (mask.dtype, mask.shape) == (np.uint8, shape)
    np.testing.assert_array_equal(mask, 1)
    np.testing.assert_array_equal(mask, model.postprocess(probability))


def test_post_processing_is_the_models(model: Model) -> None:
    probability = np.zeros((110, 110), np.float32)
    probability[:10, :6] = probability[50:60, :5] = 127 / 255  # bodies of 60 and of 50 pixels
    probability[70:90, :] = 126 / 255
    assert model.postprocess(probability).sum() == 60


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((5, 5)), r"image is float64 of shape \(5, 5\); give uint8 \(H, W\): clip .*np.rint\(255 \* image\)"),
        (np.zeros((5, 5, 3), np.uint8), r"\(5, 5, 3\); give uint8 \(H, W\), of gray images .*image\[..., 0\]"),
        (np.zeros((5, 5), np.uint16), r"uint16 .*\(image // 257\).astype\(np.uint8\)"),
        (np.zeros((5, 5), bool), r"image is bool of shape \(5, 5\); give a numpy array uint8 \(H, W\)"),
        (np.zeros((0, 5), np.uint8), r"of shape \(0, 5\); give"),
        (np.zeros((1, 5, 5), np.uint8), r"of shape \(1, 5, 5\); give"),
        ([[1, 2]], r"image is list; give a numpy array"),
    ],
)
def test_other_arrays_are_refused_with_the_way_out(model: Model, image: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.predict(image)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, saltseg; saltseg.load; print({'torch', 'numpy', 'pydantic', 'saltseg.pipeline'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"

"""Views for test-time augmentation: each against numpy, each with its inverse."""

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from saltseg import config
from saltseg.errors import InputError
from saltseg.inference import tta


# A second implementation on one picture (H, W); a view without one here is a view without a test.
def scaled(x: np.ndarray, eighths: int) -> np.ndarray:
    """OpenCV's bilinear interpolation."""
    height, width = (max(1, side * eighths // 8) for side in x.shape)
    return cv2.resize(x, (width, height), interpolation=cv2.INTER_LINEAR)


BY_NUMPY = {
    "identity": lambda x: x,
    "hflip": lambda x: x[:, ::-1],
    "vflip": lambda x: x[::-1],
    "rotate180": lambda x: np.rot90(x, 2),
    "transpose": lambda x: x.T,
    "smaller": lambda x: scaled(x, 7),
    "hflip_smaller": lambda x: scaled(x[:, ::-1], 7),
    "larger": lambda x: scaled(x, 9),
    "hflip_larger": lambda x: scaled(x[:, ::-1], 9),
}


def test_every_view_has_a_second_implementation() -> None:
    assert set(tta.VIEWS) == set(BY_NUMPY)


def test_the_configuration_knows_every_view_and_no_other() -> None:
    """A misspelled view must be refused before training: predictions come hours later."""
    everything = f"predict.tta=[{', '.join(tta.VIEWS)}]"
    assert config.override(config.Config(), [everything]).predict.tta == tuple(tta.VIEWS)
    with pytest.raises(InputError, match=rf"'hflp'; choose one of {', '.join(tta.VIEWS)}$"):
        config.override(config.Config(), ["predict.tta=[identity, hflp]"])


@pytest.mark.parametrize("name", tta.VIEWS)
@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
def test_a_view_is_numpys_and_is_undone(name: str, n: int, channels: int, height: int, width: int) -> None:
    view = tta.VIEWS[name]
    batch = torch.rand(n, channels, height, width)
    exact = not name.endswith(("smaller", "larger"))
    if exact:
        assert torch.equal(view.inverse(view.forward(batch), (height, width)), batch)
    for image, seen in zip(batch.flatten(0, 1), view.forward(batch).flatten(0, 1), strict=True):
        np.testing.assert_allclose(seen.numpy(), BY_NUMPY[name](image.numpy()), atol=0 if exact else 1e-5)


@pytest.mark.parametrize("name", ["smaller", "hflip_smaller", "larger", "hflip_larger"])
@pytest.mark.parametrize("side", [101, 112, 128])
def test_a_scale_keeps_what_is_smooth_and_where_it_is(name: str, side: int) -> None:
    rows, columns = torch.meshgrid(torch.linspace(0, 1, side), torch.linspace(0, 2, side), indexing="ij")
    picture = (rows + columns)[None, None]
    view = tta.VIEWS[name]
    back = view.inverse(view.forward(picture), (side, side))
    assert back.shape == picture.shape
    torch.testing.assert_close(back[..., 2:-2, 2:-2], picture[..., 2:-2, 2:-2], atol=1e-3, rtol=0)


def test_left_and_right_by_hand() -> None:
    tensor = torch.tensor([[[[1, 2], [3, 4]]]])
    assert tta.VIEWS["hflip"].forward(tensor).tolist() == [[[[2, 1], [4, 3]]]]  # the surface stays above
    assert tta.VIEWS["vflip"].forward(tensor).tolist() == [[[[3, 4], [1, 2]]]]

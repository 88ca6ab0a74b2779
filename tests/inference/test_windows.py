"""Images of any size in windows: known networks, a second implementation, batches, memory."""

import tracemalloc
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from saltseg import config
from saltseg.errors import InputError
from saltseg.inference import predict, windows
from saltseg.models import zoo
from saltseg.synthetic import tiles

FLOAT32 = config.TrainConfig(precision="32")
PAD = config.Config(data=config.DataConfig(resize_mode="pad", size=112), train=FLOAT32)
RESIZE = config.Config(data=config.DataConfig(resize_mode="resize", size=128), train=FLOAT32)
DEPTH = config.UNetConfig(filters=2, extra_channels=("row", "image_x_row"))
MODES = pytest.mark.parametrize("settings", [PAD, RESIZE], ids=["pad", "resize"])


class Known(nn.Module):
    """Logits = slope * image + offset; ``seen`` gets the shape of every batch."""

    def __init__(self, slope: float = 8.0, offset: float = -3.0) -> None:
        super().__init__()
        self.slope, self.offset = nn.Parameter(torch.tensor(slope)), nn.Parameter(torch.tensor(offset))
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(tuple(image.shape))
        return self.slope * image[:, :1] + self.offset


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def with_batches(settings: config.Config, size: int) -> config.Config:
    return replace(settings, runtime=config.Runtime(predict_batch_size=size))


def one(network: nn.Module, image: np.ndarray, settings: config.Config) -> np.ndarray:
    [found] = windows.predict_images([network], [image], settings)
    return found


def real(settings: config.Config, model: config.ModelConfig) -> tuple[nn.Module, config.Config]:
    """A network with random weights, its answers far from one half, and its settings."""
    torch.manual_seed(0)
    network = zoo.build(model).eval()
    head = getattr(network, "network", network).head
    with torch.no_grad():
        head.weight *= 100
    return network, replace(settings, model=model)


def by_hand(network: nn.Module, image: np.ndarray, settings: config.Config) -> np.ndarray:
    """The mean of the windows in float64, with weights in two dimensions; the image is no smaller than a window."""
    total, weights = np.zeros(image.shape), np.zeros(image.shape)
    ends = [sorted({*range(101, side, 50), side}) for side in image.shape]
    for bottom in ends[0]:
        for right in ends[1]:
            here = (slice(bottom - 101, bottom), slice(right - 101, right))
            row, column = np.mgrid[-50:51, -50:51]
            if bottom == 101:
                row = row * (row > 0)
            if bottom == image.shape[0]:
                row = row * (row < 0)
            if right == 101:
                column = column * (column > 0)
            if right == image.shape[1]:
                column = column * (column < 0)
            weight = np.exp(-(row**2 + column**2) / (2 * (101 / 8) ** 2))
            total[here] += weight * predict.probabilities([network], image[here][None], settings)[0]
            weights[here] += weight
    return 255 * total / weights


@MODES
@pytest.mark.parametrize("model", [config.UNetConfig(filters=2), DEPTH], ids=["plain", "depth"])
def test_a_tile_gets_the_tiles_answer_to_the_bit(settings: config.Config, model: config.ModelConfig) -> None:
    """In the same batches, with views and several networks."""
    network, settings = real(with_batches(settings, 4), model)
    settings = replace(settings, predict=config.PredictConfig(tta=("identity", "hflip")))
    images, networks = noise(6, 101, 101), [network, zoo.build(model)]
    expected = predict.predictions(networks, list("abcdef"), images, settings).probabilities
    assert np.ptp(expected) > 10
    assert np.array_equal(np.stack(list(windows.predict_images(networks, images, settings))), expected)


@MODES
@pytest.mark.parametrize("shape", [(1, 1), (2, 300), (60, 250), (101, 101), (102, 350), (251, 217)])
def test_a_constant_network_gives_the_constant_everywhere(settings: config.Config, shape: tuple[int, int]) -> None:
    """0.6 is 153 of 255, in the corners, too, where a single window has next to no weight."""
    found = one(Known(0.0, float(np.log(1.5))), noise(*shape), settings)
    assert (found.shape, found.dtype, set(found.flat)) == (shape, np.uint8, {153})
    if settings is PAD or max(shape) > 101:  # a resized tile has rounding errors of its own
        assert set(one(Known(0.0, 0.0), noise(*shape), settings).flat) == {128}  # one half, which is salt
    assert set(one(Known(0.0, 100.0), noise(*shape), settings).flat) == {255}


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (40, 60), (101, 152), (333, 222)])
def test_a_pixelwise_network_gives_its_function_exactly(shape: tuple[int, int]) -> None:
    """The mean over two networks; padding never scales."""
    image = noise(*shape)
    gray = image / 255.0
    expected = (1 / (1 + np.exp(3 - 8 * gray)) + 1 / (1 + np.exp(2 * gray - 1))) / 2
    [found] = windows.predict_images([Known(), Known(-2.0, 1.0)], [image], PAD)
    assert np.array_equal(found, np.rint(255 * expected))


@MODES
@pytest.mark.parametrize("model", [config.UNetConfig(filters=2), DEPTH], ids=["plain", "depth"])
@pytest.mark.parametrize("shape", [(101, 151), (152, 260)])
def test_windows_a_second_way(settings: config.Config, model: config.ModelConfig, shape: tuple[int, int]) -> None:
    """Each window is predicted as a tile is, depth channels included, and weighted by its Gaussian."""
    network, settings = real(settings, model)
    found, expected = one(network, noise(*shape), settings), by_hand(network, noise(*shape), settings)
    assert np.ptp(expected) > 10
    np.testing.assert_allclose(found, expected, atol=0.501)


def test_the_rows_of_a_window_are_numbered_as_the_rows_of_a_tile() -> None:
    """A network that answers with the row: its windows repeat every 50 pixels, and -1 to 1 is 101 rows."""
    model = config.UNetConfig(extra_channels=("row",))
    network = zoo.SaltNetwork(RowOnly(), model, [0.0], [1.0])
    settings = replace(RESIZE, model=model, data=config.DataConfig(resize_mode="resize", size=101 + 27))
    found = one(network, noise(301, 101), settings)[:, 50]
    assert found[0] <= 1  # -1 at the top of the image
    assert found[-1] >= 254
    assert {int(row) for row in found[50:251:50]} <= {127, 128}  # 0 in the middle of a window
    assert np.array_equal(found[101:151], found[151:201])


class RowOnly(nn.Module):
    """Logits of (1 + row) / 2."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.logit((1 + x[:, 1:]) / 2, eps=1e-6)


@pytest.mark.parametrize(("shape", "before", "after"), [
    ((60, 80), (20, 10), (21, 11)), ((101, 30), (0, 35), (0, 36)), ((20, 260), (40, 0), (41, 0)),
])  # fmt: skip
def test_a_small_image_is_reflected_to_a_window(
    shape: tuple[int, int], before: tuple[int, int], after: tuple[int, int]
) -> None:
    """So that the network sees a whole tile at the scale of the training."""
    network, settings = real(RESIZE, config.UNetConfig(filters=2))
    image = noise(*shape)
    reflected = np.pad(image, list(zip(before, after, strict=True)), "reflect")
    expected = one(network, reflected, settings)[before[0] :, before[1] :][: shape[0], : shape[1]]
    assert np.array_equal(one(network, image, settings), expected)


def test_a_shift_by_one_step_changes_nothing_inside() -> None:
    """The windows are the same but for those of the first 50 rows and columns."""
    network, settings = real(with_batches(RESIZE, 1), DEPTH)  # one a batch: other batches round in another way
    image = noise(263, 240)
    whole, shifted = one(network, image, settings), one(network, image[50:, 50:], settings)
    assert np.array_equal(whole[101:, 101:], shifted[51:, 51:])
    assert not np.array_equal(whole[50:, 50:], shifted)


def test_windows_agree_with_the_whole_image_on_a_simulated_section() -> None:
    """A network that looks 11 pixels far, so that only the edges of windows differ: by 1/255 at most."""
    model = config.FCNConfig(filters=4)
    network, settings = real(replace(PAD, data=config.DataConfig(resize_mode="pad", size=101)), model)
    image = tiles.stretch(tiles.numbered_section(777, 306).image)  # 303x404
    with torch.inference_mode():
        whole = torch.sigmoid(network(torch.from_numpy(image / np.float32(255))[None, None]))[0, 0].numpy() * 255
    found = one(network, image, settings)
    assert np.ptp(whole) > 50
    assert np.abs(found - whole).max() < 1.5


def test_batches_are_filled_across_images() -> None:
    """7 windows of tiles, then 4 + 1 of larger images and 3 of small ones: 15 windows in batches of 4."""
    network, done = Known(), []
    sizes = [(101, 101)] * 7 + [(151, 120), (30, 101)] + [(9, 9)] * 3
    images = (noise(*size) for size in sizes)
    found = list(windows.predict_images([network], images, with_batches(PAD, 4), progress=done.append))
    assert [shape[0] for shape in network.seen] == done == [4, 4, 4, 3]
    assert {shape[1:] for shape in network.seen} == {(1, 112, 112)}
    assert [image.shape for image in found] == sizes
    assert sum(windows.count_windows(*size) for size in sizes) == 15


def test_images_are_read_no_earlier_than_a_batch_needs_them() -> None:
    read: list[int] = []

    def images() -> Iterator[np.ndarray]:
        for number in range(9):
            read.append(number)
            yield np.full((101, 101), 10 * number, np.uint8)

    found = windows.predict_images([Known()], images(), with_batches(PAD, 4))
    assert read == []
    first = next(found)
    assert read == [0, 1, 2, 3]
    rest = list(found)
    assert read == list(range(9))
    assert [int(image[0, 0]) for image in (first, *rest)] == [
        round(255 / (1 + np.exp(3 - 8 * 10 * number / 255))) for number in range(9)
    ]


def peak(height: int) -> int:
    """Bytes of numpy's arrays at their peak, beside the image, while a network that does nothing predicts it."""
    settings = with_batches(replace(PAD, data=config.DataConfig(resize_mode="pad", size=101)), 8)
    image = noise(height, 150)
    tracemalloc.start()
    one(Known(), image, settings)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most - image.size  # of the result


def test_memory_does_not_grow_with_the_height_of_the_image() -> None:
    """Beside the image and its result: twenty times the rows take at most a tenth more."""
    peak(200)  # loads what is loaded once
    low, high = peak(400), peak(8000)
    assert high < 1.1 * low + 60 * 8000  # names of windows and weights along the height


@pytest.mark.parametrize("image", [np.zeros((9, 9)), np.zeros((9, 9), np.uint16), np.zeros((1, 9, 9), np.uint8),
                                   np.zeros((0, 9), np.uint8)])  # fmt: skip
def test_images_of_another_type_or_shape_are_refused(image: np.ndarray) -> None:
    """Floats in [0, 1] would be taken for an almost black image."""
    with pytest.raises(InputError, match=rf"^image is {image.dtype} of shape .*; give uint8 \(H, W\)$"):
        one(Known(), image, PAD)


def test_nan_is_no_probability() -> None:
    with pytest.raises(InputError, match=r"probabilities hold .* NaN"):
        one(Known(offset=float("nan")), noise(151, 101), PAD)


def test_no_images_no_predictions() -> None:
    assert list(windows.predict_images([Known()], [], PAD)) == []

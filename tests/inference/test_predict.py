"""Probabilities of networks whose answer is known: at the tiles' own size, over views and networks."""

import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from saltseg import config
from saltseg.errors import InputError
from saltseg.inference import predict, tta
from saltseg.models import checkpoints, zoo

FLOAT32 = config.TrainConfig(precision="32")
PAD = config.Config(data=config.DataConfig(resize_mode="pad", size=112), train=FLOAT32)
RESIZE = config.Config(data=config.DataConfig(resize_mode="resize", size=128), train=FLOAT32)


class Known(nn.Module):
    """Logits = slope * image + offset, times a weight for each column: a network that knows left from right."""

    def __init__(self, slope: float = 8.0, offset: float = -3.0, lopsided: bool = False) -> None:
        super().__init__()
        self.slope, self.offset = nn.Parameter(torch.tensor(slope)), nn.Parameter(torch.tensor(offset))
        self.lopsided = lopsided
        self.dropout = nn.Dropout(0.9)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append(tuple(image.shape))
        image = self.dropout(image).sum(dim=1, keepdim=True)
        row, column = torch.arange(image.shape[-2])[:, None], torch.arange(image.shape[-1])
        weight = (1 + row + 3 * column) / image.shape[-1] if self.lopsided else torch.ones(())
        return (self.slope * image + self.offset) * weight


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def noise(n: int = 5, height: int = 101, width: int = 101) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width), dtype=np.uint8)


# ---------------------------------------------------------------- probabilities


def test_a_pixelwise_network_gives_its_function_at_the_tiles_own_size() -> None:
    found = predict.probabilities([Known()], noise(), PAD)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, sigmoid(8 * (noise() / 255) - 3), atol=1e-6)


def test_a_resized_tile_is_enlarged_and_brought_back() -> None:
    found = predict.probabilities([Known()], noise(), RESIZE)
    for image, ours in zip(noise(), found, strict=True):
        large = cv2.resize(image.astype(np.float32) / 255, (128, 128), interpolation=cv2.INTER_LINEAR)
        answer = Image.fromarray(sigmoid(8 * large - 3).astype(np.float32))
        np.testing.assert_allclose(ours, answer.resize((101, 101), Image.Resampling.BILINEAR), atol=1e-5)


@pytest.mark.parametrize("settings", [PAD, RESIZE], ids=["pad", "resize"])
def test_a_dark_tile_is_not_brightened(settings: config.Config) -> None:
    found = predict.probabilities([Known()], np.full((1, 101, 101), 51, np.uint8), settings)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(3 - 8 * 0.2)), atol=1e-5)


def test_all_channels_are_fed() -> None:
    three = replace(PAD, model=config.UNetConfig(in_channels=3))
    found = predict.probabilities([Known()], noise(), three)
    np.testing.assert_allclose(found, sigmoid(8 * 3 * (noise() / 255) - 3), atol=1e-5)


VIEWS_BY_NUMPY: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda x: x,
    "hflip": lambda x: x[:, ::-1],
    "vflip": lambda x: x[::-1],
    "rotate180": lambda x: x[::-1, ::-1],
    "transpose": lambda x: x.T,
}


@pytest.mark.parametrize("names", [("hflip",), ("identity", "hflip"), ("transpose", "vflip"), tuple(VIEWS_BY_NUMPY)])
def test_views_are_averaged_as_by_hand(names: tuple[str, ...]) -> None:
    """The network is asymmetric, so that a view that is not undone, or undone wrongly, shows."""
    settings = replace(
        PAD, data=config.DataConfig(resize_mode="pad", size=101), predict=config.PredictConfig(tta=names)
    )
    found = predict.probabilities([Known(lopsided=True)], noise(2), settings)
    row, column = np.mgrid[:101, :101]
    for image, ours in zip(noise(2) / 255, found, strict=True):
        answers = []
        for name in names:
            view = VIEWS_BY_NUMPY[name]
            answers.append(view(sigmoid((8 * view(image) - 3) * (1 + row + 3 * column) / 101)))
        np.testing.assert_allclose(ours, np.mean(answers, axis=0), atol=1e-5)


@pytest.mark.parametrize("name", sorted(set(tta.VIEWS) - set(VIEWS_BY_NUMPY)))
def test_a_network_sees_an_image_of_another_size_and_its_answer_is_brought_back(name: str) -> None:
    """A network that answers pixel by pixel answers a smooth image nearly as at its own size."""
    row, column = np.mgrid[:101, :101]
    image = (row + column).astype(np.uint8)[None]
    seen = []

    class Watched(Known):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append(image.shape[-1])
            return super().forward(image)

    settings = replace(
        PAD, data=config.DataConfig(resize_mode="pad", size=101), predict=config.PredictConfig(tta=(name,))
    )
    found = predict.probabilities([Watched()], image, settings)
    assert seen == [88 if "smaller" in name else 113]
    inside = (slice(None), slice(3, -3), slice(3, -3))
    np.testing.assert_allclose(found[inside], sigmoid(8 * (image / 255) - 3)[inside], atol=0.004)


def test_views_are_those_of_the_configuration_unless_given() -> None:
    flipped = replace(PAD, predict=config.PredictConfig(tta=("hflip",)))
    network = Known(lopsided=True)
    assert np.array_equal(
        predict.probabilities([network], noise(), flipped),
        predict.probabilities([network], noise(), PAD, tta=("hflip",)),
    )
    plain = predict.probabilities([network], noise(), PAD)
    assert not np.allclose(plain, predict.probabilities([network], noise(), flipped))
    assert np.array_equal(plain, predict.probabilities([network], noise(), flipped, tta=("identity",)))


def test_the_network_is_evaluated_and_not_trained() -> None:
    network = Known().train()  # its dropout would zero nine pixels of ten
    np.testing.assert_allclose(
        predict.probabilities([network], noise(), PAD), sigmoid(8 * (noise() / 255) - 3), atol=1e-6
    )


@pytest.mark.parametrize("batch_size", [1, 2, 5, 64])
def test_the_batch_size_changes_nothing_but_the_batches(batch_size: int) -> None:
    network, done = Known(lopsided=True), []
    settings = replace(PAD, runtime=config.Runtime(predict_batch_size=batch_size))
    found = predict.probabilities([network], noise(), settings, progress=done.append)
    np.testing.assert_allclose(found, predict.probabilities([Known(lopsided=True)], noise(), PAD), atol=1e-6)
    assert [shape[0] for shape in network.seen] == done
    assert sum(done) == 5
    assert max(done) == min(batch_size, 5)


def test_quantized_is_in_255ths() -> None:
    found = predict.probabilities([Known(slope=0.0, offset=0.0)], noise(), PAD, out=np.uint8)
    assert found.dtype == np.uint8
    assert (found == 128).all()  # one half
    assert (predict.probabilities([Known(0.0, float(np.log(1.5)))], noise(), PAD, out=np.uint8) == 153).all()  # 0.6
    extreme = predict.probabilities(
        [Known(1e4, -5e3)], noise(), RESIZE, out=np.uint8
    )  # a rounding error above one is no error
    assert {0, 255} <= set(np.unique(extreme).tolist())


@pytest.mark.parametrize("images", [np.zeros((2, 9, 9), np.uint16), np.zeros((2, 9, 9)), np.zeros((9, 9), np.uint8)])
def test_images_of_another_type_or_shape_are_refused(images: np.ndarray) -> None:
    """Floats in [0, 1] would be taken for an almost black image."""
    with pytest.raises(InputError, match=rf"^images are {images.dtype} of shape .*; give uint8 \(N, H, W\)$"):
        predict.probabilities([Known()], images, PAD)


def test_no_images_no_predictions() -> None:
    found = predict.probabilities([Known()], np.zeros((0, 101, 101), np.uint8), PAD, out=np.uint8)
    assert (found.shape, found.dtype) == ((0, 101, 101), np.uint8)


# ---------------------------------------------------------------- checkpoints

SMALL = config.Config(model=config.UNetConfig(filters=1))


def test_a_checkpoint_gives_back_the_network_ready_to_predict(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = zoo.build(SMALL.model)
    network(torch.rand(4, 1, 32, 32))  # batch norm has statistics of its own now
    torch.save({"state_dict": network.state_dict()}, tmp_path / "network.ckpt")
    loaded = checkpoints.load_network(SMALL, tmp_path / "network.ckpt")
    assert not loaded.training
    image = torch.rand(1, 1, 32, 32)
    torch.testing.assert_close(loaded(image), network.eval()(image))


class Bomb:
    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch exploded",)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("save", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
@pytest.mark.parametrize("value", [Bomb(), {"state_dict": Bomb()}], ids=["bare", "inside"])
def test_a_pickle_bomb_is_refused_and_never_goes_off(
    save: Callable[..., object], value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(value, tmp_path / "network.ckpt")
    with pytest.raises(InputError, match=r"network.ckpt cannot be loaded \(.*\); delete the fold and train") as refused:
        checkpoints.load_network(SMALL, tmp_path / "network.ckpt")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "exploded").exists()


def damaged(kind: str) -> object:
    torch.manual_seed(0)
    weights = zoo.build(SMALL.model).state_dict()
    if kind == "no state_dict":
        return {"weights": weights}
    if kind == "a list":
        return [weights]
    name = "head.bias"
    if kind == "missing":
        del weights[name]
    elif kind == "foreign":
        weights["extra"] = weights[name]
    else:
        weights[name] = torch.zeros(2)
    return {"state_dict": weights}


@pytest.mark.parametrize("kind", ["no state_dict", "a list", "missing", "foreign", "another shape"])
def test_a_checkpoint_of_something_else_is_refused_in_one_line(kind: str, tmp_path: Path) -> None:
    torch.save(damaged(kind), tmp_path / "network.ckpt")
    with pytest.raises(InputError, match=r"network.ckpt cannot be loaded \(.*\); delete the fold and train") as refused:
        checkpoints.load_network(SMALL, tmp_path / "network.ckpt")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "share",
    [
        0.0,
        0.1,
        0.5,
        0.99,
    ],
)
def test_a_cut_checkpoint_is_refused_in_one_line(share: float, tmp_path: Path) -> None:
    path = tmp_path / "network.ckpt"
    torch.save({"state_dict": zoo.build(SMALL.model).state_dict()}, path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(InputError, match=r"network.ckpt cannot be loaded \(.*\); delete the fold and train") as refused:
        checkpoints.load_network(SMALL, path)
    assert "\n" not in str(refused.value)


def test_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoint at .*network.ckpt; train the fold first"):
        checkpoints.load_network(SMALL, tmp_path / "network.ckpt")

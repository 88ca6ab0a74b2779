"""A folder of images: files and table, and what becomes of small bodies in images larger than a tile."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import Trained, postprocess

from saltseg import config, io
from saltseg.errors import InputError
from saltseg.inference import predict
from saltseg.metrics import rle
from saltseg.models import checkpoints, precision, zoo
from saltseg.pipeline import folder
from saltseg.postprocessing.parameters import Postprocessing
from saltseg.synthetic import tiles


class Bright(torch.nn.Module):
    """Salt where the image is bright: sigmoid(4) = 250/255 at 255, sigmoid(-4) = 5/255 at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = torch.nn.Parameter(torch.tensor(8.0))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.slope * image[:, :1] - 4


@pytest.fixture
def images(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small image and one larger than a tile, both bright in the upper ten rows, for a run of such networks."""
    path = trained.input / "sections"
    path.mkdir()
    for name, shape in {"line": (40, 60), "a": (202, 101)}.items():
        write(path / f"{name}.png", 255 * (np.mgrid[: shape[0], : shape[1]][0] < 10))
    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: Bright())
    return path


def write(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def tuned(trained: Trained, threshold: int, min_area: int) -> None:
    io.write_json(trained.run.postprocess, postprocess(threshold=threshold, min_area=min_area))


def test_a_folder_is_predicted_at_the_images_own_pixels(trained: Trained, images: Path) -> None:
    tuned(trained, threshold=100, min_area=600)
    target = trained.output / "predictions" / "x"
    rows, _ = folder.predict_folder(trained.run, images, target)
    assert sorted(path.name for path in target.iterdir()) == [
        *("a_mask.png", "a_probability.png", "line_mask.png", "line_probability.png", "masks.csv"),
    ]
    with (target / "masks.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert written == [{key: str(value) for key, value in row.items()} for row in rows]
    assert [(row["id"], row["height"], row["width"], row["salt_share"], row["emptied"]) for row in rows] == [
        ("a", 202, 101, "0.0495", 0),
        ("line", 40, 60, "0.2500", 0),
    ]
    for row in rows:
        shape = row["height"], row["width"]
        mask = np.array(Image.open(target / f"{row['id']}_mask.png"))
        assert np.array_equal(mask, 255 * (np.mgrid[: shape[0], : shape[1]][0] < 10))
        assert np.array_equal(rle.decode(row["rle_mask"], shape), mask // 255)
        probability = np.array(Image.open(target / f"{row['id']}_probability.png"))
        assert set(np.unique(probability).tolist()) == {5, 250}


def test_the_minimum_area_is_in_pixels_whatever_the_size_and_an_emptied_image_is_reported(
    trained: Trained, images: Path
) -> None:
    """600 pixels of 40x60 and 1010 of 202x101: neither more nor less because the image is smaller or larger."""
    kept = {}
    for min_area in (600, 601, 1010, 1011):
        tuned(trained, threshold=100, min_area=min_area)
        for row in folder.predict_folder(trained.run, images, trained.output / str(min_area))[0]:
            kept[row["id"], min_area] = row["salt_share"] != "0.0000"
            assert row["emptied"] == (not kept[row["id"], min_area])
    assert kept == {("line", 600): True, ("line", 601): False, ("line", 1010): False, ("line", 1011): False} | {
        ("a", 600): True, ("a", 601): True, ("a", 1010): True, ("a", 1011): False,
    }  # fmt: skip


def test_an_image_without_salt_is_not_reported_as_emptied(trained: Trained, images: Path) -> None:
    for path in images.iterdir():
        write(path, np.zeros((150, 150)))
    tuned(trained, threshold=100, min_area=1)
    rows, _ = folder.predict_folder(trained.run, images, trained.output / "x")
    assert [(row["salt_share"], row["emptied"]) for row in rows] == [("0.0000", 0)] * 2


def test_of_an_image_larger_than_a_tile_each_small_body_goes(trained: Trained) -> None:
    """Bodies of 9, 8 and 9 + 1 pixels, the last joined by a corner alone, and 12 of 12 pixels in rows of 4."""
    probability = np.zeros((110, 110), np.uint8)
    probability[1:4, 1:4] = 200
    probability[10:14, 10:12] = 200
    probability[30:33, 30:33] = probability[33, 33] = 200
    assert folder.postprocess(probability, Postprocessing(128, 10)).sum() == 10
    assert folder.postprocess(probability, Postprocessing(128, 9)).sum() == 19
    for min_area in (0, 1, 8):
        assert folder.postprocess(probability, Postprocessing(128, min_area)).sum() == 27
    assert folder.postprocess(probability, Postprocessing(201, 0)).sum() == 0
    everything = folder.postprocess(np.full((300, 40), 200, np.uint8), Postprocessing(128, 12_000))
    assert everything.all()


def test_a_tile_is_post_processed_as_in_tuning() -> None:
    """Its whole area counts, not each body."""
    probability = np.zeros((101, 101), np.uint8)
    probability[1:4, 1:4] = probability[50:53, 50:53] = 200
    for min_area, area in ((18, 18), (19, 0)):
        postprocessing = Postprocessing(128, min_area)
        mask = folder.postprocess(probability, postprocessing)
        assert mask.sum() == area
        assert np.array_equal(mask, postprocessing.apply(probability[None])[0])


def test_a_section_keeps_its_body_under_an_area_tuned_on_tiles() -> None:
    """6,677 of 303x404 pixels are salt, two thirds of a tile; scaled to the image, 600 pixels became 7,200."""
    section = tiles.numbered_section(777, 306)
    assert (section.mask.shape, int(section.mask.sum())) == ((303, 404), 6677)
    speckles = np.zeros(section.mask.shape, bool)
    speckles[5:300:40, 5:400:40] = True
    probability = np.where(section.mask.astype(bool) | speckles, 200, 20).astype(np.uint8)
    mask = folder.postprocess(probability, Postprocessing(128, 600, presence_threshold=100))
    union = (mask | section.mask).sum()
    assert (mask & section.mask).sum() / union > 0.99
    assert mask.sum() - (mask & section.mask).sum() <= 8  # speckles that touch the body


def test_a_folder_is_written_whole_or_not_at_all(trained: Trained, images: Path) -> None:
    target = trained.output / "predictions" / "x"
    (images / "z.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"z.png"):
        folder.predict_folder(trained.run, images, target)
    assert not target.exists()
    (images / "z.png").unlink()
    answers = [np.zeros((202, 101), np.uint8)]  # for the first image only
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(predict, "predict_image", lambda *_: answers.pop())
        with pytest.raises(IndexError, match="pop from empty list"):
            folder.predict_folder(trained.run, images, target)
    assert [path.name for path in target.parent.iterdir()] == [".x.done"]
    folder.predict_folder(trained.run, images, target)
    assert [path.name for path in target.parent.iterdir()] == ["x"]
    with pytest.raises(InputError, match=r"x exists; choose another --to or remove it"):
        folder.predict_folder(trained.run, images, target)


class Dies(BaseException):
    """A kill."""


def die_at(number: int, real: Callable[..., np.ndarray], calls: list[tuple[int, ...]]) -> Callable[..., np.ndarray]:
    """`predict_image` that dies in that call; ``calls`` gets the shapes of the images."""

    def predict_image(networks: object, image: np.ndarray, settings: object) -> np.ndarray:
        calls.append(image.shape)
        if len(calls) == number:
            raise Dies
        return real(networks, image, settings)

    return predict_image


def test_a_killed_prediction_goes_on_image_by_image_with_the_same_result(
    trained: Trained, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(images / "b.png", np.random.default_rng(0).integers(0, 256, (50, 60)))
    tuned(trained, threshold=100, min_area=600)
    rows, _ = folder.predict_folder(trained.run, images, trained.output / "whole")
    target, calls, real = trained.output / "killed", [], predict.predict_image
    monkeypatch.setattr(predict, "predict_image", die_at(3, real, calls))
    with pytest.raises(Dies):
        folder.predict_folder(trained.run, images, target)
    assert not target.exists()
    assert folder.predict_folder(trained.run, images, target) == (rows, ())
    assert calls == [(202, 101), (50, 60), (40, 60), (40, 60)]
    for path in (trained.output / "whole").iterdir():
        assert (target / path.name).read_bytes() == path.read_bytes()
    assert [path.name for path in trained.output.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("change", ["image", "networks", "settings"])
def test_what_has_changed_since_the_kill_is_predicted_again(
    change: str, trained: Trained, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, ...]] = []
    real = predict.predict_image
    monkeypatch.setattr(predict, "predict_image", die_at(2, real, calls))
    with pytest.raises(Dies):
        folder.predict_folder(trained.run, images, trained.output / "x")
    if change == "image":
        write(images / "a.png", np.zeros((202, 101)))
    elif change == "networks":
        other = Bright()
        torch.nn.init.constant_(other.slope, 7.5)
        monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: other)
    else:
        trained.write_settings(config.override(trained.settings, ["predict.tta=hflip"]))
    folder.predict_folder(trained.run, images, trained.output / "x")
    assert calls[2:] == [(202, 101), (40, 60)]
    probability = np.array(Image.open(trained.output / "x" / "a_probability.png"))
    assert probability.max() == {"image": 5, "networks": 248, "settings": 250}[change]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("DefaultCPUAllocator: can't allocate memory"), MemoryError(), InputError("DefaultCPU: 3 NaN of 9")],
)
def test_an_image_too_large_for_the_memory_is_named_and_the_others_are_kept(
    error: Exception, trained: Trained, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = predict.predict_image

    def out_of_memory(networks: object, image: np.ndarray, settings: object) -> np.ndarray:
        if image.size > 20_000:
            raise error
        return real(networks, image, settings)

    monkeypatch.setattr(predict, "predict_image", out_of_memory)
    message = (
        rf"^1 images: a.png of 202x101 pixels \({'MemoryError' if isinstance(error, MemoryError) else 'DefaultCPU'}.*"
        r"cut them into parts .* and rerun: the other 1 images are predicted and kept$"
    )
    with pytest.raises(InputError, match=message):
        folder.predict_folder(trained.run, images, trained.output / "x")
    (images / "a.png").unlink()
    monkeypatch.setattr(predict, "predict_image", lambda *_: pytest.fail("it is predicted"))
    rows, _ = folder.predict_folder(trained.run, images, trained.output / "x")
    assert [row["id"] for row in rows] == ["line"]


def test_every_image_is_checked_before_the_first_is_predicted(
    trained: Trained, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict, "predict_image", lambda *_: pytest.fail("it is predicted"))
    monkeypatch.setattr(predict, "LARGEST", 30_000)
    write(images / "big.png", np.zeros((300, 101)))
    write(images / "wide.png", np.zeros((2, 15_001)))
    write(images / "line.bmp", np.zeros((20, 20)))
    (images / "damaged.png").write_bytes(b"no picture")
    (images / "no\udcffutf8.png").write_bytes((images / "line.png").read_bytes())
    (images / "notes.txt").touch()
    with pytest.raises(InputError) as refused:
        folder.predict_folder(trained.run, images, trained.output / "x")
    text = str(refused.value)
    assert "2 images: 'big.png' of 300x101, 'wide.png' of 2x15001; they are seen whole, up to 30,000 pixels" in text
    assert "'line.png' has the name of 'line.bmp'; rename them" in text
    assert "damaged.png" in text
    assert r"'no\udcffutf8.png'" in text
    assert "\n" not in text
    text.encode()  # to be printed
    for path in images.iterdir():
        if path.name not in ("line.png", "notes.txt"):
            path.unlink()
    monkeypatch.undo()
    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: Bright())
    assert folder.predict_folder(trained.run, images, trained.output / "x")[1] == ("notes.txt",)


def test_at_most_twenty_images_are_named(trained: Trained, images: Path) -> None:
    for number in range(30):
        (images / f"{number:02d}.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"^30 images: .*19.png: .* and 10 more$") as refused:
        folder.predict_folder(trained.run, images, trained.output / "x")
    assert "20.png" not in str(refused.value)


@pytest.mark.parametrize(
    ("model", "small"),
    [(config.UNetConfig(filters=1), {"dot": (1, 1), "line": (2, 300)}),
     (config.SmpConfig(architecture="smp.PAN", encoder="resnet18"), {"dot": (1, 1), "flat": (64, 500)})],
)  # fmt: skip
def test_images_too_small_for_the_network_are_named_before_the_first_is_predicted(
    model: config.ModelConfig, small: dict[str, tuple[int, int]], trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained.write_settings(replace(trained.settings, model=model))
    network = zoo.build(model, pretrained=False).eval()
    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: network)
    monkeypatch.setattr(predict, "predict_image", lambda *_: pytest.fail("it is predicted"))
    images = trained.input / "images"
    images.mkdir()
    for name, shape in (small | {"tile": (101, 101), "section": (150, 230)}).items():
        write(images / f"{name}.png", np.zeros(shape))
    named = ", ".join(f"'{name}.png' of {height}x{width}" for name, (height, width) in sorted(small.items()))
    message = rf"^2 images: {named}; they are too small for {model.architecture}: enlarge them$"
    with pytest.raises(InputError, match=message):
        folder.predict_folder(trained.run, images, trained.output / "x")


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (2, 3)])
def test_the_smallest_images_are_predicted(shape: tuple[int, int], trained: Trained, images: Path) -> None:
    write(images / "a.png", np.full(shape, 255))
    folder.predict_folder(trained.run, images, trained.output / "x")
    assert np.array(Image.open(trained.output / "x" / "a_probability.png")).tolist() == np.full(shape, 250).tolist()


def test_with_row_channels_tiles_are_predicted_as_in_training_and_other_images_refused(
    trained: Trained, images: Path
) -> None:
    model = replace(trained.settings.model, extra_channels=("row", "image_x_row"))
    settings = replace(trained.settings, model=model, data=config.DataConfig(resize_mode="resize", size=64))
    trained.write_settings(settings)
    with pytest.raises(
        InputError,
        match=r"2 images: 'a.png' of 202x101, 'line.png' of 40x60; tiny-run has model.extra_channels.* cut them into "
        r"tiles of 101x101, or use a run without extra channels$",
    ):
        folder.predict_folder(trained.run, images, trained.output / "x")
    assert not (trained.output / "x").exists()
    for path in images.iterdir():
        path.unlink()
    tile = np.random.default_rng(0).integers(0, 256, (101, 101), dtype=np.uint8)
    write(images / "tile.png", tile)
    folder.predict_folder(trained.run, images, trained.output / "x")
    expected = predict.predictions(
        [Bright()] * 3, ("tile",), tile[None], precision.trained_config(trained.run)
    ).probabilities[0]
    assert np.array_equal(np.array(Image.open(trained.output / "x" / "tile_probability.png")), expected)

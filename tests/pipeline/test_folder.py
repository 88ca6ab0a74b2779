"""A folder of images: files and table, and what becomes of small bodies in images larger than a tile."""

import csv
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import Bright, Trained, metrics, postprocess

from saltseg import config, io
from saltseg.errors import InputError
from saltseg.inference import predict, windows
from saltseg.metrics import rle
from saltseg.models import checkpoints, precision, zoo
from saltseg.pipeline import folder
from saltseg.postprocessing.parameters import Postprocessing
from saltseg.synthetic import tiles


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


def postprocessed(probability: np.ndarray, postprocessing: Postprocessing) -> np.ndarray:
    """The mask of one image, which is the same between others of its size."""
    [mask] = folder.postprocess(probability[None], postprocessing)
    others = np.stack([np.full_like(probability, 255), probability, np.zeros_like(probability)])
    assert np.array_equal(folder.postprocess(others, postprocessing)[1], mask)
    return mask


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
    assert postprocessed(probability, Postprocessing(128, 10)).sum() == 10
    assert postprocessed(probability, Postprocessing(128, 9)).sum() == 19
    for min_area in (0, 1, 8):
        assert postprocessed(probability, Postprocessing(128, min_area)).sum() == 27
    assert postprocessed(probability, Postprocessing(201, 0)).sum() == 0
    everything = postprocessed(np.full((300, 40), 200, np.uint8), Postprocessing(128, 12_000))
    assert everything.all()


def test_a_tile_is_post_processed_as_in_tuning() -> None:
    """Its whole area counts, not each body."""
    probability = np.zeros((101, 101), np.uint8)
    probability[1:4, 1:4] = probability[50:53, 50:53] = 200
    for min_area, area in ((18, 18), (19, 0)):
        postprocessing = Postprocessing(128, min_area)
        mask = postprocessed(probability, postprocessing)
        assert mask.sum() == area
        assert np.array_equal(mask, postprocessing.apply(probability[None])[0])


def test_a_section_keeps_its_body_under_an_area_tuned_on_tiles() -> None:
    """6,677 of 303x404 pixels are salt, two thirds of a tile; scaled to the image, 600 pixels became 7,200."""
    section = tiles.numbered_section(777, 306)
    assert (section.mask.shape, int(section.mask.sum())) == ((303, 404), 6677)
    speckles = np.zeros(section.mask.shape, bool)
    speckles[5:300:40, 5:400:40] = True
    probability = np.where(section.mask.astype(bool) | speckles, 200, 20).astype(np.uint8)
    mask = postprocessed(probability, Postprocessing(128, 600, presence_threshold=100))
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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "predict_images", die_at(2, windows.predict_images, []))
        with pytest.raises(Dies):
            folder.predict_folder(trained.run, images, target)
    assert [path.name for path in target.parent.iterdir()] == [".x.done"]
    folder.predict_folder(trained.run, images, target)
    assert [path.name for path in target.parent.iterdir()] == ["x"]
    with pytest.raises(InputError, match=r"x exists; choose another --to or remove it"):
        folder.predict_folder(trained.run, images, target)


@pytest.mark.parametrize("target", [".", "..", "/"])
def test_a_folder_that_has_no_name_is_refused_as_any_that_exists(trained: Trained, images: Path, target: str) -> None:
    with pytest.raises(InputError, match=rf"^{re.escape(target)} exists; choose another --to"):
        folder.predict_folder(trained.run, images, Path(target))


class Dies(BaseException):
    """A kill."""


Windows = Callable[..., Iterator[np.ndarray]]


def die_at(number: int, real: Windows, calls: list[tuple[int, ...]]) -> Windows:
    """`predict_images` that dies at that image; ``calls`` gets the shapes of the images."""

    def predict_images(
        networks: object, images: Iterable[np.ndarray], settings: object, progress: object
    ) -> Iterator[np.ndarray]:
        for image in images:
            calls.append(image.shape)
            if len(calls) == number:
                raise Dies
            yield from real(networks, [image], settings, progress=progress)

    return predict_images


def test_a_killed_prediction_goes_on_image_by_image_with_the_same_result(
    trained: Trained, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(images / "b.png", np.random.default_rng(0).integers(0, 256, (50, 60)))
    tuned(trained, threshold=100, min_area=600)
    rows, _ = folder.predict_folder(trained.run, images, trained.output / "whole")
    target, calls = trained.output / "killed", []
    monkeypatch.setattr(windows, "predict_images", die_at(3, windows.predict_images, calls))
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
    monkeypatch.setattr(windows, "predict_images", die_at(2, windows.predict_images, calls))
    with pytest.raises(Dies):
        folder.predict_folder(trained.run, images, trained.output / "x")
    if change == "image":
        write(images / "a.png", np.zeros((202, 101)))
    elif change == "networks":
        other = Bright()
        torch.nn.init.constant_(other.slope, 7.5)
        monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: other)
    else:
        for fold in trained.run.trained_folds():
            io.write_json(fold.metrics, metrics(fold.number, tta=["hflip"]))
    folder.predict_folder(trained.run, images, trained.output / "x")
    assert calls[2:] == [(202, 101), (40, 60)]
    probability = np.array(Image.open(trained.output / "x" / "a_probability.png"))
    assert probability.max() == {"image": 5, "networks": 248, "settings": 250}[change]


def test_half_a_file_of_a_killed_machine_is_predicted_again(
    trained: Trained, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, ...]] = []
    monkeypatch.setattr(windows, "predict_images", die_at(2, windows.predict_images, calls))
    with pytest.raises(Dies):
        folder.predict_folder(trained.run, images, trained.output / "x")
    [stored] = (trained.output / ".x.done").iterdir()
    stored.write_bytes(stored.read_bytes()[:-20])
    folder.predict_folder(trained.run, images, trained.output / "x")
    assert calls[2:] == [(202, 101), (40, 60)]


def test_another_batch_size_predicts_only_what_is_missing(
    trained: Trained, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the way out where memory is short."""
    calls: list[tuple[int, ...]] = []
    monkeypatch.setattr(windows, "predict_images", die_at(2, windows.predict_images, calls))
    with pytest.raises(Dies):
        folder.predict_folder(trained.run, images, trained.output / "x")
    folder.predict_folder(trained.run, images, trained.output / "x", runtime=config.Runtime(predict_batch_size=1))
    assert calls[2:] == [(40, 60)]


def test_an_image_that_the_networks_answer_with_nan_is_named_and_those_before_it_are_kept(
    trained: Trained, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Diverges(Bright):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            half_dark = image.mean(dim=(1, 2, 3), keepdim=True) > 0.15  # of line.png a quarter is bright
            return super().forward(image) + torch.where(half_dark, torch.nan, 0)

    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: Diverges())
    with pytest.raises(InputError, match=r"line.png: probabilities hold .* NaN .*; take it out of the folder and rer"):
        folder.predict_folder(trained.run, images, trained.output / "x")
    (images / "line.png").unlink()
    monkeypatch.setattr(Diverges, "forward", lambda *_: pytest.fail("it is predicted"))
    rows, _ = folder.predict_folder(trained.run, images, trained.output / "x")
    assert [row["id"] for row in rows] == ["a"]


def test_batches_are_filled_across_images_and_equal_images_are_predicted_once(
    trained: Trained, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """a.png has 4 windows, line.png one, nine tiles one each of which three are equal: 12 windows."""
    seen: list[int] = []

    class Counts(Bright):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            seen.append(len(image))
            return super().forward(image)

    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: Counts())
    for number in range(9):
        write(images / f"tile{number}.png", np.full((101, 101), 20 * min(number, 6)))
    rows, _ = folder.predict_folder(
        trained.run, images, trained.output / "x", runtime=config.Runtime(predict_batch_size=6)
    )
    assert len(rows) == 11
    assert seen == [6] * 6  # of three networks
    for number in range(9):
        probability = np.array(Image.open(trained.output / "x" / f"tile{number}_probability.png"))
        assert set(probability.flat) == {round(255 / (1 + np.exp(4 - 8 * 20 * min(number, 6) / 255)))}


def test_every_image_is_checked_before_the_first_is_predicted(
    trained: Trained, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "predict_images", lambda *_, **__: pytest.fail("it is predicted"))
    write(images / "line.bmp", np.zeros((20, 20)))
    (images / "damaged.png").write_bytes(b"no picture")
    (images / "no\udcffutf8.png").write_bytes((images / "line.png").read_bytes())
    (images / "notes.txt").touch()
    with pytest.raises(InputError) as refused:
        folder.predict_folder(trained.run, images, trained.output / "x")
    text = str(refused.value)
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


PAN = config.SmpConfig(architecture="smp.PAN", encoder="resnet18")


@pytest.mark.parametrize("model", [config.UNetConfig(filters=1), pytest.param(PAN, marks=pytest.mark.slow)])
def test_every_network_predicts_images_of_any_size(
    model: config.ModelConfig, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those that accept no input of the image's own size."""
    settings = replace(trained.settings, model=model, data=config.DataConfig(resize_mode="pad", size=128))
    trained.write_settings(settings)
    network = zoo.build(model, pretrained=False).eval()
    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: network)
    images = trained.input / "images"
    images.mkdir()
    sizes = {"dot": (1, 1), "flat": (64, 500), "line": (2, 300), "section": (150, 230), "tile": (101, 101)}
    for name, shape in sizes.items():
        write(images / f"{name}.png", np.zeros(shape))
    rows, _ = folder.predict_folder(trained.run, images, trained.output / "x")
    assert {row["id"]: (row["height"], row["width"]) for row in rows} == sizes


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (2, 3)])
def test_the_smallest_images_are_predicted(shape: tuple[int, int], trained: Trained, images: Path) -> None:
    write(images / "a.png", np.full(shape, 255))
    folder.predict_folder(trained.run, images, trained.output / "x")
    assert np.array(Image.open(trained.output / "x" / "a_probability.png")).tolist() == np.full(shape, 250).tolist()


def test_a_run_with_depth_channels_predicts_tiles_as_in_training_and_any_other_image(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(trained.settings.model, extra_channels=("row", "image_x_row"))
    settings = replace(trained.settings, model=model, data=config.DataConfig(resize_mode="resize", size=64))
    trained.write_settings(settings)
    torch.manual_seed(0)
    networks = [zoo.build(model).eval() for _ in range(3)]
    loaded = iter(networks)
    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: next(loaded))
    images = trained.input / "images"
    images.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (202, 151), dtype=np.uint8)
    for name, image in {"line": pixels[:40, :60], "section": pixels, "tile": pixels[:101, :101]}.items():
        write(images / f"{name}.png", image)
    folder.predict_folder(trained.run, images, trained.output / "x")
    found = {name: np.array(Image.open(trained.output / "x" / f"{name}_probability.png")) for name in
             ("line", "section", "tile")}  # fmt: skip
    trained_settings = precision.trained_config(trained.run)
    tile = predict.predictions(networks, ("tile",), pixels[None, :101, :101], trained_settings).probabilities[0]
    assert np.abs(found["tile"].astype(int) - tile).max() <= 1
    assert np.ptp(tile) > 5
    assert found["line"].shape == (40, 60)
    assert found["section"].shape == (202, 151)
    # The left upper corner of the section is seen by its first window alone, which is the tile.
    assert np.abs(found["section"][:50, :50].astype(int) - tile[:50, :50]).max() <= 1

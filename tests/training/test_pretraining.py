"""Pretraining: what is covered and how it is judged, by hand; resuming; loading into a fold; what is refused."""

from itertools import pairwise
from pathlib import Path

import in_process
import numpy as np
import pytest
import tiny_fold
import torch
from safetensors.torch import load_file
from torch import Tensor

from saltseg import config, io
from saltseg.data.competition import Images
from saltseg.errors import InputError
from saltseg.models import zoo
from saltseg.models.salt_network import SaltNetwork
from saltseg.synthetic.dataset import write_dataset
from saltseg.training import pretraining
from saltseg.training.pretraining import MaskedModule, PretrainedDir, covered_patches, reconstruction_loss

FIXED = ("train.checkpoint=last", "train.schedule=constant")


@pytest.fixture(autouse=True)
def _few_tiles_to_judge_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretraining, "VALIDATING", 8)


def images() -> Images:
    """20 tiles: dark above, bright below, with noise."""
    found = tiny_fold.data().train
    return Images(found.ids, found.images)


def pretrained(method: str, place: Path, *changes: str, stop_at: int | None = None) -> PretrainedDir:
    """Pretrain a network of two filters, or break off before that step."""
    settings, found = tiny_fold.settings(*changes), PretrainedDir(place)
    with tiny_fold.breaking_off(stop_at):
        try:
            if method == "masked":
                pretraining.masked(settings, found, images())
            else:
                pretraining.synthetic(settings, found, tiles=20)
        except tiny_fold.Interrupted:
            assert not found.finished()
    return found


def rows(found: PretrainedDir) -> list[dict[str, str]]:
    """The log without wall-clock times."""
    return [{k: v for k, v in row.items() if "second" not in k} for row in io.read_csv(found.log)]


# Masked-image modeling


def test_the_loss_by_hand() -> None:
    """Mean 0.5, deviation 0.5: standardized -1, 1, -1, 1. Covered: the first row, where -2 and 0 are drawn wrongly."""
    tile = torch.tensor([[[[0.0, 1.0], [0.0, 1.0]]]])
    drawn = torch.tensor([[[[-2.0, 0.0], [70.0, -70.0]]]])
    covered = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert reconstruction_loss(drawn, tile, covered).item() == pytest.approx((1 + 1) / 2)
    assert reconstruction_loss(drawn, tile * 0.1 + 0.3, covered).item() == pytest.approx(1)  # brightness, contrast
    constant = torch.full_like(tile, 0.7)
    both = [torch.cat(pair) for pair in ((drawn, drawn), (tile, constant), (covered, covered))]
    assert reconstruction_loss(*both).item() == pytest.approx(1)  # a constant tile counts for nothing
    assert reconstruction_loss(drawn, constant, covered).item() == 0
    three = torch.cat([covered, torch.tensor([[[[0.0, 0.0], [1.0, 0.0]]]])])
    assert reconstruction_loss(both[0], torch.cat([tile, tile]), three).item() == pytest.approx((1 + 1 + 71) / 3)


def test_pixels_that_are_not_covered_do_not_count() -> None:
    generator = torch.Generator().manual_seed(0)
    drawn, tiles = (torch.rand((3, 1, 12, 12), generator=generator) for _ in range(2))
    covered = (torch.rand((3, 1, 12, 12), generator=generator) < 0.6).float()
    drawn.requires_grad_()
    loss = reconstruction_loss(drawn, tiles, covered)
    loss.backward()
    assert drawn.grad is not None
    assert torch.equal(drawn.grad != 0, covered > 0)
    assert reconstruction_loss(drawn + 9 * (1 - covered), tiles, covered).item() == loss.item()


def test_22_of_36_patches_are_covered_and_the_key_decides_which() -> None:
    found = covered_patches(50, (101, 101), (3, 0, 7))
    sides = list(pairwise([0, 17, 34, 51, 68, 85, 101]))  # patch number 6 k // 101 changes at k = 17, 34, ...
    for mask in found:
        patches = [mask[top:bottom, left:right] for top, bottom in sides for left, right in sides]
        assert all(np.ptp(patch) == 0 for patch in patches)
        assert sum(int(patch[0, 0]) for patch in patches) == 22
    assert len({mask.tobytes() for mask in found}) == 50
    assert np.array_equal(found, covered_patches(50, (101, 101), (3, 0, 7)))
    assert not np.array_equal(found, covered_patches(50, (101, 101), (3, 0, 8)))


def test_the_network_sees_nothing_of_a_covered_pixel() -> None:
    """But the mean. With data.resize_mode=pad the border mirrors covered pixels, which are covered there, too."""
    settings = tiny_fold.settings("data.resize_mode=pad", "data.size=128", "train.batch_size=2")
    module = MaskedModule(settings, 0, (101, 101))
    tile = images().images[:1]
    where = covered_patches(1, (101, 101), (0, 0, 5))[0] > 0
    changed = tile.copy()
    changed[0, where] = np.random.default_rng(0).permutation(tile[0, where])

    def seen(pixels: np.ndarray) -> tuple[Tensor, Tensor]:
        frame = np.pad(pixels, ((0, 0), (13, 14), (13, 14)), mode="reflect")
        return module._cover(torch.from_numpy(frame.astype(np.float32) / 255)[:, None], 0, 5)

    (one, wanted), (other, _) = seen(tile), seen(changed)
    assert (tile != changed)[:, :13].any()
    visible = wanted[:, 1:] == 0
    assert torch.equal(one[visible], other[visible])
    assert torch.equal(one[visible], wanted[:, :1][visible])
    assert torch.equal(wanted[0, 1, 13:114, 13:114] > 0, torch.from_numpy(where))
    gray = one[~visible]
    torch.testing.assert_close(gray, wanted[:, :1].mean().expand_as(gray))


def test_covered_tiles_are_reconstructed(tmp_path: Path) -> None:
    changes = ("train.epochs=12", "train.learning_rate=0.02", "model.filters=4", *FIXED)
    losses = [float(row["train_loss"]) for row in rows(pretrained("masked", tmp_path / "p", *changes))]
    assert 0.7 < losses[0] < 1.5, losses  # drawing the mean everywhere is an error of 0.8 or so
    assert losses[-1] < 0.6, losses


# From beginning to end


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        (
            "synthetic",
            ("data.augment=light", "train.schedule=plateau", "train.checkpoint=best", "train.schedule.patience=1"),
        ),
        ("masked", ("data.augment=light", "train.schedule=cosine", "train.checkpoint=last", "train.ema_decay=0.6")),
    ],
)
def test_interrupted_it_ends_with_the_same_weights(tmp_path: Path, method: str, changes: tuple[str, ...]) -> None:
    changes = ("train.epochs=3", "model.dropout=0.2", *changes)
    whole = pretrained(method, tmp_path / "whole", *changes)
    steps = 2 if method == "synthetic" else 3  # 16 simulated tiles in whole batches, or 19 images
    broken = pretrained(method, tmp_path / "broken", *changes, stop_at=steps + 1)  # in the second epoch
    assert len(rows(broken)) == 1
    assert broken.last.is_file()
    broken = pretrained(method, tmp_path / "broken", *changes)
    tiny_fold.assert_equal(load_file(whole.weights), load_file(broken.weights))
    assert rows(whole) == rows(broken)
    assert len(rows(whole)) == 3
    expected = {"weights.safetensors", "config.yaml", "provenance.json", "log.csv", "tensorboard", ".lock"}
    assert {path.name for path in broken.path.iterdir()} == expected
    assert io.read_json(broken.provenance)["method"] == method
    before = broken.weights.stat().st_mtime_ns
    assert pretrained(method, tmp_path / "broken", *changes).weights.stat().st_mtime_ns == before  # finished
    with pytest.raises(InputError, match=r"broken exists and differs \(train.seed: 0 → 4\); choose another --name"):
        pretrained(method, tmp_path / "broken", *changes, "train.seed=4")


def test_another_process_and_settings_that_cannot_work_are_refused(tmp_path: Path) -> None:
    place = PretrainedDir(tmp_path / "p")
    with pytest.raises(InputError, match=r"data.size is 32, smaller than tiles"):
        pretraining.synthetic(tiny_fold.settings("data.resize_mode=pad"), place, 20)
    with pytest.raises(InputError, match=r"^train.init_from is 'run': a run is used fold by fold"):
        pretraining.synthetic(tiny_fold.settings("train.init_from=run"), place, 20)
    with pytest.raises(InputError, match="an epoch of 7 tiles holds no batch of 8"):
        pretraining.synthetic(tiny_fold.settings(), place, 7)
    with pytest.raises(InputError, match="15 images are fewer than two batches"):
        pretraining.masked(tiny_fold.settings(), place, Images(images().ids[:15], images().images[:15]))
    with pytest.raises(
        InputError, match=r"^train.low_resolution_epochs is 1: patches are covered and reconstructed at full size"
    ):
        pretraining.masked(tiny_fold.settings("train.low_resolution_epochs=1", *FIXED), place, images())
    assert not place.path.exists()
    with place.locked(), pytest.raises(InputError, match="is being written by another process"):
        pretraining.synthetic(tiny_fold.settings(), PretrainedDir(place.path), 20)


def test_the_same_file_gives_its_encoder_to_another_decoder(tmp_path: Path) -> None:
    model = ("model.architecture=smp.Unet", "model.encoder=tu-test_resnet", "data.size=64", "train.epochs=1", *FIXED)
    found = pretrained("masked", tmp_path / "p", *model, "model.decoder_channels=[8, 8, 4, 4, 4]")
    state = load_file(found.weights)
    settings = tiny_fold.settings(*model, f"model.weights=file:{found.weights}", "model.architecture=smp.FPN")
    network = zoo.build(settings.model)
    assert isinstance(network, SaltNetwork)
    encoder = network.network.encoder.state_dict()
    tiny_fold.assert_equal(encoder, {name: state[f"network.encoder.{name}"] for name in encoder})
    assert torch.equal(network.mean, state["mean"])
    assert torch.equal(network.std, state["std"])
    assert f"{len(encoder)} of {len(encoder)} tensors loaded" in network.weights_source
    fresh = zoo.build(tiny_fold.settings(*model).model).state_dict()
    moved = [n for n in encoder if n.endswith("weight") and not torch.equal(fresh[f"network.encoder.{n}"], encoder[n])]
    assert moved


# The command


def test_the_command_leaves_known_images_out_and_names_the_next_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = tmp_path / "input" / "tiny"
    write_dataset(tiny, n_train=4, n_test=2, seed=3)
    write_dataset(tmp_path / "other", n_train=18, n_test=1, seed=4)
    folder = tmp_path / "other" / "train" / "images"
    for path in (*(tiny / "test" / "images").iterdir(), next((tiny / "train" / "images").iterdir())):
        (folder / f"again-{path.name}").write_bytes(path.read_bytes())
    (tmp_path / "mine.yaml").write_text(config.dump(tiny_fold.settings(*FIXED)))
    command = ["pretrain", str(tmp_path / "mine.yaml"), "--method", "masked", "--images", str(folder)]
    command += ["--data", "tiny", "--epochs", "1", "--set", "model.dropout=0", "--name", "p", "--limit", "20"]
    places = ["--input", str(tmp_path / "input"), "--output", str(tmp_path / "output")]
    assert in_process.call(*command, *places) == 0
    weights = tmp_path / "output" / "pretrained" / "p" / "weights.safetensors"
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "3 of 20 tiles left out: among the labeled or test images of tiny"  # again-… come first
    assert lines[1].endswith(f"weights: {weights}")
    assert lines[2].startswith(f"next: saltseg train {tmp_path / 'mine.yaml'} --data tiny --name p ")
    assert f"--set train.init_from=file:{weights}" in lines[2]
    assert "--set model.dropout=0" in lines[2]
    recorded = io.read_json(weights.parent / "provenance.json")
    assert (recorded["images"], recorded["left_out"], recorded["dataset"]) == (17, 3, "tiny")
    assert recorded["precision"] == "32"
    assert "contract1.0.weight" in load_file(weights)

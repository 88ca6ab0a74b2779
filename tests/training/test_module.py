"""The training loss: of each epoch, its region, auxiliary outputs, mixed precision; seeds of dropout."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tiny_fold import assert_equal, settings, train, weights
from torch import Tensor

from saltseg import io
from saltseg.errors import InputError
from saltseg.models import losses
from saltseg.models.losses import binary_cross_entropy, dice
from saltseg.models.salt_network import Outputs
from saltseg.training import fold
from saltseg.training.module import SaltModule, half_resolution

Loss = Callable[[Tensor, Tensor], Tensor]
TILE = (101, 101)
PADDED = ["data.resize_mode=pad", "data.size=128", "train.loss=bce"]
FIXED = ["train.checkpoint=last", "train.schedule=cosine"]
INSIDE = (..., slice(13, 114), slice(13, 114))  # 128 - 101 = 27 pixels to add, 13 of them above and left


def module(*assignments: str) -> SaltModule:
    """Before training."""
    return SaltModule(settings(*assignments), 0, TILE)


def batch(size: int = 128) -> tuple[Tensor, Tensor]:
    """Logits and masks, (2, 1, size, size)."""
    torch.manual_seed(0)
    return torch.randn(2, 1, size, size), (torch.rand(2, 1, size, size) > 0.5).float()


@pytest.mark.parametrize(("late_from", "first"), [(0, 9), (1, 0), (3, 6)])
def test_the_loss_changes_at_its_epoch(
    tmp_path: Path, late_from: int, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def spied(name: str, original: Loss) -> Loss:
        def spy(logits: Tensor, masks: Tensor) -> Tensor:
            calls.append(name)
            return original(logits, masks)

        return spy

    for name in ("focal", "dice"):
        monkeypatch.setitem(losses.LOSSES, name, spied(name, losses.LOSSES[name]))
    late = [f"train.second_loss_start_epoch={late_from}", "train.second_loss=dice"]
    train(tmp_path / "fold_0", "train.epochs=3", "train.loss=focal", *late)
    assert calls == ["focal"] * first + ["dice"] * (9 - first)  # three steps an epoch; validation asks neither


def test_the_tiles_loss_ignores_the_border_and_only_the_border() -> None:
    logits, masks = batch()
    expected = binary_cross_entropy(logits[INSIDE], masks[INSIDE])
    tile, frame = module(*PADDED, "train.loss_region=tile"), module(*PADDED)
    assert torch.equal(tile.loss(Outputs(logits), masks), expected)
    assert torch.equal(frame.loss(Outputs(logits), masks), binary_cross_entropy(logits, masks))
    for row, column, counts in ((12, 60, False), (60, 114, False), (13, 60, True), (60, 113, True)):
        other, turned = logits.clone(), masks.clone()
        other[..., row, column] += 5
        turned[..., row, column] = 1 - turned[..., row, column]
        assert torch.equal(tile.loss(Outputs(other), masks), expected) != counts
        assert torch.equal(tile.loss(Outputs(logits), turned), expected) != counts


def test_side_outputs_share_their_weight() -> None:
    logits, masks = batch()
    side = tuple(torch.randn(3, *logits.shape))
    found = module(*PADDED, "train.loss=dice", "train.aux_loss_weight=0.6").loss(Outputs(logits, side), masks)
    torch.testing.assert_close(found, dice(logits, masks) + sum(0.2 * binary_cross_entropy(x, masks) for x in side))
    tile = module(*PADDED, "train.loss_region=tile", "train.aux_loss_weight=0.6").loss(Outputs(logits, side), masks)
    inside = [0.2 * binary_cross_entropy(x[INSIDE], masks[INSIDE]) for x in side]
    torch.testing.assert_close(tile, binary_cross_entropy(logits[INSIDE], masks[INSIDE]) + sum(inside))


def test_presence_is_whether_the_judged_region_holds_salt() -> None:
    logits, masks = torch.zeros(2, 1, 128, 128), torch.zeros(2, 1, 128, 128)
    masks[0, 0, 50, 50] = 1  # a single pixel
    masks[1, 0, 5, 5] = 1  # in the border
    presence = torch.tensor([2.0, -1.0])
    # log(1 + e^-2) = 0.126928 where there is salt, log(1 + e^-1) = 0.313262 and log(1 + e) = 1.313262 where not or so
    for region, second in (("tile", 0.313262), ("frame", 1.313262)):
        judging = module(*PADDED, f"train.loss_region={region}", "train.presence_loss_weight=0.5")
        share = judging.loss(Outputs(logits, (), presence), masks) - judging.loss(Outputs(logits), masks)
        assert share.item() == pytest.approx(0.5 * (0.126928 + second) / 2, abs=1e-5)


def test_mixed_precision_trains_all_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[torch.dtype] = []

    def spy(logits: Tensor, masks: Tensor) -> Tensor:
        kinds.append(logits.dtype)
        return losses.lovasz(logits, masks)

    monkeypatch.setitem(losses.LOSSES, "lovasz", spy)
    model = ["model.architecture=smp.Unet", "model.encoder=tu-tf_efficientnet_lite0", "model.stem=stride1"]
    options = [f"model.{name}=true" for name in ("hypercolumn", "deep_supervision", "presence_head")]
    common = [
        *model,
        *options,
        "train.epochs=1",
        "train.loss=lovasz",
        "train.checkpoint=last",
        "train.schedule=constant",
    ]
    states = {}
    for precision in ("32", "bf16"):
        fold, record = train(tmp_path / precision / "fold_0", *common, f"train.precision={precision}")
        states[precision] = weights(fold.network)
        for name in ("presence.weight", "side.0.weight", "hypercolumn.head.weight", "network.encoder.model.bn1.bias"):
            assert states[precision][name].isfinite().all()
            assert not torch.equal(record.after[0][name], record.after[-1][name]), name
    assert kinds == [torch.float32] * 3 + [torch.bfloat16] * 3
    assert {tensor.dtype for tensor in states["bf16"].values()} <= {torch.float32, torch.int64}
    name = "network.encoder.model.conv_stem.weight"
    torch.testing.assert_close(states["bf16"][name], states["32"][name], rtol=0, atol=0.01)


def test_halving_takes_the_mean_of_four_pixels_and_salt_from_one_half_on() -> None:
    image = torch.tensor([[0.0, 0.2, 1.0, 1.0], [0.4, 0.6, 1.0, 0.0]])[None, None]
    mask = torch.tensor([[1.0, 1.0, 0.0, 1.0], [0.0, 0.0, 0.0, 0.0]])[None, None]
    small, hard = half_resolution(image.expand(1, 3, -1, -1), mask)
    torch.testing.assert_close(small, torch.tensor([[0.3, 0.75]]).expand(1, 3, 1, 2))
    assert hard.tolist() == [[[[1.0, 0.0]]]]  # two of four pixels, one of four
    both = torch.cat([mask, mask * 0.5])  # a true label beside a teacher's
    assert half_resolution(torch.cat([image, image]), both, soft=True)[1].tolist() == [[[[1, 0]]], [[[0.25, 0.125]]]]


def test_the_first_epochs_learn_at_half_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, ...]] = []

    def spy(logits: Tensor, masks: Tensor) -> Tensor:
        assert set(masks.unique().tolist()) <= {0.0, 1.0}
        sizes.append(tuple(masks.shape[2:]))
        return losses.dice(logits, masks)

    monkeypatch.setitem(losses.LOSSES, "focal", spy)
    fixed = ["train.checkpoint=last", "train.schedule=constant", "train.epochs=3", "train.loss=focal"]
    kept, _ = train(tmp_path / "fold_0", *fixed, "train.low_resolution_epochs=2")
    of_epochs = [float(row["images_per_second"]) for row in io.read_csv(kept.log)]
    together = 3 / sum(1 / rate for rate in of_epochs)
    assert io.read_json(kept.metrics)["images_per_second"] == pytest.approx(together, rel=1e-3)
    assert sizes == [(16, 16)] * 6 + [(32, 32)] * 3  # three steps an epoch

    # Broken off within the second epoch and gone on with, it ends with the same weights.
    train(tmp_path / "fold_1", *fixed, "train.low_resolution_epochs=2", stop_at=4)
    again, _ = train(tmp_path / "fold_1", *fixed, "train.low_resolution_epochs=2")
    assert_equal(weights(kept.network), weights(again.network))


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["train.low_resolution_epochs=50"], r"train.low_resolution_epochs is 50; it must be less than the 50 epochs"),
        (["train.low_resolution_epochs=-1"], r"train.low_resolution_epochs is -1; it must be at least 0"),
        (["train.low_resolution_epochs=1", "data.size=33"], r"it must be 0, or data.size even and 32 or more"),
        (["train.low_resolution_epochs=1", "data.size=30"], r"it must be 0, or data.size even and 32 or more"),
        (
            [*PADDED, "train.low_resolution_epochs=1", "train.loss_region=tile"],
            r"train.low_resolution_epochs is 1; it must be 0 with train.loss_region=tile",
        ),
        (["train.low_resolution_epochs=1"], r"it must be 0 unless train.checkpoint=last"),
        (
            [*FIXED, "train.low_resolution_epochs=4", "train.checkpoint=best"],
            "it must be 0 unless train.checkpoint=last",
        ),
        (
            [*FIXED, "train.low_resolution_epochs=4", "train.checkpoint=snapshots"],
            "it must be 0 unless train.checkpoint=last",
        ),
        (
            [*FIXED, "train.low_resolution_epochs=4", "train.swa_start_epoch=4"],
            "it must be 0, or end before train.swa_start_epoch",
        ),
        (
            [*FIXED, "train.low_resolution_epochs=4", "model.architecture=smp.Unet", "model.presence_head=true"],
            r"it must be 0 with model.presence_head",
        ),
        (
            [*FIXED, "train.low_resolution_epochs=4", "train.ema_decay=0.9", "pseudo.images=x"],
            r"it must be 0 with a mean teacher, which labels at full size",
        ),
    ],
)
def test_half_sizes_that_cannot_be_are_refused(assignments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings(*assignments)
    settings(*FIXED, "train.low_resolution_epochs=4", "train.swa_start_epoch=5")  # averages full size alone


def test_a_network_that_takes_no_image_of_half_the_size_is_refused_before_training() -> None:
    smp = ["model.architecture=smp.PAN", "model.encoder=resnet18", "data.size=128"]
    smp += ["train.checkpoint=last", "train.schedule=constant"]
    fold.check(settings(*smp), *TILE)
    with pytest.raises(
        InputError, match=r"^half of data.size 128 \(train.low_resolution_epochs\) with smp.PAN: .*; raise it$"
    ):
        fold.check(settings(*smp, "train.low_resolution_epochs=1"), *TILE)


@pytest.mark.parametrize(
    ("changes", "soft"),
    [((), False), (("pseudo.teacher=run",), False), (("pseudo.teacher=run", "pseudo.labels=soft"), True)],
)
def test_labels_are_soft_only_if_pseudo_labels_are(changes: tuple[str, ...], soft: bool) -> None:
    assert module(*changes).soft == soft


def test_dropout_is_seeded_by_seed_step_and_rank_alone() -> None:
    """Ranks that drop the same values would be of one mind; a resumed epoch has to drop the same values again."""
    found = module()

    def drawn(seed: int, step: int, rank: int) -> tuple[float, ...]:
        found.seed = seed
        found.trainer = SimpleNamespace(global_step=step, global_rank=rank)  # type: ignore[assignment]
        torch.rand(3)  # what was drawn before does not matter
        found.on_train_batch_start((torch.zeros(0), torch.zeros(0)), 0)
        return tuple(torch.rand(2).tolist())

    keys = [(seed, step, rank) for seed in (0, 1, 1000) for step in range(50) for rank in range(8)]
    assert len({drawn(*key) for key in keys}) == len(keys)
    assert [drawn(*key) for key in keys[:9]] == [drawn(*key) for key in keys[:9]]

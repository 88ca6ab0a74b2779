"""What a training minimises: the loss of each epoch, its region, the shares of further outputs, in mixed precision."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny_fold import assert_equal, settings, train, weights
from torch import Tensor

from saltseg import storage
from saltseg.errors import InputError
from saltseg.models import losses
from saltseg.models.losses import binary_cross_entropy, dice
from saltseg.models.network import Outputs
from saltseg.training import fold
from saltseg.training.task import SaltTask, halved

Loss = Callable[[Tensor, Tensor], Tensor]
TILE = (101, 101)
PADDED = ["data.fit=pad", "data.size=128", "train.loss=bce"]
FIXED = ["train.keep=last", "train.schedule=cosine"]
INSIDE = (..., slice(13, 114), slice(13, 114))  # 128 - 101 = 27 pixels to add, 13 of them above and left


def task(*assignments: str) -> SaltTask:
    """The task of a fold before training."""
    return SaltTask(settings(*assignments), 0, TILE)


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
    late = [f"train.late_from={late_from}", "train.late_loss=dice"]
    train(tmp_path / "fold_0", "train.epochs=3", "train.loss=focal", *late)
    assert calls == ["focal"] * first + ["dice"] * (9 - first)  # three steps an epoch; validation asks neither


def test_the_tiles_loss_ignores_the_border_and_only_the_border() -> None:
    logits, masks = batch()
    expected = binary_cross_entropy(logits[INSIDE], masks[INSIDE])
    tile, frame = task(*PADDED, "train.loss_region=tile"), task(*PADDED)
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
    found = task(*PADDED, "train.loss=dice", "train.side_weight=0.6").loss(Outputs(logits, side), masks)
    torch.testing.assert_close(found, dice(logits, masks) + sum(0.2 * binary_cross_entropy(x, masks) for x in side))
    tile = task(*PADDED, "train.loss_region=tile", "train.side_weight=0.6").loss(Outputs(logits, side), masks)
    inside = [0.2 * binary_cross_entropy(x[INSIDE], masks[INSIDE]) for x in side]
    torch.testing.assert_close(tile, binary_cross_entropy(logits[INSIDE], masks[INSIDE]) + sum(inside))


def test_presence_is_whether_the_judged_region_holds_salt() -> None:
    logits, masks = torch.zeros(2, 1, 128, 128), torch.zeros(2, 1, 128, 128)
    masks[0, 0, 50, 50] = 1  # a single pixel
    masks[1, 0, 5, 5] = 1  # in the border
    presence = torch.tensor([2.0, -1.0])
    # log(1 + e^-2) = 0.126928 where there is salt, log(1 + e^-1) = 0.313262 and log(1 + e) = 1.313262 where not or so
    for region, second in (("tile", 0.313262), ("frame", 1.313262)):
        judging = task(*PADDED, f"train.loss_region={region}", "train.empty_weight=0.5")
        share = judging.loss(Outputs(logits, (), presence), masks) - judging.loss(Outputs(logits), masks)
        assert share.item() == pytest.approx(0.5 * (0.126928 + second) / 2, abs=1e-5)


def test_mixed_precision_trains_all_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds: list[torch.dtype] = []

    def spy(logits: Tensor, masks: Tensor) -> Tensor:
        kinds.append(logits.dtype)
        return losses.lovasz(logits, masks)

    monkeypatch.setitem(losses.LOSSES, "lovasz", spy)
    model = ["model.architecture=smp.Unet", "model.encoder=tu-tf_efficientnet_lite0", "model.stem=stride1"]
    levers = [f"model.{name}=true" for name in ("hypercolumn", "deep_supervision", "empty_head")]
    common = [*model, *levers, "train.epochs=1", "train.loss=lovasz", "train.keep=last", "train.schedule=constant"]
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
    small, hard = halved(image.expand(1, 3, -1, -1), mask)
    torch.testing.assert_close(small, torch.tensor([[0.3, 0.75]]).expand(1, 3, 1, 2))
    assert hard.tolist() == [[[[1.0, 0.0]]]]  # two of four pixels, one of four
    assert halved(image, mask, soft=True)[1].tolist() == [[[[0.5, 0.25]]]]


def test_the_first_epochs_learn_at_half_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[tuple[int, ...]] = []

    def spy(logits: Tensor, masks: Tensor) -> Tensor:
        assert set(masks.unique().tolist()) <= {0.0, 1.0}
        sizes.append(tuple(masks.shape[2:]))
        return losses.dice(logits, masks)

    monkeypatch.setitem(losses.LOSSES, "focal", spy)
    fixed = ["train.keep=last", "train.schedule=constant", "train.epochs=3", "train.loss=focal"]
    kept, _ = train(tmp_path / "fold_0", *fixed, "train.half_size_until=2")
    of_epochs = [float(row["images_per_second"]) for row in storage.read_csv(kept.log)]
    together = 3 / sum(1 / rate for rate in of_epochs)
    assert storage.read_json(kept.metrics)["images_per_second"] == pytest.approx(together, rel=1e-3)
    assert sizes == [(16, 16)] * 6 + [(32, 32)] * 3  # three steps an epoch

    # Broken off within the second epoch and gone on with, it ends with the same weights.
    train(tmp_path / "fold_1", *fixed, "train.half_size_until=2", stop_at=4)
    again, _ = train(tmp_path / "fold_1", *fixed, "train.half_size_until=2")
    assert_equal(weights(kept.network), weights(again.network))


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["train.half_size_until=50"], r"train.half_size_until is 50; it must be 0, or before the end"),
        (["train.half_size_until=-1"], r"train.half_size_until is -1; it must be 0, or before the end"),
        (["train.half_size_until=1", "data.size=33"], r"it must be 0, or data.size even and 32 or more"),
        (["train.half_size_until=1", "data.size=30"], r"it must be 0, or data.size even and 32 or more"),
        (
            [*PADDED, "train.half_size_until=1", "train.loss_region=tile"],
            r"train.half_size_until is 1; it must be 0 with train.loss_region=tile",
        ),
        (["train.half_size_until=1"], r"it must be 0 unless train.keep=last"),
        ([*FIXED, "train.half_size_until=4", "train.keep=best"], "it must be 0 unless train.keep=last"),
        ([*FIXED, "train.half_size_until=4", "train.keep=snapshots"], "it must be 0 unless train.keep=last"),
        ([*FIXED, "train.half_size_until=4", "train.swa_from=4"], "it must be 0, or end before train.swa_from"),
        (
            [*FIXED, "train.half_size_until=4", "model.architecture=smp.Unet", "model.empty_head=true"],
            r"it must be 0 with model.empty_head",
        ),
        (
            [*FIXED, "train.half_size_until=4", "train.ema=0.9", "pseudo.teacher=self", "pseudo.images=x"],
            r"it must be 0 with pseudo.teacher=self, which labels at full size",
        ),
    ],
)
def test_half_sizes_that_cannot_be_are_refused(assignments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        settings(*assignments)
    settings(*FIXED, "train.half_size_until=4", "train.swa_from=5")  # averages full size alone


def test_a_network_that_takes_no_image_of_half_the_size_is_refused_before_training() -> None:
    smp = ["model.architecture=smp.PAN", "model.encoder=resnet18", "data.size=128"]
    smp += ["train.keep=last", "train.schedule=constant"]
    fold.check(settings(*smp), *TILE)
    with pytest.raises(
        InputError, match=r"^half of data.size 128 \(train.half_size_until\) with smp.PAN: .*; raise it$"
    ):
        fold.check(settings(*smp, "train.half_size_until=1"), *TILE)


@pytest.mark.parametrize(("teacher", "soft"), [("", False), ("run", True)])
def test_labels_are_soft_only_where_a_teacher_gives_them(teacher: str, soft: bool) -> None:
    assert task("pseudo.labels=soft", f"pseudo.teacher={teacher}").soft == soft

"""The losses: numbers worked out by hand, Lovász straight from its definition, and useful gradients everywhere."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from saltseg.errors import InputError
from saltseg.models import losses
from saltseg.models.losses import LOSSES, from_text

Loss = Callable[[Tensor, Tensor], Tensor]
LN3 = math.log(3)  # the logit of probability 3/4
E = math.e
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
sorting_losses = pytest.mark.parametrize(
    ("loss", "hinge"),
    [(losses.lovasz, lambda e: max(e, 0.0)), (losses.lovasz_elu, lambda e: e + 1 if e > 0 else math.exp(e))],
    ids=["lovasz", "lovasz_elu"],
)


def row(*values: float) -> Tensor:
    """One image, a row of pixels."""
    return torch.tensor(values, dtype=torch.float32).reshape(1, 1, 1, -1)


def random_batch(count: int = 3, size: tuple[int, int] = (5, 4), seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and masks in float64; coverage differs from image to image, the first mask is empty, the last full."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, 1, *size, generator=generator, dtype=torch.float64)
    share = torch.linspace(0, 1, count).reshape(-1, 1, 1, 1)
    masks = (torch.rand(count, 1, *size, generator=generator) < share).double()
    return logits, masks


def gradient(loss: Loss, logits: Tensor, masks: Tensor) -> Tensor:
    logits = logits.clone().requires_grad_()
    return torch.autograd.grad(loss(logits, masks), logits)[0]


def by_definition(logits: Tensor, masks: Tensor, hinge: Callable[[float], float]) -> float:
    """Lovász extension of the Jaccard loss as a function of the set of wrong pixels (Berman et al. 2018, eq. 6, 8)."""

    def jaccard_loss(wrong: set[int], salt: set[int]) -> float:
        predicted = salt ^ wrong
        return 1 - len(salt & predicted) / len(salt | predicted) if salt | predicted else 0.0

    total = 0.0
    for image, mask in zip(logits.flatten(1).tolist(), masks.flatten(1).tolist(), strict=True):
        errors = [hinge(1 - x if y else 1 + x) for x, y in zip(image, mask, strict=True)]
        salt = {i for i, y in enumerate(mask) if y}
        wrong: set[int] = set()
        for i in np.argsort(errors)[::-1].tolist():
            total += errors[i] * (jaccard_loss(wrong | {i}, salt) - jaccard_loss(wrong, salt))
            wrong = wrong | {i}
    return total / len(logits)


# Lovász, mask 1 1 0, logits -1 0.5 0.5: errors 2, 0.5, 1.5. Wrong are in turn pixel 0 (IoU 1/2), pixel 2 (IoU 1/3),
# pixel 1 (IoU 0), so the steps are 1/2, 1/6, 1/3. For the background, in the same order: IoU 1/2, 0, 0.
MIXED = row(-1, 0.5, 0.5), row(1, 1, 0)
NO_SALT = row(-1, 0.5, -3), row(0, 0, 0)  # errors 0, 1.5, -2
ALL_SALT = row(2, -1), row(1, 1)  # errors -1, 2; each step is 1/2
THREE_QUARTERS = row(LN3, 0), row(1, 0)  # p(salt) 3/4, 1/2; p(true class) likewise


@pytest.mark.parametrize(
    ("loss", "batch", "expected"),
    [
        (losses.binary_cross_entropy, THREE_QUARTERS, (math.log(4 / 3) + math.log(2)) / 2),
        (losses.focal, THREE_QUARTERS, (math.log(4 / 3) / 16 + math.log(2) / 4) / 2),
        (losses.dice, THREE_QUARTERS, 1 - (2 * 0.375 + 0.05) / (0.625 + 0.5 + 0.05)),
        (losses.dice, (row(LN3, 0), row(0, 0)), 0.625 / (0.625 + 0.05)),
        (losses.dice, (row(-1e4, -1e4), row(0, 0)), 0.0),
        (losses.dice, (row(-1e4, 1e4), row(0, 1)), 0.0),
        (losses.lovasz, MIXED, 2 / 2 + 1.5 / 6 + 0.5 / 3),
        (losses.lovasz, NO_SALT, 1.5),
        (losses.lovasz, ALL_SALT, 1.0),
        (losses.lovasz_elu, MIXED, 3 / 2 + 2.5 / 6 + 1.5 / 3),
        (losses.lovasz_elu, NO_SALT, 2.5),
        (losses.lovasz_elu, ALL_SALT, (3 + 1 / E) / 2),
        (losses.symmetric_lovasz, MIXED, (3 / 2 + 2.5 / 6 + 1.5 / 3 + 3 / 2 + 2.5 / 2) / 2),
        (losses.symmetric_lovasz, NO_SALT, (2.5 + (1 + 2.5 + E**-2) / 3) / 2),
        (losses.symmetric_lovasz, ALL_SALT, ((3 + 1 / E) / 2 + 3) / 2),
    ],
)
def test_by_hand(loss: Loss, batch: tuple[Tensor, Tensor], expected: float) -> None:
    assert loss(*batch).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 3.0])
def test_focal_for_any_gamma(gamma: float) -> None:
    expected = (0.25**gamma * math.log(4 / 3) + 0.5**gamma * math.log(2)) / 2
    assert losses.focal(*THREE_QUARTERS, gamma=gamma).item() == pytest.approx(expected, abs=1e-6)
    assert gradient(lambda x, y: losses.focal(x, y, gamma), row(1e4, -1e4), row(1, 1)).isfinite().all()


@sorting_losses
@pytest.mark.parametrize("seed", range(10))
def test_lovasz_is_its_definition(loss: Loss, hinge: Callable[[float], float], seed: int) -> None:
    logits, masks = random_batch(4, seed=seed)
    assert loss(logits, masks).item() == pytest.approx(by_definition(logits, masks, hinge), rel=1e-12)
    tied = logits.round()  # the order within a tie must not matter
    assert loss(tied, masks).item() == pytest.approx(by_definition(tied, masks, hinge), rel=1e-12)


def pixel_by_pixel(name: str, logits: Tensor, masks: Tensor) -> float:
    """The losses that do not sort, one pixel after the other with the standard library alone."""
    total = 0.0
    for image, mask in zip(logits.flatten(1).tolist(), masks.flatten(1).tolist(), strict=True):
        salt = [1 / (1 + math.exp(-x)) for x in image]
        right = [p if y else 1 - p for p, y in zip(salt, mask, strict=True)]
        if name == "dice":
            overlap = sum(p for p, y in zip(salt, mask, strict=True) if y) / len(mask)
            total += 1 - (2 * overlap + 0.05) / (sum(salt) / len(mask) + sum(mask) / len(mask) + 0.05)
        else:
            total += sum(-math.log(p) * ((1 - p) ** 2 if name == "focal" else 1) for p in right) / len(mask)
    return total / len(logits)


@pytest.mark.parametrize("name", ["bce", "focal", "dice"])
@pytest.mark.parametrize("seed", range(10))
def test_other_losses_are_what_a_loop_over_pixels_gives(name: str, seed: int) -> None:
    logits, masks = random_batch(4, seed=seed)
    assert LOSSES[name](logits, masks).item() == pytest.approx(pixel_by_pixel(name, logits, masks), rel=1e-12)


def test_lovasz_at_logits_of_one_is_twice_the_jaccard_loss() -> None:
    """Wrong pixels have error 2, right ones 0: there the extension meets the set function it extends."""
    logits, masks = random_batch(6, (20, 20))
    predicted = (logits > 0).double()
    intersection = (predicted * masks).sum(dim=(1, 2, 3))
    union = torch.maximum(predicted, masks).sum(dim=(1, 2, 3))
    expected = 2 * (1 - intersection / union).mean()
    assert losses.lovasz(2 * predicted - 1, masks).item() == pytest.approx(expected.item(), rel=1e-12)


def test_symmetric_lovasz_is_the_mean_of_both_sides() -> None:
    logits, masks = random_batch(5)
    both = (losses.lovasz_elu(logits, masks) + losses.lovasz_elu(-logits, 1 - masks)) / 2
    assert losses.symmetric_lovasz(logits, masks).item() == pytest.approx(both.item(), rel=1e-12)
    assert losses.symmetric_lovasz(logits, masks) == losses.symmetric_lovasz(-logits, 1 - masks)
    assert losses.lovasz_elu(logits, masks) != losses.lovasz_elu(-logits, 1 - masks)


@every_loss
def test_gradients_are_those_of_finite_differences(loss: Loss) -> None:
    logits, masks = random_batch(3)
    assert torch.autograd.gradcheck(lambda x: loss(x, masks), logits.requires_grad_())


@every_loss
def test_images_count_equally(loss: Loss) -> None:
    logits, masks = random_batch(5)
    single = torch.stack([loss(x[None], y[None]) for x, y in zip(logits, masks, strict=True)])
    assert loss(logits, masks).item() == pytest.approx(single.mean().item(), rel=1e-12)
    assert single.std() > 0.05


@every_loss
def test_the_order_of_pixels_does_not_matter(loss: Loss) -> None:
    logits, masks = random_batch(4)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    shuffled = [values.flatten(2)[..., order].reshape(values.shape) for values in (logits, masks)]
    assert loss(*shuffled).item() == pytest.approx(loss(logits, masks).item(), rel=1e-12)


@every_loss
def test_layout_in_memory_does_not_matter(loss: Loss) -> None:
    logits, masks = random_batch(4)
    turned = logits.transpose(2, 3).contiguous().transpose(2, 3)
    assert not turned.is_contiguous()
    assert loss(turned, masks).item() == pytest.approx(loss(logits, masks).item(), rel=1e-12)


@every_loss
def test_image_without_salt_predicted_full(loss: Loss) -> None:
    """Per image the common slope is at least 0.001 downhill: segmentation-models-pytorch's Dice has 0."""
    noise = torch.randn(2, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    logits = 3 + 0.1 * noise
    slopes = 2 * gradient(loss, logits, torch.zeros_like(logits)).flatten(1)  # 2: mean of two images
    assert (slopes.sum(dim=1) > 1e-3).all()
    if loss in (losses.lovasz, losses.lovasz_elu):  # the highest logit alone, at full strength
        assert torch.equal(slopes.argmax(dim=1), logits.flatten(1).argmax(dim=1))
        assert torch.equal(slopes.sort(dim=1).values[:, -2:], torch.tensor([[0.0, 1.0]] * 2))
    else:
        assert (slopes > 0).all()


@every_loss
@pytest.mark.parametrize("certain", [8.0, 15.0])
def test_the_surer_the_network_the_less_dice_alone_corrects_it(loss: Loss, certain: float) -> None:
    """An empty image predicted full with certainty: the slope of a sigmoid's probability fades, that of a logit not."""
    logits = certain + 0.1 * torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    slope = gradient(loss, logits, torch.zeros_like(logits)).sum().item()
    if loss is losses.dice:
        assert 0 <= slope < 1e-3
    else:
        assert slope > 0.4


@every_loss
def test_image_all_salt_predicted_empty(loss: Loss) -> None:
    """Every pixel is pulled up; by 1/P under the Lovász losses."""
    logits = -3 + 0.1 * torch.randn(2, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    slopes = 2 * gradient(loss, logits, torch.ones_like(logits)).flatten(1)
    assert (slopes < 0).all()
    assert (slopes.sum(dim=1) < -1e-3).all()
    if loss in (losses.lovasz, losses.lovasz_elu):  # the last digits are lost in float32
        assert slopes.numpy() == pytest.approx(-1 / 128**2, rel=5e-3)


@every_loss
def test_extreme_logits(loss: Loss) -> None:
    for values in ((1e4, -1e4, 1e4, -1e4), (1e4, 1e4, 1e4, 1e4), (-1e4, -1e4, -1e4, -1e4)):
        for mask in ((1, 1, 0, 0), (0, 0, 0, 0), (1, 1, 1, 1)):
            assert loss(row(*values), row(*mask)).isfinite()
            assert gradient(loss, row(*values), row(*mask)).isfinite().all()
    right = loss(row(1e4, -1e4), row(1, 0)).item()
    wrong = loss(row(-1e4, 1e4), row(1, 0)).item()
    assert right == 0
    assert wrong > 0.9


@every_loss
def test_half_precision_logits_are_computed_in_float32(loss: Loss) -> None:
    logits, masks = random_batch(3, (64, 64))
    coarse = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(coarse, masks.bfloat16())
        slope = gradient(loss, coarse, masks.bfloat16())
    assert (value.dtype, slope.dtype) == (torch.float32, torch.bfloat16)
    assert value.item() == pytest.approx(loss(coarse.double(), masks).item(), rel=1e-5)


def test_weighted_sums_from_text() -> None:
    batch = random_batch(3)
    bce, lovasz, dice = (LOSSES[name](*batch).item() for name in ("bce", "lovasz", "dice"))
    for text, expected in [
        ("0.5*bce+lovasz", 0.5 * bce + lovasz),
        (" bce + 2 * dice ", bce + 2 * dice),
        ("1e-2*dice+3*lovasz+bce", 0.01 * dice + 3 * lovasz + bce),
    ]:
        assert from_text(text)(*batch).item() == pytest.approx(expected, rel=1e-12)
    assert from_text(" bce + 2 * dice ").terms == ((1.0, "bce"), (2.0, "dice"))


@pytest.mark.parametrize("name", LOSSES)
def test_a_name_alone_is_that_loss_to_the_bit(name: str) -> None:
    logits, masks = random_batch(3)
    loss = from_text(name)
    assert loss(logits, masks) == LOSSES[name](logits, masks)
    assert torch.equal(gradient(loss, logits, masks), gradient(LOSSES[name], logits, masks))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lovas", "unknown loss 'lovas'; did you mean lovasz"),
        ("bce + 2*xyz", "unknown loss 'xyz'; known: bce, focal, dice, lovasz, lovasz_elu, symmetric_lovasz"),
        ("bce*2", "unknown loss '2'; known: bce"),
        ("", "loss '' lacks a name; write for example bce"),
        ("  ", "loss '  ' lacks a name"),
        ("bce+", r"loss 'bce\+' lacks a name"),
        ("2*", r"loss '2\*' lacks a name"),
        ("*bce", r"loss term '\*bce': its weight must be a positive number; write for example 0.5\*bce"),
        ("bce + two*dice", r"loss term 'two\*dice': its weight must be a positive number"),
        ("0*bce", r"'0\*bce': its weight"),
        ("-1*bce", r"'-1\*bce': its weight"),
        ("nan*bce", r"'nan\*bce': its weight"),
        ("inf*bce", r"'inf\*bce': its weight"),
        ("2*3*bce", r"'2\*3\*bce': its weight"),
    ],
)
def test_text_that_names_no_loss(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        from_text(text)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("loss", [losses.lovasz, losses.lovasz_elu, losses.symmetric_lovasz])
def test_lovasz_sorts_a_batch_at_once(loss: Loss, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sort per image would be a loop in Python over the batch."""
    sorts: list[tuple[int, ...]] = []
    original = losses._descending

    def spy(values: Tensor) -> Tensor:
        sorts.append(tuple(values.shape))
        return original(values)

    monkeypatch.setattr(losses, "_descending", spy)
    loss(torch.randn(6, 1, 8, 8), torch.ones(6, 1, 8, 8))
    assert sorts == [(6, 64)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_sorting_by_numpy_is_torchs(dtype: torch.dtype) -> None:
    values = torch.randn(3, 500, dtype=dtype, generator=torch.Generator().manual_seed(0))
    values[:, :50] = float("inf")
    assert torch.equal(values.gather(1, losses._descending(values)), values.sort(dim=1, descending=True).values)

"""Batches: decided by (seed, epoch) alone, each tile once, values divided by 255 and by nothing else."""

import numpy as np
import pytest
import torch

from saltseg.data.dataset import Collate, EpochSampler, TileDataset, loader, to_input
from saltseg.data.transforms import TileTransform

PAD = TileTransform.square("pad", 112)


def tiles(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Tile k is the constant k + 1; its mask is salt from row k on. uint8 (n, 101, 101), both."""
    images = np.broadcast_to(np.arange(1, n + 1, dtype=np.uint8)[:, None, None], (n, 101, 101)).copy()
    masks = (np.arange(101)[None, :, None] >= np.arange(n)[:, None, None]).astype(np.uint8)
    return images, np.broadcast_to(masks, images.shape).copy()


def textured(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise in which a flip or a shift shows."""
    images = np.random.default_rng(0).integers(0, 256, (n, 101, 101), dtype=np.uint8)
    return images, (images > 127).astype(np.uint8)


def epoch_of(batches, epoch: int) -> list[tuple[torch.Tensor, torch.Tensor]]:  # type: ignore[no-untyped-def]
    """All batches of an epoch, chosen as Lightning does."""
    batches.sampler.set_epoch(epoch)
    return list(batches)


def made(n: int = 10, policy: str = "light", **changes: object):  # type: ignore[no-untyped-def]
    options = {"batch_size": 4, "seed": 3, "shuffle": True, "workers": 0} | changes
    return loader(TileDataset(*textured(n), policy), PAD, 1, **options)


def equal(one: list, other: list) -> bool:
    return len(one) == len(other) and all(
        torch.equal(a, b) for left, right in zip(one, other, strict=True) for a, b in zip(left, right, strict=True)
    )


# ---------------------------------------------------------------- order


def test_a_fresh_sampler_repeats_an_epoch_and_each_epoch_differs() -> None:
    def draw(seed: int, epoch: int) -> list[tuple[int, int]]:
        sampler = EpochSampler(50, seed, shuffle=True)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert draw(0, 4) == draw(0, 4)
    everything = [draw(seed, epoch) for seed in (0, 1) for epoch in (0, 1)]  # (0, 1) is not (1, 0)
    assert len({tuple(position for position, _ in one) for one in everything}) == 4
    assert len({tuple(seed for _, seed in one) for one in everything}) == 4
    for one in everything:
        assert sorted(position for position, _ in one) == list(range(50))
        assert len({seed for _, seed in one}) == 50  # every tile has its own augmentation


def test_validation_keeps_the_order() -> None:
    assert [position for position, _ in EpochSampler(5, 0, shuffle=False)] == [0, 1, 2, 3, 4]
    assert len(EpochSampler(5, 0, shuffle=False)) == 5


def test_starting_at_epoch_three_gives_what_epochs_one_to_three_gave() -> None:
    running = made()
    through = [epoch_of(running, epoch) for epoch in range(4)]
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    assert equal(epoch_of(made(), 3), through[3])
    assert not equal(through[2], through[3])
    assert not equal(epoch_of(made(seed=4), 3), through[3])


def test_worker_processes_change_nothing() -> None:
    torch.manual_seed(1)
    assert equal(epoch_of(made(), 2), epoch_of(made(workers=2), 2))


@pytest.mark.parametrize(
    ("n", "shuffle", "sizes"),
    [
        (8, True, [4, 4]),
        (9, True, [4, 4]),  # batch norm cannot learn from one tile
        (10, True, [4, 4, 2]),
        (9, False, [4, 4, 1]),  # validation leaves none out
    ],
)
def test_sizes_of_batches(n: int, shuffle: bool, sizes: list[int]) -> None:
    batches = made(n, shuffle=shuffle)
    assert [len(images) for images, _ in batches] == sizes
    assert len(batches) == len(sizes)


def test_images_and_masks_stay_together_through_shuffling() -> None:
    batches = loader(TileDataset(*tiles(10), "none"), PAD, 1, batch_size=4, seed=0, shuffle=True, workers=0)
    seen = []
    for images, masks in batches:
        for image, mask in zip(images, masks, strict=True):
            number = round(image[0, 50, 50].item() * 255) - 1
            inside = mask[0, 5:106, 5:106]  # 11 pixels of padding: 5 above and left, 6 below and right
            assert torch.equal(inside[:, 0], (torch.arange(101) >= number).float())
            seen.append(number)
    assert sorted(seen) == list(range(10))
    assert seen != list(range(10))


def test_every_epoch_has_all_labeled_items_and_a_new_sample_of_the_unlabeled() -> None:
    sampler = EpochSampler(6, 0, shuffle=True, num_unlabeled=100, num_sampled=4)
    assert len(sampler) == 10
    sampled = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        positions = [position for position, _ in sampler]
        assert [position for position, _ in sampler] == positions  # again the same
        assert sorted(positions)[:6] == list(range(6))
        assert positions[:6] != sorted(positions)[:6]  # mixed
        sampled.append(tuple(sorted(positions)[6:]))
        assert len(set(sampled[-1])) == 4
        assert 6 <= min(sampled[-1]) <= max(sampled[-1]) < 106
    assert len(set(sampled)) == 3
    plain, mixed = EpochSampler(50, 1, shuffle=True), EpochSampler(50, 1, shuffle=True, num_unlabeled=10, num_sampled=0)
    assert list(plain) == list(mixed)


@pytest.mark.parametrize("transform", [PAD, TileTransform.square("resize", 128)], ids=["pad", "resize"])
def test_soft_masks_leave_as_probabilities(transform: TileTransform) -> None:
    image, mask = np.zeros((101, 101), np.uint8), np.full((101, 101), 51, np.uint8)
    _, soft = Collate(transform, 1, soft=True)([(image, mask), (image, mask * 0 + 255)])
    assert soft.shape == (2, 1, transform.height, transform.width)
    assert soft.dtype == torch.float32
    assert torch.allclose(soft[0], torch.tensor(0.2), atol=1e-6)
    assert torch.allclose(soft[1], torch.tensor(1.0), atol=1e-6)


def test_beside_soft_masks_true_ones_stay_hard_when_they_are_enlarged() -> None:
    """Two pixels become four: a quarter and three quarters of the way between them are interpolated."""
    image = np.zeros((1, 2), np.uint8)
    masks = [np.array([row], np.uint8) for row in ([0, 255], [0, 51], [255, 255])]
    _, found = Collate(TileTransform("resize", 1, 4), 1, soft=True)([(image, mask) for mask in masks])
    wanted = [[0, 0, 1, 1], [0, 0.05, 0.15, 0.2], [1, 1, 1, 1]]
    torch.testing.assert_close(found[:, 0, 0], torch.tensor(wanted, dtype=torch.float32))
    _, alone = Collate(TileTransform("resize", 1, 4), 1)([(image, masks[0] // 255)])
    assert torch.equal(found[:1], alone)


def test_the_mask_of_an_augmented_tile_follows_it() -> None:
    """Where the image is its own mask in white, the padded and augmented pair agrees too."""
    mask = np.zeros((6, 101, 101), np.uint8)
    mask[:, 40:, 20:70] = 1
    batches = loader(TileDataset(mask * np.uint8(255), mask, "light"), PAD, 1, batch_size=6, seed=0, shuffle=True,
                     workers=0)  # fmt: skip
    for epoch in range(5):
        [(images, masks)] = epoch_of(batches, epoch)
        assert ((images > 0.5) == (masks > 0.5)).float().mean() > 0.99


@pytest.mark.parametrize("n", [8, 9, 11])
def test_processes_that_train_together_share_the_batches_of_one(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step the parts make up one process's batch, seeds included; at most ``ranks - 1`` items stay out."""
    alone, parts = list(EpochSampler(n, 5, shuffle=True)), []
    monkeypatch.setattr("saltseg.data.dataset.distributed.is_initialized", lambda: True)
    for rank in (0, 1):
        monkeypatch.setattr("saltseg.data.dataset.distributed.get_rank", lambda rank=rank: rank)
        sampler = EpochSampler(n, 5, shuffle=True, ranks=2)
        parts.append(list(sampler))
        assert len(sampler) == len(parts[-1]) == n // 2
        assert len(list(EpochSampler(n, 5, shuffle=False))) == n  # every rank validates on all images
    for step in range(0, n // 2, 2):
        together = parts[0][step : step + 2] + parts[1][step : step + 2]
        assert sorted(together) == sorted(alone[2 * step : 2 * step + len(together)])


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("value", [0, 1, 7, 255])
@pytest.mark.parametrize("transform", [PAD, TileTransform.square("resize", 128)], ids=["pad", "resize"])
def test_every_tile_is_divided_by_255_and_never_by_its_own_maximum(value: int, transform: TileTransform) -> None:
    dark = np.full((2, 101, 101), value, np.uint8)
    dark[1] = 255  # a bright neighbor in the batch changes nothing
    found = to_input(dark, transform, 1)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[0], torch.full_like(found[0], value / 255), atol=1e-6, rtol=0)


def test_channels_repeat_the_picture() -> None:
    images, _ = textured(2)
    one, three = to_input(images, PAD, 1), to_input(images, PAD, 3)
    assert one.shape == (2, 1, 112, 112)
    assert three.shape == (2, 3, 112, 112)
    assert all(torch.equal(three[:, channel], one[:, 0]) for channel in range(3))
    assert three.is_contiguous()
    np.testing.assert_array_equal(one[0, 0, 5:106, 5:106].numpy(), images[0].astype(np.float32) / 255)


def test_collate_gives_masks_of_zero_and_one() -> None:
    images, masks = textured(3)
    for transform in (PAD, TileTransform.square("resize", 64)):
        batch_images, batch_masks = Collate(transform, 1)(list(zip(images, masks, strict=True)))
        assert batch_masks.dtype == batch_images.dtype == torch.float32
        assert batch_masks.shape == batch_images.shape == (3, 1, transform.height, transform.width)
        assert set(batch_masks.unique().tolist()) == {0.0, 1.0}
        np.testing.assert_array_equal(batch_masks[:, 0].numpy(), transform.forward_masks(masks))


def test_the_arrays_in_memory_survive_an_epoch() -> None:
    images, masks = textured(4)
    dataset = TileDataset(images, masks, "light")
    list(loader(dataset, PAD, 1, batch_size=4, seed=0, shuffle=True, workers=0))
    again = textured(4)
    assert np.array_equal(dataset.images, again[0])
    assert np.array_equal(dataset.masks, again[1])

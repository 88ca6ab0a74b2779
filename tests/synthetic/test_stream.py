"""The stream of simulated tiles: (seed, epoch) alone determines an epoch, and no tile comes twice."""

from itertools import islice

import numpy as np
import pytest
import torch
from torch import Tensor

from saltseg.data.dataset import Collate
from saltseg.data.transforms import TileTransform
from saltseg.synthetic import stream
from saltseg.synthetic.tiles import tiles

BATCHES, SIZE = 10, 4  # a block of eight batches and one of two
Batch = tuple[Tensor, Tensor]


def epoch(number: int, seed: int = 5, policy: str = "light", workers: int = 0) -> list[Batch]:
    found = stream.Stream(
        TileTransform.square("resize", 24),
        1,
        batches=BATCHES,
        batch_size=SIZE,
        seed=seed,
        policy=policy,
        workers=workers,
    )
    found.sampler.set_epoch(number)
    assert len(found) == BATCHES
    return list(found)


def same(one: list[Batch], other: list[Batch]) -> bool:
    pairs = zip(one, other, strict=True)
    return all(torch.equal(a, b) for batch, again in pairs for a, b in zip(batch, again, strict=True))


def contents(seed: int, number: int) -> list[bytes]:
    """Pixels of an epoch's tiles that are not constant (those are alike)."""
    blocks = stream.Blocks(BATCHES, SIZE, seed, "none")
    images = [image for block in (0, 1) for image in blocks[number, block][0]]
    return [image.tobytes() for image in images if np.ptp(image)]


@pytest.fixture(scope="module")
def first() -> list[Batch]:
    return epoch(0)


def test_seed_and_epoch_alone_decide_an_epoch_whoever_draws_it(first: list[Batch]) -> None:
    """Batch by batch and to the bit; so with workers no tile is lost or drawn twice, either."""
    assert same(first, epoch(0))
    assert same(first, epoch(0, workers=2))
    assert not same(first, epoch(1))
    assert not same(first, epoch(0, seed=6))


def test_a_loader_that_goes_on_with_epoch_after_epoch_gives_each_as_it_is(first: list[Batch]) -> None:
    """With workers that live on, as in a training."""
    found = stream.Stream(
        TileTransform.square("resize", 24), 1, batches=BATCHES, batch_size=SIZE, seed=5, policy="light", workers=1
    )
    epochs = []
    for number in (0, 1, 0):
        found.sampler.set_epoch(number)
        epochs.append(list(found))
    assert same(epochs[0], first)
    assert same(epochs[1], epoch(1))
    assert same(epochs[2], first)


def test_no_tile_comes_twice() -> None:
    """In an epoch, between epochs, between seeds, and among the validation tiles."""
    validation = [image.tobytes() for image in stream.validation_tiles(5, 12).images if np.ptp(image)]
    seen = [*contents(5, 0), *contents(5, 1), *contents(6, 0), *validation]
    assert len(seen) > 3 * 36
    assert len(set(seen)) == len(seen)


def test_a_block_is_the_simulators_tiles_shuffled_with_their_masks() -> None:
    blocks = stream.Blocks(BATCHES, SIZE, 5, "none")
    for block, count in ((0, 32), (1, 8)):
        expected = {t.image.tobytes(): t.mask for t in islice(tiles(stream._block_seed(5, 3, block)), count)}
        images, masks = blocks[3, block]
        assert len(images) == len(masks) == count
        assert {image.tobytes() for image in images} == set(expected)
        assert all(np.array_equal(mask, expected[i.tobytes()]) for i, mask in zip(images, masks, strict=True))
        assert [image.tobytes() for image in images] != list(expected), "neighbors of a section stand together"


def test_batches_are_what_collate_makes_of_a_block() -> None:
    blocks, collate = stream.Blocks(BATCHES, SIZE, 5, "none"), Collate(TileTransform.square("resize", 24), 1)
    items = [item for block in (0, 1) for item in zip(*blocks[2, block], strict=True)]
    expected = [collate(items[start : start + SIZE]) for start in range(0, BATCHES * SIZE, SIZE)]
    assert same(epoch(2, policy="none"), expected)
    assert not same(epoch(2), expected)  # augmented

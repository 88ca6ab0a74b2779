"""The simulator as an endless labelled stream: other tiles in every epoch, drawn while training goes on, never stored.

Tiles are drawn in blocks of a few batches, each by its own seed. So (seed, epoch) alone decides an epoch, batch by
batch, whoever draws the blocks: this process or any number of workers, at the first attempt or after an interruption.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from saltseg.core.geometry import Fit
from saltseg.data.augment import Augment
from saltseg.data.competition import Labelled
from saltseg.data.dataset import Collate
from saltseg.data.synthetic import tiles

BLOCK = 8  # batches drawn in one go: few enough to wait for, and enough tiles to have the shares of real ones
Block = tuple[np.ndarray, np.ndarray]


def held_out(seed: int, count: int) -> Labelled:
    """Simulated tiles to judge by, ``count`` of them; no epoch of a stream of that seed has them."""
    drawn = list(islice(tiles(_seed(seed, -1, 0)), count))
    ids = tuple(f"s{tile.section:06d}-{tile.row}-{tile.column}" for tile in drawn)
    return Labelled(ids, np.stack([tile.image for tile in drawn]), np.stack([tile.mask for tile in drawn]))


class Blocks(Dataset[Block]):
    """Simulated tiles by ``(epoch, block)``: images uint8 (N, 101, 101), masks uint8 {0, 1} (N, 101, 101), augmented.

    N is ``BLOCK * batch_size``, in an epoch's last block perhaps fewer batches. The tiles of a block are shuffled,
    because neighbours in a section look alike.
    """

    def __init__(self, batches: int, batch_size: int, seed: int, policy: str) -> None:
        self.batches, self.batch_size, self.seed, self.augment = batches, batch_size, seed, Augment(policy)

    def __getitem__(self, key: tuple[int, int]) -> Block:
        epoch, block = key
        count = min(BLOCK, self.batches - block * BLOCK) * self.batch_size
        own = _seed(self.seed, epoch, block)
        rng = np.random.default_rng((own, count))
        drawn = list(islice(tiles(own), count))
        shuffled = [drawn[i] for i in rng.permutation(count)]
        changed = [self.augment(tile.image, tile.mask, int(rng.integers(2**31))) for tile in shuffled]
        images, masks = (np.stack(arrays) for arrays in zip(*changed, strict=True))
        return images, masks


class BlockSampler(Sampler[tuple[int, int]]):
    """The keys of an epoch's blocks, in order; Lightning sets the epoch."""

    def __init__(self, blocks: int) -> None:
        self.blocks, self.epoch = blocks, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.blocks

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, block) for block in range(self.blocks))


class Stream:
    """Batches as `saltseg.data.dataset.Collate` makes them, ``batches`` an epoch; ``sampler`` is told which epoch.

    Like a DataLoader, which draws the blocks and cannot cut them into batches itself. workers: processes that draw.
    """

    def __init__(
        self, fit: Fit, channels: int, *, batches: int, batch_size: int, seed: int, policy: str, workers: int
    ) -> None:
        self.batches, self.batch_size = batches, batch_size
        self.sampler = BlockSampler(-(-batches // BLOCK))
        self._collate = Collate(fit, channels)
        self._blocks: Any = DataLoader(
            Blocks(batches, batch_size, seed, policy),
            batch_size=None,
            sampler=self.sampler,
            collate_fn=_as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
        )

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, masks in self._blocks:
            for start in range(0, len(images), self.batch_size):
                part = slice(start, start + self.batch_size)
                yield self._collate(list(zip(images[part], masks[part], strict=True)))


def _as_it_is(block: Any) -> Any:
    """The loader's own way would be to make tensors, which workers pass on in scarce shared memory."""
    return block


def _seed(seed: int, epoch: int, block: int) -> int:
    """A number of 64 bits for the simulator. Epoch -1 is that of `held_out`."""
    return int(np.random.SeedSequence((seed, epoch + 1, block)).generate_state(1, np.uint64)[0])

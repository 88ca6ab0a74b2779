"""Simulated tiles as an endless labeled stream: new tiles in every epoch, simulated during training, never stored.

Tiles are simulated in blocks of a few batches, each from its own seed. So (seed, epoch) alone determines an epoch,
batch by batch, for any number of workers and after an interruption.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from saltseg.data.augmentation import Augment
from saltseg.data.competition import Labeled
from saltseg.data.dataset import Collate
from saltseg.data.transforms import TileTransform
from saltseg.synthetic.tiles import tiles

BLOCK = 8  # batches in a block: few enough to wait for, and enough tiles to have the real distribution of coverage
Block = tuple[np.ndarray, np.ndarray]


def validation_tiles(seed: int, count: int) -> Labeled:
    """Simulated tiles for validation; no epoch of a stream of that seed contains them."""
    simulated = list(islice(tiles(_block_seed(seed, -1, 0)), count))
    ids = tuple(f"s{tile.section:06d}-{tile.row}-{tile.column}" for tile in simulated)
    return Labeled(ids, np.stack([tile.image for tile in simulated]), np.stack([tile.mask for tile in simulated]))


class Blocks(Dataset[Block]):
    """Simulated, augmented tiles: `blocks[epoch, block]` is images and masks, each uint8 (N, 101, 101).

    N is `BLOCK * batch_size`; the last block of an epoch may hold fewer batches. Tiles are shuffled within a block,
    because neighbors in a section look alike.
    """

    def __init__(self, batches: int, batch_size: int, seed: int, policy: str) -> None:
        self.batches, self.batch_size, self.seed, self.augment = batches, batch_size, seed, Augment(policy)

    def __getitem__(self, key: tuple[int, int]) -> Block:
        epoch, block = key
        count = min(BLOCK, self.batches - block * BLOCK) * self.batch_size
        seed = _block_seed(self.seed, epoch, block)
        rng = np.random.default_rng((seed, count))
        simulated = list(islice(tiles(seed), count))
        shuffled = [simulated[i] for i in rng.permutation(count)]
        augmented = [self.augment(tile.image, tile.mask, int(rng.integers(2**31))) for tile in shuffled]
        images, masks = (np.stack(arrays) for arrays in zip(*augmented, strict=True))
        return images, masks


class BlockSampler(Sampler[tuple[int, int]]):
    """Yields the keys of an epoch's blocks in order; Lightning sets the epoch."""

    def __init__(self, blocks: int) -> None:
        self.blocks, self.epoch = blocks, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.blocks

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return ((self.epoch, block) for block in range(self.blocks))


class Stream:
    """Batches of simulated tiles, as `saltseg.data.dataset.Collate` makes them.

    Stands in for a DataLoader, which cannot cut blocks into batches itself. `sampler.set_epoch` chooses the epoch.

    Args:
        transform: from tiles to the network's input.
        channels: how often the gray image is repeated.
        batches: number of batches in an epoch.
        batch_size: tiles in a batch.
        seed: of the simulation.
        policy: name of the augmentation.
        workers: processes that simulate.
    """

    def __init__(
        self,
        transform: TileTransform,
        channels: int,
        *,
        batches: int,
        batch_size: int,
        seed: int,
        policy: str,
        workers: int,
    ) -> None:
        self.batches, self.batch_size = batches, batch_size
        self.sampler = BlockSampler(-(-batches // BLOCK))
        self._collate = Collate(transform, channels)
        self._blocks: Any = DataLoader(
            Blocks(batches, batch_size, seed, policy),
            batch_size=None,
            sampler=self.sampler,
            collate_fn=_identity,
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


def _identity(block: Any) -> Any:
    """Keeps arrays; the loader's default makes tensors, which workers pass on in scarce shared memory."""
    return block


def _block_seed(seed: int, epoch: int, block: int) -> int:
    """Seed of 64 bits for the simulator; epoch -1 is that of `validation_tiles`."""
    return int(np.random.SeedSequence((seed, epoch + 1, block)).generate_state(1, np.uint64)[0])

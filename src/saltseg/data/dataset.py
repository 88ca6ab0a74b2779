"""Shuffled, augmented batches of tensors from arrays in memory, reproducible from (seed, epoch) alone."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset, Sampler

from saltseg.data.augmentation import Augment
from saltseg.data.transforms import TileTransform

Item = tuple[np.ndarray, np.ndarray]
UNLABELED = 2  # fills the mask of an image without a label; the mean teacher labels it during training


class TileDataset(Dataset[Item]):
    """Tiles and masks in memory, augmented; an item is `dataset[index, augmentation_seed]`, uint8 (H, W) twice.

    Args:
        images: uint8 (N, H, W).
        masks: uint8 (N, H, W): {0, 1}, all `UNLABELED`, or soft labels in 255ths.
        policy: name of the augmentation, see `Augment`.
    """

    def __init__(self, images: np.ndarray, masks: np.ndarray, policy: str) -> None:
        assert images.shape == masks.shape
        self.images, self.masks, self.augment = images, masks, Augment(policy)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        index, seed = key
        return self.augment(self.images[index], self.masks[index], seed)


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields `(index, augmentation_seed)`; Lightning sets the epoch.

    Order and augmentation follow from `(seed, epoch)` alone. So an interrupted training repeats an epoch exactly,
    without the saved state of a generator.

    Args:
        length: number of labeled items, all of them in every epoch.
        seed: of order, choice and augmentation.
        shuffle: False: in the order of the dataset.
        num_unlabeled: number of items after those.
        num_sampled: how many of them are in an epoch, others in each.
        ranks: processes that train one network together (DDP). Each takes its part of every batch of a single process,
            all equally many items; so up to `ranks - 1` items of an epoch are left out.
    """

    def __init__(
        self, length: int, seed: int, shuffle: bool, num_unlabeled: int = 0, num_sampled: int = 0, ranks: int = 1
    ) -> None:
        assert 0 <= num_sampled <= num_unlabeled
        self.length, self.seed, self.shuffle, self.epoch = length, seed, shuffle, 0
        self.num_unlabeled, self.num_sampled, self.ranks = num_unlabeled, num_sampled, ranks

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._own())

    def _own(self) -> range:
        """Which of an epoch's items this process takes."""
        count = self.length + self.num_sampled
        rank = distributed.get_rank() if self.ranks > 1 and distributed.is_initialized() else 0
        return range(rank, count - count % self.ranks, self.ranks)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = np.arange(self.length)
        if self.num_sampled:
            order = np.append(order, self.length + rng.choice(self.num_unlabeled, self.num_sampled, replace=False))
        if self.shuffle:
            order = rng.permutation(order)
        seeds, own = rng.integers(2**31, size=len(order)), slice(self._own().start, self._own().stop, self.ranks)
        yield from zip(order[own].tolist(), seeds[own].tolist(), strict=True)


class Collate:
    """Turns B items into images float32 (B, C, S, S) in [0, 1] and masks float32 (B, 1, S, S).

    Masks are {0, 1} or all `UNLABELED`. With `soft` they come in 255ths and leave as probabilities; one without a
    value between 0 and 255, as every true label is, leaves as {0, 1}.
    """

    def __init__(self, transform: TileTransform, channels: int, soft: bool = False) -> None:
        self.transform, self.channels, self.soft = transform, channels, soft

    def __call__(self, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
        images, masks = (np.stack(arrays) for arrays in zip(*items, strict=True))
        inputs = to_input(images, self.transform, self.channels)
        if self.soft:
            targets = to_input(masks, self.transform, 1)
            true = ((masks == 0) | (masks == 255)).all(axis=(1, 2))
            targets[torch.from_numpy(true)] = self._hard(masks[true] // 255)
            return inputs, targets
        targets = self._hard(masks)
        targets[masks[:, 0, 0] == UNLABELED] = UNLABELED
        return inputs, targets

    def _hard(self, masks: np.ndarray) -> Tensor:
        """Masks uint8 {0, 1} (N, H, W) as float32 {0, 1} (N, 1, S, S)."""
        return torch.from_numpy(self.transform.forward_masks(masks)).float()[:, None]


def to_input(images: np.ndarray, transform: TileTransform, channels: int) -> Tensor:
    """Map uint8 (N, H, W) to float32 (N, C, S, S) in [0, 1]: divided by 255, never by a tile's own maximum."""
    transformed = torch.from_numpy(transform.forward(images.astype(np.float32) / 255))[:, None]
    return transformed.expand(-1, channels, -1, -1).contiguous()


def loader(
    dataset: TileDataset,
    transform: TileTransform,
    channels: int,
    *,
    batch_size: int,
    seed: int,
    shuffle: bool,
    workers: int,
    num_unlabeled: int = 0,
    num_sampled: int = 0,
    soft: bool = False,
    ranks: int = 1,
) -> DataLoader[Item]:
    """Batches of a dataset.

    Args:
        dataset: labeled items, then `num_unlabeled` others.
        transform: from tiles to the network's input.
        channels: how often the gray image is repeated.
        batch_size: of all ranks together.
        seed: see `EpochSampler`.
        shuffle: also drops a last batch of a single tile, because batch norm needs two.
        workers: processes that load data.
        num_unlabeled: see `EpochSampler`.
        num_sampled: see `EpochSampler`.
        soft: see `Collate`.
        ranks: see `EpochSampler`.
    """
    sampler = EpochSampler(len(dataset) - num_unlabeled, seed, shuffle, num_unlabeled, num_sampled, ranks)
    own = batch_size // ranks
    return DataLoader(
        dataset,
        batch_size=own,
        sampler=sampler,
        collate_fn=Collate(transform, channels, soft),
        drop_last=shuffle and (sampler.length + num_sampled) // ranks % own == 1,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )

"""Arrays in memory → shuffled, augmented batches of tensors, reproducible from (seed, epoch) alone."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset, Sampler

from saltseg.core.geometry import Fit
from saltseg.data.augment import Augment

Item = tuple[np.ndarray, np.ndarray]
UNKNOWN = 2  # fills the mask of an image that the network in training labels itself


class TileDataset(Dataset[Item]):
    """Tiles and masks in memory; an item is asked for by ``(position, seed)``.

    images: uint8 (N, H, W); masks: uint8 {0, 1} (N, H, W). Items are uint8 (H, W) pairs, augmented.
    """

    def __init__(self, images: np.ndarray, masks: np.ndarray, policy: str) -> None:
        assert images.shape == masks.shape
        self.images, self.masks, self.augment = images, masks, Augment(policy)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> Item:
        position, seed = key
        return self.augment(self.images[position], self.masks[position], seed)


class EpochSampler(Sampler[tuple[int, int]]):
    """``(position, augmentation seed)`` pairs; Lightning sets the epoch.

    Every epoch has the first ``length`` items, and ``drawn`` of the ``pool`` that follow them, others in each epoch.
    An interrupted training repeats an epoch exactly, because nothing but ``(seed, epoch)`` decides the order and
    the augmentation: no generator state has to survive.

    ranks: processes that train one network together (DDP). Each takes its part of every batch that one process would
    have, all as many, so up to ``ranks - 1`` items of an epoch are left out.
    """

    def __init__(self, length: int, seed: int, shuffle: bool, pool: int = 0, drawn: int = 0, ranks: int = 1) -> None:
        assert 0 <= drawn <= pool
        self.length, self.seed, self.shuffle, self.epoch = length, seed, shuffle, 0
        self.pool, self.drawn, self.ranks = pool, drawn, ranks

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration is for."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._own())

    def _own(self) -> range:
        """Which of an epoch's items this process takes."""
        count = self.length + self.drawn
        rank = distributed.get_rank() if self.ranks > 1 and distributed.is_initialized() else 0
        return range(rank, count - count % self.ranks, self.ranks)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rng = np.random.default_rng((self.seed, self.epoch))
        order = np.arange(self.length)
        if self.drawn:
            order = np.append(order, self.length + rng.choice(self.pool, self.drawn, replace=False))
        if self.shuffle:
            order = rng.permutation(order)
        seeds, own = rng.integers(2**31, size=len(order)), slice(self._own().start, self._own().stop, self.ranks)
        yield from zip(order[own].tolist(), seeds[own].tolist(), strict=True)


class Collate:
    """Items → (images float32 (B, C, S, S) in [0, 1], masks float32 {0, 1} or all `UNKNOWN` (B, 1, S, S)).

    soft: masks come as probabilities in 255ths and leave as probabilities in [0, 1].
    """

    def __init__(self, fit: Fit, channels: int, soft: bool = False) -> None:
        self.fit, self.channels, self.soft = fit, channels, soft

    def __call__(self, items: Sequence[Item]) -> tuple[Tensor, Tensor]:
        images, masks = (np.stack(arrays) for arrays in zip(*items, strict=True))
        if self.soft:
            return to_input(images, self.fit, self.channels), to_input(masks, self.fit, 1)
        fitted = self.fit.forward_masks(masks)
        fitted[masks[:, 0, 0] == UNKNOWN] = UNKNOWN
        return to_input(images, self.fit, self.channels), torch.from_numpy(fitted).float()[:, None]


def to_input(images: np.ndarray, fit: Fit, channels: int) -> Tensor:
    """uint8 (N, H, W) → float32 (N, C, S, S) in [0, 1]: always divided by 255, whatever the tile's own range."""
    fitted = torch.from_numpy(fit.forward(images.astype(np.float32) / 255))[:, None]
    return fitted.expand(-1, channels, -1, -1).contiguous()


def loader(
    dataset: TileDataset,
    fit: Fit,
    channels: int,
    *,
    batch_size: int,
    seed: int,
    shuffle: bool,
    workers: int,
    pool: int = 0,
    drawn: int = 0,
    soft: bool = False,
    ranks: int = 1,
) -> DataLoader[Item]:
    """Batches of ``dataset``; a last batch of a single tile is dropped from training (batch norm needs two).

    pool, drawn: the last ``pool`` items are shown ``drawn`` at a time; ranks: processes that share the batches, whose
    size is that of all parts together; see `EpochSampler` for both. soft: see `Collate`.
    """
    sampler = EpochSampler(len(dataset) - pool, seed, shuffle, pool, drawn, ranks)
    own = batch_size // ranks
    return DataLoader(
        dataset,
        batch_size=own,
        sampler=sampler,
        collate_fn=Collate(fit, channels, soft),
        drop_last=shuffle and (sampler.length + drawn) // ranks % own == 1,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )

"""Pretraining where ImageNet weights cannot be had: on simulated tiles, or on unlabeled ones.

synthetic: segmentation on an endless stream of simulated tiles with their masks (`saltseg.synthetic.stream`).

masked: masked-image modeling after SimMIM (Xie et al. 2022, arXiv 2111.09886). Most patches of a tile are covered, and
the network's own output has to reconstruct them, so that encoder and decoder are both trained.

Both leave the whole network's weights: for ``train.init_from=file:PATH``, or for ``model.weights=file:PATH``, which
loads the encoder's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from saltseg import config, io, provenance, runs, schemas
from saltseg.config import Config
from saltseg.data import unlabeled
from saltseg.data.competition import SHAPE, Images, Labeled
from saltseg.data.transforms import TileTransform
from saltseg.errors import InputError
from saltseg.models import precision, pretrained_sources
from saltseg.models.salt_network import Outputs
from saltseg.synthetic import stream
from saltseg.training import fold, trainer
from saltseg.training.module import Batch, SaltModule

# As in the paper, where patches of 32 pixels cover six tenths of 192x192: smaller patches can be copied from their
# surroundings, and fewer can be guessed without any knowledge of rock.
GRID = 6  # patches along either side of a tile, 17 pixels each
COVERED = 22  # of the 36
MIN_DEVIATION = 1e-3  # a tile that deviates less, by a quarter of a gray level, is constant and teaches nothing
VALIDATING = 256  # validation tiles, at most; of unlabeled images a twentieth
Batches = tuple[Any, Any, int]  # for training, for validation, and the images of an epoch


@dataclass(frozen=True)
class PretrainedDir(runs.FoldDir):
    """The files of a pretraining; ``weights.safetensors`` is written last and means "finished"."""

    config = runs.File("config.yaml")  # resolved
    provenance = runs.File("provenance.json")  # method, precision, versions, commit, command, images
    weights = runs.File("weights.safetensors")  # the whole network's state_dict

    def finished(self) -> bool:
        """Whether the weights are there."""
        return self.weights.is_file()


def directory(output_dir: Path, name: str) -> PretrainedDir:
    """The directory of the pretraining ``name``; raises InputError when the name could leave ``output_dir``."""
    return PretrainedDir(output_dir / "pretrained" / runs.run_dir(output_dir, name).name)


def synthetic(settings: Config, target: PretrainedDir, tiles: int) -> bool:
    """Train on simulated tiles.

    Args:
        settings: of the network and its training.
        target: where the files are written.
        tiles: of an epoch; rounded down to whole batches.

    Returns:
        False if it was finished before.

    Raises:
        InputError: settings that cannot work, or ``target`` holds another pretraining.
    """
    size = settings.train.batch_size
    count = tiles // size
    if count < 1:
        raise InputError(f"an epoch of {tiles} tiles holds no batch of {size}; raise it or lower train.batch_size")

    def batches(seed: int) -> Batches:
        training = stream.Stream(
            TileTransform.square(settings.data.resize_mode, settings.data.size),
            settings.model.in_channels,
            batches=count,
            batch_size=size,
            seed=seed,
            policy=settings.data.augment,
            workers=trainer.workers(settings),
        )
        valid = stream.validation_tiles(seed, VALIDATING)
        return training, fold.batches(settings, valid, seed, learning=False), count * size

    return _run(settings, target, {"method": "synthetic", "tiles": count * size}, SaltModule, batches)


def masked(settings: Config, target: PretrainedDir, images: Images, **entries: Any) -> bool:
    """Train on unlabeled tiles, a twentieth of which validates.

    Args:
        settings: of the network and its training.
        target: where the files are written.
        images: the tiles.
        entries: of the provenance.

    Returns:
        False if it was finished before.

    Raises:
        InputError: as `synthetic`, and for fewer images than two batches or epochs at half the resolution.
    """
    if settings.train.low_resolution_epochs:
        epoch = settings.train.low_resolution_epochs
        raise InputError(
            f"train.low_resolution_epochs is {epoch}: patches are covered and reconstructed at full size; set it to 0"
        )
    if len(images.ids) < 2 * settings.train.batch_size:
        raise InputError(f"{len(images.ids)} images are fewer than two batches; give more or lower train.batch_size")

    def batches(seed: int) -> Batches:
        order = np.random.default_rng(seed).permutation(len(images.ids))
        count = min(VALIDATING, max(1, len(order) // 20))
        valid, train = (_with_empty_masks(images, np.sort(part)) for part in (order[:count], order[count:]))
        training = fold.batches(settings, train, seed, learning=True)
        return training, fold.batches(settings, valid, seed, learning=False), len(training.sampler)

    entries = {"method": "masked", "images": len(images.ids), "images_hash": unlabeled.fingerprint(images), **entries}
    return _run(settings, target, entries, MaskedModule, batches)


def _with_empty_masks(images: Images, indices: np.ndarray) -> Labeled:
    """Some of the images, with masks that are not used."""
    pixels = images.images[indices]
    return Labeled(tuple(images.ids[i] for i in indices), pixels, np.zeros(pixels.shape, np.uint8))


def _run(
    settings: Config,
    target: PretrainedDir,
    entries: dict[str, Any],
    module_class: type[SaltModule],
    batches: Callable[[int], Batches],
) -> bool:
    """Train to the end, going on from wherever an earlier call stopped; False if that was finished before."""
    start = config.weights_file(settings.train.init_from)
    run = "" if start else settings.train.init_from
    for key, name in (("pseudo.teacher", settings.teacher), ("train.init_from", run)):
        if name:
            raise InputError(f"{key} is {name!r}: a run is used fold by fold, and there are no folds; leave it empty")
    selected = None
    if not target.provenance.is_file():
        network = fold.check(settings, *SHAPE)
        selected = precision.choose(settings, network, settings.train.batch_size)
    with target.locked():
        settings = _recorded(settings, target, entries, selected)
        if target.finished():
            return False
        seed = settings.train.seed * 1000

        def make_module(fresh: bool) -> SaltModule:
            return module_class(settings, seed, SHAPE, pretrained=fresh, start=start)

        training, validating, images = batches(seed)
        trainer.fit(settings, target, target.path.name, make_module, training, validating, images)
        networks = target.networks(settings.train)
        state = pretrained_sources.read(networks[-1])
        io.write_atomic(target.weights, save({name: tensor.contiguous() for name, tensor in state.items()}))
        for path in (*networks, target.last):  # no longer needed
            path.unlink(missing_ok=True)
    return True


def _recorded(
    settings: Config, target: PretrainedDir, entries: dict[str, Any], selected: precision.Precision | None
) -> Config:
    """Write configuration and provenance, or compare with those that are there; the settings with their precision.

    Raises InputError if they are another pretraining's.
    """
    if not target.provenance.is_file():
        io.write_atomic(target.config, config.dump(settings))
        io.write_json(target.provenance, provenance.record(**entries, precision=selected))
    before = schemas.read(target.provenance)
    changed = [f"{key}: {before.get(key)} → {value}" for key, value in entries.items() if before.get(key) != value]
    changed += config.differences(config.load(target.config), settings)
    if changed:
        raise InputError(
            f"{target.path} exists and differs ({'; '.join(changed[:3])}); choose another --name, or remove it"
        )
    return precision.resolved(settings, before)


class MaskedModule(SaltModule):
    """Covers patches and reconstructs them; train_loss and valid_loss are `reconstruction_loss`.

    (seed, step) alone decides what is covered, so that an interrupted epoch is repeated exactly. A network's auxiliary
    outputs (deep supervision, presence head) are not trained.
    """

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The loss of one batch; its masks are not used."""
        return super().training_step(self._cover(batch[0], 0, self.global_step), index)

    def loss(self, found: Outputs, masks: Tensor) -> Tensor:
        """`reconstruction_loss`; masks: the second part of what `_cover` returns."""
        return reconstruction_loss(*map(self._loss_region, (found.logits, masks[:, :1], masks[:, 1:])))

    def validation_step(self, batch: Batch, index: int) -> None:
        """The loss on the validation images, covered in the same way in every epoch."""
        covered, target = self._cover(batch[0], 1, index)
        loss = reconstruction_loss(self(covered), target[:, :1], target[:, 1:])
        self.log_validation(loss, torch.nan, len(covered))  # no accuracy, but the log has a column for it

    def _cover(self, images: Tensor, *key: int) -> Batch:
        """Images (N, C, H, W) → the same with patches in the tile's mean gray, and what to reconstruct and where.

        The latter is (N, 2, H, W): the image, and 1 where it is covered. Patches are cut in the tile and not in the
        frame: where data.resize_mode=pad mirrors the border, the mirror image of a covered pixel is covered as well.
        """
        transform = TileTransform.square(self.settings.data.resize_mode, self.settings.data.size)
        patches = transform.forward_masks(covered_patches(len(images), self.tile, (self.seed, *key)))
        where = torch.from_numpy(patches).to(images)[:, None]
        covered = torch.where(where > 0, images.mean(dim=(2, 3), keepdim=True), images)
        return covered, torch.cat([images[:, :1], where], dim=1)


def covered_patches(count: int, tile: tuple[int, int], key: tuple[int, ...]) -> np.ndarray:
    """Masks uint8 (count, *tile), 1 where covered: `COVERED` random patches of the `GRID`, decided by ``key``."""
    order = np.random.default_rng(key).random((count, GRID * GRID)).argsort(axis=1)
    patches = (order < COVERED).reshape(count, GRID, GRID).astype(np.uint8)
    rows, columns = (np.arange(length) * GRID // length for length in tile)
    return patches[:, rows[:, None], columns[None, :]]


def reconstruction_loss(reconstructed: Tensor, images: Tensor, covered: Tensor) -> Tensor:
    """Mean absolute error on covered pixels, of tiles standardized one by one; constant tiles do not count.

    Args:
        reconstructed: float (N, 1, H, W), in standard deviations from the tile's mean.
        images: float (N, 1, H, W), in [0, 1].
        covered: float {0, 1} (N, 1, H, W).

    Returns:
        A scalar, 0 if nothing counts.
    """
    mean, deviation = images.mean(dim=(2, 3), keepdim=True), images.std(dim=(2, 3), keepdim=True, correction=0)
    counted = covered * (deviation > MIN_DEVIATION)
    target = (images - mean) / deviation.clamp(min=MIN_DEVIATION)
    return ((reconstructed.float() - target).abs() * counted).sum() / counted.sum().clamp(min=1)

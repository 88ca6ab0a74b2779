"""Pretraining for networks that no ImageNet weights can be had for: on the simulator's tiles, or on unlabelled ones.

synthetic: segmentation as ever, on an endless stream of simulated tiles with their masks (`saltseg.data.stream`).

masked: masked-image modelling in the manner of SimMIM (Xie et al. 2022, arXiv 2111.09886): most patches of a tile are
covered, and the network's own output draws what lies beneath, so that encoder and decoder both learn.

Both leave the whole network's weights: for ``train.start_from=file:PATH``, or for ``model.weights=file:PATH``, which
takes the encoder's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from saltseg import config, runs, storage
from saltseg.config import Config
from saltseg.core.geometry import Fit
from saltseg.data import stream, unlabelled
from saltseg.data.competition import SHAPE, Images, Labelled
from saltseg.errors import InputError
from saltseg.models import weight_sources
from saltseg.models.network import Outputs
from saltseg.training import fold, loop
from saltseg.training.task import Batch, SaltTask

# The paper's own mask, patches of 32 in 192 pixels with six tenths of them covered: what small patches hide can be
# copied from beside them, and what few patches hide can be guessed without knowing what rock looks like.
GRID = 6  # patches along either side of a tile, 17 pixels each
COVERED = 22  # of the 36
LEAST_DEVIATION = 1e-3  # a tile that deviates less, by a quarter of a grey level, is constant: nothing to learn from
VALIDATING = 256  # tiles that the pretraining is judged by, at most; of unlabelled images a twentieth
Batches = tuple[Any, Any, int]  # to learn from, to judge by, and the images of an epoch


@dataclass(frozen=True)
class PretrainedDir(runs.FoldDir):
    """The files of a pretraining; ``weights.safetensors`` is written last and means "finished"."""

    config = runs.File("config.yaml")  # resolved
    provenance = runs.File("provenance.json")  # method, versions, commit, command, what it learnt from
    weights = runs.File("weights.safetensors")  # the whole network's state_dict

    def finished(self) -> bool:
        """Whether the weights are there."""
        return self.weights.is_file()


def directory(output_dir: Path, name: str) -> PretrainedDir:
    """The directory of the pretraining ``name``; raises InputError when the name could leave ``output_dir``."""
    return PretrainedDir(output_dir / "pretrained" / runs.run_dir(output_dir, name).name)


def synthetic(settings: Config, place: PretrainedDir, tiles: int) -> bool:
    """Train on ``tiles`` simulated tiles an epoch, in whole batches; False where that was finished before.

    Raises InputError for settings that cannot work, and where ``place`` holds another pretraining.
    """
    size = settings.train.batch_size
    count = tiles // size
    if count < 1:
        raise InputError(f"an epoch of {tiles} tiles holds no batch of {size}; raise it or lower train.batch_size")

    def batches(seed: int) -> Batches:
        """One epoch of the stream after another."""
        training = stream.Stream(
            Fit.square(settings.data.fit, settings.data.size),
            settings.model.in_channels,
            batches=count,
            batch_size=size,
            seed=seed,
            policy=settings.data.augment,
            workers=loop.workers(settings),
        )
        judged = stream.held_out(seed, VALIDATING)
        return training, fold.batches(settings, judged, seed, learning=False), count * size

    return _run(settings, place, {"method": "synthetic", "tiles": count * size}, SaltTask, batches)


def masked(settings: Config, place: PretrainedDir, images: Images, **facts: Any) -> bool:
    """Train on unlabelled tiles; False where that was finished before. ``facts`` go into the provenance.

    A twentieth of the images judges. Raises InputError as `synthetic` does, for fewer images than two batches, and for
    epochs at half the size.
    """
    if settings.train.half_size_until:
        epoch = settings.train.half_size_until
        raise InputError(f"train.half_size_until is {epoch}: patches are covered and drawn at full size; set it to 0")
    if len(images.ids) < 2 * settings.train.batch_size:
        raise InputError(f"{len(images.ids)} images are fewer than two batches; give more or lower train.batch_size")

    def batches(seed: int) -> Batches:
        """The tiles to learn from and those that judge."""
        order = np.random.default_rng(seed).permutation(len(images.ids))
        judging = min(VALIDATING, max(1, len(order) // 20))
        judged, learnt = (_unlabelled(images, np.sort(part)) for part in (order[:judging], order[judging:]))
        training = fold.batches(settings, learnt, seed, learning=True)
        return training, fold.batches(settings, judged, seed, learning=False), len(training.sampler)

    facts = {"method": "masked", "images": len(images.ids), "images_hash": unlabelled.fingerprint(images), **facts}
    return _run(settings, place, facts, MaskedTask, batches)


def _unlabelled(images: Images, positions: np.ndarray) -> Labelled:
    """Some of the images, with empty masks that nobody looks at."""
    pixels = images.images[positions]
    return Labelled(tuple(images.ids[i] for i in positions), pixels, np.zeros(pixels.shape, np.uint8))


def _run(
    settings: Config,
    place: PretrainedDir,
    facts: dict[str, Any],
    kind: type[SaltTask],
    batches: Callable[[int], Batches],
) -> bool:
    """Train to the end, going on from wherever an earlier call stopped; False where that was finished before."""
    run = settings.train.start_from
    start = config.file_behind(run)
    for key, name in (("pseudo.teacher", settings.pseudo.teacher), ("train.start_from", "" if start else run)):
        if name:
            raise InputError(f"{key} is {name!r}: a run teaches fold by fold, and here are none; leave it empty")
    if not place.provenance.is_file():
        fold.check(settings, *SHAPE)
    with place.locked():
        _same(settings, place, facts)
        if place.finished():
            return False
        seed = settings.train.seed * 1000

        def make_task(fresh: bool) -> SaltTask:
            return kind(settings, seed, SHAPE, pretrained=fresh, start=start)

        training, validating, images = batches(seed)
        loop.fit(settings, place, place.path.name, make_task, training, validating, images)
        kept = place.networks(settings.train)
        with storage.atomic_path(place.weights) as beside:
            save_file({name: tensor.contiguous() for name, tensor in weight_sources.read(kept[-1]).items()}, beside)
        for path in (*kept, place.last):  # the weights are in one file now, and there is nothing to go on with
            path.unlink(missing_ok=True)
    return True


def _same(settings: Config, place: PretrainedDir, facts: dict[str, Any]) -> None:
    """Write configuration and provenance, or raise InputError where those that are there are another pretraining's."""
    if not place.provenance.is_file():
        storage.write_atomic(place.config, config.dump(settings))
        storage.write_json(place.provenance, runs.provenance(**facts))
        return
    before = storage.read_json(place.provenance)
    changed = [f"{key}: {before.get(key)} → {value}" for key, value in facts.items() if before.get(key) != value]
    changed += config.differences(config.load(place.config), settings)
    if changed:
        raise InputError(
            f"{place.path} exists and differs ({'; '.join(changed[:3])}); choose another --name, or remove it"
        )


class MaskedTask(SaltTask):
    """Covers patches and draws them; train_loss and valid_loss are `reconstruction_loss`.

    (seed, step) alone decides what is covered, so that an interrupted epoch is repeated exactly. Of a network's further
    outputs (deep supervision, empty-image head) none learns.
    """

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """The loss of one batch; its masks are not looked at."""
        return super().training_step(self._cover(batch[0], 0, self.global_step), index)

    def loss(self, found: Outputs, masks: Tensor) -> Tensor:
        """masks: what `_cover` gives as such."""
        return reconstruction_loss(self._judged(found.logits), self._judged(masks[:, :1]), self._judged(masks[:, 1:]))

    def validation_step(self, batch: Batch, index: int) -> None:
        """The loss on images to judge by, covered in the same way in every epoch."""
        covered, wanted = self._cover(batch[0], 1, index)
        loss = reconstruction_loss(self(covered), wanted[:, :1], wanted[:, 1:])
        self.log("valid_loss", loss, batch_size=len(covered))
        self.log("valid_pixel_accuracy", torch.nan, batch_size=len(covered))  # a column of the log; there is none

    def _cover(self, images: Tensor, *key: int) -> Batch:
        """Images (N, C, H, W) → the same with patches in the tile's mean grey, and what is to be drawn and where.

        The latter is (N, 2, H, W): the image, and 1 where it is covered. Patches are cut in the tile and not in the
        frame: where data.fit=pad mirrors the border, a covered pixel's mirror image is covered as well.
        """
        fit = Fit.square(self.settings.data.fit, self.settings.data.size)
        patches = fit.forward_masks(covered_patches(len(images), self.tile, (self.seed, *key)))
        where = torch.from_numpy(patches).to(images)[:, None]
        covered = torch.where(where > 0, images.mean(dim=(2, 3), keepdim=True), images)
        return covered, torch.cat([images[:, :1], where], dim=1)


def covered_patches(count: int, tile: tuple[int, int], key: tuple[int, ...]) -> np.ndarray:
    """Masks uint8 (count, *tile), 1 where covered: `COVERED` patches of the `GRID` at random, decided by ``key``."""
    order = np.random.default_rng(key).random((count, GRID * GRID)).argsort(axis=1)
    patches = (order < COVERED).reshape(count, GRID, GRID).astype(np.uint8)
    rows, columns = (np.arange(length) * GRID // length for length in tile)
    return patches[:, rows[:, None], columns[None, :]]


def reconstruction_loss(drawn: Tensor, images: Tensor, covered: Tensor) -> Tensor:
    """Mean absolute error on covered pixels, of tiles standardised each by itself; constant tiles count for nothing.

    drawn: float (N, 1, H, W), in standard deviations from the tile's mean. images: float (N, 1, H, W), in [0, 1].
    covered: float {0, 1} (N, 1, H, W). Returns a scalar, 0 where nothing counts.
    """
    mean, deviation = images.mean(dim=(2, 3), keepdim=True), images.std(dim=(2, 3), keepdim=True, correction=0)
    counted = covered * (deviation > LEAST_DEVIATION)
    wanted = (images - mean) / deviation.clamp(min=LEAST_DEVIATION)
    return ((drawn.float() - wanted).abs() * counted).sum() / counted.sum().clamp(min=1)

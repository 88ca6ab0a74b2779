"""One fold's training as a Lightning module: loss, optimizer, learning rate, metrics per epoch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, distributed
from torch.nn import functional
from torch.optim.lr_scheduler import ReduceLROnPlateau

from saltseg.config import Config, MeanTeacher, PlateauSchedule, differences
from saltseg.data.dataset import UNLABELED
from saltseg.data.transforms import TileTransform
from saltseg.errors import InputError
from saltseg.models import checkpoints, losses, zoo
from saltseg.models.salt_network import Outputs, SaltNetwork, outputs, without_row_numbers
from saltseg.models.unet import crop_to
from saltseg.runs import FoldDir, RunDir
from saltseg.training import optimizers
from saltseg.training.callbacks import Averaging

Batch = tuple[Tensor, Tensor]


def half_resolution(images: Tensor, masks: Tensor, soft: bool = False) -> Batch:
    """Halve height and width of a batch: each pixel becomes the mean of four.

    Progressive resizing (Howard 2018; Tan and Le 2021, arXiv 2104.00298): an epoch at half the size has a quarter of
    the operations.

    Args:
        images: float (N, C, H, W), H and W even.
        masks: float {0, 1} (N, 1, H, W), or probabilities if ``soft``.
        soft: leave the mean in masks that hold a probability besides 0 and 1; else a pixel is salt from one half on.
    """
    means = functional.avg_pool2d(masks, 2)
    halved = (means >= 0.5).to(masks)
    if soft:
        probable = ((masks != 0) & (masks != 1)).any(dim=(1, 2, 3), keepdim=True)  # a true label has none
        halved = torch.where(probable, means, halved)
    return functional.avg_pool2d(images, 2), halved


class SaltModule(LightningModule):
    """Trains the network of ``settings``; logs train_loss, valid_loss, valid_frame_accuracy and learning_rate.

    valid_loss is the log-loss (binary cross-entropy) whatever the training loss is, so that runs compare. It and
    valid_frame_accuracy are of the whole frame, at the network's resolution and without test-time augmentation; see
    `saltseg.postprocessing.areas.log_loss` for the log-loss of stored predictions.

    The plateau schedule steps here and not as Lightning's scheduler, because Lightning steps a plateau scheduler after
    it has saved the checkpoint: a resumed run would miss a drop.

    Args:
        settings: of the run.
        seed: of weights and dropout.
        tile: height and width of the images before ``data.resize_mode``, pixels.
        pretrained: False if a checkpoint is loaded next.
        start: whose weights to load instead of the encoder's pretrained ones: a file's, or another run's fold's.
    """

    def __init__(
        self,
        settings: Config,
        seed: int,
        tile: tuple[int, int],
        pretrained: bool = True,
        start: FoldDir | Path | None = None,
    ) -> None:
        super().__init__()
        self.settings, self.seed, self.tile = settings, seed, tile
        self.soft = settings.soft_labels  # masks may be probabilities
        torch.manual_seed(seed)
        self.network = zoo.build(settings.model, pretrained and start is None).to(memory_format=torch.channels_last)
        self.weights_source: str = getattr(self.network, "weights_source", "random")
        if pretrained and start is not None:
            self._load_start(start)
        self._number_rows()
        self._losses = [losses.from_text(text) for text in (settings.train.loss, settings.train.second_loss)]
        self._plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None

    def _load_start(self, start: FoldDir | Path) -> None:
        """Load all weights of a file, or of another run's fold (its last snapshot); InputError if they do not fit."""
        if isinstance(start, Path):
            self.weights_source = checkpoints.load_weights(self.network, start)
            return
        run = RunDir(start.path.parent)
        other = run.read_config()
        changed = differences(replace(other, model=self.settings.model), other)
        if changed:
            raise InputError(f"train.init_from is {run.name}, whose network differs ({'; '.join(changed[:3])})")
        network = checkpoints.load_network(self.settings, start.networks(other.train)[-1])
        self.network.load_state_dict(without_row_numbers(network.state_dict()))
        self.weights_source = f"all weights from {run.name}, fold {start.number}"

    def _number_rows(self) -> None:
        """Number the rows of padded tiles: the mirror image of a row around a tile has that row's number."""
        data, (height, width) = self.settings.data, self.tile
        if data.resize_mode == "pad" and isinstance(self.network, SaltNetwork):
            rows = np.repeat(np.linspace(-1, 1, height, dtype=np.float32), width).reshape(1, height, width)
            padded = TileTransform.square(data.resize_mode, data.size).forward(rows)
            self.network.number_rows(torch.from_numpy(padded[0, :, 0].copy()))

    def configure_optimizers(self) -> Any:
        """The optimizer, and the schedule of its learning rate."""
        train = self.settings.train
        optimizer = optimizers.optimizer(self.network, train)
        if isinstance(train.schedule, PlateauSchedule):
            self._plateau = ReduceLROnPlateau(
                optimizer,
                factor=train.schedule.factor,
                patience=train.schedule.patience - 1,  # torch drops one epoch later than Keras, whose count is meant
                threshold=0.0,  # any improvement counts, as for saving and stopping
                min_lr=train.schedule.minimum_learning_rate,
            )
            if self._plateau_state is not None:
                self._plateau.load_state_dict(self._plateau_state)
        steps = int(self.trainer.estimated_stepping_batches) // train.epochs
        scheduler = optimizers.scheduler(optimizer, train, steps)
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """Give timm's schedulers the number of the step; torch's count for themselves."""
        if isinstance(scheduler, Scheduler):
            scheduler.step_update(self.global_step)
        else:
            scheduler.step()

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        """Seed dropout by (seed, step, rank) alone, so that an interrupted epoch is repeated exactly.

        Not once per epoch: how often a data loader draws from the global generator depends on resuming.
        """
        torch.manual_seed(self.seed * 1_000_003 + self.global_step + 1_000_000_007 * self.global_rank)

    def forward(self, images: Tensor) -> Tensor:
        """Float (N, C, H, W) → logits (N, 1, H, W)."""
        return self.network(images.to(memory_format=torch.channels_last))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The loss of one batch."""
        images, masks = self._fill_in_pseudo_labels(*batch)
        if self.current_epoch < self.settings.train.low_resolution_epochs:
            images, masks = half_resolution(images, masks, self.soft)
        loss = self.loss(outputs(self.network, images.to(memory_format=torch.channels_last)), masks)
        optimizer: Any = self.optimizers()
        metrics = {"train_loss": loss, "learning_rate": optimizer.param_groups[0]["lr"]}
        self.log_dict(metrics, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss

    def _fill_in_pseudo_labels(self, images: Tensor, masks: Tensor) -> Batch:
        """Fill in pseudo-labels; before the ramp-up epoch, drop unlabeled images instead.

        At least two images are left (batch norm): a batch with fewer labeled ones is labeled in any epoch.
        """
        labeled = masks[:, 0, 0, 0] != UNLABELED
        pseudo = self.settings.pseudo
        ramp_up = pseudo.ramp_up_fraction if isinstance(pseudo, MeanTeacher) else 0.0
        early = self.current_epoch < ramp_up * self.settings.train.epochs
        if early and labeled.sum() > 1:
            return images[labeled], masks[labeled]
        return images, self._label(images, masks)

    def _label(self, images: Tensor, masks: Tensor) -> Tensor:
        """Masks with those `UNLABELED` predicted by the mean teacher, the average of the weights.

        Tarvainen and Valpola 2017 (arXiv 1703.01780). The teacher sees the same augmented tile and its mirror image,
        without dropout.
        """
        unlabeled = masks[:, 0, 0, 0] == UNLABELED
        if not unlabeled.any():
            return masks
        trainer: Any = self.trainer
        teacher = next(one for one in trainer.callbacks if isinstance(one, Averaging)).network
        tiles = images[unlabeled].to(memory_format=torch.channels_last)
        with torch.no_grad():
            views = (teacher(tiles), teacher(tiles.flip(3)).flip(3))
        salt = torch.stack([torch.sigmoid(view.float()) for view in views]).mean(dim=0)
        masks = masks.clone()
        masks[unlabeled] = salt if self.soft else (salt >= 0.5).to(masks)
        return masks

    def loss(self, found: Outputs, masks: Tensor) -> Tensor:
        """The configured loss of this epoch, plus those of deep supervision and the presence head.

        Args:
            found: the network's outputs.
            masks: float {0, 1} (N, 1, H, W), or probabilities if ``soft``.
        """
        train = self.settings.train
        second = train.second_loss_start_epoch and self.current_epoch + 1 >= train.second_loss_start_epoch
        criterion, target = self._losses[1 if second else 0], self._loss_region(masks)
        total = criterion(self._loss_region(found.logits), target)
        for side in found.side:
            weight = train.aux_loss_weight / len(found.side)
            total = total + weight * losses.binary_cross_entropy(self._loss_region(side), target)
        if found.presence is not None:
            presence = functional.binary_cross_entropy_with_logits(found.presence, target.amax(dim=(1, 2, 3)))
            total = total + train.presence_loss_weight * presence
        return total

    def _loss_region(self, frame: Tensor) -> Tensor:
        """The part of (N, 1, H, W) that counts in the loss."""
        return crop_to(frame, *self.tile) if self.settings.train.loss_region == "tile" else frame

    def on_validation_epoch_start(self) -> None:
        """Give all ranks the batch statistics of the first one, whose weights are saved."""
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Log-loss and pixel accuracy at the network's resolution."""
        images, masks = batch
        logits = self(images).float()
        correct = ((logits > 0) == (masks > 0.5)).float().mean()
        accuracy = torch.nan if self.settings.pseudo_labels_from_all_folds else correct  # contaminated, as the loss is
        self.log_validation(losses.binary_cross_entropy(logits, masks), accuracy, len(images))

    def log_validation(self, loss: Tensor, accuracy: Tensor | float, count: int) -> None:
        """Log a batch of ``count`` images; the epoch's value is the mean over images and ranks.

        Ranks log the same value, so that all of them stop, save and lower the learning rate together.
        """
        self.log_dict({"valid_loss": loss, "valid_frame_accuracy": accuracy}, batch_size=count, sync_dist=True)

    def on_validation_epoch_end(self) -> None:
        """Lower the learning rate if the validation loss has not improved for long enough."""
        if self._plateau is not None:
            self._plateau.step(self.trainer.callback_metrics["valid_loss"].item())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the state of the plateau schedule, and where the weights are from."""
        checkpoint["weights_source"] = self.weights_source
        if self._plateau is not None:
            checkpoint["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` added; called before the optimizers exist or after."""
        self.weights_source = checkpoint.get("weights_source", "random")
        self._plateau_state = checkpoint.get("plateau")
        if self._plateau is not None and self._plateau_state is not None:
            self._plateau.load_state_dict(self._plateau_state)

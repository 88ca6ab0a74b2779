"""One fold's training as a Lightning module: losses, optimiser, learning rate, figures per epoch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from timm.scheduler.scheduler import Scheduler
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.optim.lr_scheduler import ReduceLROnPlateau

from saltseg import config
from saltseg.config import Config
from saltseg.data.dataset import UNKNOWN
from saltseg.errors import InputError
from saltseg.inference import predict
from saltseg.models import losses, weight_sources, zoo
from saltseg.models.network import Outputs, outputs
from saltseg.models.unet import crop_to
from saltseg.runs import FoldDir, RunDir
from saltseg.training import optimisation

Batch = tuple[Tensor, Tensor]


def take_over(network: nn.Module, path: Path) -> str:
    """Copy a file's tensors into a whole network of the same architecture; returns a line about where they are from.

    Raises InputError, and copies nothing, when the file cannot be read as tensors or one of them does not fit.
    """
    found, own = weight_sources.read(path), network.state_dict()
    for name in (*own, *found):
        if name not in found:
            problem = f"no {name}, which the network has"
        elif name not in own:
            problem = f"{name}, which the network does not have"
        elif found[name].shape != own[name].shape:
            problem = f"{name} of shape {tuple(found[name].shape)}; the network's is {tuple(own[name].shape)}"
        else:
            continue
        raise InputError(
            f"train.start_from=file:{path} holds {problem}; give the weights of a whole network with the same model.* "
            "settings (model.weights=file:PATH takes an encoder alone)"
        )
    network.load_state_dict(found)
    return f"all weights from {weight_sources.title(path)}"


def halved(images: Tensor, masks: Tensor, soft: bool = False) -> Batch:
    """Images float (N, C, H, W) and masks float {0, 1} (N, 1, H, W), H and W even → the same at H/2 x W/2.

    Each pixel is the mean of four; in masks it is salt from one half on, or, where labels are ``soft``, the mean.
    Progressive resizing (Howard 2018; Tan and Le 2021, arXiv 2104.00298): an epoch at half the size has a quarter of
    the operations.
    """
    images, masks = functional.avg_pool2d(images, 2), functional.avg_pool2d(masks, 2)
    return images, masks if soft else (masks >= 0.5).to(masks)


class SaltTask(LightningModule):
    """Trains the network of ``settings``; logs train_loss, valid_loss, valid_pixel_accuracy and learning_rate.

    valid_loss is the log-loss (binary cross-entropy) whatever the network is trained with, so that runs compare.

    The plateau rule drops the learning rate here and not through Lightning's scheduler, because Lightning steps a
    plateau scheduler after it has saved the checkpoint: a resumed run would miss a drop.

    tile: height and width of the images before ``data.fit`` (pixels). pretrained: False where a checkpoint follows.
    start: whose weights to take over in place of the encoder's pretrained ones: a file's, or another run's fold's.
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
        self.soft = bool(settings.pseudo.teacher) and settings.pseudo.labels == "soft"  # masks may be probabilities
        torch.manual_seed(seed)
        self.network = zoo.build(settings.model, pretrained and start is None).to(memory_format=torch.channels_last)
        self.origin: str = getattr(self.network, "origin", "random")  # of the pretrained weights, in a line
        if pretrained and start is not None:
            self._start_from(start)
        self._losses = [losses.from_text(text) for text in (settings.train.loss, settings.train.late_loss)]
        self._plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None

    def _start_from(self, start: FoldDir | Path) -> None:
        """Take over all weights of a file, or of another run's fold (its last snapshot); InputError if misfitting."""
        if isinstance(start, Path):
            self.origin = take_over(self.network, start)
            return
        run = RunDir(start.path.parent)
        other = run.read_config()
        changed = config.differences(replace(other, model=self.settings.model), other)
        if changed:
            raise InputError(f"train.start_from is {run.name}, whose network differs ({'; '.join(changed[:3])})")
        taken = predict.load_network(self.settings, start.networks(other.train)[-1])
        self.network.load_state_dict(taken.state_dict())
        self.origin = f"all weights from {run.name}, fold {start.number}"

    def configure_optimizers(self) -> Any:
        """The optimiser, and what moves its learning rate."""
        train = self.settings.train
        optimizer = optimisation.optimizer(self.network, train)
        if train.schedule == "plateau":
            self._plateau = ReduceLROnPlateau(
                optimizer,
                factor=train.plateau_factor,
                patience=train.plateau_patience - 1,  # torch drops one epoch later than Keras, whose count is meant
                threshold=0.0,  # any improvement counts, as for saving and stopping
                min_lr=train.minimum_learning_rate,
            )
            if self._plateau_state is not None:
                self._plateau.load_state_dict(self._plateau_state)
        steps = int(self.trainer.estimated_stepping_batches) // train.epochs
        scheduler = optimisation.scheduler(optimizer, train, steps)
        if scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """timm's schedulers are told the step; torch's count for themselves."""
        if isinstance(scheduler, Scheduler):
            scheduler.step_update(self.global_step)
        else:
            scheduler.step()

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        """Let (seed, step) alone decide dropout, so that an interrupted epoch is repeated exactly.

        Per step and not per epoch: how often a data loader draws from the global generator depends on resuming.
        Processes that share a batch draw apart.
        """
        torch.manual_seed(self.seed * 1_000_003 + self.global_step + 1_000_000_007 * self.global_rank)

    def forward(self, images: Tensor) -> Tensor:
        """Float (N, C, H, W) → logits (N, 1, H, W)."""
        return self.network(images.to(memory_format=torch.channels_last))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The loss of one batch."""
        images, masks = self._shown(*batch)
        if self.current_epoch < self.settings.train.half_size_until:
            images, masks = halved(images, masks, self.soft)
        loss = self.loss(outputs(self.network, images.to(memory_format=torch.channels_last)), masks)
        optimizer: Any = self.optimizers()
        figures = {"train_loss": loss, "learning_rate": optimizer.param_groups[0]["lr"]}
        self.log_dict(figures, on_step=False, on_epoch=True, batch_size=len(images), sync_dist=True)
        return loss

    def _shown(self, images: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Images and masks to learn from: those without labels are labelled, or left out while it is too early.

        A batch with fewer than two others (batch norm) is labelled at any time.
        """
        known = masks[:, 0, 0, 0] != UNKNOWN
        early = self.current_epoch < self.settings.pseudo.label_after * self.settings.train.epochs
        if early and known.sum() > 1:
            return images[known], masks[known]
        return images, self._labelled(images, masks)

    def _labelled(self, images: Tensor, masks: Tensor) -> Tensor:
        """Masks with those `UNKNOWN` filled in by the average of the weights, the mean teacher.

        (Tarvainen and Valpola 2017, arXiv 1703.01780.) It sees the same augmented tile and its mirror image, without
        dropout.
        """
        unknown = masks[:, 0, 0, 0] == UNKNOWN
        if not unknown.any():
            return masks
        trainer: Any = self.trainer
        teacher = next(one for one in trainer.callbacks if isinstance(one, optimisation.Averaging)).network
        shown = images[unknown].to(memory_format=torch.channels_last)
        with torch.no_grad():
            views = (teacher(shown), teacher(shown.flip(3)).flip(3))
        salt = torch.stack([torch.sigmoid(view.float()) for view in views]).mean(dim=0)
        masks = masks.clone()
        masks[unknown] = salt if self.soft else (salt >= 0.5).to(masks)
        return masks

    def loss(self, found: Outputs, masks: Tensor) -> Tensor:
        """The configured loss of this epoch, with the side outputs' and the empty-image head's shares.

        masks: float {0, 1} (N, 1, H, W).
        """
        train = self.settings.train
        late = train.late_from and self.current_epoch + 1 >= train.late_from
        criterion = self._losses[1 if late else 0]
        total = criterion(self._judged(found.logits), self._judged(masks))
        for side in found.side:
            share = train.side_weight / len(found.side)
            total = total + share * losses.binary_cross_entropy(self._judged(side), self._judged(masks))
        if found.presence is not None:
            present = self._judged(masks).amax(dim=(1, 2, 3))
            total = total + train.empty_weight * functional.binary_cross_entropy_with_logits(found.presence, present)
        return total

    def _judged(self, frame: Tensor) -> Tensor:
        """The part of (N, 1, H, W) that the loss sees."""
        return crop_to(frame, *self.tile) if self.settings.train.loss_region == "tile" else frame

    def on_validation_epoch_start(self) -> None:
        """Have processes that train together judge one network: the first one's, whose weights are kept."""
        if self.trainer.world_size > 1:
            for buffer in self.network.buffers():
                distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, _: int) -> None:
        """Log-loss and pixel accuracy in the network's frame."""
        images, masks = batch
        logits = self(images).float()
        correct = ((logits > 0) == (masks > 0.5)).float().mean()
        accuracy = torch.nan if self.settings.pseudo.all_folds else correct  # contaminated, as the loss is
        figures = {"valid_loss": losses.binary_cross_entropy(logits, masks), "valid_pixel_accuracy": accuracy}
        self.log_dict(figures, batch_size=len(images))

    def on_validation_epoch_end(self) -> None:
        """Drop the learning rate when the validation loss has stood still."""
        if self._plateau is not None:
            self._plateau.step(self.trainer.callback_metrics["valid_loss"].item())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the plateau rule's memory, and where the weights came from."""
        checkpoint["origin"] = self.origin
        if self._plateau is not None:
            checkpoint["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore what `on_save_checkpoint` kept; called before the optimisers exist or after."""
        self.origin = checkpoint.get("origin", "random")
        self._plateau_state = checkpoint.get("plateau")
        if self._plateau is not None and self._plateau_state is not None:
            self._plateau.load_state_dict(self._plateau_state)

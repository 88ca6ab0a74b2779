"""One fold's training as a Lightning module: loss, optimiser, the falling learning rate, figures per epoch."""

from typing import Any

import torch
from lightning import LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import ReduceLROnPlateau

from saltseg.config import Config
from saltseg.models import zoo
from saltseg.models.losses import binary_cross_entropy

Batch = tuple[Tensor, Tensor]


class SaltTask(LightningModule):
    """Trains the network of ``settings``; logs train_loss, valid_loss, valid_pixel_accuracy and learning_rate.

    The learning rate drops here and not through Lightning's scheduler, because Lightning steps a plateau scheduler
    after it has saved the checkpoint: a resumed run would miss a drop.
    """

    def __init__(self, settings: Config, seed: int) -> None:
        super().__init__()
        self.settings, self.seed = settings, seed
        torch.manual_seed(seed)
        self.network = zoo.build(settings.model).to(memory_format=torch.channels_last)
        self._plateau: ReduceLROnPlateau | None = None
        self._plateau_state: dict[str, Any] | None = None

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam, and the plateau rule on top of it."""
        train = self.settings.train
        optimizer = torch.optim.Adam(self.network.parameters(), lr=train.learning_rate)
        self._plateau = ReduceLROnPlateau(
            optimizer,
            factor=train.plateau_factor,
            patience=train.plateau_patience - 1,  # torch drops one epoch later than Keras, whose count is meant
            threshold=0.0,  # any improvement counts, as for saving and stopping
            min_lr=train.minimum_learning_rate,
        )
        if self._plateau_state is not None:
            self._plateau.load_state_dict(self._plateau_state)
        return optimizer

    def on_train_batch_start(self, batch: Batch, index: int) -> None:
        """Let (seed, step) alone decide dropout, so that an interrupted epoch is repeated exactly.

        Per step and not per epoch: how often a data loader draws from the global generator depends on resuming.
        """
        torch.manual_seed(self.seed * 1_000_003 + self.global_step)

    def forward(self, images: Tensor) -> Tensor:
        """Float (N, C, H, W) → logits (N, 1, H, W)."""
        return self.network(images.to(memory_format=torch.channels_last))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """The loss of one batch."""
        images, masks = batch
        loss = binary_cross_entropy(self(images), masks)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(images))
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        """Log-loss and pixel accuracy in the network's frame."""
        images, masks = batch
        logits = self(images).float()
        correct = ((logits > 0) == (masks > 0.5)).float().mean()
        self.log("valid_loss", binary_cross_entropy(logits, masks), batch_size=len(images))
        self.log("valid_pixel_accuracy", correct, batch_size=len(images))

    def on_validation_epoch_end(self) -> None:
        """Drop the learning rate when the validation loss has stood still."""
        assert self._plateau is not None
        self.log("learning_rate", self._plateau.get_last_lr()[0])
        self._plateau.step(self.trainer.callback_metrics["valid_loss"].item())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the plateau rule's memory."""
        if self._plateau is not None:
            checkpoint["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the plateau rule's memory; called before the optimisers exist or after."""
        self._plateau_state = checkpoint.get("plateau")
        if self._plateau is not None and self._plateau_state is not None:
            self._plateau.load_state_dict(self._plateau_state)

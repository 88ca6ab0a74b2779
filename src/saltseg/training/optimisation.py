"""Optimisers, the course of the learning rate, and averages of weights: torch's, timm's, Lightning's.

The plateau rule lives in `saltseg.training.task`, because Lightning steps it after the checkpoint is saved.
"""

from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import get_ema_multi_avg_fn

from saltseg.config import TrainConfig

WARMUP_START = 0.01  # of the learning rate


def optimizer(network: nn.Module, train: TrainConfig) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD over the network's parameters; biases and normalisation layers are not decayed."""
    parameters: Any = network.parameters()
    if train.weight_decay:
        parameters = param_groups_weight_decay(network, train.weight_decay)
    if train.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=train.learning_rate, momentum=0.9, nesterov=True)
    kind = torch.optim.AdamW if train.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=train.learning_rate, weight_decay=0.0)  # the groups carry their own decay


def scheduler(chosen: torch.optim.Optimizer, train: TrainConfig, steps_per_epoch: int) -> Any:
    """What moves the learning rate after every step, or None for the schedules that do not.

    cosine: a linear rise over ``warmup`` epochs, then ``cycles`` equal falls from the top to the minimum (Loshchilov
    and Hutter 2017), each starting anew. one_cycle: up for 30 % of the steps, then down (Smith and Topin 2018).
    """
    if train.schedule == "cosine":
        warmup = train.warmup * steps_per_epoch
        return CosineLRScheduler(
            chosen,
            t_initial=(train.epochs * steps_per_epoch - warmup) // train.cycles,
            lr_min=min(train.minimum_learning_rate, train.learning_rate),
            cycle_limit=train.cycles,
            warmup_t=warmup,
            warmup_lr_init=WARMUP_START * train.learning_rate,
            warmup_prefix=True,
            t_in_epochs=False,
        )
    if train.schedule == "one_cycle":
        return OneCycleLR(chosen, train.learning_rate, total_steps=train.epochs * steps_per_epoch)
    return None


class Averaging(WeightAveraging):
    """An average of the weights that validates, predicts and is saved, while training goes on with its own.

    ``train.ema``: exponential, after every step. ``train.swa_from``: with equal weights, once per epoch from that one
    on (Izmailov et al. 2018); batch norm statistics are averaged too and measured anew once training is over.
    """

    def __init__(self, train: TrainConfig) -> None:
        super().__init__(**({"multi_avg_fn": get_ema_multi_avg_fn(train.ema)} if train.ema else {}))
        self.ema, self.swa_from = train.ema, train.swa_from
        self._swapped = False

    @property
    def network(self) -> nn.Module:
        """The network with averaged weights, to predict with while training goes on."""
        average: Any = self._average_model
        return average.module.network.eval()

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After every step for the exponential average; the other one is updated before it validates."""
        return bool(self.ema) and step_idx is not None

    def on_fit_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Follow the network to its device: Lightning makes the average before it moves the network there."""
        assert self._average_model is not None
        self._average_model.to(module.device)

    def on_validation_epoch_start(self, trainer: Trainer, module: LightningModule) -> None:
        """Put the average in place, where there is one yet."""
        assert self._average_model is not None
        if self.swa_from and trainer.current_epoch + 1 >= self.swa_from:
            self._average_model.update_parameters(module)
        self._swapped = int(self._average_model.n_averaged) > 0
        if self._swapped:
            super().on_validation_epoch_start(trainer, module)

    def on_validation_epoch_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Put the weights in training back."""
        if self._swapped:
            super().on_validation_epoch_end(trainer, module)

    def on_train_end(self, trainer: Trainer, module: LightningModule) -> None:
        """Nothing: the weights to predict with are read from the checkpoint."""

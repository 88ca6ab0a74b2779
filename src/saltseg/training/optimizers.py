"""Optimizers and schedules of the learning rate.

The plateau schedule is in `saltseg.training.module`, because Lightning steps it after the checkpoint is saved.
"""

from typing import Any

import torch
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from saltseg.config import CosineSchedule, OneCycleSchedule, TrainConfig

WARMUP_START = 0.01  # of the learning rate


def optimizer(network: nn.Module, train: TrainConfig) -> torch.optim.Optimizer:
    """Adam, AdamW or SGD over the network's parameters; biases and normalization layers are not decayed."""
    parameters: Any = network.parameters()
    if train.weight_decay:
        parameters = param_groups_weight_decay(network, train.weight_decay)
    if train.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=train.learning_rate, momentum=0.9, nesterov=True)
    kind = torch.optim.AdamW if train.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, lr=train.learning_rate, weight_decay=0.0)  # the groups carry their own decay


def scheduler(optimizer: torch.optim.Optimizer, train: TrainConfig, steps_per_epoch: int) -> Any:
    """The schedule that moves the learning rate after every step; None for constant and plateau.

    cosine: a linear rise over ``warmup_epochs``, then ``num_cycles`` equal falls to the minimum, each from the top
    (Loshchilov and Hutter 2017). one_cycle: up for 30 % of the steps, then down (Smith and Topin 2018); momentum and
    Adam's beta1 stay.
    """
    schedule = train.schedule
    if isinstance(schedule, CosineSchedule):
        warmup = schedule.warmup_epochs * steps_per_epoch
        return CosineLRScheduler(
            optimizer,
            t_initial=(train.epochs * steps_per_epoch - warmup) // schedule.num_cycles,
            lr_min=min(schedule.minimum_learning_rate, train.learning_rate),
            cycle_limit=schedule.num_cycles,
            warmup_t=warmup,
            warmup_lr_init=WARMUP_START * train.learning_rate,
            warmup_prefix=True,
            t_in_epochs=False,
        )
    if isinstance(schedule, OneCycleSchedule):
        total = train.epochs * steps_per_epoch
        return OneCycleLR(optimizer, train.learning_rate, total_steps=total, cycle_momentum=False)
    return None

"""A training that diverges after its best epoch: said in its metrics, the same after a kill."""

from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from tiny_fold import train

from saltseg import schemas
from saltseg.training import fold
from saltseg.training.module import SaltModule

DIVERGES = ("train.epochs=3", "train.optimizer=sgd", "train.second_loss=1e38*bce", "train.second_loss_start_epoch=2")


def test_a_training_that_diverges_after_its_best_epoch_says_when(tmp_path: Path) -> None:
    done, _ = train(tmp_path / "fold_0", *DIVERGES)
    metrics = schemas.read(done.metrics)
    assert (metrics["epochs"], metrics["best_epoch"], metrics["diverged_at_epoch"]) == (2, 1, 2)
    assert [np.isfinite(row["valid_loss"]) for row in schemas.read(done.log)] == [True, False]
    fine, _ = train(tmp_path / "fold_1", "train.epochs=1")
    assert schemas.read(fine.metrics)["diverged_at_epoch"] is None


def test_a_diverged_training_that_was_killed_while_it_predicted_does_not_train_on(tmp_path: Path) -> None:
    expected = schemas.read(train(tmp_path / "whole" / "fold_0", *DIVERGES)[0].metrics)
    with (
        mock.patch.object(fold.fold_predictions, "predict_fold", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        train(tmp_path / "killed" / "fold_0", *DIVERGES)
    found = schemas.read(train(tmp_path / "killed" / "fold_0", *DIVERGES)[0].metrics)
    measured = {"seconds", "predict_seconds", "images_per_second", "peak_memory_mb", "finished", "git_commit"}
    assert {k: v for k, v in found.items() if k not in measured} == {
        k: v for k, v in expected.items() if k not in measured
    }


@pytest.mark.parametrize("loss", [np.inf, np.nan])
def test_a_training_loss_that_is_not_finite_is_not_recorded_and_the_fold_is_finished(
    loss: float, tmp_path: Path
) -> None:
    """In fp16 a batch that overflows is left out of the training, but not out of the mean of its epoch's losses."""
    log_dict = SaltModule.log_dict

    def logged(module: SaltModule, metrics: dict[str, Any], **options: Any) -> None:
        overflown = {"train_loss": torch.tensor(loss)} if "train_loss" in metrics and module.global_step == 1 else {}
        log_dict(module, metrics | overflown, **options)

    with mock.patch.object(SaltModule, "log_dict", logged):
        done, _ = train(tmp_path / "fold_0", "train.epochs=1")
    metrics, [row] = schemas.read(done.metrics), schemas.read(done.log)
    assert (metrics["train_loss"], metrics["valid_loss"]) == (None, pytest.approx(row["valid_loss"], rel=1e-5))
    assert not np.isfinite(row["train_loss"])

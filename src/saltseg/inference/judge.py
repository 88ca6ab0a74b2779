"""Predict what a fold is for, and what that says of it: images out of fold, a sample of its own, test images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import nn
from tqdm import tqdm

from saltseg.config import Config
from saltseg.core import metric
from saltseg.core.areas import areas, log_loss
from saltseg.core.postprocess import HALF
from saltseg.data.competition import Images, Labelled
from saltseg.inference import predict
from saltseg.runs import FoldDir, Predictions, save_predictions

TRAIN_SAMPLE = 200  # training images predicted as well, to show the gap between training and validation
SCORES = (
    "log_loss", "valid_pixel_accuracy", "score_at_half", "score_at_half_no_tta", "train_pixel_accuracy",
    "train_score_at_half",
)  # fmt: skip


def predict_fold(
    settings: Config, directory: FoldDir, train: Labelled, valid: Labelled, test: Images
) -> dict[str, Any]:
    """Have a fold's networks predict, save that in its directory, and return its figures: "views" and `SCORES`.

    train: the images that it trained on, `TRAIN_SAMPLE` of which are predicted. valid: those that judge it. With
    ``pseudo.all_folds`` there is no honest score, so that test images alone are predicted and the scores are None.
    """
    networks, judged = predict.load_networks(settings, directory), not settings.pseudo.all_folds
    chosen = np.random.default_rng(directory.number).permutation(len(train.ids))[:TRAIN_SAMPLE]
    sample = train.at(np.sort(chosen))
    times = 1 if settings.predict.views == ("identity",) else 2  # the validation images also without other views
    total = judged * (times * len(valid.ids) + len(sample.ids)) + len(test.ids)
    scores: dict[str, Any] = dict.fromkeys(SCORES)
    with tqdm(desc=f"fold {directory.number}: predicting", total=total, unit="img", mininterval=1) as bar:
        if judged:
            scores = _judged(networks, settings, directory, sample, valid, bar)
        save_predictions(directory.test, _predicted(networks, settings, test, bar))
    return {"views": list(settings.predict.views), **scores}


def _judged(
    networks: Sequence[nn.Module], settings: Config, directory: FoldDir, sample: Labelled, valid: Labelled, bar: tqdm
) -> dict[str, Any]:
    """Predict the validation images and the sample of the training images, and save both; returns `SCORES`."""
    plain = _predicted(networks, settings, valid, bar, ("identity",))
    alone = settings.predict.views == ("identity",)
    found = plain if alone else _predicted(networks, settings, valid, bar)
    own = _predicted(networks, settings, sample, bar)
    save_predictions(directory.oof, found)
    save_predictions(directory.train, own)
    half, half_own = HALF.apply(found.probabilities), HALF.apply(own.probabilities)
    figures = (
        log_loss(areas(plain.probabilities, valid.masks)),
        metric.pixel_scores(half, valid.masks).accuracy,
        metric.score(half, valid.masks),
        metric.score(HALF.apply(plain.probabilities), valid.masks),
        metric.pixel_scores(half_own, sample.masks).accuracy,
        metric.score(half_own, sample.masks),
    )
    return dict(zip(SCORES, figures, strict=True))


def _predicted(
    networks: Sequence[nn.Module],
    settings: Config,
    part: Images | Labelled,
    bar: tqdm,
    views: tuple[str, ...] | None = None,
) -> Predictions:
    """views: instead of those of the configuration."""
    chosen = settings.predict.views if views is None else views
    return predict.predictions(networks, part.ids, part.images, settings, views=chosen, progress=bar.update)

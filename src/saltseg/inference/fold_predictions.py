"""Predict a fold's validation, training-sample and test images and compute its metrics."""

from collections.abc import Callable
from typing import Any

import numpy as np
from tqdm import tqdm

from saltseg.config import Config
from saltseg.data.competition import Images, Labeled
from saltseg.inference import engines, predict
from saltseg.metrics import average_precision, pixels
from saltseg.models import checkpoints
from saltseg.postprocessing.areas import areas, log_loss
from saltseg.postprocessing.parameters import THRESHOLD_HALF
from saltseg.predictions import Predictions, save_predictions
from saltseg.runs import FoldDir

TRAIN_SAMPLE = 200  # training images predicted as well, to show the gap between training and validation
SCORES = (
    "log_loss", "valid_pixel_accuracy", "score_at_half", "score_at_half_no_tta", "train_pixel_accuracy",
    "train_score_at_half",
)  # fmt: skip
NO_TTA = ("identity",)
Predict = Callable[[Images | Labeled, tuple[str, ...]], Predictions]


def predict_fold(settings: Config, directory: FoldDir, train: Labeled, valid: Labeled, test: Images) -> dict[str, Any]:
    """Predict with a fold's networks, save the predictions in its directory and compute its metrics.

    With ``pseudo.all_folds`` there is no honest score: only test images are predicted and the scores are None.

    Args:
        settings: with the precision resolved (`saltseg.models.precision.trained_config`).
        directory: of the fold.
        train: the images that it was trained on; `TRAIN_SAMPLE` of them are predicted.
        valid: its validation images.
        test: may be empty.

    Returns:
        The fold's part of ``metrics.json``: "tta", "predicted_with" and `SCORES`.
    """
    networks, scored = checkpoints.load_networks(settings, directory), not settings.pseudo_labels_from_all_folds
    chosen = np.random.default_rng(directory.number).permutation(len(train.ids))[:TRAIN_SAMPLE]
    sample = train.subset(np.sort(chosen))
    tta = settings.predict.tta
    times = 1 if tta == NO_TTA else 2  # validation images are predicted without TTA, too
    total = scored * (times * len(valid.ids) + len(sample.ids)) + len(test.ids)
    scores: dict[str, Any] = dict.fromkeys(SCORES)
    with tqdm(desc=f"fold {directory.number}: predicting", total=total, unit="img", mininterval=1) as bar:

        def predicted(part: Images | Labeled, tta: tuple[str, ...]) -> Predictions:
            return predict.predictions(networks, part.ids, part.images, settings, tta=tta, progress=bar.update)

        if scored:
            scores = _evaluate(predicted, tta, directory, sample, valid)
        save_predictions(directory.test, predicted(test, tta))
    device = next(networks[0].parameters()).device
    return {"tta": list(tta), "predicted_with": engines.describe(settings, device), **scores}


def _evaluate(
    predicted: Predict, tta: tuple[str, ...], directory: FoldDir, sample: Labeled, valid: Labeled
) -> dict[str, Any]:
    """Predict the validation images and the sample of the training images, and save both; returns `SCORES`."""
    plain = predicted(valid, NO_TTA)
    oof = plain if tta == NO_TTA else predicted(valid, tta)
    train = predicted(sample, tta)
    save_predictions(directory.oof, oof)
    save_predictions(directory.train, train)
    masks, train_masks = THRESHOLD_HALF.apply(oof.probabilities), THRESHOLD_HALF.apply(train.probabilities)
    values = (
        log_loss(areas(plain.probabilities, valid.masks)),
        pixels.pixel_scores(masks, valid.masks).accuracy,
        average_precision.score(masks, valid.masks),
        average_precision.score(THRESHOLD_HALF.apply(plain.probabilities), valid.masks),
        pixels.pixel_scores(train_masks, sample.masks).accuracy,
        average_precision.score(train_masks, sample.masks),
    )
    return dict(zip(SCORES, values, strict=True))

"""The caveats of a page: how each number was selected, and in which direction that biases it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from saltseg import provenance
from saltseg.config import CosineSchedule, TrainConfig
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing
from saltseg.reporting import page
from saltseg.reporting.run_summary import RunSummary

SELECTION_BIAS = "which raises out-of-fold scores, by 0.003 to 0.006 where a top team measured it"
SEEDS = (
    "Scores also vary with the random seed: by 0.007 to 0.009 (one standard deviation) in this project's short "
    "trainings, by 0.001 to 0.002 in the long ones of 2018's teams."
)
Topic = Callable[[RunSummary], Iterator[str]]


def caveats(summary: RunSummary) -> list[str]:
    """Plain sentences about data, checkpoints, ensembling, post-processing, folds and noise."""
    # The post-processing is fitted on out-of-fold images, which fewer networks predict than test images.
    own = summary.tuned and not summary.postprocessing_from
    averaged = averaging(summary.networks_per_fold, summary.networks) if own else []
    return [*_unfinished(summary), *_said(summary, TOPICS), *averaged]


def of_fold(summary: RunSummary, fold: int) -> list[str]:
    """The same for the networks of one fold with the run's own post-processing.

    It says nothing about other folds, the mean over folds, or intervals over the images of several.
    """
    metrics = [metrics for metrics in summary.metrics if metrics["fold"] == fold]
    alone = replace(summary, metrics=metrics, postprocessing_source={})
    if summary.postprocess is None or summary.postprocess["folds"] == [fold]:
        return _said(alone, TOPICS)
    return [*_said(alone, [topic for topic in TOPICS if topic not in (_gain, _sampling)]), SEEDS]


def _said(summary: RunSummary, topics: Sequence[Topic]) -> list[str]:
    return [sentence for topic in topics for sentence in topic(summary)]


def describe_postprocessing(postprocessing: Postprocessing) -> str:
    """A post-processing in one line."""
    p = postprocessing
    half = p.threshold == THRESHOLD_HALF.threshold
    steps = [
        "threshold 0.5" if half else f"threshold {p.threshold / 255:.3f} ({p.threshold}/255)",
        "holes filled" if p.fill_holes else "",
        f"bodies that nowhere reach {p.hysteresis_high / 255:.2f} removed" if p.hysteresis_high > p.threshold else "",
        f"masks of fewer than {p.min_area} pixels emptied" if p.min_area else "",
        f"masks emptied where the presence probability is below {p.presence_threshold / 255:.2f}"
        if p.presence_threshold
        else "",
    ]
    return "; ".join(step for step in steps if step)


def _unfinished(summary: RunSummary) -> Iterator[str]:
    if summary.planned and not summary.finished:
        yield "No fold is finished yet, so there is no score."
    elif summary.other_folds:
        yield (
            f"The scores, the post-processing and the test predictions are of {summary.other_folds}. To take in all "
            f"that are finished: saltseg predict {summary.name}, then saltseg tune {summary.name}."
        )
    elif summary.planned and summary.finished < summary.planned:
        images = f" ({summary.postprocess['n']:,} images)" if summary.postprocess else ""
        yield (
            f"Only {summary.finished} of {summary.planned} folds are finished: out-of-fold scores cover the images of "
            f"those folds{images}, and test predictions average their networks only."
        )


def _data(summary: RunSummary) -> Iterator[str]:
    if summary.synthetic:
        yield "The data is simulated: the scores show that the pipeline works and say nothing about real seismic."
    for fold, epoch in summary.diverged.items():
        yield (
            f"Training of fold {fold} diverged: the validation loss of epoch {epoch} was not finite. It stopped there "
            f"and uses the weights of epoch {summary.best_epochs[fold]}."
        )


def _checkpoint(summary: RunSummary) -> Iterator[str]:
    if summary.kind == "blend":
        yield from _checkpoints_of_members(summary)
    elif summary.metrics and summary.settings:
        yield _checkpoint_of_run(summary.settings.train)


def _checkpoint_of_run(train: TrainConfig) -> str:
    if train.checkpoint == "best":
        epoch = "the epoch with the lowest loss on its own validation images"
        return f"Each fold uses the weights of {epoch}, {SELECTION_BIAS}."
    averaged = ""
    if train.ema_decay:
        averaged = f" (an exponential moving average over steps, decay {train.ema_decay:g})"
    if train.swa_start_epoch:
        averaged = f" (averaged over epochs {train.swa_start_epoch} to {train.epochs})"
    if train.checkpoint == "last":
        used = f"the last weights{averaged} are used"
    else:
        cycles = len(train.snapshot_epochs)
        used = f"the weights at the ends of the {cycles} cycles{averaged} are used and their predictions averaged"
    return f"Training had a fixed length and {used}: no epoch was selected."


def _checkpoints_of_members(summary: RunSummary) -> Iterator[str]:
    checkpoints = summary.checkpoints
    selected = [name for name, checkpoint in checkpoints.items() if checkpoint == "best"]
    unknown = [name for name, checkpoint in checkpoints.items() if checkpoint is None]
    if selected:
        yield (
            f"Of the {len(checkpoints)} members, {', '.join(selected)} use the weights of the epoch with the lowest "
            f"loss on the validation images, {SELECTION_BIAS}."
        )
    if unknown or not checkpoints:
        yield (
            f"It is unknown whether an epoch was selected for {', '.join(unknown) or 'any member'}, because the run "
            "is gone; such a selection would raise the scores."
        )
    elif not selected:
        yield "Training of every member had a fixed length: no epoch was selected."


def _lineage(summary: RunSummary) -> Iterator[str]:
    selected = summary.provenance.get("epoch_chosen_in")
    if selected:
        yield (
            f"It learned from {', '.join(selected)}, where the epoch with the lowest loss on the same validation "
            f"images was selected, {SELECTION_BIAS}; part of that may carry over."
        )
    if provenance.transduction(summary.run):
        yield (
            "Test images were or may have been used in training, without their labels (transduction): scores on other "
            "images may be lower."
        )


def _weights(summary: RunSummary) -> Iterator[str]:
    """What `saltseg.pipeline.blend` measured when it fitted the weights of a blend."""
    evidence = summary.provenance.get("evidence")
    if evidence is None:
        return
    groups, (low, high) = evidence["groups"], evidence["interval"]
    measured = (
        f"The weights were fitted out of fold: on {groups} not used to fit them they score "
        f"{page.score(evidence['fitted'])}, equal weights {page.score(evidence['equal'])}; the difference is "
        f"{page.gain(evidence['difference'])} (95 % interval {page.gain(low)} to {page.gain(high)})"
    )
    if not evidence["selected"]:
        yield f"{measured}. The members have equal weights, because fitted ones are not better."
        return
    yield (
        f"{measured}. Test images use the weights fitted on all images, out-of-fold images those fitted on the other "
        f"{groups}."
    )
    yield (
        f"A small leak remains: the post-processing for each of the {groups} is tuned on the others, whose weights "
        "were fitted on it. The two scores of the weights do not have this leak."
    )


def _postprocessing(summary: RunSummary) -> Iterator[str]:
    content, other = summary.postprocess, summary.postprocessing_from
    if other:
        own = " The cross-fitted score is of the run's own post-processing." if content else ""
        yield (
            f"Masks use the post-processing of {other}, which was tuned on that run's predictions; so do the scores of "
            f"single tiles and those on test images.{own}"
        )
    if content is None:
        if not other:
            yield "No post-processing has been tuned yet: masks use threshold 0.5."
        return
    if content["cross_fit_groups"] == "folds":
        how = "each fold is scored with the post-processing fitted on the other folds"
    else:
        how = (
            "there is only one fold, so its images were divided at random and each part is scored with the "
            "post-processing fitted on the other parts; all parts share one network, which makes this weaker evidence"
        )
    yield f"Compare tuned post-processing by the cross-fitted score: {how}."


def _gain(summary: RunSummary) -> Iterator[str]:
    """What tuning the run's own post-processing changed."""
    content = summary.postprocess
    if content is None:
        return
    mean, (low, high) = content["tuning_gain"]["mean"], content["tuning_gain"]["interval"]
    verdict = "a gain" if low > 0 else "a loss" if high < 0 else "no significant difference"
    changed = f"the score at 0.5 by {page.gain(mean)} (95 % interval {page.gain(low)} to {page.gain(high)}): {verdict}."
    if summary.tuned:
        yield f"Tuning changed {changed}"
    else:
        used = "the run's own post-processing is" if summary.postprocessing_from else "masks use"
        yield f"Tuning was tried and is not used: {used} threshold 0.5. It would change {changed}"


def _steps(summary: RunSummary) -> Iterator[str]:
    content = summary.postprocess
    if content and summary.tuned and "steps" in content and not content["cross_fitted"].get("nested"):
        yield (
            f"Which of the {len(content['steps'])} post-processing steps are used was selected by the cross-fitted "
            "score itself, which raises it slightly."
        )


def averaging(fitted: int, submitted: int) -> list[str]:
    """What it means that post-processing fitted on means of some networks is applied to means of others."""
    if fitted == submitted:
        return []
    return [
        f"The post-processing was fitted on predictions of {fitted} network{'s' * (fitted != 1)} per image, and the "
        f"submission averages {submitted}. Averaging changes the probabilities, so the gain of the post-processing on "
        "test images may be smaller, or a loss."
    ]


def _other_images(summary: RunSummary) -> Iterator[str]:
    """How scores on other images depend on the folds."""
    if any(config and config.folds.scheme != "grouped" for config in summary.configs.values()):
        yield (
            "Folds were assigned tile by tile. Neighboring tiles of one seismic section can be in different folds, so "
            "scores on a new section may be lower."
        )


def _sampling(summary: RunSummary) -> Iterator[str]:
    """The noise of sampling and of training."""
    if summary.postprocess:
        low, high = summary.postprocess["cross_fitted"]["interval"]
        yield (
            f"With {summary.postprocess['n']:,} images the 95 % interval is {high - low:.3f} wide. It covers the "
            f"sampling of {summary.by}s only. {SEEDS}"
        )


TOPICS = (_data, _checkpoint, _lineage, _weights, _postprocessing, _gain, _steps, _other_images, _sampling)


def learning_curve_hint(summary: RunSummary) -> str:
    """What the learning curves show: which losses they are, and why the learning rate changes."""
    sentences = []
    if summary.settings is None:
        sentences.append("The solid line is the log-loss on the validation images.")
    else:
        train = summary.settings.train
        sentences.append("Where the solid line, the validation loss, rises again, the network overfits.")
        if not summary.same_loss:
            sentences.append("The dotted line is another loss, so the distance between the two has no meaning.")
        if train.second_loss_start_epoch:
            sentences.append(f"The training loss changes at epoch {train.second_loss_start_epoch}, hence a jump there.")
        if train.val_every_n_epochs > 1:
            sentences.append(f"Validation was measured every {train.val_every_n_epochs} epochs.")
        sentences.append(_learning_rate(train))
    unfinished = [fold.number for fold in summary.run.folds() if fold.log.is_file() and not fold.finished()]
    return " ".join([*sentences, *(f"Fold {number} is unfinished." for number in unfinished)])


def _learning_rate(train: TrainConfig) -> str:
    schedule = train.schedule
    if isinstance(schedule, CosineSchedule):
        cycles = f" {schedule.num_cycles} times" if schedule.num_cycles > 1 else ""
        return f"The learning rate {'rises, then ' if schedule.warmup_epochs else ''}falls along a cosine{cycles}."
    return {
        "plateau": "Each step in the lower panel reduces the learning rate after the validation loss stopped falling.",
        "constant": "The learning rate is constant.",
        "one_cycle": "The learning rate rises and falls once.",
    }[schedule.kind]

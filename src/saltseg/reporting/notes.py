"""The sentences that keep a page honest: how each number was chosen, and which way that bends it."""

from saltseg.config import TrainConfig
from saltseg.core.postprocess import HALF, Rule
from saltseg.inference import lineage
from saltseg.reporting import page
from saltseg.reporting.facts import Facts

FLATTERY = "which flatters out-of-fold scores, by 0.003 to 0.006 where a top team measured it"


def honest(facts: Facts) -> list[str]:
    """Plain sentences, most important first, about selection, tuning, folds and data."""
    return [
        *_data(facts),
        *_partial(facts),
        *_epoch(facts),
        *_lineage(facts),
        *_weights(facts),
        *_rule(facts),
        *_folds(facts),
        *_noise(facts),
    ]


def rule_text(rule: Rule) -> str:
    """A decision rule in one sentence without a full stop, in the order of its steps."""
    at_least = "0.5" if rule.threshold == HALF.threshold else f"{rule.threshold / 255:.3f} ({rule.threshold}/255)"
    steps = [
        f"salt where the probability is at least {at_least}",
        "holes are filled" if rule.fill_holes else "",
        f"bodies that nowhere reach {rule.high / 255:.2f} go" if rule.high > rule.threshold else "",
        f"tiles with fewer than {rule.min_area} salt pixels become empty" if rule.min_area else "",
        f"tiles that hold salt with a probability below {rule.gate / 255:.2f} become empty" if rule.gate else "",
    ]
    return "; ".join(step for step in steps if step)


def _data(facts: Facts) -> list[str]:
    if not facts.synthetic:
        return []
    return ["The data is simulated: the scores show that the pipeline works and say nothing about real seismic."]


def _partial(facts: Facts) -> list[str]:
    if not facts.partial:
        return []
    if not facts.finished:
        return ["No fold is finished yet: there is no score to believe or to doubt."]
    images = f" ({facts.postprocess['n']:,} images)" if facts.postprocess else ""
    return [
        f"Only {facts.finished} of {facts.planned} folds are finished: out-of-fold scores cover those "
        f"folds alone{images}, and test predictions average {facts.finished} "
        f"network{'s' * (facts.finished != 1)} instead of {facts.planned}."
    ]


def _epoch(facts: Facts) -> list[str]:
    if facts.kind == "blend":
        return _epochs_of_members(facts)
    if not facts.metrics or facts.settings is None:
        return []
    train = facts.settings.train
    if train.keep == "best":
        return [
            "The weights of each fold are those of the epoch with the lowest loss on that fold's own validation "
            f"images, {FLATTERY}."
        ]
    averaged = ""
    if train.ema:
        averaged = f", as an exponential moving average over steps (decay {train.ema:g}),"
    if train.swa_from:
        averaged = f", averaged over epochs {train.swa_from} to {train.epochs},"
    if train.keep == "last":
        kept = f"its last weights{averaged} predict"
    else:
        kept = f"the weights at the end of each cycle of the learning rate{averaged} predict, {train.cycles} in all"
        kept += ", and their predictions are averaged"
    return [f"The length of the training was fixed beforehand and {kept}: no epoch was chosen."]


def _epochs_of_members(facts: Facts) -> list[str]:
    chosen = [name for name, keep in facts.keeps.items() if keep == "best"]
    unknown = [name for name, keep in facts.keeps.items() if keep is None]
    sentences = []
    if chosen:
        sentences.append(
            f"Of the {len(facts.keeps)} members, {', '.join(chosen)} predict with the weights of the epoch with the "
            f"lowest loss on the validation images, {FLATTERY}."
        )
    if unknown or not facts.keeps:
        whose = f"the members {', '.join(unknown)}" if unknown else "any member"
        sentences.append(
            f"It is unknown whether an epoch was chosen on the validation images for {whose}, since their runs are "
            "not here any more; scores may be flattered by that."
        )
    return sentences or ["The training of every member had a length fixed beforehand: no epoch was chosen."]


def _lineage(facts: Facts) -> list[str]:
    """What `saltseg.inference.lineage` found behind the run, or behind a member of the blend."""
    sentences = []
    chosen = facts.provenance.get("epoch_chosen_in", [])
    if chosen:
        sentences.append(
            f"It learnt from {', '.join(chosen)}, with the weights of the epoch with the lowest loss on the same "
            f"validation images, {FLATTERY}; some of that may be handed down."
        )
    if lineage.transduction(facts.run):
        sentences.append(
            "Test images helped to train it, or may have done so, without their labels (transduction): it is fitted to "
            "these very images, and others may come out worse."
        )
    return sentences


def _weights(facts: Facts) -> list[str]:
    """What `saltseg.inference.ensemble` measured when it fitted the weights of a blend."""
    found = facts.provenance.get("evidence")
    if found is None:
        return []
    groups, (low, high) = found["groups"], found["interval"]
    measured = (
        f"Weights were fitted out of fold: judged on {groups} that they were not fitted on, they score "
        f"{page.score(found['fitted'])}, equal weights {page.score(found['equal'])}; the difference is "
        f"{page.gain(found['difference'])} (95 % interval {page.gain(low)} to {page.gain(high)}, image by image)"
    )
    if not found["adopted"]:
        return [f"{measured}. That is no gain, so the members count equally."]
    return [
        f"{measured}, so they are in use. Test images get the weights fitted on everything, out-of-fold images those "
        f"fitted on the other {groups}.",
        f"A little leaks all the same: the decision rule for each of the {groups} is tuned on the others, whose "
        "weights were fitted on it, too. The two scores of the weights are free of that.",
    ]


def _rule(facts: Facts) -> list[str]:
    found = facts.postprocess
    if found is None:
        return ["No decision rule has been tuned yet, so masks are cut at 0.5."]
    if found["cross_fit_groups"] == "folds":
        how = "each fold is scored under the rule fitted on the other folds"
    else:
        how = (
            "there is one fold only, so its images were dealt into random parts and each part is scored "
            "under the rule fitted on the others; all parts share one network, which makes this weaker "
            "evidence than folds"
        )
    sentences = [f"The cross-fitted score is the one to believe of a tuned rule: {how}."]
    mean, (low, high) = found["tuning_gain"]["mean"], found["tuning_gain"]["interval"]
    verdict = "a gain" if low > 0 else "a loss" if high < 0 else "not told apart from no change"
    sentences.append(
        f"Tuning changed the score at 0.5 by {page.gain(mean)} (95 % interval {page.gain(low)} to "
        f"{page.gain(high)}, image by image): {verdict}."
    )
    if found["adopted"] == "tuned" and "steps" in found:
        sentences.append(
            f"Of {len(found['steps'])} steps of the rule those stayed that raised this very score: a choice that "
            "flatters it slightly."
        )
    if found["adopted"] == "half":
        sentences.append("The rule in use is the plain threshold 0.5; nothing tuned enters the masks.")
    return sentences


def _folds(facts: Facts) -> list[str]:
    if facts.settings is None or facts.settings.folds.scheme == "grouped":
        return []
    return [
        "Folds were drawn tile by tile. Neighbouring tiles of one seismic section can lie on both sides "
        "of a split, so a section never seen before may well score lower than these images did."
    ]


def _noise(facts: Facts) -> list[str]:
    if facts.postprocess is None:
        return []
    low, high = facts.postprocess["cross_fitted"]["interval"]
    return [
        f"With {facts.postprocess['n']:,} images the interval is {high - low:.3f} wide. It covers the "
        "choice of images only: another random seed moves a score as well, by 0.001 to 0.002 in long trainings of "
        "2018's teams, by 0.007 to 0.009 (one sigma) in this project's short ones."
    ]


def curves(facts: Facts) -> str:
    """What to look at in the learning curves: which losses they are, and why the learning rate moves."""
    if facts.settings is None:
        return "The solid line is the log-loss on the validation images."
    train = facts.settings.train
    if facts.same_loss:
        sentences = [
            "Look at where the solid line leaves the dotted one: from there on the network learns its training "
            "images by heart."
        ]
    else:
        sentences = [
            "Look at whether the solid line, the log-loss, rises again: from there on the network learns its training "
            "images by heart. The dotted line is another loss, so the distance between the two means nothing."
        ]
    if train.late_from:
        sentences.append(f"The training loss changes at epoch {train.late_from}, hence a jump there.")
    if train.validate_every > 1:
        sentences.append(f"Validation was measured every {train.validate_every} epochs.")
    return " ".join([*sentences, _rate(train)])


def _rate(train: TrainConfig) -> str:
    if train.schedule == "plateau":
        return "Each step in the lower panel is a cut of the learning rate, because the validation loss stood still."
    if train.schedule == "constant":
        return "The learning rate stays as it is."
    if train.schedule == "one_cycle":
        return "The learning rate rises and falls once, as planned beforehand."
    falls = "falls along a cosine" + (f" {train.cycles} times" if train.cycles > 1 else "")
    return f"The learning rate {'rises, then ' if train.warmup else ''}{falls}, as planned beforehand."

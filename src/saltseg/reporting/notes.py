"""The sentences that keep a page honest: how each number was chosen, and which way that bends it."""

from saltseg.core.postprocess import HALF, Rule
from saltseg.reporting import page
from saltseg.reporting.facts import Facts


def honest(facts: Facts) -> list[str]:
    """Plain sentences, most important first, about selection, tuning, folds and data."""
    return [
        *_data(facts),
        *_partial(facts),
        *_epoch(facts),
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
    if not facts.metrics and not facts.members:
        return []
    if facts.metrics and all("fixed length" in fold.get("best_epoch_chosen_by", "") for fold in facts.metrics):
        return ["The length of the training was fixed beforehand and its last weights predict: no epoch was chosen."]
    whose = "the weights of each fold" if facts.metrics else "unless a member had a fixed length, its weights"
    return [
        f"{whose[0].upper()}{whose[1:]} are those of the epoch with the lowest loss on that fold's own "
        "validation images. This choice flatters out-of-fold scores, by 0.003 to 0.006 where a top team "
        "of 2018 measured it."
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
        "choice of images only: another random seed moves a score by 0.001 to 0.002 on top."
    ]

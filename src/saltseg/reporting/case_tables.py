"""What the study's records say, in words and in Markdown tables."""

import math
from collections.abc import Sequence

import numpy as np

from saltseg.core.postprocess import HALF
from saltseg.inference.levers import markdown_table
from saltseg.reporting import case_pixels
from saltseg.reporting.case_pixels import Errors, ThresholdCurve, calibration
from saltseg.reporting.case_records import PARTNERS, Gain, Study, partner
from saltseg.studies import BASE

NORMAL_95 = 1.96  # half the width of a 95 % interval in standard deviations
COLUMNS = (
    "variant", "log-loss", "pixel accuracy", "score at 0.5", "gain [95 %]", "score, tuned rule", "gain [95 %]",
    "parameters", "GFLOP", "ms / image", "s / epoch", "MiB",
)  # fmt: skip
# before → after, but for the fourth: what precision it was already at the recall after, for another threshold
ERRORS = (
    "what changes", "precision", "recall", "precision before at the recall after", "images with all salt missed",
    "images with invented salt", "area under the curve", "calibration error",
)  # fmt: skip


def verdict(gain: Gain | None, sigma: float | None = None) -> str:
    """A gain in words. sigma: its standard deviation between trainings, if known; its interval is over images."""
    if gain is None:
        return "not compared: no training of what it is compared with has the same seed"
    difference, low, high = gain
    if low <= 0 <= high:
        return f"no detectable difference: {interval(gain)}"
    if sigma is not None and abs(difference) < 2 * math.hypot(sigma, (high - low) / (2 * NORMAL_95)):
        word, doubt = "higher" if low > 0 else "lower", ", within the noise between trainings"
    else:
        word, doubt = "better" if low > 0 else "worse", ""
    return f"{word} by {abs(difference):.3f} [{signed(low)}, {signed(high)}]{doubt}"


def interval(gain: Gain | None) -> str:
    """``+0.012 [−0.003, +0.027]``; empty without a gain."""
    return "" if gain is None else f"{signed(gain[0])} [{signed(gain[1])}, {signed(gain[2])}]"


def signed(value: float, digits: int = 3) -> str:
    """With a sign, a true minus."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def points(share: float) -> str:
    """A difference of shares in percentage points; a dash for what is not defined."""
    return f"{signed(100 * share, 1)} percentage points" if np.isfinite(share) else "–"


def percent(share: float) -> str:
    """A share as a percentage; a dash for what is not defined."""
    return f"{100 * share:.1f} %" if np.isfinite(share) else "–"


def price(ratio: float) -> str:
    """``3`` or ``1/3``."""
    return f"{ratio:g}" if ratio >= 1 else f"1/{1 / ratio:g}"


def table(study: Study, variants: Sequence[str]) -> str:
    """One line for each of ``variants`` that has a record; gains are against base or what the line says."""
    lines: list[Sequence[str]] = []
    for variant in study.measured(variants):
        worth, entries = study.worth[variant], study.records[variant]
        against = f" (against `{partner(variant)}`)" if variant in PARTNERS else ""
        lines.append((
            f"`{variant}`{against}", f"{worth.log_loss:.4f}", percent(study.mean(variant, "pixel_accuracy")),
            f"{worth.at_half:.3f}", interval(study.gain_at_half(variant)),
            f"{worth.cross_fitted:.3f}", interval(worth.gain_cross_fitted),
            f"{entries[0]['parameters']:,}", f"{entries[0]['operations'] / 1e9:.3f}",
            f"{study.mean(variant, 'milliseconds'):.2f}", f"{study.mean(variant, 'seconds_per_epoch'):.1f}",
            f"{max(entry['peak_memory_mb'] for entry in entries):,}",
        ))  # fmt: skip
    return markdown_table(COLUMNS, lines)


def before_and_after(study: Study, variants: Sequence[str]) -> str:
    """Errors at 0.5 of base and of each other measured variant, of one network and several, without and with the rule.

    See `ERRORS` for the columns. Variants are compared over the seeds that they share with base.
    """
    base, compared = study.records[BASE], {}
    for name in study.measured(variants):
        seeds = {entry["seed"] for entry in base} & {entry["seed"] for entry in study.records[name]}
        if name != BASE and seeds:
            pair = ([entry for entry in entries if entry["seed"] in seeds] for entries in (base, study.records[name]))
            compared[f"`{name}`"] = tuple(map(case_pixels.pooled, pair))
    if study.ensemble:
        alone, together = (case_pixels.pooled([study.ensemble[name]]) for name in ("alone", "together"))
        compared[f"one of {len(study.ensemble['folds'])} networks → their mean"] = alone, together
    lines: list[Sequence[str]] = []
    for name, (before, after) in compared.items():
        area = f"{before.area:.4f} → {after.area:.4f}"
        error = f"{calibration(before).error:.4f} → {calibration(after).error:.4f}"
        lines.append((name, *_changes(before, after.errors(HALF.threshold)), area, error))
    lines.append(
        (
            "tuned rule",
            *_changes(case_pixels.pooled(base), case_pixels.errors_when_tuned(study, BASE)),
            "the same",
            "the same",
        )
    )
    return markdown_table(ERRORS, lines)


def _changes(before: ThresholdCurve, after: Errors) -> tuple[str, ...]:
    """The first five figures of `ERRORS`."""
    at_half = before.errors(HALF.threshold)
    precision, recall, missed, invented = (
        f"{percent(one)} → {percent(two)}" for one, two in zip(at_half, after, strict=True)
    )
    return precision, recall, percent(before.precision_at(after.recall)), missed, invented


def answers(study: Study, variants: Sequence[str], brief: bool = False) -> str:
    """A line of verdicts for each measured variant that is compared with another; brief: on the tuned rule alone."""
    lines = []
    for variant in study.measured(variants):
        if variant == BASE:
            continue
        tuned = study.worth[variant].gain_cross_fitted
        found = verdict(tuned, study.sigma(variant))
        if tuned is not None and not brief:
            half = verdict(study.gain_at_half(variant), study.sigma(variant, "at_half"))
            found = f"with the tuned rule {found}{_of_folds(study, variant)}; at 0.5 {half}"
        if silent := [name for name in (variant, partner(variant)) if study.silent(name)]:
            where = ", ".join(f"`{name}` in fold {' and '.join(map(str, study.silent(name)))}" for name in silent)
            found = f"void, since at 0.5 nothing at all is marked by {where} (by the numbers: {found})"
        lines.append(f"- `{variant}` against `{partner(variant)}`: {found}")
    return "\n".join(lines)


def _of_folds(study: Study, variant: str) -> str:
    gains = study.fold_gains(variant)
    return f" (by fold {', '.join(map(signed, gains))})" if len(gains) > 1 else ""


def missing(study: Study, variants: Sequence[str]) -> str:
    """Sentences that name those of ``variants`` without a record, and why; empty when there are none."""
    lacking = study.lacking(variants)
    beyond = [variant for variant in variants if variant not in (*study.records, *lacking)]

    def sentence(beginning: str, names: Sequence[str]) -> str:
        return f"*{beginning}: {', '.join(f'`{name}`' for name in names)}.*" if names else ""

    found = (
        sentence("Not measured yet", lacking),
        sentence(f"Not part of the budget `{study.budget}`, which has too few images", beyond),
    )
    return " ".join(filter(None, found))

"""The table of a study, in Markdown, with the notes that it needs."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from saltseg.metrics.bootstrap import MeanInterval, mean_interval
from saltseg.studies.records import AT_HALF, POSTPROCESSED, TUNED
from saltseg.studies.results import VariantResult, gain_noise
from saltseg.studies.sweep import Sweep

Costs = Mapping[str, Mapping[str, float]]


def markdown(sweep: Sweep, results: Sequence[VariantResult], noise: float | None, costs: Costs | None = None) -> str:
    """The table; columns that no variant has anything for are left out.

    Args:
        sweep: whose results they are.
        results: as `saltseg.studies.results.compare_all` returns them.
        noise: see `saltseg.studies.results.seed_noise`.
        costs: ``{variant: {"time": ratio to the base's step, "mb": peak MiB, "images_per_second": …}}``, measured by
            benchmarks/ablation_costs.py with the first of ``results`` as the base.
    """
    several = any(len(result.records) > 1 for result in results)
    chain = len({result.reference for result in results if result.reference}) > 1
    columns = (
        ("variant", [f"`{result.variant}`" for result in results]),
        ("what", [_what(sweep, result) for result in results]),
        ("tuned", [_number(result.score(TUNED)) for result in results]),
        ("gain [95 %]", [signed(result.gains[TUNED]) for result in results]),
        ("per seed", [_per_seed(result) if several else "" for result in results]),
        ("post-processed [95 %]", [_postprocessed(result) for result in results]),
        ("gain [95 %]", [signed(result.gains[POSTPROCESSED]) for result in results]),
        ("over", [f"`{result.reference}`" if chain and result.reference else "" for result in results]),
        ("at 0.5", [_number(result.score(AT_HALF)) for result in results]),
        ("log-loss", [_log_loss(result) for result in results]),
        ("epoch", [_epoch(result, results[0], costs or {}) for result in results]),
        ("MiB", [f"{(costs or {})[r.variant]['mb']:,.0f}" if r.variant in (costs or {}) else "" for r in results]),
        ("minutes", [_minutes(result) for result in results]),
    )
    filled = [(name, cells) for name, cells in columns if any(cells)]
    rows = zip(*(cells for _, cells in filled), strict=True)
    table = markdown_table([name for name, _ in filled], rows)
    return f"{table}\n\n{' '.join(_notes(sweep, results, noise, bool(costs)))}"


def _what(sweep: Sweep, result: VariantResult) -> str:
    """The variant in words, or else what it changes: "`train.loss=focal`"."""
    variant, record = sweep.study.variants[result.variant], result.records[0]
    if variant.what:
        return variant.what
    changes = (line.replace("'", "").partition(": ")[::2] for line in record.changes)
    return " ".join(f"`{key}={values.partition(' → ')[2]}`" for key, values in changes)


def _per_seed(result: VariantResult) -> str:
    sign = "+" if result.reference else ""
    return " ".join(f"{value:{sign}.4f}" for value in result.per_seed)


def _postprocessed(result: VariantResult) -> str:
    found = mean_interval(np.mean([record.images(POSTPROCESSED) for record in result.records], axis=0))
    return f"{result.score(POSTPROCESSED):.4f} [{found.low:.4f}, {found.high:.4f}]"


def _log_loss(result: VariantResult) -> str:
    losses = [record.log_loss for record in result.records if record.log_loss is not None]
    return f"{np.mean(losses):.4f}" if losses else ""


def _epoch(result: VariantResult, base: VariantResult, costs: Costs) -> str:
    if result.variant not in costs or base.variant not in costs:
        return ""
    ratio = costs[result.variant]["time"]
    seconds = (base.records[0].n_train or 0) / costs[base.variant]["images_per_second"]
    return f"{ratio * seconds:.0f} s ({ratio:.2f})"


def _minutes(result: VariantResult) -> str:
    seconds = result.records[0].seconds
    return "" if seconds is None else f"{seconds / 60:.0f}"


def _notes(sweep: Sweep, results: Sequence[VariantResult], noise: float | None, costs: bool) -> Iterable[str]:
    base = sweep.budget.experiment or sweep.study.base
    yield f"Base: `{base if isinstance(base, str) else base.name}` on the budget `{sweep.budget_name}`."
    yield f"{results[0].records[0].n:,} images, each scored by a network that was not trained on it (mAP)."
    if any(result.score(TUNED) is not None for result in results):
        yield "Tuned: threshold and minimum area, fitted on other images."
    yield "Post-processed: with all steps that raise this score, fitted on other images."
    yield "Gains are paired image by image; intervals are over images alone, without the noise between trainings."
    if costs:
        yield "Epoch: seconds of an epoch's training steps, estimated from the ratio to the reference"
        yield "measured side by side."
    if any(result.records[0].seconds is not None for result in results):
        yield "Minutes: training of all folds, without pretraining and predictions."
    if noise is not None:
        yield f"Scores of trainings that differ in the seed only have a standard deviation of {noise:.4f}."
        yield f"That of the difference of two unrelated trainings is {2**0.5 * noise:.4f}."
    else:
        yield sweep.budget.noise or "The noise between trainings that differ in the seed only was not measured."
    if (paired := gain_noise(results)) is not None:
        count = sum(bool(result.reference) and len(result.per_seed) > 1 for result in results)
        yield f"That of a gain with the same seed on both sides is {paired:.4f} ({count} variants)."
    if sweep.study.chart == "labels":
        yield (
            "Fewer labels are a part of more, the same for all kinds of weights. Compare these at one number of "
            "labels: with fewer, the one epoch in which the rate rises is a larger share of the training."
        )
    if names := [f"`{r.variant}`" for r in results if any(record.transduction for record in r.records)]:
        yield f"Test images, without their labels, helped to train {', '.join(names)} (transduction)."


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table of cells without line breaks."""
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (columns, ("---",) * len(columns), *rows))


def signed(gain: MeanInterval | None) -> str:
    """A gain with its interval; "" for None."""
    return "" if gain is None else f"{gain.mean:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"

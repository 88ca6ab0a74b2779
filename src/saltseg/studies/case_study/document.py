"""The page of the case study: what the records say, filled into Markdown that a person wrote, and its pictures."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from saltseg import io
from saltseg.errors import InputError
from saltseg.metrics.bootstrap import MeanInterval
from saltseg.reporting.style import png
from saltseg.studies import charts
from saltseg.studies.case_study import data, pixels, training
from saltseg.studies.case_study.data import Dataset, PredictedTiles
from saltseg.studies.case_study.pixels import ThresholdCurve
from saltseg.studies.case_study.results import CaseStudy, read, signed, verdict
from saltseg.studies.case_study.variants import (
    BASE,
    GAP,
    IMAGES,
    IMPROVES,
    NECESSARY,
    PLATEAU,
    POOLING,
    QUESTIONS,
    SKIPS,
    VARIANTS,
)
from saltseg.studies.records import KINDS, TUNED, Record
from saltseg.studies.sweep import Sweep
from saltseg.studies.tables import markdown_table

COLUMNS = (
    "variant", "log-loss", "pixel accuracy", "score at 0.5", "tuned", "with all steps",
    "parameters", "GFLOP", "s / epoch", "MiB",
)  # fmt: skip
VERDICTS = ("variant", "against", "gain at 0.5", "tuned", "by fold", "with all steps")
# before → after, but for the fourth: what precision another threshold alone has at the recall after
CHANGES = (
    "what changes", "precision", "recall", "precision before at the recall after", "images with all salt missed",
    "images with invented salt", "area under the curve", "calibration error",
)  # fmt: skip
TITLE = "# The case study: tables and charts\n"


def write(sweep: Sweep, folder: Path) -> tuple[Path, int, list[str]]:
    """Fill what the records say into case_study.md in ``folder``, or write such a page; draw its pictures.

    Returns:
        Path of the page, number of pictures, variants of the budget without a record.

    Raises:
        InputError: as `results.read`, and `fill`.
    """
    study = read(sweep)
    predicted, dataset = data.read_tiles(study), data.read_dataset(study)
    pictures = draw(study, dataset, predicted)
    page = folder / "case_study.md"
    before = page.read_text(encoding="utf-8") if page.is_file() else TITLE
    text = fill(before, blocks(study, dataset, predicted, pictures))
    for name, picture in pictures.items():
        io.write_atomic(folder / "case_study" / f"{name}.png", picture)
    io.write_atomic(page, text)
    return page, len(pictures), study.lacking(list(VARIANTS))


def fill(page: str, found: Mapping[str, str]) -> str:
    """The page with each block between ``<!-- records: NAME -->`` and ``<!-- end -->``; others are added at its end.

    Raises:
        InputError: a block of the page does not end before the next one begins.
    """
    for name, rest in re.findall(r"<!-- records: (.*?) -->(.*?)(?=<!-- records: |\Z)", page, re.DOTALL):
        if "<!-- end -->" not in rest:
            raise InputError(
                f"case_study.md: <!-- records: {name} --> has no <!-- end --> before the next block; add that line "
                "below its last one"
            )
    for name, block in found.items():
        begin, end = f"<!-- records: {name} -->", "<!-- end -->"
        filled = f"{begin}\n{block}\n{end}"
        before, found_begin, rest = page.partition(begin)
        _, _, after = rest.partition(end)
        if found_begin:
            page = f"{before}{filled}{after}"
        else:
            page = f"{page}\n## {name.replace('_', ' ').capitalize()}\n\n{filled}\n"
    return page


def draw(study: CaseStudy, dataset: Dataset | None, predicted: Sequence[PredictedTiles]) -> dict[str, bytes]:
    """Every picture that the records, the dataset and the predicted tiles allow: name → PNG bytes."""
    measured, records = study.measured, study.records
    base = pixels.curve_of(records[BASE])
    improves = {variant: pixels.curve_of(records[variant]) for variant in measured(IMPROVES)}
    figures = {
        "gap": training.gap_figure(study, measured(GAP)),
        "thresholds": pixels.thresholds_figure(base),
        "costs": pixels.costs_figure(base),
        "precision_recall": pixels.precision_recall_figure(improves),
        "calibration": pixels.calibration_figure(improves),
        "boundary": pixels.boundary_figure(boundaries(study)),
    }
    if len(measured(IMAGES)) > 1:  # a line through one point is left out
        figures["images"] = training.images_figure(study, measured(IMAGES))
    if len(measured(NECESSARY)) > 1:
        figures["operations"] = training.operations_figure(study, measured(NECESSARY))
    if predicted:
        figures["predicted"] = data.predicted_figure(predicted)
    if dataset is not None:
        figures["coverage"] = data.coverage_figure(dataset)
        if dataset.depth is not None:
            figures["depth"] = data.depth_figure(dataset)
    pictures = {name: png(figure) for name, figure in figures.items()}
    for name, variant in (("curves", BASE), ("overfitting", "images_eighth"), ("plateau", PLATEAU)):
        if variant in records:
            pictures[name] = training.curves(records[variant][0])
    for name, variants in (("pooling_gains", POOLING), ("skip_gains", SKIPS), ("improve_gains", IMPROVES)):
        best = study.best(variants)
        if len(compared := [best.results[variant] for variant in best.measured(variants)]) > 1:
            pictures[name] = charts.gains(compared, best.noise)
    return pictures


def boundaries(study: CaseStudy) -> dict[str, pixels.BoundaryErrors]:
    """The errors by distance to the boundary of each kind of skip connection, of one budget."""
    best = study.best(SKIPS)
    return {variant: pixels.boundary_errors(best.records[variant]) for variant in best.measured(SKIPS)}


def blocks(
    study: CaseStudy, dataset: Dataset | None, predicted: Sequence[PredictedTiles], pictures: Collection[str]
) -> dict[str, str]:
    """Each block of blocks.md.j2 as Markdown, by name; pictures: names of those that lie in case_study/ beside it."""
    environment = Environment(
        loader=PackageLoader("saltseg.studies.case_study", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = (percent, pixels.price, signed, verdict, paired)
    environment.filters |= {word.__name__: word for word in words} | {"count": "{:,}".format}
    curves = {variant: pixels.curve_of(records) for variant, records in study.records.items()}
    base, every = study.records[BASE][0], {**(study.larger.records if study.larger else {}), **study.records}
    template = environment.get_template("blocks.md.j2")
    context = template.new_context({
        "study": study, "sweep": study.sweep, "dataset": dataset, "predicted": predicted, "base": base,
        "larger": study.larger, "everything": everything,
        "changed": {v: every[v][0].changes for v in VARIANTS if v in every},
        "totals": base.details["totals"], "ensemble": base.details.get("ensemble"),
        "variants": VARIANTS, "questions": QUESTIONS, "pooling": POOLING, "skips": SKIPS, "necessary": NECESSARY,
        "gap": GAP, "images": IMAGES, "improves": IMPROVES, "curves": curves, "curve": curves[BASE],
        "half": pixels.THRESHOLD_HALF.threshold, "TUNED": TUNED, "KINDS": KINDS,
        "calibrations": {variant: pixels.calibration(curve) for variant, curve in curves.items()},
        "distances": boundaries(study),
        "skip_curves": {v: pixels.curve_of(study.best(SKIPS).records[v]) for v in study.best(SKIPS).measured(SKIPS)},
        "pixels": pixels, "training": training, "verdict_of": lambda found: verdict(*found),
        "picture": lambda name, text, variants=(): picture(study, name, text, variants) if name in pictures else "",
        "compared": lambda variants: compared(study, variants), "budget": budget,
        "before_and_after": lambda variants: before_and_after(study, variants),
        "answers": lambda variants: all_answers(study, variants), "verdicts": verdicts,
        "missing": lambda variants: missing(study, variants),
    })  # fmt: skip
    texts = {name: "".join(block(context)).strip() for name, block in template.blocks.items()}
    return {
        name: re.sub(r"\n{3,}", "\n\n", text) for name, text in texts.items()
    }  # what is left out leaves empty lines


def everything(study: CaseStudy) -> list[Record]:
    """All records of a budget."""
    return [record for own in study.records.values() for record in own]


def picture(study: CaseStudy, name: str, text: str, variants: Sequence[str] = ()) -> str:
    """The link to a picture; of ``variants``, with the budget that it is of where there are two."""
    link = f"![{text}](case_study/{name}.png)"
    return f"{link}\n\n*{_capital(budget(study.best(variants)))}.*" if study.larger and variants else link


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def budget(study: CaseStudy) -> str:
    """How much each variant of a budget is trained, in words."""
    settings, base = study.sweep.settings(BASE, 0), study.records[BASE][0]
    size, epochs = settings.data.size, settings.train.epochs
    images = f"{base.n_train:,} training images per fold, resized to {size}x{size} pixels"
    return f"budget `{study.sweep.budget_name}`, {images}, {epochs} epochs"


def compared(study: CaseStudy, variants: Sequence[str]) -> str:
    """The tables of each budget that answers for some of ``variants``, and what is missing."""
    texts, parts = list[str](), study.parts(variants)
    for part, names in parts:
        if study.larger:
            texts.append(f"**{_capital(budget(part))}:**")
        texts += [table(part, names), verdicts(part, names), over_all_seeds(part, names)]
    return "\n\n".join(filter(None, (*texts, missing(study, variants))))


def all_answers(study: CaseStudy, variants: Sequence[str]) -> str:
    """`answers` of each budget that answers for some of ``variants``, which is named where there are two."""
    texts = []
    for part, names in study.parts(variants):
        note = f" (budget `{part.sweep.budget_name}`)" if study.larger else ""
        texts += [f"{line}{note}" for line in answers(part, names).splitlines()]
    return "\n".join(texts)


def table(study: CaseStudy, variants: Sequence[str]) -> str:
    """A row for each of ``variants`` that has a record."""
    rows = []
    for variant in study.measured(variants):
        records = study.records[variant]
        details = records[0].details
        losses, accuracy = np.mean([r.log_loss for r in records]), study.mean(variant, "pixel_accuracy")
        rows.append((
            f"`{variant}`", f"{losses:.4f}", percent(accuracy),
            *(_scores(records, kind) for kind in KINDS),
            f"{details['parameters']:,}", f"{details['operations'] / 1e9:.3f}",
            f"{study.seconds_per_epoch(variant):.1f}",
            f"{max(record.peak_memory_mb or 0 for record in records):,}",
        ))  # fmt: skip
    return markdown_table(COLUMNS, rows)


def _scores(records: Sequence[Record], kind: str) -> str:
    """The mean score of trainings; of several, each one in parentheses behind it."""
    if not all(record.passed[kind] for record in records):
        return "–"
    every = [float(record.images(kind).mean()) for record in records]
    mean = f"{np.mean(every):.3f}"
    return mean if len(every) == 1 else f"{mean} ({', '.join(f'{score:.3f}' for score in every)})"


def before_and_after(study: CaseStudy, variants: Sequence[str]) -> str:
    """Errors at 0.5 of base and of each other measured variant, of one network and several, without and with tuning.

    See `CHANGES` for the columns. Variants are compared over the seeds that they share with base.
    """
    base, compared = study.records[BASE], dict[str, tuple[ThresholdCurve, ThresholdCurve]]()
    for name in study.measured(variants):
        if study.results[name].reference == BASE:
            own = study.results[name].records
            same_seeds = [record for record in base if record.seed in {record.seed for record in own}]
            compared[f"`{name}`"] = pixels.curve_of(same_seeds), pixels.curve_of(own)
    if ensemble := base[0].details.get("ensemble"):
        curves = pixels.pooled([ensemble["alone"]]), pixels.pooled([ensemble["together"]])
        compared[f"one of {len(ensemble['folds'])} networks → their mean"] = curves
    rows = []
    for name, (before, after) in compared.items():
        area = f"{before.area:.4f} → {after.area:.4f}"
        error = f"{pixels.calibration(before).error:.4f} → {pixels.calibration(after).error:.4f}"
        rows.append((name, *_changes(before, after.errors()), area, error))
    tuned = _changes(pixels.curve_of(base), pixels.errors_when_tuned(base))
    return markdown_table(CHANGES, [*rows, ("tuned threshold", *tuned, "the same", "the same")])


def _changes(before: ThresholdCurve, after: Sequence[float]) -> tuple[str, ...]:
    """The second to the sixth of `CHANGES`."""
    pairs = zip(before.errors(), after, strict=True)
    precision, recall, missed, invented = (f"{percent(one)} → {percent(two)}" for one, two in pairs)
    return precision, recall, percent(before.precision_at(after[1])), missed, invented


def answers(study: CaseStudy, variants: Sequence[str]) -> str:
    """A line with the verdict on the tuned score of each measured variant that is compared with another."""
    lines = []
    for variant in study.measured(variants):
        if not (reference := study.reference(variant)):
            continue
        text = verdict(study.results[variant].gains[TUNED], study.sigma(variant))
        if where := _silent(study, (variant, reference)):
            text = f"void, since at 0.5 nothing at all is marked by {where} (by the numbers: {text})"
        lines.append(f"- `{variant}` against `{reference}`: {text}")
    return "\n".join(lines)


def verdicts(study: CaseStudy, variants: Sequence[str]) -> str:
    """A table with the verdict on every score of each measured variant that is compared with another."""
    rows, void = [], dict[str, None]()
    for variant in study.measured(variants):
        if not (reference := study.reference(variant)):
            continue
        gains, where = study.results[variant].gains, _silent(study, (variant, reference))
        if where:
            void[where] = None
        every = [verdict(gains[kind], study.sigma(variant, kind)) for kind in KINDS]
        of_folds = ", ".join(signed(float(part.mean())) for part in study.fold_gains(variant))
        rows.append((f"`{variant}`{' (void)' if where else ''}", f"`{reference}`", *every[:2], of_folds, every[2]))
    if not rows:
        return ""
    notes = [f"*Void: at 0.5 nothing at all is marked by {where}.*" for where in void]
    return "\n\n".join((markdown_table(VERDICTS, rows), *notes))


def over_all_seeds(study: CaseStudy, variants: Sequence[str]) -> str:
    """The verdicts against the mean of all trainings of base, where it has seeds that the others have not."""
    base, rows = study.records[BASE], []
    for variant in study.measured(variants):
        own = study.records[variant]
        if study.reference(variant) != BASE or not {r.seed for r in base} - {r.seed for r in own}:
            continue
        known = (
            all(r.passed[kind] for r in (*base, *own) for kind in KINDS) and len({r.nested for r in (*base, *own)}) == 1
        )
        if known and not study.silent(variant):
            rows.append((f"`{variant}`", *(verdict(*study.gain_over(variant, base, kind)) for kind in KINDS)))
    if not rows:
        return ""
    heading = f"Against the mean of the {len(base)} trainings of `base`, image by image:"
    return f"{heading}\n\n{markdown_table(('variant', *VERDICTS[2:4], VERDICTS[5]), rows)}"


def _silent(study: CaseStudy, variants: Sequence[str]) -> str:
    """Which of the variants mark nothing at 0.5, and where; "" if all mark something."""
    silent = [(name, study.silent(name)) for name in variants]
    return ", ".join(f"`{name}` in fold {' and '.join(map(str, folds))}" for name, folds in silent if folds)


def missing(study: CaseStudy, variants: Sequence[str]) -> str:
    """Sentences that name those of ``variants`` without a record, and why; empty when there are none."""
    lacking, larger = study.lacking(variants), study.larger.records if study.larger else ()
    beyond = [variant for variant in variants if variant not in (*study.records, *lacking, *larger)]

    def sentence(beginning: str, names: Sequence[str]) -> str:
        return f"*{beginning}: {', '.join(f'`{name}`' for name in names)}.*" if names else ""

    budget = f"Not part of the budget `{study.sweep.budget_name}`, which has too few images"
    return " ".join(filter(None, (sentence("Not measured yet", lacking), sentence(budget, beyond))))


def paired(scores: Mapping[str, Any]) -> str:
    """The verdict on the mean of networks against one of them; scores: see `measure.ensemble`."""
    return verdict(MeanInterval(scores["gain"], *scores["interval"]))


def percent(share: float) -> str:
    """A share as a percentage; a dash for what is not defined."""
    return f"{100 * share:.1f} %" if np.isfinite(share) else "–"

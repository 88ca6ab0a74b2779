"""All runs and blends side by side, best first, and where they would have stood on the 2018 board."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from saltseg import runs, storage
from saltseg.errors import InputError
from saltseg.reporting import facts as facts_of
from saltseg.reporting import figures, notes, page

# Kaggle's private leaderboard of 2018, 3,219 teams: place, score, name of the line.
LINES = (
    (1, 0.8964, "1st place"),
    (16, 0.89097, "gold"),
    (160, 0.87163, "silver"),
    (321, 0.85918, "bronze"),
    (1610, 0.81665, "the median"),
)
# The private test images are easier than the labelled ones: documented systems scored 0.015 to 0.018 above
# their out-of-fold score there.
PRIVATE_MINUS_OUT_OF_FOLD = 0.0165
HEADER = (
    *("run", "dataset", "folds", "fold mean", "at 0.5", "naive", "cross-fitted"),
    *("epoch", "TTA", "public", "private", "time"),
)
EPOCHS = (
    f"Epoch: which weights predict. Best: those with the lowest loss on the validation images, {notes.FLATTERY}; "
    "last, cycles: those at the end, or at the end of every cycle of the learning rate, so nothing was chosen; "
    "mixed: members of a blend differ; empty: not known."
)
EXPECTATION = (
    "The expected private score is the out-of-fold score of the rule in use plus "
    f"{PRIVATE_MINUS_OUT_OF_FOLD}, the lead that the private images of 2018 gave to documented systems "
    "(0.015 to 0.018). It is an expectation, not a result; a difference smaller than the interval means "
    "nothing."
)


@dataclass(frozen=True)
class Row:
    """One run or blend. Scores in [0, 1]; None: not known, or without meaning here.

    fold_mean, fold_spread: mean and standard deviation (n - 1) over folds of the score at 0.5; expected: of
    the private test images, real data only; standing: the lines of the 2018 board it lies between; seconds:
    training; recipe: of what a blend is the mean, "2/3 unet + 1/3 fpn"; epoch: whose weights predict, "best", "last",
    "cycles", "mixed" or "" (see `EPOCHS`). unscored: why there is no score and never will be, or "".
    """

    name: str
    kind: str
    dataset: str
    folds: str
    fold_mean: float | None
    fold_spread: float | None
    at_half: float | None
    naive: float | None
    cross_fitted: float | None
    interval: tuple[float, float] | None
    tta_gain: float | None
    public: float | None
    private: float | None
    expected: float | None
    standing: str | None
    seconds: float | None
    synthetic: bool
    recipe: str | None
    epoch: str
    unscored: str


def standing(score: float) -> str:
    """The band of the 2018 private board that `score` falls into: "between gold (0.89097) and …".

    A band and no place: scores differ by less than their noise over hundreds of places.
    """
    above = [f"{name} ({line})" for _, line, name in LINES if score < line]
    below = [f"{name} ({line})" for _, line, name in LINES if score >= line]
    if not above:
        return f"above {below[0]}"
    return f"between {below[0]} and {above[-1]}" if below else f"below {above[-1]}"


def row(run: runs.RunDir) -> Row:
    """Facts of one run or blend; raises InputError for damaged files."""
    facts = facts_of.read(run)
    found, solution = facts.postprocess or {}, facts.solution or {}
    fitted = found.get("cross_fitted")
    honest = facts.honest_score
    expected = honest + PRIVATE_MINUS_OUT_OF_FOLD if honest is not None and facts.competition else None
    return Row(
        name=run.name,
        kind=facts.kind,
        dataset=facts.dataset,
        folds=f"{facts.finished}/{facts.planned or facts.finished}",
        fold_mean=facts.mean("score_at_half"),
        fold_spread=facts.spread("score_at_half"),
        at_half=found.get("score_at_half"),
        naive=found["naive"]["score"] if found else None,
        cross_fitted=fitted["score"] if fitted else None,
        interval=(fitted["interval"][0], fitted["interval"][1]) if fitted else None,
        tta_gain=facts.tta_gain,
        public=solution.get("public"),
        private=solution.get("private"),
        expected=expected,
        standing=None if expected is None else standing(expected),
        seconds=facts.seconds,
        synthetic=facts.synthetic,
        recipe=facts.recipe,
        epoch=_epoch(set(facts.keeps.values())),
        unscored=f"labels from all folds of {teacher}" if (teacher := facts.teacher_of_all_folds) else "",
    )


def _epoch(keeps: set[str | None]) -> str:
    if not keeps or None in keeps:
        return ""
    keep = keeps.pop() if len(keeps) == 1 else "mixed"
    assert keep is not None
    return "cycles" if keep == "snapshots" else keep


def rows(output_dir: Path) -> list[Row]:
    """All runs and blends under `output_dir`: dataset by dataset, best cross-fitted score first.

    Real datasets come before simulated ones, in alphabetical order; within one, rows without a score come
    last. Raises InputError when there is no run at all.
    """
    found = [row(run) for run in runs.all_runs(output_dir)]
    if not found:
        raise InputError(f"no run in {output_dir / 'runs'}; train one with scripts/run.py, or give --output")

    def order(r: Row) -> tuple[bool, str, bool, float, str]:
        return r.synthetic, r.dataset, r.cross_fitted is None, -(r.cross_fitted or 0), r.name

    return sorted(found, key=order)


def table(found: Sequence[Row]) -> str:
    """Plain text for a terminal of 160 columns: the figures, then where each would have stood."""
    cells = [HEADER, *(_cells(r) for r in found)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER))]
    lines = [
        "  ".join(
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    lines += ["", *textwrap.wrap(EPOCHS, 110, break_on_hyphens=False)]
    blends = [f"  {_short(r.name)} = {r.recipe}" for r in found if r.recipe]
    if blends:
        lines += ["", "blends:"]
        lines += [
            line
            for blend in blends
            for line in textwrap.wrap(blend, 110, subsequent_indent="      ", break_on_hyphens=False)
        ]
    unscored = [f"  {_short(r.name)}: {r.unscored}" for r in found if r.unscored]
    if unscored:
        lines += ["", "without an honest score, for submission only:", *unscored]
    stood = [
        f"  {_short(r.name)} ({r.folds} folds): {r.expected:.4f}, {r.standing}" for r in found if r.expected is not None
    ]
    if stood:
        lines += ["", "would have stood about (2018 private board, 3,219 teams):", *stood, ""]
        lines += textwrap.wrap(EXPECTATION, 110)
    return "\n".join(lines)


def _cells(r: Row) -> tuple[str, ...]:
    spread = "" if r.fold_spread is None else f" ± {r.fold_spread:.4f}"
    fitted = page.score(r.cross_fitted) + (f" {page.interval(r.interval)}" if r.interval else "")
    return (
        _short(r.name) + (" (blend)" if r.kind == "blend" else ""),
        _short(r.dataset, 14),
        r.folds,
        page.score(r.fold_mean) + spread,
        page.score(r.at_half),
        page.score(r.naive),
        fitted,
        r.epoch,
        page.gain(r.tta_gain),
        page.score(r.public),
        page.score(r.private),
        page.duration(r.seconds),
    )


def _short(text: str, length: int = 24) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def html(found: Sequence[Row]) -> str:
    """The same as one self-contained page."""
    datasets = []
    for dataset, group in groupby(found, key=lambda r: r.dataset):
        members = list(group)
        scored = [(r.name, r.cross_fitted, r.interval) for r in members if r.cross_fitted and r.interval]
        chart = figures.score_intervals(scored) if scored else None
        datasets.append({"name": dataset, "rows": members, "chart": chart, "synthetic": members[0].synthetic})
    return page.render("leaderboard.html.j2", datasets=datasets, epochs=EPOCHS, expectation=EXPECTATION, lines=LINES)


def write(output_dir: Path, found: Sequence[Row]) -> Path:
    """Write the page to ``leaderboard.html`` under `output_dir`; returns its path."""
    path = output_dir / "leaderboard.html"
    storage.write_atomic(path, html(found))
    return path

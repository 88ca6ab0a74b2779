"""All runs and blends in one table, best first."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from saltseg import io, runs
from saltseg.errors import InputError, reason
from saltseg.reporting import caveats, page, plots, run_summary
from saltseg.reporting.run_summary import RunSummary

# Kaggle's private leaderboard of 2018, 3,219 teams: score, name.
LINES_2018 = (
    (0.8964, "1st place"),
    (0.89097, "gold"),
    (0.87163, "silver"),
    (0.85918, "bronze"),
    (0.81665, "median"),
)
ORIENTATION = (
    "For orientation, Kaggle's private leaderboard of 2018 (3,219 teams): "
    + ", ".join(f"{name} {score}" for score, name in LINES_2018)
    + ". It was scored on other images, with ensembles; out-of-fold scores of single networks do not compare with it."
)
HEADER = (
    *("run", "dataset", "folds", "fold mean", "at 0.5", "argmax", "cross-fitted"),
    *("checkpoint", "TTA", "public", "private", "time"),
)
CHECKPOINTS = (
    "Checkpoint: which weights predict. best: of the epoch with the lowest loss on the validation images, "
    f"{caveats.SELECTION_BIAS}; last: of the last epoch; snapshots: of the last epoch of every cycle of the learning "
    "rate; mixed: members of a blend differ; empty: unknown."
)
WIDTH = 110  # of text below the table


@dataclass(frozen=True)
class Leaderboard:
    """Runs and blends in order, and those that cannot be read: "name: why"."""

    rows: list[RunSummary]
    damaged: list[str]

    @property
    def competition(self) -> bool:
        """Whether any run is of the competition's data."""
        return any(row.competition for row in self.rows)


def read(output_dir: Path) -> Leaderboard:
    """All runs and blends under `output_dir`, dataset by dataset, best cross-fitted score first.

    Real datasets come before simulated ones, in alphabetical order; rows without a score come last. A damaged run is
    left out and named.

    Raises:
        InputError: no run can be read.
    """
    rows, damaged = [], []
    for run in runs.all_runs(output_dir):
        try:
            rows.append(run_summary.read(run))
        except (InputError, OSError) as error:
            damaged.append(f"{run.name}: {reason(error, 300)}")
    if not rows:
        why = damaged[0] if damaged else f"no run in {output_dir / 'runs'}"
        raise InputError(f"{why}; train one with saltseg run, or give --output")

    def order(r: RunSummary) -> tuple[bool, str, bool, float, str]:
        return r.synthetic, r.dataset, r.cross_fitted is None, -(r.cross_fitted or 0), r.name

    return Leaderboard(sorted(rows, key=order), damaged)


def table(board: Leaderboard) -> str:
    """Plain text for a terminal of 160 columns."""
    cells = [HEADER, *(_cells(r) for r in board.rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADER))]
    lines = [
        "  ".join(
            text.ljust(width) if column < 2 else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    ]
    lines.insert(1, "-" * max(map(len, lines)))
    sections = {
        "left out, because they cannot be read:": board.damaged,
        "blends:": [f"{_short(r.name)} = {r.recipe}" for r in board.rows if r.recipe],
        "trainings that diverged and stopped early:": [
            f"{_short(r.name)}: {_diverged(r)}" for r in board.rows if r.diverged
        ],
        "without an out-of-fold score, for submission only:": [
            f"{_short(r.name)}: {r.unscored}" for r in board.rows if r.unscored
        ],
    }
    for title, entries in sections.items():
        if entries:
            lines += ["", title]
            lines += [line for entry in entries for line in _wrap(entry, "  ", "      ")]
    lines += ["", *_wrap(CHECKPOINTS)]
    if board.competition:
        lines += ["", *_wrap(ORIENTATION)]
    return "\n".join(lines)


def _wrap(text: str, first: str = "", following: str = "") -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=first, subsequent_indent=following, break_on_hyphens=False)


def _cells(r: RunSummary) -> tuple[str, ...]:
    std = r.std("score_at_half")
    fitted = page.score(r.cross_fitted) + (f" {page.interval(r.interval)}" if r.interval else "")
    return (
        f"{_short(r.name, 16)} (blend)" if r.kind == "blend" else _short(r.name),
        _short(r.dataset, 14),
        r.folds,
        page.score(r.mean("score_at_half")) + ("" if std is None else f" ± {std:.4f}"),
        page.score(r.at_half),
        page.score(r.argmax),
        fitted,
        r.checkpoint,
        page.gain(r.tta_gain),
        page.score(r.solution.get("public")),
        page.score(r.solution.get("private")),
        page.duration(r.seconds),
    )


def _diverged(r: RunSummary) -> str:
    """The folds and epochs in which the validation loss was not finite."""
    return ", ".join(f"fold {fold} at epoch {epoch}" for fold, epoch in r.diverged.items())


def _short(text: str, length: int = 24) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def html(board: Leaderboard) -> str:
    """The same as one self-contained page, with a chart per dataset."""
    datasets = []
    for dataset, group in groupby(board.rows, key=lambda r: r.dataset):
        rows = list(group)
        datasets.append({"name": dataset, "rows": rows, "chart": _chart(rows)})
    orientation = ORIENTATION if board.competition else ""
    return page.render(
        "leaderboard.html.j2",
        datasets=datasets,
        damaged=board.damaged,
        diverged={r.name: _diverged(r) for r in board.rows if r.diverged},
        checkpoints=CHECKPOINTS,
        orientation=orientation,
    )


def _chart(rows: Sequence[RunSummary]) -> bytes | None:
    scored = [(r.name, r.cross_fitted, r.interval) for r in rows if r.cross_fitted and r.interval]
    return plots.score_intervals(scored) if scored else None


def write(output_dir: Path, board: Leaderboard) -> Path:
    """Write the page to ``leaderboard.html`` under `output_dir`; returns its path."""
    path = output_dir / "leaderboard.html"
    io.write_atomic(path, html(board))
    return path

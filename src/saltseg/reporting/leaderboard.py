"""All runs and blends in one table, best first."""

import textwrap
from collections import Counter
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path

from saltseg import io, runs
from saltseg.errors import InputError, reason
from saltseg.reporting import caveats, page, plots, run_summary
from saltseg.reporting.run_summary import RunSummary

ORIENTATION = (
    "For orientation, Kaggle's private leaderboard of 2018 (3,219 teams): 1st place 0.8964, gold 0.89097, silver "
    "0.87163, bronze 0.85918, median 0.81665. It was scored on other images, with ensembles; out-of-fold scores of "
    "single networks do not compare with it."
)
WIDTH = 160  # characters of the text's longest line
HEADER = (
    *("run", "dataset", "folds", "fold mean", "at 0.5", "argmax", "cross-fitted"),
    *("mean est.", "checkpoint", "TTA", "public", "private", "time"),
)
ESTIMATE = (
    "Mean est.: what to expect of the submission, which averages five networks, while the cross-fitted score of a run "
    "is that of single ones. It adds a gain that was measured once, on 600 tiles held back, with one recipe."
)
OLDER = (
    "The steps of the post-processing of {} were selected on all folds, which raises the cross-fitted score a little; "
    "saltseg tune makes it anew."
)
OTHER_POSTPROCESSING = (
    "The submission of {name} has the post-processing of {other}: public and private are of it, the other scores of "
    "the run's own."
)
OTHER_DATA = "Data of one name differ, so that scores of these groups of rows do not compare: {}."
OTHER_FOLDS = "The scores of {name} are of {folds}; saltseg predict {name}, then saltseg tune {name}, takes in all."
CHECKPOINTS = (
    "Checkpoint: which weights predict. best: of the epoch with the lowest loss on the validation images, "
    f"{caveats.SELECTION_BIAS}; last: of the last epoch; snapshots: of the last epoch of every cycle of the learning "
    "rate; mixed: members of a blend differ; empty: unknown."
)


@dataclass(frozen=True)
class Leaderboard:
    """Runs and blends in order, and those that cannot be read: "name: why"."""

    rows: list[RunSummary]
    damaged: list[str]

    @property
    def datasets(self) -> list[tuple[str, list[RunSummary]]]:
        """Rows of the same data, with its name, and its hash where other data have that name, too."""
        groups = [list(rows) for _, rows in groupby(self.rows, key=_data)]
        count = Counter(rows[0].dataset for rows in groups)
        return [(_title(rows[0]) if count[rows[0].dataset] > 1 else rows[0].dataset, rows) for rows in groups]

    @property
    def notes(self) -> list[str]:
        """What is said below the table."""
        notes = [CHECKPOINTS, ESTIMATE, ORIENTATION] if any(row.competition for row in self.rows) else [CHECKPOINTS]
        older = [row.name for row in self.rows if row.postprocess and not row.postprocess["cross_fitted"].get("nested")]
        notes += [OLDER.format(", ".join(older))] if older else []
        several = [
            f"{title}: {', '.join(r.name for r in rows)}" for title, rows in self.datasets if title != rows[0].dataset
        ]
        notes += [OTHER_DATA.format("; ".join(several))] if several else []
        notes += [
            OTHER_POSTPROCESSING.format(name=r.name, other=r.postprocessing_from)
            for r in self.rows
            if r.postprocess and r.postprocessing_from
        ]
        return notes + [OTHER_FOLDS.format(name=r.name, folds=r.other_folds) for r in self.rows if r.other_folds]


def _data(r: RunSummary) -> tuple[bool, str, str]:
    """What a run is scored on: only rows of the same data compare."""
    return r.synthetic, r.dataset, str(r.provenance["dataset_hash"])


def _title(r: RunSummary) -> str:
    return f"{r.dataset}, sha256 {r.provenance['dataset_hash'][:16]}"


def read(output_dir: Path) -> Leaderboard:
    """All runs and blends under `output_dir`, dataset by dataset, best cross-fitted score first.

    Real datasets come before simulated ones, in alphabetical order; data of one name that differ stand apart; rows
    without a score come last. A damaged run is left out and named.

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
    rows.sort(key=lambda r: (*_data(r), r.cross_fitted is None, -(r.cross_fitted or 0), r.name))
    return Leaderboard(rows, damaged)


def table(board: Leaderboard) -> str:
    """Plain text for a terminal of 160 columns; where a row is longer, names of datasets are cut."""
    cells = [HEADER, *(_cells(r) for r in board.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    excess = max(0, sum(widths) + 2 * (len(widths) - 1) - WIDTH)
    widths[1] = max(5, widths[1] - excess)
    cells = [(run, page.shortened(dataset, widths[1]), *rest) for run, dataset, *rest in cells]
    aligned = [f"<{width}" if column < 2 else f">{width}" for column, width in enumerate(widths)]
    lines = ["  ".join(map(format, row, aligned)).rstrip() for row in cells]
    lines.insert(1, "-" * max(map(len, lines)))
    sections = {
        "left out, because they cannot be read:": board.damaged,
        "blends:": [f"{page.shortened(r.name)} = {r.recipe}" for r in board.rows if r.recipe],
        "trainings that diverged and stopped early:": [
            f"{page.shortened(r.name)}: {_diverged(r)}" for r in board.rows if r.diverged
        ],
        "without an out-of-fold score, for submission only:": [
            f"{page.shortened(r.name)}: {r.unscored}" for r in board.rows if r.unscored
        ],
    }
    wrap = partial(textwrap.wrap, width=110, break_on_hyphens=False)
    for title, entries in sections.items():
        if entries:
            lines += ["", title]
            lines += [line for entry in entries for line in wrap(entry, initial_indent="  ", subsequent_indent=" " * 6)]
    for note in board.notes:
        lines += ["", *wrap(note)]
    return "\n".join(lines)


def _cells(r: RunSummary) -> tuple[str, ...]:
    std = r.std("score_at_half")
    return (
        f"{page.shortened(r.name, 16)} (blend)" if r.kind == "blend" else page.shortened(r.name),
        page.shortened(r.dataset, 14),
        r.folds,
        page.score(r.mean("score_at_half")) + ("" if std is None else f" ± {std:.4f}"),
        page.score(r.at_half),
        page.score(r.argmax),
        page.score(r.cross_fitted) + (f" {page.interval(r.interval)}" if r.interval else ""),
        page.score(r.submitted_estimate.score if r.submitted_estimate else None),
        r.checkpoint,
        page.gain(r.tta_gain),
        page.score(r.solution.get("public")),
        page.score(r.solution.get("private")),
        page.duration(r.seconds),
    )


def _diverged(r: RunSummary) -> str:
    """The folds and epochs in which the validation loss was not finite."""
    return ", ".join(f"fold {fold} at epoch {epoch}" for fold, epoch in r.diverged.items())


def html(board: Leaderboard) -> str:
    """The same as one self-contained page, with a chart per dataset."""
    datasets = []
    for title, rows in board.datasets:
        scores = [(r.name, r.cross_fitted, r.interval) for r in rows if r.cross_fitted is not None and r.interval]
        datasets.append((title, rows, plots.score_intervals(scores) if scores else None))
    diverged = {r.name: _diverged(r) for r in board.rows if r.diverged}
    return page.render("leaderboard.html.j2", board=board, datasets=datasets, diverged=diverged)


def write(output_dir: Path, board: Leaderboard) -> Path:
    """Write the page to ``leaderboard.html`` under `output_dir`; returns its path."""
    path = output_dir / "leaderboard.html"
    io.write_atomic(path, html(board))
    return path

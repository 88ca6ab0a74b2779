"""What is known about one run or blend, read from its files; whatever is not there yet is None or empty."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saltseg import runs, storage
from saltseg.config import Config
from saltseg.core.postprocess import HALF, Rule
from saltseg.errors import InputError
from saltseg.inference import steps


@dataclass(frozen=True)
class Facts:
    """metrics: one mapping per finished fold, in order; settings: None for a blend.

    keeps: `train.keep` of the run, or of every run that a blend averages, by name; None where a run is gone.
    """

    run: runs.RunDir
    provenance: dict[str, Any]
    settings: Config | None
    metrics: list[dict[str, Any]]
    postprocess: dict[str, Any] | None
    solution: dict[str, Any] | None
    keeps: dict[str, str | None]

    @property
    def kind(self) -> str:
        """ "run" or "blend"."""
        return _kind(self.run)

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return str(self.provenance.get("dataset") or "unknown")

    @property
    def synthetic(self) -> bool:
        """Whether the data was simulated, so that no score says anything about Kaggle's board."""
        return bool(self.provenance.get("synthetic"))

    @property
    def competition(self) -> bool:
        """Whether the data is the competition's (a dataset called tgs or tgs-…), so that its 2018 board applies."""
        return not self.synthetic and (self.dataset == "tgs" or self.dataset.startswith("tgs-"))

    @property
    def teacher_of_all_folds(self) -> str:
        """See `saltseg.runs.RunDir.taught_by_all_folds`: a run with such a teacher has no honest score."""
        return self.settings.pseudo.teacher_of_all_folds if self.settings else ""

    @property
    def members(self) -> list[str]:
        """Names of the runs in a blend."""
        return [str(name) for name in self.provenance.get("members", [])]

    @property
    def weights(self) -> list[int]:
        """Counts that the members of a blend have on test images; equal ones where none are recorded."""
        return list(self.provenance.get("weights", [1] * len(self.members)))

    @property
    def recipe(self) -> str | None:
        """Of what a blend is the mean, "2/3 unet + 1/3 fpn"; None for a run."""
        shares = [(weight, name) for weight, name in zip(self.weights, self.members, strict=True) if weight]
        if len(shares) == 1:
            return f"{shares[0][1]} alone"
        return " + ".join(f"{weight}/{sum(self.weights)} {name}" for weight, name in shares) or None

    @property
    def same_loss(self) -> bool:
        """Whether the training loss is what the validation loss always is: cross-entropy alone, in the frame."""
        if self.settings is None:
            return False
        model, train = self.settings.model, self.settings.train
        extra = train.late_from or model.deep_supervision or model.empty_head or train.loss_region != "frame"
        return train.loss == "bce" and not extra

    @property
    def views(self) -> list[str]:
        """Test-time views that the predictions were made with."""
        return list(self.metrics[0].get("views", [])) if self.metrics else []

    @property
    def planned(self) -> int | None:
        """Number of folds that the configuration asks for; None for a blend."""
        return self.settings.folds.trained if self.settings else None

    @property
    def finished(self) -> int:
        """Number of folds that out-of-fold predictions come from."""
        return len(self.metrics) or len((self.postprocess or {}).get("folds", []))

    @property
    def partial(self) -> bool:
        """Whether folds are still to be trained."""
        return self.planned is not None and self.finished < self.planned

    @property
    def rule(self) -> Rule:
        """The decision rule in use; 0.5 until one was tuned."""
        return Rule.from_dict(self.postprocess["rule"]) if self.postprocess else HALF

    @property
    def honest_score(self) -> float | None:
        """Out-of-fold score of the rule in use: cross-fitted if it was tuned, plain for 0.5."""
        if self.postprocess is None:
            return None
        tuned = self.postprocess["adopted"] == "tuned"
        return self.postprocess["cross_fitted"]["score"] if tuned else self.postprocess["score_at_half"]

    @property
    def tta_gain(self) -> float | None:
        """Mean over folds of the score at 0.5 with all views minus with one; None where only one is used."""
        pairs = [
            (fold["score_at_half"], fold["score_at_half_no_tta"])
            for fold in self.metrics
            if len(fold.get("views", [])) > 1 and fold.get("score_at_half_no_tta") is not None
        ]
        return float(np.mean([with_views - without for with_views, without in pairs])) if pairs else None

    @property
    def seconds(self) -> float | None:
        """Training time over all finished folds, seconds."""
        return float(sum(fold["seconds"] for fold in self.metrics)) if self.metrics else None

    @property
    def kept(self) -> dict[int, int]:
        """Epoch whose weights predict, by finished fold."""
        return {fold["fold"]: fold["best_epoch"] for fold in self.metrics if "best_epoch" in fold}

    def mean(self, key: str) -> float | None:
        """Mean of a figure over the finished folds that have it."""
        values = [fold[key] for fold in self.metrics if fold.get(key) is not None]
        return float(np.mean(values)) if values else None

    def spread(self, key: str) -> float | None:
        """Standard deviation (n - 1) of a figure over folds; None for fewer than two."""
        values = [fold[key] for fold in self.metrics if fold.get(key) is not None]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def logs(self) -> dict[int, list[dict[str, str]]]:
        """Rows of log.csv of every fold that finished an epoch, unfinished folds included."""
        logs = {fold.number: storage.read_csv(fold.log) for fold in self.run.folds() if fold.log.is_file()}
        return {fold: rows for fold, rows in sorted(logs.items()) if rows}


def read(run: runs.RunDir) -> Facts:
    """Facts of a run or blend; raises InputError for files that are there but cannot be read."""
    tuned = _optional(run.postprocess, "cross_fitted")
    return Facts(
        run=run,
        provenance=run.read_provenance(),
        settings=run.read_config() if run.config.is_file() and _kind(run) == "run" else None,
        metrics=[storage.read_json(fold.metrics) for fold in run.finished_folds()],
        postprocess=tuned if tuned is not None and steps.fits(run, tuned) else None,  # of these predictions, or none
        solution=_optional(run.solution_score, "all"),
        keeps=_keeps(run),
    )


def _kind(run: runs.RunDir) -> str:
    return "blend" if run.path.parent.name == "blends" else "run"


def _keeps(run: runs.RunDir, above: frozenset[str] = frozenset()) -> dict[str, str | None]:
    """`Facts.keeps`; a member may be a blend. above: blends that hold this one (names are reused, so check)."""
    if _kind(run) == "run":
        return {run.name: run.read_config().train.keep if run.config.is_file() else None}
    found: dict[str, str | None] = {}
    for name in run.members():
        try:
            member = runs.existing_run(run.path.parents[1], name)
        except InputError:  # removed since
            found[name] = None
            continue
        found |= {name: None} if name in above else _keeps(member, above | {run.name})
    return found


def _optional(path: Path, key: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    found = storage.read_json(path)
    if not isinstance(found, dict) or key not in found:
        raise InputError(f"{path} has no {key!r}; delete it and run the step that writes it again")
    return found

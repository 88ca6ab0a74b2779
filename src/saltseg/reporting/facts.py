"""What is known about one run or blend, read from its files; whatever is not there yet is None or empty."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from saltseg import runs
from saltseg.config import Config
from saltseg.core.postprocess import HALF, Rule
from saltseg.errors import InputError


@dataclass(frozen=True)
class Facts:
    """metrics: one mapping per finished fold, in order; settings: None for a blend."""

    run: runs.RunDir
    provenance: dict[str, Any]
    settings: Config | None
    metrics: list[dict[str, Any]]
    postprocess: dict[str, Any] | None
    solution: dict[str, Any] | None

    @property
    def kind(self) -> str:
        """ "run" or "blend"."""
        return "blend" if self.run.path.parent.name == "blends" else "run"

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
    def members(self) -> list[str]:
        """Names of the runs in a blend."""
        return [str(name) for name in self.provenance.get("members", [])]

    @property
    def views(self) -> list[str]:
        """Test-time views that the predictions were made with."""
        return list(self.metrics[0].get("views", [])) if self.metrics else []

    @property
    def planned(self) -> int | None:
        """Number of folds that the configuration asks for; None for a blend."""
        if self.settings is None:
            return None
        return 1 if self.settings.folds.scheme == "holdout" else self.settings.folds.count

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
        logs = {fold.number: runs.read_csv(fold.log) for fold in self.run.folds() if fold.log.is_file()}
        return {fold: rows for fold, rows in sorted(logs.items()) if rows}


def read(run: runs.RunDir) -> Facts:
    """Facts of a run or blend; raises InputError for files that are there but cannot be read."""
    return Facts(
        run=run,
        provenance=run.read_provenance(),
        settings=run.read_config() if run.config.is_file() and run.path.parent.name != "blends" else None,
        metrics=[runs.read_json(fold.metrics) for fold in run.finished_folds()],
        postprocess=_optional(run.postprocess, "cross_fitted"),
        solution=_optional(run.solution_score, "all"),
    )


def _optional(path: Path, key: str) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    found = runs.read_json(path)
    if not isinstance(found, dict) or key not in found:
        raise InputError(f"{path} has no {key!r}; delete it and run the step that writes it again")
    return found

"""What is known about one run or blend, read from its files; whatever is not there yet is None or empty."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from saltseg import runs, schemas
from saltseg.config import Config, SmpConfig
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.pipeline import tune
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing

# What the mean of five networks scored more than one, with a post-processing that was tuned on single networks and at
# threshold 0.5: on 600 tiles held back, one recipe (benchmarks/postprocessing_of_means.py).
FIVE_OVER_ONE = {"tuned": (0.0033, (-0.0018, 0.0080)), "half": (0.0092, (0.0040, 0.0147))}


class Estimate(NamedTuple):
    """A score of single networks plus what the mean of five gained over one, with the 95 % interval of that gain."""

    score: float
    gain: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class RunSummary:
    """The files of a run or blend, and what follows from them.

    Attributes:
        provenance: ``provenance.json``.
        metrics: ``metrics.json`` of every finished fold, in order.
        postprocess: ``postprocess.json``; None unless it belongs to the present out-of-fold predictions.
        solution: ``solution_score.json``, or nothing.
        postprocessing_source: ``postprocessing_source.json``, or nothing: another run's post-processing in use.
        configs: by name, of the run or of every run that a blend averages; None for a run that is gone.
    """

    run: runs.RunDir
    provenance: dict[str, Any]
    metrics: list[dict[str, Any]]
    postprocess: dict[str, Any] | None
    solution: dict[str, Any]
    postprocessing_source: dict[str, Any]
    configs: dict[str, Config | None]

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def kind(self) -> str:
        """ "run" or "blend"."""
        return "blend" if self.run.is_blend else "run"

    @property
    def settings(self) -> Config | None:
        """Of a run; None for a blend, and for a run whose config.yaml is gone."""
        return self.configs[self.name] if self.kind == "run" else None

    @property
    def dataset(self) -> str:
        return str(self.provenance["dataset"])

    @property
    def synthetic(self) -> bool:
        return bool(self.provenance["synthetic"])

    @property
    def competition(self) -> bool:
        """Whether the data is the competition's: a dataset called tgs or tgs-…."""
        return not self.synthetic and competition.is_tgs(self.dataset)

    @property
    def unscored(self) -> str:
        """Why there is no out-of-fold score and never will be, or ""."""
        teacher = self.settings.pseudo_labels_from_all_folds if self.settings else ""
        return f"labels from all folds of {teacher}" if teacher else ""

    @property
    def checkpoints(self) -> dict[str, str | None]:
        """``train.checkpoint`` by the name of the run (see `configs`); None for a run that is gone."""
        return {name: config.train.checkpoint if config else None for name, config in self.configs.items()}

    @property
    def checkpoint(self) -> str:
        """ "best", "last" or "snapshots"; "mixed" where members of a blend differ, "" where one is unknown."""
        kinds = set(self.checkpoints.values())
        if not kinds or None in kinds:
            return ""
        return "mixed" if len(kinds) > 1 else str(kinds.pop())

    @property
    def weight_of_member(self) -> dict[str, int]:
        """Weights of a blend's members on test images, as counts; equal where none are recorded."""
        members = self.provenance.get("members", [])
        return dict(zip(members, self.provenance.get("weights", [1] * len(members)), strict=True))

    @property
    def recipe(self) -> str:
        """The weights of a blend in words, "2/3 unet + 1/3 fpn"; "" for a run."""
        used = {name: weight for name, weight in self.weight_of_member.items() if weight}
        if len(used) == 1:
            return f"{next(iter(used))} alone"
        return " + ".join(f"{weight}/{sum(used.values())} {name}" for name, weight in used.items())

    @property
    def networks_per_fold(self) -> int:
        """How many networks predict an out-of-fold image, see `tune.networks_averaged`."""
        return tune.networks_averaged(self.run)

    @property
    def networks(self) -> int:
        """How many networks predict a test image."""
        return self.networks_per_fold * len(self.scored)

    @property
    def same_loss(self) -> bool:
        """Whether training and validation loss are the same function: cross-entropy over the whole frame."""
        if self.settings is None:
            return False
        model, train = self.settings.model, self.settings.train
        heads = isinstance(model, SmpConfig) and (model.deep_supervision or model.presence_head)
        extra = train.second_loss_start_epoch or heads or train.loss_region != "frame"
        return train.loss == "bce" and not extra

    @property
    def planned(self) -> int | None:
        """Number of folds in the configuration; None for a blend."""
        return self.settings.folds.trained if self.settings else None

    @property
    def finished(self) -> int:
        """Number of folds that are trained and predicted."""
        return len(self.metrics) or len(self.scored)

    @property
    def scored(self) -> list[int]:
        """The folds behind scores and test predictions: those that were tuned on; until then the finished ones."""
        return self.postprocess["folds"] if self.postprocess else [fold["fold"] for fold in self.metrics]

    @property
    def other_folds(self) -> str:
        """Which folds the scores are of and which are finished, in words; "" where these are the same."""
        finished = [fold["fold"] for fold in self.metrics]
        if not finished or self.scored == finished:
            return ""
        scored, done = (f"fold{'s' * (len(own) > 1)} {', '.join(map(str, own))}" for own in (self.scored, finished))
        return f"{scored}, while {done} {'are' if len(finished) > 1 else 'is'} finished"

    @property
    def folds(self) -> str:
        """ "scored/planned"."""
        return f"{len(self.scored)}/{self.planned or len(self.scored)}"

    @property
    def scored_metrics(self) -> list[dict[str, Any]]:
        """`metrics` of the folds in `scored`."""
        return [fold for fold in self.metrics if fold["fold"] in self.scored]

    @property
    def tuned(self) -> bool:
        """Whether the run's own post-processing is a tuned one instead of threshold 0.5."""
        return self.postprocess is not None and self.postprocess["selected"] == "tuned"

    @property
    def postprocessing(self) -> Postprocessing:
        """The post-processing of the masks: another run's where one was given, else its own, else threshold 0.5."""
        used = self.postprocessing_source or self.postprocess
        return Postprocessing.from_dict(used["postprocessing"]) if used else THRESHOLD_HALF

    @property
    def postprocessing_from(self) -> str:
        """The other run whose post-processing is in use; "" where it is the run's own."""
        return str(self.postprocessing_source.get("postprocessing_from", ""))

    @property
    def at_half(self) -> float | None:
        return self.postprocess["score_at_half"] if self.postprocess else None

    @property
    def argmax(self) -> float | None:
        """The best out-of-fold score of any threshold and minimum area, on the images that they were tuned on."""
        return self.postprocess["argmax"]["score"] if self.postprocess else None

    @property
    def cross_fitted(self) -> float | None:
        """Out-of-fold score of the tuned post-processing, each group with what the other groups of images suggest."""
        return self.postprocess["cross_fitted"]["score"] if self.postprocess else None

    @property
    def submitted_estimate(self) -> "Estimate | None":
        """What to expect of the submission of a run on the competition's data that averages five networks; else None.

        The gain of the mean was measured with one recipe; other recipes get it, too. With another run's post-processing
        there is no score to add it to.
        """
        score = self.cross_fitted if self.tuned else self.at_half
        if score is None or not self.competition or (self.networks_per_fold, self.networks) != (1, 5):
            return None
        if self.postprocessing_from:
            return None
        gain, interval = FIVE_OVER_ONE["tuned" if self.tuned else "half"]
        return Estimate(score + gain, gain, interval)

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval of `cross_fitted`."""
        return tuple(self.postprocess["cross_fitted"]["interval"]) if self.postprocess else None

    @property
    def by(self) -> str:
        """What the intervals resample, "image" or "section"."""
        return str((self.postprocess or {}).get("by", "image"))

    @property
    def tta_gain(self) -> float | None:
        """Mean over scored folds of the score at 0.5 with all views minus with one; None where only one is used."""
        scores = [(f["score_at_half"], f["score_at_half_no_tta"]) for f in self.scored_metrics if len(f["tta"]) > 1]
        gains = [with_tta - without for with_tta, without in scores if None not in (with_tta, without)]
        return float(np.mean(gains)) if gains else None

    @property
    def seconds(self) -> float | None:
        """Training time of the scored folds."""
        return float(sum(fold["seconds"] for fold in self.scored_metrics)) if self.scored_metrics else None

    @property
    def best_epochs(self) -> dict[int, int]:
        """Fold -> the epoch whose weights predict, for finished folds."""
        return {fold["fold"]: fold["best_epoch"] for fold in self.metrics}

    @property
    def diverged(self) -> dict[int, int]:
        """Fold -> the epoch whose validation loss was not finite, where the training stopped."""
        return {fold["fold"]: fold["diverged_at_epoch"] for fold in self.metrics if fold.get("diverged_at_epoch")}

    def mean(self, key: str) -> float | None:
        """Mean of a metric over the scored folds that have it."""
        values = self._values(key)
        return float(np.mean(values)) if values else None

    def std(self, key: str) -> float | None:
        """Standard deviation (n - 1) of a metric over scored folds; None for fewer than two."""
        values = self._values(key)
        return float(np.std(values, ddof=1)) if len(values) > 1 else None

    def _values(self, key: str) -> list[float]:
        return [fold[key] for fold in self.scored_metrics if fold.get(key) is not None]

    def logs(self) -> dict[int, list[dict[str, float]]]:
        """Fold -> rows of its log.csv, for every fold that finished an epoch, in order."""
        return {fold.number: schemas.read(fold.log) for fold in self.run.folds() if fold.log.is_file()}


def read(run: runs.RunDir) -> RunSummary:
    """Read a run or blend; InputError for files that are there but cannot be read."""
    postprocess = schemas.read(run.postprocess) if run.postprocess.is_file() else None
    source = run.postprocessing_source
    return RunSummary(
        run=run,
        provenance=run.read_provenance(),
        metrics=[schemas.read(fold.metrics) for fold in run.finished_folds()],
        postprocess=postprocess if postprocess is not None and tune.is_current(run, postprocess) else None,
        solution=schemas.read(run.solution_score) if run.solution_score.is_file() else {},
        postprocessing_source=schemas.read(source) if source.is_file() else {},
        configs=_configs(run),
    )


def _configs(run: runs.RunDir, above: frozenset[str] = frozenset()) -> dict[str, Config | None]:
    """`RunSummary.configs`; a member may be a blend. above: the blends around this one, since names can be reused."""
    if not run.is_blend:
        return {run.name: run.read_config() if run.config.is_file() else None}
    configs: dict[str, Config | None] = {}
    for name in run.members():
        try:
            member = runs.existing_run(run.path.parents[1], name)
            configs |= {name: None} if name in above else _configs(member, above | {run.name})
        except InputError:  # removed since, or damaged
            configs[name] = None
    return configs

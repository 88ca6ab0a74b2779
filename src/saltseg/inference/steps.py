"""What happens to a run after training, step by step; each reads files, writes files and can be repeated.

predict: folds → ``oof.npz``, ``test.npz``. optimise: → ``postprocess.json``. submit: → ``submission.csv`` and,
where the dataset has a solution, ``solution_score.json``. A run that labels of all folds taught (`saltseg.inference.
pseudo`) has ``test.npz`` only and is submitted with another run's rule.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from saltseg import config, runs, storage
from saltseg.core import decision, metric, submission, thresholds
from saltseg.core.postprocess import HALF, Rule
from saltseg.data import competition, folds
from saltseg.errors import InputError
from saltseg.inference import blend
from saltseg.runs import FoldDir, RunDir


@dataclass(frozen=True)
class Place:
    """Where datasets are read and results are written."""

    input_dir: Path
    output_dir: Path

    def root(self, run: RunDir) -> Path:
        """The dataset of a run; raises InputError when its labels or images are not those of the training."""
        dataset, trained_on = (run.read_provenance()[key] for key in ("dataset", "dataset_hash"))
        root = competition.dataset_root(self.input_dir, dataset)
        if competition.fingerprint(root) != trained_on:
            raise InputError(f"{root} has changed since {run.name} was trained on it; restore it or train a new run")
        return root


def predict(run: RunDir, place: Place, views: tuple[str, ...] | None = None) -> tuple[int, int]:
    """Collate the finished folds; returns (finished folds, folds of the table).

    Fold predictions that are missing are made from the checkpoint; with ``views`` all are made anew.
    Every id of the finished folds must be there exactly once, and no other. A run without an honest score gets no
    ``oof.npz``.
    """
    settings, root = run.read_config(), place.root(run)
    if views:
        settings = config.override(settings, [f"predict.views=[{', '.join(views)}]"])
    finished = run.trained_folds()
    table = folds.read_table(folds.table_path(place.output_dir, root.name, settings.folds), competition.train_ids(root))
    if table.digest != run.read_provenance()["folds_hash"]:
        raise InputError(f"the folds of {root.name} have changed since {run.name} was trained; restore the table")
    judged = not settings.pseudo.all_folds
    again = [fold for fold in finished if views or not ((fold.oof.is_file() or not judged) and fold.test.is_file())]
    if again:
        _predict_folds(again, settings, root, table)
    used = {tuple(storage.read_json(fold.metrics)["views"]) for fold in finished}
    if len(used) > 1 or () in used:
        raise InputError(
            f"folds of {run.name} were predicted with different views; make them alike: "
            f"python scripts/predict.py {run.name} --views {','.join(settings.predict.views)}"
        )
    if judged:
        runs.save_predictions(run.oof, _out_of_fold(finished, table))
    test = blend.mean([runs.load_predictions(fold.test) for fold in finished])
    if run.test.is_file() and runs.load_predictions(run.test).fingerprint() != test.fingerprint():
        _drop_submission(run)
    runs.save_predictions(run.test, test)
    return len(finished), len(table.numbers)


def _drop_submission(run: RunDir) -> None:
    """Remove a submission and its score that are of other predictions or another rule; `submit` makes them anew."""
    for path in (run.solution_score, run.borrowed, run.submission):
        path.unlink(missing_ok=True)


def _out_of_fold(finished: Sequence[FoldDir], table: folds.Folds) -> runs.Predictions:
    """The folds' predictions together; InputError unless they are of each fold's own images, each once."""
    oof = blend.collate(finished)
    assert oof.fold is not None
    numbers = {fold.number for fold in finished}
    wanted = {pair for pair in zip(table.ids, table.fold.tolist(), strict=True) if pair[1] in numbers}
    odd = wanted ^ set(zip(oof.ids.tolist(), oof.fold.tolist(), strict=True))
    if odd:
        raise InputError(
            f"out-of-fold predictions and the fold table differ in {len(odd)} ids, the first {min(odd)[0]!r}; "
            "delete the fold's oof.npz and predict again"
        )
    return oof


def _predict_folds(again: Sequence[FoldDir], settings: config.Config, root: Path, table: folds.Folds) -> None:
    from saltseg.inference import judge

    labelled, test = competition.read_train(root), competition.read_test(root)
    for fold in again:
        training, validating = table.split(fold.number, settings.folds)
        figures = storage.read_json(fold.metrics)
        storage.write_json(fold.metrics, figures | {"views": []})  # should this stop half-way, predict() will notice
        found = judge.predict_fold(settings, fold, labelled.at(training), labelled.at(validating), test)
        storage.write_json(fold.metrics, figures | found)


def out_of_fold(run: RunDir) -> runs.Predictions:
    """The out-of-fold predictions of a run; InputError where they do not name the fold of each image."""
    oof = runs.load_predictions(run.oof)
    if oof.fold is None:
        raise InputError(f"{run.oof} names no folds; make it again with: python scripts/predict.py {run.name}")
    return oof


def with_truth(oof: runs.Predictions, labelled: competition.Labelled) -> decision.OutOfFold:
    """Out-of-fold predictions with their truth, in the order they have."""
    assert oof.fold is not None
    true = labelled.masks_of(oof.ids.tolist())
    return decision.OutOfFold(oof.probabilities, true, thresholds.folds_or_parts(oof.fold), oof.presence)


def rule_of(run: RunDir) -> Rule:
    """The decision rule of a run: the one it borrowed for its submission, else its own, else 0.5.

    Raises InputError as `own_rule` does.
    """
    if run.borrowed.is_file():
        return Rule.from_dict(storage.read_json(run.borrowed)["rule"])
    return own_rule(run) if run.postprocess.is_file() else HALF


def own_rule(run: RunDir) -> Rule:
    """The decision rule that `optimise` found for a run; InputError where it did not, or on other predictions."""
    found = storage.read_json(run.postprocess)
    if not fits(run, found):
        raise InputError(
            f"{run.postprocess} was fitted on other predictions than {run.name} has now; "
            f"python scripts/optimise.py {run.name}"
        )
    return Rule.from_dict(found["rule"])


def fits(run: RunDir, found: Mapping[str, Any]) -> bool:
    """Whether what `optimise` found is of the out-of-fold predictions that are there now, as far as is known."""
    fitted_on = found.get("oof_hash")
    return fitted_on is None or not run.oof.is_file() or fitted_on == runs.load_predictions(run.oof).fingerprint()


def optimise(run: RunDir, place: Place) -> dict[str, Any]:
    """Tune the decision rule on the out-of-fold predictions; writes and returns ``postprocess.json``."""
    run.demand_score("python scripts/submit.py {run} --rule-of {teacher}")
    oof = out_of_fold(run)
    labelled = competition.read_train(place.root(run))
    known = set(labelled.ids)
    foreign = [id_ for id_ in oof.ids.tolist() if id_ not in known]
    if foreign:
        raise InputError(
            f"{run.oof} holds {len(foreign)} ids that the dataset lacks, the first {foreign[0]!r}; "
            "run scripts/predict.py again"
        )
    images = with_truth(oof, labelled)
    true, fold = np.asarray(images.true), np.asarray(oof.fold)
    with tqdm(desc="trying steps of the rule", total=len(decision.STEPS), unit="step") as bar:
        summary = decision.summarise(oof.ids, oof.probabilities, true, fold, oof.presence, bar.update)
    if run.read_config().predict.decision == "half":
        at_half = metric.average_precision(HALF.apply(oof.probabilities), true)
        summary |= {
            "adopted": "half",
            "why": "the experiment asks for 0.5 (predict.decision=half)",
            "rule": HALF.to_dict(),
            "per_coverage": metric.per_coverage(at_half, metric.coverage_class(true)),
        }
    summary["oof_hash"] = oof.fingerprint()
    before = storage.read_json(run.postprocess) if run.postprocess.is_file() else summary
    if before["rule"] != summary["rule"] and not run.borrowed.is_file():
        _drop_submission(run)
    storage.write_json(run.postprocess, summary)
    return summary


def submit(run: RunDir, place: Place, lender: RunDir | None = None) -> dict[str, Any] | None:
    """Write ``submission.csv``; score it where the dataset has a solution, and return that score.

    lender: the run whose decision rule applies, which ``borrowed_rule.json`` then records; None: the run's own.
    """
    root = place.root(run)
    if lender is None:
        run.demand_score("so no rule of its own: python scripts/submit.py {run} --rule-of {teacher}")
    else:
        lender.demand_score("so no rule: --rule-of {teacher}")
    rule = own_rule(lender or run)
    test = runs.load_predictions(run.test)
    masks = rule.apply(test.probabilities, test.presence)
    submission.write(run.submission, test.ids, masks, competition.test_ids(root))
    if lender is None:
        run.borrowed.unlink(missing_ok=True)
    else:
        storage.write_json(run.borrowed, {"rule_of": lender.name, "rule": rule.to_dict()})
    if not (root / "solution.csv").is_file():
        return None
    score = submission.score(run.submission, root / "solution.csv").to_dict()
    storage.write_json(run.solution_score, score)
    return score

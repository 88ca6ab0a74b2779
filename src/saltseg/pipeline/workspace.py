"""Where datasets and results are, and what the steps after training share."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import NDArray

from saltseg import predictions, schemas
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.metrics import bootstrap
from saltseg.postprocessing import step_selection, threshold_search
from saltseg.runs import RunDir

NAMED = 3  # changes of a dataset in a message


@dataclass(frozen=True)
class Workspace:
    """Where datasets are read and results are written."""

    input_dir: Path
    output_dir: Path

    def root(self, run: RunDir) -> Path:
        """The dataset of a run; raises InputError, with what differs, when it is not that of the training."""
        dataset, trained_on = (run.read_provenance()[key] for key in ("dataset", "dataset_hash"))
        root = competition.dataset_root(self.input_dir, dataset)
        if competition.fingerprint(root) != trained_on:
            raise InputError(
                f"{root} has changed since {run.name} was trained on it{_changes(run, root)}; "
                "restore it or train a new run"
            )
        return root


def _changes(run: RunDir, root: Path) -> str:
    """The first parts of a dataset that are not those that a run recorded; "" for a run that recorded none."""
    if not run.dataset.is_file():
        return ""
    changed = competition.differences(schemas.read(run.dataset), competition.manifest(root))
    more = f" and {len(changed) - NAMED:,} more" if len(changed) > NAMED else ""
    return f" ({'; '.join(changed[:NAMED])}{more})" if changed else ""


def out_of_fold(run: RunDir) -> predictions.Predictions:
    """The out-of-fold predictions of a run; raises InputError where they do not name the fold of each image."""
    oof = predictions.load_predictions(run.oof)
    if oof.fold is None:
        raise InputError(f"{run.oof} names no folds; make it again with: saltseg predict {run.name}")
    return oof


def with_truth(oof: predictions.Predictions, labeled: competition.Labeled) -> step_selection.OutOfFold:
    """Out-of-fold predictions with the masks of ``labeled``, joined by id, in the order of the predictions."""
    assert oof.fold is not None
    groups = threshold_search.folds_or_parts(oof.fold)
    true = labeled.masks_of(oof.ids.tolist())
    return step_selection.OutOfFold(oof.probabilities, true, groups, oof.presence_probability)


def sections_of(root: Path, ids: Sequence[str]) -> NDArray | None:
    """The section of each image, str (N,), to resample whole ones; None where the dataset names none that are shared.

    An image without a section is one of its own.
    """
    known = competition.read_sections(root)
    return None if known is None else bootstrap.clusters([known.get(id_, f"no section: {id_}") for id_ in ids])


def drop_submission(run: RunDir) -> None:
    """Remove a submission, and its score, that is of other predictions or another post-processing than now."""
    for path in (run.solution_score, run.postprocessing_source, run.submission):
        path.unlink(missing_ok=True)

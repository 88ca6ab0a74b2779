"""Test predictions → ``submission.csv`` and, where the dataset has a solution, ``solution_score.json``."""

from typing import Any

from saltseg import io, predictions
from saltseg.data import competition, submission
from saltseg.pipeline.tune import own_postprocessing
from saltseg.pipeline.workspace import Workspace, drop_submission
from saltseg.runs import RunDir


def write_submission(
    run: RunDir, workspace: Workspace, postprocessing_from: RunDir | None = None
) -> dict[str, Any] | None:
    """Write the submission of a run; returns its score where the dataset has a solution.

    Args:
        run: with test predictions.
        workspace: where its dataset is.
        postprocessing_from: the run whose post-processing applies, recorded in ``postprocessing_source.json``; None:
            the run's own.

    Raises:
        InputError: that run has no post-processing, or one that was tuned on other predictions than it has now.
    """
    root = workspace.root(run)
    if postprocessing_from is None:
        run.require_oof_score("use another's post-processing: saltseg submit {run} --postprocessing-from {teacher}")
    else:
        postprocessing_from.require_oof_score("so no post-processing: --postprocessing-from {teacher}")
    postprocessing = own_postprocessing(postprocessing_from or run)
    test = predictions.load_predictions(run.test)
    masks = postprocessing.apply(test.probabilities, test.presence_probability)
    drop_submission(run)  # first, so that no score of another one stays if this is interrupted
    submission.write(run.submission, test.ids, masks, competition.test_ids(root))
    if postprocessing_from is not None:
        source = {"postprocessing_from": postprocessing_from.name, "postprocessing": postprocessing.to_dict()}
        io.write_json(run.postprocessing_source, source)
    if not (root / "solution.csv").is_file():
        return None
    score = submission.score(run.submission, root / "solution.csv").to_dict()
    io.write_json(run.solution_score, score)
    return score

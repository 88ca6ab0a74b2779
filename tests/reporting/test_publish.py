"""What `saltseg publish` refuses to copy."""

import pytest
from fake_run import log_rows
from tiny_run import Trained, postprocess

from saltseg import io
from saltseg.errors import InputError
from saltseg.pipeline import collate
from saltseg.reporting import publish


def test_scores_of_other_folds_than_are_finished_are_not_published(trained: Trained) -> None:
    """Fold 0 was scored alone, then the others were trained; they count once they are predicted and tuned."""
    run = trained.run
    collate.collate_run(run, trained.workspace)
    run.submission.write_text("id,rle_mask\n")
    io.write_json(run.postprocess, postprocess() | {"folds": [0]})
    message = r"are of fold 0, while folds 0, 1, 2 are finished; first saltseg predict tiny-run, then saltseg tune tiny"
    with pytest.raises(InputError, match=message):
        publish.publish(run, trained.workspace)
    assert not (trained.output / "published").exists()
    io.write_json(run.postprocess, postprocess())
    for fold in run.finished_folds():
        io.write_csv(fold.log, log_rows())
    assert (publish.publish(run, trained.workspace) / "image_scores.csv").is_file()

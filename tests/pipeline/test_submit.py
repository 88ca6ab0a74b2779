"""Submissions: masks by id in the order of the sample, under the post-processing, scored by hand."""

import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from tiny_run import SAMPLE, TEST, Trained, make_predictions, postprocess, salt, write_faint_oof, write_table

from saltseg import io, predictions
from saltseg.errors import InputError
from saltseg.metrics import rle
from saltseg.pipeline import collate, submit, tune


def ready(trained: Trained, threshold: int = 128, min_area: int = 0, ids: tuple[str, ...] = TEST) -> None:
    """Test tile k: k + 1 rows of 150."""
    predictions.save_predictions(trained.run.test, make_predictions(ids, lambda id_: 150 * salt(int(id_[1]) + 1)))
    io.write_json(trained.run.postprocess, postprocess(threshold=threshold, min_area=min_area))


def submitted(path: Path) -> dict[str, str]:
    header, *lines = path.read_text().splitlines()
    assert header == "id,rle_mask"
    return dict(line.split(",") for line in lines)  # type: ignore[misc]


@pytest.mark.parametrize("ids", [TEST, tuple(reversed(TEST))])
def test_the_submission_has_the_order_of_the_sample_and_the_masks_of_the_ids(
    ids: tuple[str, ...], trained: Trained
) -> None:
    ready(trained, ids=ids)
    assert submit.write_submission(trained.run, trained.workspace) is None  # no solution here
    rows = submitted(trained.run.submission)
    assert tuple(rows) == SAMPLE
    for id_, text in rows.items():  # k + 1 rows: a run of k + 1 pixels at the top of each of the 101 columns
        assert text == " ".join(f"{1 + 101 * column} {int(id_[1]) + 1}" for column in range(101))
    assert not trained.run.solution_score.exists()


def test_the_post_processing_decides_the_masks(trained: Trained) -> None:
    ready(trained, threshold=151)
    submit.write_submission(trained.run, trained.workspace)
    assert set(submitted(trained.run.submission).values()) == {""}
    ready(trained, min_area=3 * 101)
    submit.write_submission(trained.run, trained.workspace)
    empty = {id_ for id_, text in submitted(trained.run.submission).items() if not text}
    assert empty == {"t0", "t1"}  # one and two rows; three rows are exactly enough


def test_the_presence_threshold_decides_by_the_presence_of_the_test_images(trained: Trained) -> None:
    ready(trained)
    io.write_json(trained.run.postprocess, postprocess(presence_threshold=100))
    with pytest.raises(InputError, match="the presence threshold is 100/255, but the predictions hold no presence"):
        submit.write_submission(trained.run, trained.workspace)
    made = predictions.load_predictions(trained.run.test)
    presence = np.array([50 * (int(id_[1]) + 1) for id_ in made.ids], np.uint8)
    predictions.save_predictions(trained.run.test, replace(made, presence_probability=presence))
    submit.write_submission(trained.run, trained.workspace)
    empty = {id_ for id_, text in submitted(trained.run.submission).items() if not text}
    assert empty == {"t0"}  # presence 50; t1 has 100, which is enough


def test_the_solution_scores_the_submission(trained: Trained) -> None:
    ready(trained)
    true = {"t0": (1, "Public"), "t1": (4, "Public"), "t2": (0, "Private"), "t3": (5, "Private")}
    rows: list[list[object]] = [[id_, rle.encode(salt(count)), usage] for id_, (count, usage) in true.items()]
    write_table(trained.root / "solution.csv", [["id", "rle_mask", "usage"], *rows])
    score = submit.write_submission(trained.run, trained.workspace)
    assert score is not None
    # IoU 1, 2/4, nothing there, 4/5: average precision 1, 0, 0, 0.6
    assert score["all"] == pytest.approx(0.4)
    assert score["public"] == pytest.approx(0.5)
    assert score["private"] == pytest.approx(0.3)
    assert io.read_json(trained.run.solution_score) == score


def test_an_incomplete_submission_is_not_written(trained: Trained) -> None:
    ready(trained, ids=TEST[:-1])
    with pytest.raises(InputError, match=r"no prediction for 1 ids: t3"):
        submit.write_submission(trained.run, trained.workspace)
    assert not trained.run.submission.exists()


def test_submit_before_tune_says_so(trained: Trained) -> None:
    ready(trained)
    trained.run.postprocess.unlink()
    with pytest.raises(InputError, match=r"no file .*postprocess.json; run the step that writes it"):
        submit.write_submission(trained.run, trained.workspace)


def test_all_steps_in_a_row(trained: Trained) -> None:
    """Test tiles are at 150, so any threshold between 21 and 150 gives the rows of the tile."""
    collate.collate_run(trained.run, trained.workspace)
    tuned = tune.tune_run(trained.run, trained.workspace)["postprocessing"]
    assert 21 <= tuned["threshold"] <= 200
    submit.write_submission(trained.run, trained.workspace)
    assert tuple(submitted(trained.run.submission)) == SAMPLE


def test_a_submission_is_removed_with_its_predictions_or_its_post_processing(trained: Trained) -> None:
    collate.collate_run(trained.run, trained.workspace)
    tune.tune_run(trained.run, trained.workspace)
    submit.write_submission(trained.run, trained.workspace)
    for step in (collate.collate_run, tune.tune_run):  # once more, and nothing has changed
        step(trained.run, trained.workspace)
    assert trained.run.submission.is_file()
    fold = trained.run.fold(0)
    test = predictions.load_predictions(fold.test)
    predictions.save_predictions(fold.test, replace(test, probabilities=test.probabilities // 2))
    collate.collate_run(trained.run, trained.workspace)
    assert not trained.run.submission.exists()
    submit.write_submission(trained.run, trained.workspace)
    io.write_json(trained.run.solution_score, {"all": 1.0})
    write_faint_oof(trained)
    tune.tune_run(trained.run, trained.workspace)
    assert not trained.run.submission.exists()
    assert not trained.run.solution_score.exists()


WRITES_WRONG = """
import sys
from pathlib import Path
import numpy as np
from saltseg.data import submission
from saltseg.metrics import rle
right, read, case = rle.encode_batch, submission.read, sys.argv[1]
if case == "masks":
    rle.encode_batch = lambda array: right(array.transpose(0, 2, 1))
if case == "ids":
    submission.read = lambda *a: (("b", "a"), read(*a)[1])
masks = np.zeros((2, 101, 101), np.uint8)
masks[0, 0] = 1
try:
    submission.write(Path(sys.argv[2]) / "submission.csv", ["a", "b"], masks, ["a", "b"])
except AssertionError as error:
    print(error)
"""


@pytest.mark.parametrize("case", ["masks", "ids", "nothing"])
def test_a_wrong_submission_is_not_written_under_python_o_either(case: str, tmp_path: Path) -> None:
    command = [sys.executable, "-O", "-c", WRITES_WRONG, case, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (f"would not hold the {case}" in done.stdout) == (case != "nothing")
    assert (tmp_path / "submission.csv").exists() == (case == "nothing")


def test_no_score_of_a_former_submission_stays(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """The solution has gone since, or the process is killed while it writes."""
    ready(trained)
    for kill in (False, True):
        io.write_json(trained.run.solution_score, {"all": 1})
        if kill:
            monkeypatch.setattr(submit.submission, "write", mock.Mock(side_effect=KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt) if kill else nullcontext():
            submit.write_submission(trained.run, trained.workspace)
        assert not trained.run.solution_score.exists()

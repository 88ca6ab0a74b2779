"""Scores of images and paired differences of runs, worked out by hand."""

import numpy as np
import pytest
from tiny_run import ROWS, TRAIN, Trained, make_predictions, postprocess, salt

from saltseg import io, predictions, runs
from saltseg.errors import InputError
from saltseg.pipeline import collate, compare


def another(trained: Trained, name: str, order: tuple[str, ...], missed: str) -> runs.RunDir:
    """A run with the perfect predictions of ``trained`` but for one tile, which it predicts empty."""
    run = runs.run_dir(trained.output, name)
    io.write_json(run.provenance, trained.run.read_provenance())
    made = make_predictions(order, lambda id_: (0 if id_ == missed else 200) * salt(ROWS[id_]))
    fold = np.array([int(id_[1]) for id_ in order])
    predictions.save_predictions(run.oof, predictions.Predictions(made.ids, made.probabilities, fold))
    return run


def test_every_image_has_its_score_in_id_order(trained: Trained) -> None:
    run = another(trained, "worse", tuple(reversed(TRAIN)), missed="d0")
    rows = compare.image_scores(run, trained.workspace)
    assert [row["id"] for row in rows] == sorted(TRAIN)
    assert [row["fold"] for row in rows] == [int(id_[1]) for id_ in sorted(TRAIN)]
    assert [row["score_at_half"] for row in rows] == ["0.0" if id_ == "d0" else "1.0" for id_ in sorted(TRAIN)]
    assert [row["score_tuned_cv"] for row in rows] == [row["score_at_half"] for row in rows]
    assert [row["score_postprocessed_cv"] for row in rows] == [row["score_at_half"] for row in rows]


def test_runs_are_compared_image_by_image_whatever_their_order(trained: Trained) -> None:
    collate.collate_run(trained.run, trained.workspace)
    worse = another(trained, "worse", tuple(reversed(TRAIN)), missed="d0")
    found = compare.compare(trained.run, worse, trained.workspace)
    assert found["n"] == 12
    part = found["score_at_half"]
    assert (part["tiny-run"], part["worse"]) == (1.0, pytest.approx(11 / 12))
    assert part["difference"] == pytest.approx(-1 / 12)
    low, high = part["interval"]  # one image of twelve changed: some bootstrap samples do not hold it at all
    assert low < -1 / 12 < high
    assert high == 0
    assert found["score_postprocessed_cv"]["difference"] == pytest.approx(-1 / 12)
    back = compare.compare(worse, trained.run, trained.workspace)["score_at_half"]
    assert back["difference"] == pytest.approx(1 / 12)


def test_predictions_count_and_not_the_scores_of_an_older_publication(trained: Trained) -> None:
    collate.collate_run(trained.run, trained.workspace)
    worse = another(trained, "worse", TRAIN, missed="d0")
    io.write_csv(worse.image_scores, compare.image_scores(trained.run, trained.workspace)[:6])  # as published before
    found = compare.compare(trained.run, worse, trained.workspace)
    assert found["n"] == 12
    assert found["score_at_half"]["worse"] == pytest.approx(11 / 12)


def test_the_post_processing_is_each_runs_own(trained: Trained) -> None:
    """One run's bodies have a hole at any threshold, which hole filling closes."""
    collate.collate_run(trained.run, trained.workspace)
    holed = another(trained, "holed", TRAIN, missed="")
    made = predictions.load_predictions(holed.oof)
    made.probabilities[:, 1:3, 1:100] *= made.probabilities[:, 3:4, 1:100] == 0  # where there is salt below
    made.probabilities[:, 0, :] = np.maximum(made.probabilities[:, 0, :], made.probabilities[:, 3, :])
    predictions.save_predictions(holed.oof, made)
    found = compare.compare(trained.run, holed, trained.workspace)
    assert found["score_tuned_cv"]["holed"] < found["score_postprocessed_cv"]["holed"] == 1
    assert found["score_postprocessed_cv"]["difference"] == 0


def test_only_images_that_both_predicted_count(trained: Trained) -> None:
    collate.collate_run(trained.run, trained.workspace)
    part = another(trained, "part", tuple(id_ for id_ in TRAIN if id_[1] == "0"), missed="d0")
    found = compare.compare(trained.run, part, trained.workspace)
    assert found["n"] == 4
    assert found["score_at_half"]["difference"] == pytest.approx(-1 / 4)


def published(trained: Trained, run: runs.RunDir, name: str) -> runs.RunDir:
    """What is left of a run in a fresh clone: no predictions, the scores of its images."""
    record = runs.RunDir(trained.output / "published" / name)
    io.write_json(record.provenance, run.read_provenance())
    io.write_csv(record.image_scores, compare.image_scores(run, trained.workspace))
    return record


def test_published_scores_compare_as_the_predictions_did(trained: Trained) -> None:
    collate.collate_run(trained.run, trained.workspace)
    worse = another(trained, "worse", tuple(reversed(TRAIN)), missed="d0")
    record, known = published(trained, worse, "gone"), compare.compare(trained.run, worse, trained.workspace)
    for part in (known["fitted_on"], known["score_at_half"], known["score_tuned_cv"], known["score_postprocessed_cv"]):
        part["gone"] = part.pop("worse")
    assert known["fitted_on"] == {"tiny-run": 12, "gone": 12}
    assert known.pop("nested") == {"tiny-run": True, "worse": True}
    assert known["score_at_half"]["difference"] < 0
    found = compare.compare(trained.run, record, trained.workspace)
    assert found.pop("nested") == {"tiny-run": True, "gone": False}  # nobody knows how these scores were made
    assert found == known
    io.write_json(record.postprocess, postprocess())
    both = compare.compare(published(trained, trained.run, "tiny-run"), record, trained.workspace)
    assert both.pop("nested") == {"tiny-run": False, "gone": True}
    assert both == known
    assert runs.existing_run(trained.output, "gone", published=True) == record
    assert runs.existing_run(trained.output, "tiny-run", published=True) == trained.run  # which has its predictions yet
    with pytest.raises(InputError, match=r"unknown run 'gone'"):
        runs.existing_run(trained.output, "gone")
    with pytest.raises(InputError, match=r"^unknown run 'gome'; did you mean gone\?$"):
        runs.existing_run(trained.output, "gome", published=True)


def test_of_a_published_part_the_images_that_both_scored_are_compared(trained: Trained) -> None:
    collate.collate_run(trained.run, trained.workspace)
    part = another(trained, "part", tuple(id_ for id_ in TRAIN if id_[1] == "0"), missed="d0")
    found = compare.compare(trained.run, published(trained, part, "gone"), trained.workspace)
    assert (found["n"], found["fitted_on"]) == (4, {"tiny-run": 12, "gone": 4})
    assert (found["score_at_half"]["tiny-run"], found["score_at_half"]["gone"]) == (1.0, 0.75)
    assert found["score_at_half"]["difference"] == pytest.approx(-1 / 4)


def test_published_scores_of_other_folds_or_of_one_image_are_not_compared(trained: Trained) -> None:
    collate.collate_run(trained.run, trained.workspace)
    record = published(trained, trained.run, "moved")
    rows = io.read_csv(record.image_scores)
    io.write_csv(record.image_scores, rows[:1])
    with pytest.raises(InputError, match=r"tiny-run and moved share 1 out-of-fold images; train a fold of both"):
        compare.compare(trained.run, record, trained.workspace)
    rows[0]["fold"] = str((int(rows[0]["fold"]) + 1) % 3)
    io.write_csv(record.image_scores, rows)
    with pytest.raises(InputError, match=r"tiny-run and moved have 1 images in other folds, such as 'a0'"):
        compare.compare(trained.run, record, trained.workspace)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id,fold,score_at_half,score_tuned_cv\na0,0,1.0,1.0\n",
        "id,fold,score_at_half,score_tuned_cv,score_postprocessed_cv\na0,0,1.0,1.0\n",
        "id,fold,score_at_half,score_tuned_cv,score_postprocessed_cv\na0,0,1.0,1.0,1.1\n",
        "id,fold,score_at_half,score_tuned_cv,score_postprocessed_cv\na0,0,1.0,1.0,nan\n",
        "id,fold,score_at_half,score_tuned_cv,score_postprocessed_cv\na0,first,1.0,1.0,1.0\n",
    ],
)
def test_a_damaged_file_of_scores_is_refused(trained: Trained, text: str) -> None:
    record = runs.RunDir(trained.output / "published" / "gone")
    io.write_json(record.provenance, trained.run.read_provenance())
    record.image_scores.write_text(text)
    with pytest.raises(InputError, match=r"image_scores\.csv: .*; delete it and run the step that writes it again"):
        compare.compare(record, trained.run, trained.workspace)


def test_runs_on_other_folds_are_not_compared(trained: Trained) -> None:
    other = another(trained, "other", TRAIN, missed="d0")
    io.write_json(other.provenance, other.read_provenance() | {"folds_hash": "x"})
    with pytest.raises(InputError, match=r"tiny-run and other differ in folds_hash; only runs on the same folds"):
        compare.compare(trained.run, other, trained.workspace)

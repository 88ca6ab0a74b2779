"""Scores on other data and paired differences, every figure by hand."""

import numpy as np
import pytest
from tiny_run import ROWS, TRAIN, Trained, checkpoint, place, predictions, salt, write_table

from saltseg import runs, storage
from saltseg.core import rle
from saltseg.errors import InputError
from saltseg.inference import compare, steps


def test_another_dataset_is_judged_by_the_mean_of_the_folds_under_the_runs_rule(trained: Trained) -> None:
    """Folds say 0.1, 0.2 and 0.6 of every pixel: 0.3 on average, salt everywhere at 60/255, nowhere at one half."""
    for number, probability in enumerate((0.1, 0.2, 0.6)):
        checkpoint(trained, number, probability)
    storage.write_json(trained.run.postprocess, {"rule": {"threshold": 60, "min_area": 0}})
    other = trained.input / "other"
    true = {"e0": 0, "e1": 101, "e2": 101, "e3": 80}
    write_table(other / "train.csv", [["id", "rle_mask"], *([id_, rle.encode(salt(n))] for id_, n in true.items())])
    (other / "train" / "images").mkdir(parents=True)
    for id_, source in zip(true, TRAIN, strict=False):
        image = (trained.root / "train" / "images" / f"{source}.png").read_bytes()
        (other / "train" / "images" / f"{id_}.png").write_bytes(image)
    found = compare.evaluate(trained.run, place(trained), "other")
    assert (found["dataset"], found["n"], found["always_empty"]) == ("other", 4, 0.25)
    assert found["score_at_half"] == 0.25
    assert found["score_with_rule"] == pytest.approx((0 + 1 + 1 + 0.6) / 4)  # IoU 80 / 101 = 0.79: 0.6
    low, high = found["interval"]
    assert 0 <= low < 0.65 < high <= 1
    with pytest.raises(InputError, match=r"tiny-run was trained on tiny; its honest score there is out of fold"):
        compare.evaluate(trained.run, place(trained), "tiny")
    (other / "train.csv").write_text((trained.root / "train.csv").read_text())
    for path in (trained.root / "train" / "images").iterdir():
        (other / "train" / "images" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(InputError, match=r"other shares 12 images with the training, such as 'a0'; use others"):
        compare.evaluate(trained.run, place(trained), "other")


def another(trained: Trained, name: str, order: tuple[str, ...], missed: str) -> runs.RunDir:
    """A run with the perfect predictions of ``trained`` but for one tile, which it calls empty."""
    run = runs.run_dir(trained.output, name)
    storage.write_json(run.provenance, trained.run.read_provenance())
    made = predictions(order, lambda id_: (0 if id_ == missed else 200) * salt(ROWS[id_]))
    fold = np.array([int(id_[1]) for id_ in order])
    runs.save_predictions(run.oof, runs.Predictions(made.ids, made.probabilities, fold))
    return run


def test_every_image_has_its_score_in_id_order(trained: Trained) -> None:
    run = another(trained, "worse", tuple(reversed(TRAIN)), missed="d0")
    rows = compare.image_scores(run, place(trained))
    assert [row["id"] for row in rows] == sorted(TRAIN)
    assert [row["fold"] for row in rows] == [int(id_[1]) for id_ in sorted(TRAIN)]
    assert [row["at_half"] for row in rows] == ["0.0" if id_ == "d0" else "1.0" for id_ in sorted(TRAIN)]
    assert [row["cross_fitted"] for row in rows] == [row["at_half"] for row in rows]
    whole = compare.whole_rule(run, place(trained))
    assert [float(row["whole_rule"]) for row in rows] == pytest.approx(whole.tolist())


def test_runs_are_compared_image_by_image_whatever_their_order(trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    worse = another(trained, "worse", tuple(reversed(TRAIN)), missed="d0")
    found = compare.compare(trained.run, worse, place(trained))
    assert found["n"] == 12
    part = found["at_half"]
    assert (part["tiny-run"], part["worse"]) == (1.0, pytest.approx(11 / 12))
    assert part["difference"] == pytest.approx(-1 / 12)
    low, high = part["interval"]  # one image of twelve changed: some bootstrap samples do not hold it at all
    assert low < -1 / 12 < high
    assert high == 0
    assert found["whole_rule"]["difference"] == pytest.approx(-1 / 12)
    back = compare.compare(worse, trained.run, place(trained))["at_half"]
    assert back["difference"] == pytest.approx(1 / 12)


def test_the_whole_rule_is_each_runs_own(trained: Trained) -> None:
    """Of one run's bodies the border alone is sure: at any threshold a pinhole is left, which hole filling closes."""
    steps.predict(trained.run, place(trained))
    holed = another(trained, "holed", TRAIN, missed="")
    made = runs.load_predictions(holed.oof)
    made.probabilities[:, 1:3, 1:100] *= made.probabilities[:, 3:4, 1:100] == 0  # where there is salt below
    made.probabilities[:, 0, :] = np.maximum(made.probabilities[:, 0, :], made.probabilities[:, 3, :])
    runs.save_predictions(holed.oof, made)
    found = compare.compare(trained.run, holed, place(trained))
    assert found["cross_fitted"]["holed"] < found["whole_rule"]["holed"] == 1
    assert found["whole_rule"]["difference"] == 0


def test_only_images_that_both_predicted_count(trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    part = another(trained, "part", tuple(id_ for id_ in TRAIN if id_[1] == "0"), missed="d0")
    found = compare.compare(trained.run, part, place(trained))
    assert found["n"] == 4
    assert found["at_half"]["difference"] == pytest.approx(-1 / 4)


def published(trained: Trained, run: runs.RunDir, name: str) -> runs.RunDir:
    """What is left of a run in a fresh clone: no predictions, the scores of its images."""
    record = runs.RunDir(trained.output / "published" / name)
    storage.write_json(record.provenance, run.read_provenance())
    storage.write_csv(record.image_scores, compare.image_scores(run, place(trained)))
    return record


def test_published_scores_compare_as_the_predictions_did(trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    worse = another(trained, "worse", tuple(reversed(TRAIN)), missed="d0")
    record, known = published(trained, worse, "gone"), compare.compare(trained.run, worse, place(trained))
    for part in (known["fitted_on"], known["at_half"], known["cross_fitted"], known["whole_rule"]):
        part["gone"] = part.pop("worse")
    assert known["fitted_on"] == {"tiny-run": 12, "gone": 12}
    assert known["at_half"]["difference"] < 0
    found = compare.compare(trained.run, record, place(trained))
    assert found == known
    assert compare.compare(published(trained, trained.run, "tiny-run"), record, place(trained)) == known
    assert runs.existing_run(trained.output, "gone", published=True) == record
    assert runs.existing_run(trained.output, "tiny-run", published=True) == trained.run  # which has its predictions yet
    with pytest.raises(InputError, match=r"unknown run 'gone'"):
        runs.existing_run(trained.output, "gone")
    with pytest.raises(InputError, match=r"^unknown run 'gome'; did you mean gone\?$"):
        runs.existing_run(trained.output, "gome", published=True)


def test_of_a_published_part_the_images_that_both_scored_are_compared(trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    part = another(trained, "part", tuple(id_ for id_ in TRAIN if id_[1] == "0"), missed="d0")
    found = compare.compare(trained.run, published(trained, part, "gone"), place(trained))
    assert (found["n"], found["fitted_on"]) == (4, {"tiny-run": 12, "gone": 4})
    assert (found["at_half"]["tiny-run"], found["at_half"]["gone"]) == (1.0, 0.75)
    assert found["at_half"]["difference"] == pytest.approx(-1 / 4)


def test_published_scores_of_other_folds_or_of_one_image_are_not_compared(trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    record = published(trained, trained.run, "moved")
    rows = storage.read_csv(record.image_scores)
    storage.write_csv(record.image_scores, rows[:1])
    with pytest.raises(InputError, match=r"tiny-run and moved share 1 out-of-fold images; train a fold of both"):
        compare.compare(trained.run, record, place(trained))
    rows[0]["fold"] = str((int(rows[0]["fold"]) + 1) % 3)
    storage.write_csv(record.image_scores, rows)
    with pytest.raises(InputError, match=r"tiny-run and moved have 1 images in other folds, such as 'a0'"):
        compare.compare(trained.run, record, place(trained))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "id,fold,at_half,cross_fitted\na0,0,1.0,1.0\n",
        "id,fold,at_half,cross_fitted,whole_rule\na0,0,1.0,1.0\n",
        "id,fold,at_half,cross_fitted,whole_rule\na0,0,1.0,1.0,1.1\n",
        "id,fold,at_half,cross_fitted,whole_rule\na0,0,1.0,1.0,nan\n",
        "id,fold,at_half,cross_fitted,whole_rule\na0,first,1.0,1.0,1.0\n",
    ],
)
def test_a_damaged_file_of_scores_is_refused(trained: Trained, text: str) -> None:
    record = runs.RunDir(trained.output / "published" / "gone")
    storage.write_json(record.provenance, trained.run.read_provenance())
    record.image_scores.write_text(text)
    with pytest.raises(InputError, match=r"image_scores\.csv cannot be read as scores of images"):
        compare.compare(record, trained.run, place(trained))


def test_runs_on_other_folds_are_not_compared(trained: Trained) -> None:
    other = another(trained, "other", TRAIN, missed="d0")
    storage.write_json(other.provenance, other.read_provenance() | {"folds_hash": "x"})
    with pytest.raises(InputError, match=r"tiny-run and other differ in folds_hash; only runs on the same folds"):
        compare.compare(trained.run, other, place(trained))

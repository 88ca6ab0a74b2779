"""The whole way once, small: prepare → train → predict → optimise → submit → report → leaderboard → score."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from saltseg.core import metric, rle, submission
from saltseg.data import competition

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pipeline")
    call(root, "prepare_data", "--source", "synthetic", "--name", "tiny", "--train", "40", "--test", "12", output=False)
    settings = ["data.size=32", "model.filters=4", "folds.count=2", "train.epochs=2", "train.batch_size=8"]
    call(root, "run", "demo", "--data", "tiny", *[part for s in settings for part in ("--set", s)])
    return root


def call(root: Path, script: str, *options: str, output: bool = True, code: int = 0) -> str:
    places = ["--input", str(root / "input")] + (["--output", str(root / "output")] if output else [])
    command = [sys.executable, str(SCRIPTS / f"{script}.py"), *options, *places]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def test_every_file_of_the_layout_is_there(place: Path) -> None:
    run = place / "output" / "runs" / "tiny-demo"
    for name in ("config.yaml", "provenance.json", "oof.npz", "test.npz", "postprocess.json", "submission.csv",
                 "solution_score.json", "report.html", "fold_0/metrics.json", "fold_1/network.ckpt"):  # fmt: skip
        assert (run / name).stat().st_size > 0, name
    assert (place / "output" / "leaderboard.html").is_file()
    assert not list(place.rglob(".*.npz*")), "an atomic write left its temporary file"


def test_the_scores_follow_from_the_files(place: Path) -> None:
    """Recomputed from the predictions, the labels and the submission with nothing but numpy and the metric."""
    run, root = place / "output" / "runs" / "tiny-demo", place / "input" / "tiny"
    labelled = competition.read_train(root)
    with np.load(run / "oof.npz") as oof:
        assert sorted(oof["ids"].tolist()) == sorted(labelled.ids)
        true = labelled.masks[[labelled.ids.index(id_) for id_ in oof["ids"].tolist()]]
        at_half = metric.score((oof["probabilities"] >= 128).astype(np.uint8), true)
    rule = json.loads((run / "postprocess.json").read_text())
    assert rule["score_at_half"] == pytest.approx(at_half, abs=1e-12)

    with (root / "solution.csv").open() as file:
        true_of_id = {row["id"]: rle.decode(row["rle_mask"]) for row in csv.DictReader(file)}
    ids, texts = submission.read(run / "submission.csv", true_of_id)
    assert list(ids) == [row[0] for row in csv.reader((root / "sample_submission.csv").open())][1:]
    values = [metric.score(rle.decode(t)[None], true_of_id[i][None]) for i, t in zip(ids, texts, strict=True)]
    score = json.loads((run / "solution_score.json").read_text())
    assert score["all"] == pytest.approx(np.mean(values), abs=1e-12)


def test_a_second_run_trains_nothing(place: Path) -> None:
    settings = ["data.size=32", "model.filters=4", "folds.count=2", "train.epochs=2", "train.batch_size=8"]
    text = call(place, "run", "demo", "--data", "tiny", *[part for s in settings for part in ("--set", s)])
    assert "fold 0 of tiny-demo is finished already; skipped" in text
    assert "fold 1 of tiny-demo is finished already; skipped" in text


def test_a_folder_of_other_images_is_predicted(place: Path) -> None:
    folder = place / "elsewhere"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("wide", (60, 150)), ("tile", (101, 101))):
        cv2.imwrite(str(folder / f"{name}.png"), rng.integers(0, 255, shape, dtype=np.uint8))
    call(place, "predict", "tiny-demo", "--images", str(folder), "--to", str(place / "masks"))
    with (place / "masks" / "masks.csv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert (rows["wide"]["height"], rows["wide"]["width"]) == ("60", "150")
    for name, shape in (("wide", (60, 150)), ("tile", (101, 101))):
        mask = cv2.imread(str(place / "masks" / f"{name}_mask.png"), cv2.IMREAD_UNCHANGED)
        assert mask.shape == shape
        assert np.array_equal(rle.decode(rows[name]["rle_mask"], shape), mask // 255)
    assert "exists; choose another --to" in call(
        place, "predict", "tiny-demo", "--images", str(folder), "--to", str(place / "masks"), code=2
    )


def test_what_is_published_is_this_run_alone_and_replaces_no_other_folder(place: Path) -> None:
    published = place / "output" / "published"
    call(place, "publish", "tiny-demo")
    files = {path.relative_to(published) for path in published.rglob("*")}
    assert Path("tiny-demo/image_scores.csv") in files
    (published / "tiny-demo" / "fold_7").mkdir()
    (published / "tiny-demo" / "fold_7" / "metrics.json").touch()
    call(place, "publish", "tiny-demo")
    assert {path.relative_to(published) for path in published.rglob("*")} == files
    (published / "tiny-demo" / "provenance.json").unlink()
    assert "tiny-demo holds something else than a published run" in call(place, "publish", "tiny-demo", code=2)
    run = place / "output" / "runs" / "tiny-demo"
    rule = json.loads((run / "postprocess.json").read_text())
    (run / "postprocess.json").write_text(json.dumps(rule | {"oof_hash": "of others"}))
    assert "was fitted on other predictions than tiny-demo has now" in call(place, "publish", "tiny-demo", code=2)
    (run / "postprocess.json").write_text(json.dumps(rule))


def test_predicting_again_without_augmentation_changes_the_predictions_and_only_them(place: Path) -> None:
    path = place / "output" / "runs" / "tiny-demo" / "oof.npz"
    before = np.load(path)
    call(place, "predict", "tiny-demo", "--views", "identity")
    after = np.load(path)
    assert before["ids"].tolist() == after["ids"].tolist()
    assert not np.array_equal(before["probabilities"], after["probabilities"])
    call(place, "predict", "tiny-demo", "--views", "identity,hflip")
    assert np.abs(np.load(path)["probabilities"].astype(int) - before["probabilities"]).max() <= 1

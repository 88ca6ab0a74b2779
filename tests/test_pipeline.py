"""All steps once, small: prepare → train → predict → tune → submit → report → leaderboard → publish."""

import contextlib
import csv
import io
import json
import shutil
from pathlib import Path

import cv2
import in_process
import numpy as np
import pytest

from saltseg.data import competition, submission
from saltseg.metrics import average_precision, rle

SETTINGS = ["data.size=32", "model.filters=4", "folds.count=2", "train.epochs=2", "train.batch_size=8"]
RUN = ("run", "demo", "--data", "tiny", *(part for setting in SETTINGS for part in ("--set", setting)))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pipeline")
    call(root, "prepare", "--source", "synthetic", "--name", "tiny", "--train", "40", "--test", "12", writes=False)
    call(root, *RUN)
    return root


def call(root: Path, verb: str, *options: str, writes: bool = True, code: int = 0) -> str:
    """``saltseg VERB OPTIONS`` in this process; returns what it prints."""
    folders = ["--input", str(root / "input")] + (["--output", str(root / "output")] if writes else [])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        assert in_process.call(verb, *options, *folders) == code, printed.getvalue()
    return printed.getvalue()


def test_every_file_of_the_layout_is_there(root: Path) -> None:
    run = root / "output" / "runs" / "tiny-demo"
    for name in (
        *("config.yaml", "provenance.json", "dataset.json", "oof.npz", "test.npz", "postprocess.json"),
        *("submission.csv", "solution_score.json", "report.html", "fold_0/metrics.json", "fold_1/network.ckpt"),
    ):
        assert (run / name).stat().st_size > 0, name
    assert (root / "output" / "leaderboard.html").is_file()
    assert not list(root.rglob(".*.npz*")), "an atomic write left its temporary file"


def test_the_scores_follow_from_the_files(root: Path) -> None:
    """Recomputed from the predictions, the labels and the submission with nothing but numpy and the metric."""
    run, dataset = root / "output" / "runs" / "tiny-demo", root / "input" / "tiny"
    labeled = competition.read_train(dataset)
    with np.load(run / "oof.npz") as oof:
        assert sorted(oof["ids"].tolist()) == sorted(labeled.ids)
        true = labeled.masks[[labeled.ids.index(id_) for id_ in oof["ids"].tolist()]]
        at_half = average_precision.score((oof["probabilities"] >= 128).astype(np.uint8), true)
    tuned = json.loads((run / "postprocess.json").read_text())
    assert tuned["score_at_half"] == pytest.approx(at_half, abs=1e-12)

    with (dataset / "solution.csv").open() as file:
        true_of_id = {row["id"]: rle.decode(row["rle_mask"]) for row in csv.DictReader(file)}
    ids, texts = submission.read(run / "submission.csv", true_of_id)
    assert list(ids) == [row[0] for row in csv.reader((dataset / "sample_submission.csv").open())][1:]
    values = [
        average_precision.score(rle.decode(t)[None], true_of_id[i][None]) for i, t in zip(ids, texts, strict=True)
    ]
    score = json.loads((run / "solution_score.json").read_text())
    assert score["all"] == pytest.approx(np.mean(values), abs=1e-12)


def test_a_second_run_trains_nothing(root: Path) -> None:
    text = call(root, *RUN)
    assert "fold 0 of tiny-demo is finished already; skipped" in text
    assert "fold 1 of tiny-demo is finished already; skipped" in text


def test_a_folder_of_other_images_is_predicted(root: Path) -> None:
    folder = root / "elsewhere"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("wide", (60, 150)), ("tile", (101, 101))):
        cv2.imwrite(str(folder / f"{name}.png"), rng.integers(0, 255, shape, dtype=np.uint8))
    call(root, "predict", "tiny-demo", str(folder), "--to", str(root / "masks"))
    with (root / "masks" / "masks.csv").open() as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert (rows["wide"]["height"], rows["wide"]["width"]) == ("60", "150")
    for name, shape in (("wide", (60, 150)), ("tile", (101, 101))):
        mask = cv2.imread(str(root / "masks" / f"{name}_mask.png"), cv2.IMREAD_UNCHANGED)
        assert mask.shape == shape
        assert np.array_equal(rle.decode(rows[name]["rle_mask"], shape), mask // 255)
    assert "exists; choose another --to" in call(
        root, "predict", "tiny-demo", str(folder), "--to", str(root / "masks"), code=2
    )


def test_what_is_published_is_this_run_alone_and_replaces_no_other_folder(root: Path) -> None:
    published = root / "output" / "published"
    call(root, "publish", "tiny-demo")
    files = {path.relative_to(published) for path in published.rglob("*")}
    assert Path("tiny-demo/image_scores.csv") in files
    (published / "tiny-demo" / "fold_7").mkdir()
    (published / "tiny-demo" / "fold_7" / "metrics.json").touch()
    call(root, "publish", "tiny-demo")
    assert {path.relative_to(published) for path in published.rglob("*")} == files
    call(root, "publish", "tiny-demo", "--predictions")
    folds = {Path("tiny-demo") / path.parent.name for path in files if path.name == "metrics.json"}
    more = {fold / name for fold in folds for name in ("oof.npz", "test.npz")}
    assert {path.relative_to(published) for path in published.rglob("*")} == files | more
    call(root, "publish", "tiny-demo", "--predictions", "--weights")
    more |= {fold / "network.safetensors" for fold in folds} | {Path("tiny-demo/weights_license.txt")}
    assert {path.relative_to(published) for path in published.rglob("*")} == files | more
    assert (published / "tiny-demo" / "weights_license.txt").read_text() == "MIT\n"
    (published / "tiny-demo" / "provenance.json").unlink()
    assert "tiny-demo holds something else than a published run" in call(root, "publish", "tiny-demo", code=2)
    run = root / "output" / "runs" / "tiny-demo"
    tuned = json.loads((run / "postprocess.json").read_text())
    (run / "postprocess.json").write_text(json.dumps(tuned | {"oof_hash": "of others"}))
    assert "was tuned on other predictions than tiny-demo has now" in call(root, "publish", "tiny-demo", code=2)
    (run / "postprocess.json").write_text(json.dumps(tuned))


def test_a_copy_of_what_is_published_predicts_labels_and_is_started_from(root: Path, tmp_path: Path) -> None:
    shutil.rmtree(root / "output" / "published" / "tiny-demo", ignore_errors=True)
    call(root, "publish", "tiny-demo", "--predictions", "--weights")
    shutil.copytree(root / "output" / "published" / "tiny-demo", tmp_path / "output" / "runs" / "tiny-demo")
    (tmp_path / "input").symlink_to(root / "input")
    shutil.copytree(root / "output" / "folds", tmp_path / "output" / "folds")
    call(tmp_path, "predict", "tiny-demo", "--tta", "hflip,identity")
    before, after = (np.load(place / "output/runs/tiny-demo/oof.npz") for place in (root, tmp_path))
    assert before["ids"].tolist() == after["ids"].tolist()
    change = np.abs(before["probabilities"].astype(int) - after["probabilities"])
    assert 0 < change.max() <= 3  # half precision
    images, output = root / "input" / "tiny" / "test" / "images", tmp_path / "output"
    words = ("tiny-demo", "--images", str(images), "--folds", "0", "--output", str(output))
    assert in_process.call("pseudo-label", *words) == 0
    changes = [*RUN[1:], "--folds", "0", "--name", "again", "--set", "train.init_from=tiny-demo"]
    call(tmp_path, "train", *changes)
    metrics = json.loads((output / "runs/again/fold_0/metrics.json").read_text())
    assert metrics["weights_source"] == "all weights from tiny-demo, fold 0"
    call(tmp_path, "tune", "tiny-demo")
    call(tmp_path, "submit", "tiny-demo")
    call(tmp_path, "publish", "tiny-demo", "--weights")  # a copy of a copy
    again, first = (place / "output/published/tiny-demo/fold_1/network.safetensors" for place in (root, tmp_path))
    assert again.read_bytes() == first.read_bytes()
    half = output / "runs/tiny-demo/fold_1/network.safetensors"
    kept = half.rename(half.with_name("kept"))
    assert "warning: of fold_1 there are no weights to publish" in call(tmp_path, "publish", "tiny-demo", "--weights")
    assert "remove " in call(tmp_path, "predict", "tiny-demo", str(images), "--to", str(tmp_path / "masks"), code=2)
    kept.write_bytes(b"damaged")
    kept.rename(half)
    assert "network.safetensors" in call(tmp_path, "predict", "tiny-demo", "--tta", "identity", code=2)


def test_predicting_again_without_augmentation_changes_the_predictions_and_only_them(root: Path) -> None:
    path = root / "output" / "runs" / "tiny-demo" / "oof.npz"
    before = np.load(path)
    call(root, "predict", "tiny-demo", "--tta", "identity")
    after = np.load(path)
    assert before["ids"].tolist() == after["ids"].tolist()
    assert not np.array_equal(before["probabilities"], after["probabilities"])
    call(root, "predict", "tiny-demo", "--tta", "identity,hflip")
    assert np.abs(np.load(path)["probabilities"].astype(int) - before["probabilities"]).max() <= 1

"""Scores on another dataset, worked out by hand."""

import shutil

import cv2
import numpy as np
import pytest
from tiny_run import TRAIN, Trained, checkpoint, postprocess, salt, write_table

from saltseg import config, io
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.metrics import rle
from saltseg.pipeline import evaluate
from saltseg.runs import RunDir


def test_another_dataset_is_scored_by_the_mean_of_the_folds_under_the_runs_post_processing(trained: Trained) -> None:
    """Folds predict 0.1, 0.2 and 0.6 for every pixel: 0.3 on average, salt everywhere at 60/255, nowhere at 0.5."""
    for number, probability in enumerate((0.1, 0.2, 0.6)):
        checkpoint(trained, number, probability)
    io.write_json(trained.run.postprocess, postprocess(threshold=60))
    other = trained.input / "other"
    true = {"e0": 0, "e1": 101, "e2": 101, "e3": 80}
    write_table(other / "train.csv", [["id", "rle_mask"], *([id_, rle.encode(salt(n))] for id_, n in true.items())])
    (other / "train" / "images").mkdir(parents=True)
    for id_, source in zip(true, TRAIN, strict=False):
        image = (trained.root / "train" / "images" / f"{source}.png").read_bytes()
        (other / "train" / "images" / f"{id_}.png").write_bytes(image)
    result = evaluate.evaluate(trained.run, trained.workspace, "other")
    assert (result["dataset"], result["n"], result["always_empty"]) == ("other", 4, 0.25)
    assert result["score_at_half"] == 0.25
    assert result["score_postprocessed"] == pytest.approx((0 + 1 + 1 + 0.6) / 4)  # IoU 80 / 101 = 0.79: 0.6
    low, high = result["interval"]
    assert 0 <= low < 0.65 < high <= 1
    with pytest.raises(InputError, match=r"tiny-run was trained on tiny; its score there is the out-of-fold one"):
        evaluate.evaluate(trained.run, trained.workspace, "tiny")
    (other / "train.csv").write_text((trained.root / "train.csv").read_text())
    for path in (trained.root / "train" / "images").iterdir():
        (other / "train" / "images" / path.name).write_bytes(path.read_bytes())
    with pytest.raises(
        InputError, match=r"other shares 12 images with the training, such as 'a0' \(the same id\); use"
    ):
        evaluate.evaluate(trained.run, trained.workspace, "other")


def test_a_dataset_that_shares_pixels_with_the_training_is_refused(trained: Trained) -> None:
    other = trained.input / "other"
    (other / "train" / "images").mkdir(parents=True)
    picture = np.random.default_rng(0).integers(0, 256, (101, 101), dtype=np.uint8)
    for path in (trained.root / "train/images" / f"{TRAIN[3]}.png", other / "train/images/new.png"):
        path.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    write_table(other / "train.csv", [["id", "rle_mask"], ["new", ""]])
    trained.write_provenance()
    with pytest.raises(
        InputError, match=rf"other shares 1 images .* such as 'new' \(the pixels of '{TRAIN[3]}'\); use"
    ):
        evaluate.evaluate(trained.run, trained.workspace, "other")


def test_a_dataset_whose_labels_an_ancestor_learned_is_refused(trained: Trained) -> None:
    """The run began with weights of `first`, which was trained on rows of the dataset that is to be scored."""
    for number in range(3):
        checkpoint(trained, number, 0.5)
    first, other = trained.run.path.parent / "first", trained.input / "other"
    shutil.copytree(trained.run.path, first)
    settings = config.change(
        trained.run.read_config(), {"train.init_from": f"file:{first / 'fold_0' / 'network.ckpt'}"}
    )
    trained.run.config.write_text(config.dump(settings), encoding="utf-8")
    (other / "train" / "images").mkdir(parents=True)
    picture = np.random.default_rng(0).integers(0, 256, (101, 101), dtype=np.uint8)
    (other / "train" / "images" / "new.png").write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    write_table(other / "train.csv", [["id", "rle_mask"], ["new", "1 5"]])
    recorded = RunDir(first).read_provenance()

    first.rename(first.with_name("gone"))
    assert not evaluate.evaluate(trained.run, trained.workspace, "other")["compared_with_training"]
    first.with_name("gone").rename(first)
    io.write_json(RunDir(first).provenance, recorded | {"dataset_hash": "0" * 64})  # nobody can tell
    assert not evaluate.evaluate(trained.run, trained.workspace, "other")["compared_with_training"]

    shutil.copytree(other, trained.input / "before")
    (trained.input / "before" / "test" / "images").mkdir(parents=True)
    write_table(trained.input / "before" / "sample_submission.csv", [["id", "rle_mask"], ["t", ""]])
    (trained.input / "before" / "test" / "images" / "t.png").write_bytes(b"pixels")
    known = {"dataset": "before", "dataset_hash": competition.fingerprint(trained.input / "before")}
    io.write_json(RunDir(first).provenance, recorded | known)
    with pytest.raises(InputError, match="learned from first, which was trained on labels of other; evaluate it on"):
        evaluate.evaluate(trained.run, trained.workspace, "other")

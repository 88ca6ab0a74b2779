"""Runs trained on pseudo-labels of all folds: a submission, no score in any file, refused wherever they could leak."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import in_process
import numpy as np
import pytest
from tiny_run import TEST, Trained, checkpoint, make_predictions, metrics, postprocess, salt

from saltseg import config, io, predictions, runs
from saltseg.errors import InputError
from saltseg.inference import fold_predictions
from saltseg.metrics import average_precision
from saltseg.pipeline import blend, collate, compare, pseudo_labeling, submit, tune
from saltseg.postprocessing.parameters import Postprocessing
from saltseg.reporting import leaderboard, report
from saltseg.synthetic.dataset import write_dataset
from saltseg.training import run_training
from saltseg.training.run_training import TrainingJob

TAUGHT = ("pseudo.teacher=tiny-run", "pseudo.all_folds=true")
FIXED = ("train.checkpoint=last", "train.schedule=constant")
WHY = "tiny-final has no out-of-fold score, its labels come from all folds of tiny-run; "


@pytest.fixture
def final(trained: Trained) -> runs.RunDir:
    """A run on pseudo-labels of all folds of `trained`, with test predictions alone: 60, 110 and 160 for salt."""
    run = runs.run_dir(trained.output, "tiny-final")
    io.write_atomic(run.config, config.dump(config.override(trained.settings, [*TAUGHT, *FIXED])))
    io.write_atomic(run.provenance, trained.run.provenance.read_text())
    for number in range(3):
        found = make_predictions(TEST, lambda id_: ((60 + 50 * number) * salt(int(id_[1]) + 1)).astype(np.uint8))  # noqa: B023
        predictions.save_predictions(run.fold(number).test, found)
        unscored = dict.fromkeys((*fold_predictions.SCORES, "valid_loss"))
        io.write_json(run.fold(number).metrics, metrics(number, seconds=60.0, **unscored))
    return run


def test_a_choice_of_the_epoch_by_the_contaminated_loss_is_refused() -> None:
    changes = [*TAUGHT, "train.checkpoint=best", "train.schedule=plateau"]
    with pytest.raises(InputError, match=r"train.checkpoint is 'best'; it must be last or snapshots with pseudo.all_"):
        config.override(config.Config(), changes)


def test_predict_collates_the_test_images_and_nothing_out_of_fold(trained: Trained, final: runs.RunDir) -> None:
    assert collate.collate_run(final, trained.workspace) == (3, 3)
    assert predictions.load_predictions(final.test).select(("t3",)).max() == 110
    final.fold(1).test.unlink()
    other = replace(trained, run=final)
    checkpoint(other, 1, 0.6)  # 153 of 255
    collate.collate_run(final, trained.workspace)
    assert predictions.load_predictions(final.test).select(("t3",)).max() == 124  # (60 + 153 + 160) / 3
    assert list(final.path.rglob("oof.npz")) == []
    assert io.read_json(final.fold(1).metrics)["score_at_half"] is None


def test_it_is_submitted_with_anothers_post_processing_which_is_recorded(trained: Trained, final: runs.RunDir) -> None:
    collate.collate_run(final, trained.workspace)
    with pytest.raises(InputError, match=r"post-processing: saltseg submit tiny-final --postprocessing-from tiny-run"):
        submit.write_submission(final, trained.workspace)
    with pytest.raises(InputError, match="so no post-processing: --postprocessing-from tiny-run"):
        submit.write_submission(trained.run, trained.workspace, final)
    postprocessing = Postprocessing(threshold=110, min_area=3 * 101)
    io.write_json(trained.run.postprocess, postprocess(**postprocessing.to_dict()))
    assert submit.write_submission(final, trained.workspace, trained.run) is None
    rows = dict(line.split(",") for line in final.submission.read_text().splitlines()[1:])
    assert {id_ for id_, mask in rows.items() if mask} == {"t2", "t3"}  # three rows and four
    assert io.read_json(final.postprocessing_source) == {
        "postprocessing_from": "tiny-run",
        "postprocessing": postprocessing.to_dict(),
    }


def test_any_run_may_use_anothers_post_processing_and_return_to_its_own(trained: Trained) -> None:
    collate.collate_run(trained.run, trained.workspace)
    other = runs.run_dir(trained.output, "other")
    io.write_json(other.postprocess, postprocess(threshold=255))
    io.write_json(trained.run.postprocess, postprocess())
    submit.write_submission(trained.run, trained.workspace, other)
    assert {line.split(",")[1] for line in trained.run.submission.read_text().splitlines()[1:]} == {""}
    assert trained.run.postprocessing_source.is_file()
    submit.write_submission(trained.run, trained.workspace)
    assert "1 " in trained.run.submission.read_text()
    assert not trained.run.postprocessing_source.exists()


REFUSALS: dict[str, tuple[Callable[[Trained, runs.RunDir], object], str]] = {
    "tune": (
        lambda trained, final: tune.tune_run(final, trained.workspace),
        "use another's: saltseg submit tiny-final --postprocessing-from tiny-run",
    ),
    "report": (
        lambda trained, final: report.build(final, trained.workspace),
        "nothing to report: saltseg report tiny-run",
    ),
    "compare": (
        lambda trained, final: compare.compare(trained.run, final, trained.workspace),
        "nothing to compare: use tiny-run",
    ),
    "blend": (
        lambda trained, final: blend.blend_runs(
            [trained.run, final], runs.RunDir(trained.output / "blends" / "b"), trained.workspace
        ),
        "a blend of it would have none: blend tiny-run instead",
    ),
    "label": (
        lambda trained, final: pseudo_labeling.label(final, trained.root / "test" / "images"),
        "these contain the validation masks; use tiny-run instead",
    ),
}


@pytest.mark.parametrize("step", REFUSALS)
def test_what_would_show_or_spread_its_score_is_refused_in_one_line(
    step: str, trained: Trained, final: runs.RunDir
) -> None:
    collate.collate_run(trained.run, trained.workspace)
    collate.collate_run(final, trained.workspace)
    before = sorted(trained.output.rglob("*"))
    act, way_out = REFUSALS[step]
    with pytest.raises(InputError) as refused:
        act(trained, final)
    assert str(refused.value) == WHY + way_out
    assert sorted(trained.output.rglob("*")) == before


@pytest.mark.parametrize(
    "use",
    [
        ("pseudo.teacher=tiny-final",),
        ("train.init_from=tiny-final",),
        ("train.init_from=file:{}",),
        ("model.architecture=smp.Unet", "model.weights=file:{}"),
    ],
    ids=["labels", "weights of a run", "weights of a file", "an encoder's weights"],
)
def test_nothing_is_trained_on_its_labels_or_its_weights(
    use: tuple[str, ...], trained: Trained, final: runs.RunDir
) -> None:
    checkpoint(replace(trained, run=final), 0, 0.5)
    changes = [part.format(final.fold(0).network) for part in use]
    settings = config.override(trained.settings, [*changes, *FIXED])
    student = runs.run_dir(trained.output, "student")
    with pytest.raises(InputError, match=WHY + "these contain the validation masks; use tiny-run instead"):
        run_training.train_run(TrainingJob(settings, "tiny", student, trained.input, trained.output))
    assert not student.path.exists()


def test_the_leaderboard_lists_it_without_a_score_and_says_why(trained: Trained, final: runs.RunDir) -> None:
    collate.collate_run(trained.run, trained.workspace)
    tune.tune_run(trained.run, trained.workspace)
    for number in range(3):
        io.write_json(trained.run.fold(number).metrics, metrics(number))
    rows = {row.name: row for row in leaderboard.read(trained.output).rows}
    row = rows["tiny-final"]
    assert (row.mean("score_at_half"), row.at_half, row.argmax, row.cross_fitted) == (None,) * 4
    assert row.unscored == "labels from all folds of tiny-run"
    assert rows["tiny-run"].unscored == ""
    board = leaderboard.Leaderboard([row], [])
    text = leaderboard.table(board)
    assert "without an out-of-fold score, for submission only:\n  tiny-final: labels from all folds of tiny-run" in text
    assert not re.search(r"\d\.\d{4}", text)
    assert "no score: labels from all folds of tiny-run" in leaderboard.html(board)


# ---------------------------------------------------------------- end to end: planted numbers must appear in no file

SCORE, LOSS = 0.123456789, 0.987654321
SETTINGS = (
    "data.size=32", "data.resize_mode=resize", "model.filters=2", "folds.count=2", "train.epochs=1",
    "train.batch_size=8", *FIXED,
)  # fmt: skip


def call(base: Path, verb: str, *options: str, code: int = 0, reads_data: bool = True) -> None:
    folders = ["--input", str(base / "input"), "--output", str(base / "output")]
    assert in_process.call(verb, *options, *(folders if reads_data else folders[2:])) == code


def written(base: Path) -> dict[str, str]:
    """Text of every file under output/, by path; predictions and weights hold none."""
    files = (path for path in (base / "output").rglob("*") if path.is_file())
    return {str(path.relative_to(base / "output")): path.read_bytes().decode("latin-1") for path in files}


def numbers(value: Any, name: str = "") -> list[tuple[str, float]]:
    """Every number of a JSON value with the keys that lead to it."""
    if isinstance(value, dict):
        return [pair for key, part in value.items() for pair in numbers(part, f"{name}.{key}")]
    return [(name, value)] if isinstance(value, float | int) and not isinstance(value, bool) else []


@pytest.mark.slow
def test_no_score_of_such_a_run_appears_in_any_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "input" / "tiny", n_train=24, n_test=4, seed=3)
    write_dataset(tmp_path / "input" / "others", n_train=6, n_test=2, seed=4)
    (tmp_path / "input" / "tiny" / "solution.csv").unlink()  # the score on test images would be honest
    common = ["unet", "--data", "tiny", *(part for change in SETTINGS for part in ("--set", change))]
    student = [*common, "--set", "pseudo.teacher=teacher"]
    call(tmp_path, "run", *common, "--name", "teacher")
    images = tmp_path / "input" / "others" / "train" / "images"
    call(tmp_path, "pseudo-label", "teacher", "--images", str(images), reads_data=False)
    with (
        mock.patch.object(average_precision, "score", return_value=SCORE),
        mock.patch.object(fold_predictions, "log_loss", return_value=LOSS),
    ):
        call(tmp_path, "train", *student, "--name", "fold-by-fold", "--folds", "0")
        planted = [path for path, text in written(tmp_path).items() if str(SCORE) in text and str(LOSS) in text]
        assert planted == ["runs/fold-by-fold/fold_0/metrics.json"]  # the check sees what it looks for
        shutil.rmtree(tmp_path / "output" / "runs" / "fold-by-fold")
        capsys.readouterr()
        call(tmp_path, "run", *student, "--set", "pseudo.all_folds=true", "--name", "final")
    printed = capsys.readouterr().out
    steps_taken = [line for line in printed.splitlines() if line.startswith("[")]
    assert steps_taken == ["[1/3] train", "[2/3] predict", "[3/3] submit"]
    assert "fold 1: no score: its labels come from all folds of teacher" in printed
    assert "post-processing of teacher: " in printed
    assert printed.splitlines()[-1].startswith("next: saltseg publish final")
    call(tmp_path, "publish", "final")
    call(tmp_path, "leaderboard", reads_data=False)
    for verb in ("tune", "report"):
        call(tmp_path, verb, "final", code=2)
    capsys.readouterr()
    run = runs.run_dir(tmp_path / "output", "final")
    of_final = {path: text for path, text in written(tmp_path).items() if "/final/" in path or "board" in path}
    names = {
        "test.npz",
        "submission.csv",
        "postprocessing_source.json",
        "config.yaml",
        "provenance.json",
        "dataset.json",
        "fold_0",
        "fold_1",
        ".lock",
    }
    assert {path.name for path in run.path.iterdir()} == names
    assert "published/final/submission.csv" in of_final
    assert "published/final/image_scores.csv" not in of_final
    for path, text in of_final.items():
        assert str(SCORE) not in text, path
        assert str(LOSS) not in text, path
        assert f"{SCORE:.4f}" not in text, path
        for name, _ in numbers(json.loads(text)) if path.endswith(".json") else []:
            assert not re.search("score|accuracy|log_loss|valid_loss|cross_fitted", name), (path, name)
    for number in (0, 1):
        metrics, log = io.read_json(run.fold(number).metrics), io.read_csv(run.fold(number).log)
        assert [metrics[key] for key in (*fold_predictions.SCORES, "valid_loss")] == [None] * 7
        assert metrics["n_pseudo"] == 6
        assert [row["valid_frame_accuracy"] for row in log] == ["nan"]
        kept = {path for path, text in of_final.items() if log[-1]["valid_loss"] in text}
        assert kept == {f"{kind}/final/fold_{number}/log.csv" for kind in ("runs", "published")}
        for path, text in of_final.items():  # the log is rounded
            for _, value in numbers(json.loads(text)) if path.endswith(".json") else []:
                assert value != pytest.approx(float(log[-1]["valid_loss"]), rel=1e-5), path

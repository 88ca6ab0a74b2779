"""Runs that labels of all folds taught: a submission, no score in any file, refused wherever they could leak."""

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
from tiny_run import TEST, Trained, checkpoint, place, predictions, salt

from saltseg import config, runs, storage
from saltseg.core import metric
from saltseg.core.postprocess import Rule
from saltseg.data.synthetic import write_dataset
from saltseg.errors import InputError
from saltseg.inference import compare, ensemble, judge, pseudo, steps
from saltseg.reporting import leaderboard, report
from saltseg.training import experiment

TAUGHT = ("pseudo.teacher=tiny-run", "pseudo.all_folds=true")
FIXED = ("train.keep=last", "train.schedule=constant")
WHY = "tiny-final has no out-of-fold score, its labels come from all folds of tiny-run; "


@pytest.fixture
def final(trained: Trained) -> runs.RunDir:
    """The second run that `trained` taught, with test predictions alone: 60, 110 and 160 for salt."""
    run = runs.run_dir(trained.output, "tiny-final")
    storage.write_atomic(run.config, config.dump(config.override(trained.settings, [*TAUGHT, *FIXED])))
    storage.write_atomic(run.provenance, trained.run.provenance.read_text())
    for number in range(3):
        found = predictions(TEST, lambda id_: ((60 + 50 * number) * salt(int(id_[1]) + 1)).astype(np.uint8))  # noqa: B023
        runs.save_predictions(run.fold(number).test, found)
        figures = {"fold": number, "views": ["identity"], "seconds": 60.0} | dict.fromkeys(judge.SCORES)
        storage.write_json(run.fold(number).metrics, figures)
    return run


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("pseudo.all_folds=true",), r"pseudo.all_folds is True; it must be false without a run as teacher"),
        (
            ("pseudo.all_folds=true", "pseudo.teacher=self", "pseudo.images=u", "train.ema=0.9"),
            r"pseudo.all_folds is True; it must be false without a run as teacher",
        ),
        (
            (*TAUGHT, "train.keep=best", "train.schedule=plateau"),
            r"train.keep is 'best'; it must be last or snapshots with all_folds",
        ),
    ],
    ids=["no teacher", "its own teacher", "best epoch"],
)
def test_a_configuration_without_a_teacher_or_with_a_choice_of_the_epoch_is_refused(
    changes: tuple[str, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        config.override(config.Config(), [*FIXED, *changes])


def test_predict_collates_the_test_images_and_nothing_out_of_fold(trained: Trained, final: runs.RunDir) -> None:
    assert steps.predict(final, place(trained)) == (3, 3)
    assert runs.load_predictions(final.test).of(("t3",)).max() == 110
    final.fold(1).test.unlink()
    other = replace(trained, run=final)
    checkpoint(other, 1, 0.6)  # 153 of 255
    steps.predict(final, place(trained))
    assert runs.load_predictions(final.test).of(("t3",)).max() == 124  # (60 + 153 + 160) / 3
    assert list(final.path.rglob("oof.npz")) == []
    assert storage.read_json(final.fold(1).metrics)["score_at_half"] is None


def test_it_is_submitted_with_anothers_rule_which_is_recorded(trained: Trained, final: runs.RunDir) -> None:
    steps.predict(final, place(trained))
    with pytest.raises(InputError, match=r"so no rule of its own: python scripts/submit.py tiny-final --rule-of tiny"):
        steps.submit(final, place(trained))
    with pytest.raises(InputError, match="so no rule: --rule-of tiny-run"):
        steps.submit(trained.run, place(trained), final)
    rule = Rule(threshold=110, min_area=3 * 101)
    storage.write_json(trained.run.postprocess, {"rule": rule.to_dict()})
    assert steps.submit(final, place(trained), trained.run) is None
    rows = dict(line.split(",") for line in final.submission.read_text().splitlines()[1:])
    assert {id_ for id_, mask in rows.items() if mask} == {"t2", "t3"}  # three rows and four
    assert storage.read_json(final.borrowed) == {"rule_of": "tiny-run", "rule": rule.to_dict()}


def test_any_run_may_borrow_a_rule_and_give_it_back(trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    lender = runs.run_dir(trained.output, "lender")
    storage.write_json(lender.postprocess, {"rule": Rule(threshold=255).to_dict()})
    storage.write_json(trained.run.postprocess, {"rule": Rule().to_dict()})
    steps.submit(trained.run, place(trained), lender)
    assert {line.split(",")[1] for line in trained.run.submission.read_text().splitlines()[1:]} == {""}
    assert trained.run.borrowed.is_file()
    steps.submit(trained.run, place(trained))
    assert "1 " in trained.run.submission.read_text()
    assert not trained.run.borrowed.exists()


REFUSALS: dict[str, tuple[Callable[[Trained, runs.RunDir], object], str]] = {
    "optimise": (
        lambda trained, final: steps.optimise(final, place(trained)),
        "python scripts/submit.py tiny-final --rule-of tiny-run",
    ),
    "report": (
        lambda trained, final: report.build(final, trained.root),
        "nothing to report: python scripts/report.py tiny-run",
    ),
    "compare": (
        lambda trained, final: compare.compare(trained.run, final, place(trained)),
        "nothing to compare: python scripts/compare.py takes tiny-run",
    ),
    "blend": (
        lambda trained, final: ensemble.blend_runs(
            [trained.run, final], runs.RunDir(trained.output / "blends" / "b"), place(trained)
        ),
        "a blend of it would have none: blend tiny-run instead",
    ),
    "label": (
        lambda trained, final: pseudo.label(final, trained.root / "test" / "images"),
        "what it learnt holds the masks that validate; take tiny-run instead",
    ),
}


@pytest.mark.parametrize("step", REFUSALS)
def test_what_would_show_or_spread_its_score_is_refused_in_one_line(
    step: str, trained: Trained, final: runs.RunDir
) -> None:
    steps.predict(trained.run, place(trained))
    steps.predict(final, place(trained))
    before = sorted(trained.output.rglob("*"))
    act, way_out = REFUSALS[step]
    with pytest.raises(InputError) as refused:
        act(trained, final)
    assert str(refused.value) == WHY + way_out
    assert sorted(trained.output.rglob("*")) == before


@pytest.mark.parametrize(
    "use",
    ["pseudo.teacher=tiny-final", "train.start_from=tiny-final", "train.start_from=file:{}", "model.weights=file:{}"],
)
def test_it_teaches_nobody_and_nobody_starts_from_its_weights(use: str, trained: Trained, final: runs.RunDir) -> None:
    checkpoint(replace(trained, run=final), 0, 0.5)
    settings = config.override(trained.settings, [use.format(final.fold(0).network), *FIXED])
    student = runs.run_dir(trained.output, "student")
    with pytest.raises(InputError, match=WHY + "what it learnt holds the masks that validate; take tiny-run instead"):
        experiment.train(settings, "tiny", student, trained.input, trained.output)
    assert not student.path.exists()


def test_the_leaderboard_lists_it_without_a_score_and_says_why(trained: Trained, final: runs.RunDir) -> None:
    steps.predict(trained.run, place(trained))
    steps.optimise(trained.run, place(trained))
    for number in range(3):
        storage.write_json(trained.run.fold(number).metrics, {"fold": number, "score_at_half": 1, "seconds": 1})
    rows = {row.name: row for row in leaderboard.rows(trained.output)}
    row = rows["tiny-final"]
    assert (row.fold_mean, row.at_half, row.naive, row.cross_fitted, row.expected) == (None,) * 5
    assert row.unscored == "labels from all folds of tiny-run"
    assert rows["tiny-run"].unscored == ""
    text = leaderboard.table([row])
    assert "without an honest score, for submission only:\n  tiny-final: labels from all folds of tiny-run" in text
    assert not re.search(r"\d\.\d{4}", text)
    assert "no score: labels from all folds of tiny-run" in leaderboard.html([row])


# From beginning to end: planted figures that must appear in no file

SCORE, LOSS = 0.123456789, 0.987654321
SETTINGS = (
    "data.size=32", "data.fit=resize", "model.filters=2", "folds.count=2", "train.epochs=1", "train.batch_size=8",
    *FIXED,
)  # fmt: skip


def call(base: Path, script: str, *options: str, code: int = 0, places: bool = True) -> None:
    where = ["--input", str(base / "input"), "--output", str(base / "output")]
    assert in_process.call(script, *options, *(where if places else where[2:])) == code


def written(base: Path) -> dict[str, str]:
    """Text of every file under output/, by path; predictions and weights hold none."""
    files = (path for path in (base / "output").rglob("*") if path.is_file())
    return {str(path.relative_to(base / "output")): path.read_bytes().decode("latin-1") for path in files}


def figures(value: Any, name: str = "") -> list[tuple[str, float]]:
    """Every number of a JSON value with the keys that lead to it."""
    if isinstance(value, dict):
        return [pair for key, part in value.items() for pair in figures(part, f"{name}.{key}")]
    return [(name, value)] if isinstance(value, float | int) and not isinstance(value, bool) else []


@pytest.mark.slow
def test_no_score_of_such_a_run_appears_in_any_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path / "input" / "tiny", n_train=24, n_test=4, seed=3)
    write_dataset(tmp_path / "input" / "others", n_train=6, n_test=2, seed=4)
    (tmp_path / "input" / "tiny" / "solution.csv").unlink()  # the score on test images would be honest
    common = ["unet", "--data", "tiny", *(part for change in SETTINGS for part in ("--set", change))]
    student = [*common, "--set", "pseudo.teacher=teacher"]
    call(tmp_path, "run", *common, "--name", "teacher")
    call(tmp_path, "pseudo_label", "teacher", "--images", str(tmp_path / "input" / "others" / "train" / "images"))
    with (
        mock.patch.object(metric, "score", return_value=SCORE),
        mock.patch.object(judge, "log_loss", return_value=LOSS),
    ):
        call(tmp_path, "train", *student, "--name", "fold-by-fold", "--folds", "0")
        planted = [path for path, text in written(tmp_path).items() if str(SCORE) in text and str(LOSS) in text]
        assert planted == ["runs/fold-by-fold/fold_0/metrics.json"]  # the check sees what it looks for
        shutil.rmtree(tmp_path / "output" / "runs" / "fold-by-fold")
        capsys.readouterr()
        call(tmp_path, "run", *student, "--set", "pseudo.all_folds=true", "--name", "final")
    said = capsys.readouterr().out
    steps_taken = [line for line in said.splitlines() if line.startswith("[")]
    assert steps_taken == ["[1/3] train", "[2/3] predict", "[3/3] submit"]
    assert "fold 1: no score: its labels come from all folds of teacher" in said
    assert "its rule is that of teacher: salt where the probability is at least" in said
    assert said.endswith("next: python scripts/publish.py final\n")
    call(tmp_path, "publish", "final")
    call(tmp_path, "leaderboard", places=False)
    for script in ("optimise", "report"):
        call(tmp_path, script, "final", code=2)
    capsys.readouterr()
    run = runs.run_dir(tmp_path / "output", "final")
    of_final = {path: text for path, text in written(tmp_path).items() if "/final/" in path or "board" in path}
    names = {"test.npz", "submission.csv", "borrowed_rule.json", "config.yaml", "provenance.json", "fold_0", "fold_1"}
    assert {path.name for path in run.path.iterdir()} == names
    assert "published/final/submission.csv" in of_final
    assert "published/final/image_scores.csv" not in of_final
    for path, text in of_final.items():
        assert str(SCORE) not in text, path
        assert str(LOSS) not in text, path
        assert f"{SCORE:.4f}" not in text, path
        for name, _ in figures(json.loads(text)) if path.endswith(".json") else []:
            assert not re.search("score|accuracy|log_loss|valid_loss|cross_fitted", name), (path, name)
    for number in (0, 1):
        metrics, log = storage.read_json(run.fold(number).metrics), storage.read_csv(run.fold(number).log)
        assert [metrics[key] for key in (*judge.SCORES, "valid_loss")] == [None] * 7
        assert metrics["n_pseudo"] == 6
        assert [row["valid_pixel_accuracy"] for row in log] == ["nan"]
        kept = {path for path, text in of_final.items() if log[-1]["valid_loss"] in text}
        assert kept == {f"{place}/final/fold_{number}/log.csv" for place in ("runs", "published")}
        for path, text in of_final.items():  # the log is rounded
            for _, value in figures(json.loads(text)) if path.endswith(".json") else []:
                assert value != pytest.approx(float(log[-1]["valid_loss"]), rel=1e-5), path

"""Damaged files of a run: every verb works or refuses in one line."""

import json
import random

import in_process
import numpy as np
import pytest
import torch
from damage import variants
from tiny_run import Trained, checkpoint, postprocess

from saltseg import io, predictions, runs
from saltseg.errors import InputError
from saltseg.models import checkpoints, zoo
from saltseg.pipeline import collate, tune
from saltseg.postprocessing import step_selection
from saltseg.reporting import plots


@pytest.fixture
def ready(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A run with every file and a blend of it and itself; tuning costs nothing."""
    monkeypatch.setattr(tune.summary, "summarize", lambda *_: postprocess())
    monkeypatch.setattr(step_selection, "scores", lambda *_: dict.fromkeys(step_selection.SCORE_KINDS, np.ones(12)))
    monkeypatch.setattr(plots, "png", lambda _: b"a picture")
    collate.collate_run(trained.run, trained.workspace)
    tune.tune_run(trained.run, trained.workspace)
    source = {"postprocessing_from": "tiny-run", "postprocessing": {"threshold": 100, "min_area": 3}}
    io.write_json(trained.run.postprocessing_source, source)
    io.write_json(trained.run.solution_score, {"all": 0.7, "public": 0.71, "private": 0.69, "n": 3})
    io.write_json(trained.run.dataset, {"order of train.csv": "sha256 ab"})
    blend = runs.RunDir(trained.output / "blends" / "both")
    io.write_json(blend.provenance, trained.run.read_provenance() | {"members": ["tiny-run"], "weights": [1]})
    for name in ("oof", "test"):
        predictions.save_predictions(getattr(blend, name), predictions.load_predictions(getattr(trained.run, name)))
    io.write_atomic(blend.config, trained.run.config.read_text())
    return trained


VERBS = (
    "predict tiny-run",
    "tune tiny-run",
    "submit tiny-run",
    "submit tiny-run --postprocessing-from both",
    "compare tiny-run both",
    "blend tiny-run both --name new",
    "pseudo-label both --images images",
    "evaluate tiny-run --data tiny",
    "predict tiny-run images --to there",
    "leaderboard",
)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["provenance.json", "postprocess.json", "postprocessing_source.json", "dataset.json",
                                  "solution_score.json", "fold_1/metrics.json", "blend"])  # fmt: skip
def test_whatever_a_file_holds_every_verb_works_or_refuses(
    name: str, ready: Trained, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ready.input)
    blend = ready.output / "blends" / "both"
    path = blend / "provenance.json" if name == "blend" else ready.run.path / name
    whole = path.read_text()
    texts = [json.dumps(value) for value in variants(json.loads(whole))]
    for text in random.Random(0).sample(texts, min(len(texts), 12)):
        path.write_text(text)
        for line in VERBS:
            verb, *words = line.split()
            folders = [] if verb in ("leaderboard", "pseudo-label") else ["--input", str(ready.input)]
            code = in_process.call(verb, *words, *folders, "--output", str(ready.output))
            errors = capsys.readouterr().err.replace("\r", "\n").splitlines()
            assert code in (0, 2), (text, line)
            assert code == 0 or sum(found.startswith("error: ") for found in errors) == 1
            io.remove(ready.output / "blends" / "new")
        path.write_text(whole)


@pytest.mark.parametrize("fold", [None, np.array([0.5]), np.array([-1], np.int16), np.array([0, 1], np.int16)])
def test_out_of_fold_predictions_with_odd_folds_are_refused_in_one_line(
    fold: np.ndarray | None, ready: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    arrays = {"ids": np.array(["a0"]), "probabilities": np.zeros((1, 101, 101), np.uint8)}
    io.write_arrays(ready.run.oof, arrays if fold is None else arrays | {"fold": fold})
    folders = ["--input", str(ready.input), "--output", str(ready.output)]
    for words in (
        ["tune", "tiny-run"],
        ["compare", "tiny-run", "both"],
        ["blend", "tiny-run", "both", "--name", "new"],
    ):
        assert in_process.call(*words, *folders) == 2
        assert "oof.npz" in capsys.readouterr().err


def test_a_fold_of_an_absurd_number_is_none(trained: Trained) -> None:
    io.write_json(trained.run.fold(99_999).metrics, {})
    assert [fold.number for fold in trained.run.folds()] == [0, 1, 2]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named_with_file_and_tensor(value: float, trained: Trained) -> None:
    checkpoint(trained, 1, 0.6)
    path = trained.run.fold(1).network
    state = torch.load(path, weights_only=True)
    state["state_dict"]["head.bias"][0] = value
    torch.save(state, path)
    trained.run.fold(1).oof.unlink()
    with pytest.raises(InputError, match=r"fold_1/network.ckpt holds NaN or infinity in head.bias: the training div"):
        collate.collate_run(trained.run, trained.workspace)
    with pytest.raises(InputError, match=r"weights file .*network.ckpt holds NaN or infinity in head.bias; give"):
        checkpoints.load_weights(zoo.build(trained.settings.model), path)

"""Post-processing is tuned on out-of-fold predictions, joined by id, and used for no others."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_run import ROWS, TRAIN, Trained, make_predictions, salt, write_faint_oof

from saltseg import config, io, predictions
from saltseg.errors import InputError
from saltseg.pipeline import collate, submit, tune
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing
from saltseg.reporting import publish, run_summary
from saltseg.runs import RunDir


@pytest.mark.parametrize("order", [TRAIN, tuple(reversed(TRAIN))], ids=["as the table", "reversed"])
def test_tuning_joins_by_id_and_finds_the_threshold(order: tuple[str, ...], trained: Trained) -> None:
    write_faint_oof(trained, order)
    tuned = tune.tune_run(trained.run, trained.workspace)
    assert tuned["score_at_half"] == 0.25  # three empty tiles of twelve
    assert tuned["argmax"]["score"] == tuned["cross_fitted"]["score"] == 1
    assert (tuned["selected"], tuned["n"], tuned["folds"]) == ("tuned", 12, [0, 1, 2])
    assert tuned["postprocessing"]["threshold"] <= 100
    assert tuned["networks"] == 1
    assert io.read_json(trained.run.postprocess) == tuned


def test_the_networks_of_a_blend_are_its_members_with_a_weight(trained: Trained) -> None:
    entries = io.read_json(trained.run.provenance)
    io.write_json(trained.run.provenance, entries | {"members": ["a", "b", "c"], "weights": [2, 0, 1]})
    assert tune.networks_averaged(trained.run) == 2
    inner = RunDir(trained.output / "blends" / "inner")
    io.write_json(inner.provenance, entries | {"members": ["a", "b"], "weights": [1, 0]})
    io.write_json(trained.run.provenance, entries | {"members": ["inner", "c"]})
    for name in "abc":
        io.write_json(RunDir(trained.output / "runs" / name).provenance, entries)
    assert tune.networks_averaged(trained.run) == 2


def test_the_networks_of_a_run_are_its_snapshots(trained: Trained) -> None:
    changes = {"train.schedule": "cosine", "train.schedule.num_cycles": 2, "train.checkpoint": "snapshots"}
    trained.write_settings(config.change(trained.settings, changes))
    assert tune.networks_averaged(trained.run) == 2


def half(trained: Trained) -> dict:
    write_faint_oof(trained)
    trained.write_settings(replace(trained.settings, predict=config.PredictConfig(postprocessing="half")))
    return tune.tune_run(trained.run, trained.workspace)


def test_an_experiment_that_asks_for_one_half_gets_it(trained: Trained) -> None:
    tuned = half(trained)
    assert tuned["postprocessing"] == THRESHOLD_HALF.to_dict()
    assert tuned["selected"].startswith("half")
    assert io.read_json(trained.run.postprocess) == tuned
    assert tuned["cross_fitted"]["score"] == 1  # recorded all the same


def test_scores_by_coverage_are_those_of_the_post_processing_in_use(trained: Trained) -> None:
    scores = {row["coverage_class"]: row["score"] for row in half(trained)["per_coverage"]}
    assert scores == {0: 1, 2: 0, 4: 0, 10: 0}  # 20, 40 and 101 rows of 101


def test_tuning_tries_the_presence_threshold_where_the_network_says_whether_there_is_salt(trained: Trained) -> None:
    """Right but for three empty tiles, predicted with 40 rows like others, and known as empty by their presence."""
    made = make_predictions(TRAIN, lambda id_: 200 * salt(ROWS[id_] or 40))
    fold, presence = np.array([int(id_[1]) for id_ in TRAIN]), np.array([200 * (ROWS[id_] > 0) for id_ in TRAIN])
    predictions.save_predictions(trained.run.oof, replace(made, fold=fold))
    tuned = tune.tune_run(trained.run, trained.workspace)
    assert "presence threshold" not in [row["step"] for row in tuned["steps"]]
    predictions.save_predictions(
        trained.run.oof, replace(made, fold=fold, presence_probability=presence.astype(np.uint8))
    )
    step = tune.tune_run(trained.run, trained.workspace)["steps"][-1]
    assert (step["step"], step["selected"], step["score"]) == ("presence threshold", True, 1)
    assert step["gain"]["mean"] == pytest.approx(3 / 12)


def test_tuning_refuses_a_foreign_id(trained: Trained) -> None:
    write_faint_oof(trained)
    made = make_predictions((*TRAIN, "foreign"), lambda _: salt(3))
    predictions.save_predictions(trained.run.oof, replace(made, fold=np.zeros(len(made.ids), int)))
    with pytest.raises(InputError, match="foreign"):
        tune.tune_run(trained.run, trained.workspace)


def test_tuning_refuses_predictions_that_name_no_folds(trained: Trained) -> None:
    predictions.save_predictions(trained.run.oof, make_predictions(TRAIN, lambda _: salt(3)))
    with pytest.raises(InputError, match=r"oof.npz names no folds; make it again with: saltseg predict \S+$"):
        tune.tune_run(trained.run, trained.workspace)


def test_tune_before_predict_says_so(trained: Trained) -> None:
    with pytest.raises(InputError, match=r"no predictions at .*oof.npz; run saltseg train or saltseg predict"):
        tune.tune_run(trained.run, trained.workspace)


def test_post_processing_tuned_on_other_predictions_is_not_used(trained: Trained) -> None:
    collate.collate_run(trained.run, trained.workspace)
    tune.tune_run(trained.run, trained.workspace)
    assert tune.postprocessing_of(trained.run) == Postprocessing.from_dict(
        io.read_json(trained.run.postprocess)["postprocessing"]
    )
    oof = predictions.load_predictions(trained.run.oof)
    predictions.save_predictions(trained.run.oof, replace(oof, probabilities=oof.probabilities + np.uint8(1)))
    message = r"postprocess.json was tuned on other predictions than tiny-run has now; saltseg tune tiny"
    for step in (
        lambda: submit.write_submission(trained.run, trained.workspace),
        lambda: tune.postprocessing_of(trained.run),
    ):
        with pytest.raises(InputError, match=message):
            step()
    assert run_summary.read(trained.run).postprocess is None  # as if it were not tuned yet
    tune.tune_run(trained.run, trained.workspace)
    assert run_summary.read(trained.run).postprocess is not None
    trained.run.postprocess.unlink()
    assert tune.postprocessing_of(trained.run) == THRESHOLD_HALF
    io.write_json(
        trained.run.postprocessing_source,
        {"postprocessing_from": "other", "postprocessing": Postprocessing(threshold=99).to_dict()},
    )
    assert tune.postprocessing_of(trained.run) == Postprocessing(threshold=99)


def test_a_score_made_the_older_way_is_made_anew_before_it_is_published(trained: Trained) -> None:
    collate.collate_run(trained.run, trained.workspace)
    tune.require_nested(trained.run)  # nothing tuned
    content = tune.tune_run(trained.run, trained.workspace)
    tune.require_nested(trained.run)
    del content["cross_fitted"]["nested"]
    io.write_json(trained.run.postprocess, content)
    submit.write_submission(trained.run, trained.workspace)
    with pytest.raises(InputError, match=r"selected on all folds, .* score it anew with: saltseg tune tiny-run$"):
        publish.publish(trained.run, trained.workspace)

"""predict, optimise and submit on a made-up run: every join is by id and one-to-one, every figure by hand."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import FOLDS, ROWS, SAMPLE, TEST, TRAIN, Trained, checkpoint, place, predictions, salt, write_table

from saltseg import config, runs, storage
from saltseg.core import rle
from saltseg.core.postprocess import HALF, Rule
from saltseg.errors import InputError
from saltseg.inference import predict as networks
from saltseg.inference import steps
from saltseg.reporting import facts

# ---------------------------------------------------------------- predict


def test_predict_collates_every_id_once_and_averages_the_test_images(trained: Trained) -> None:
    assert steps.predict(trained.run, place(trained)) == (3, 3)
    oof, test = runs.load_predictions(trained.run.oof), runs.load_predictions(trained.run.test)
    assert oof.fold is not None
    assert sorted(oof.ids.tolist()) == sorted(TRAIN)
    for id_, fold, pixels in zip(oof.ids.tolist(), oof.fold.tolist(), oof.probabilities, strict=True):
        assert fold == int(id_[1])
        assert np.array_equal(pixels, 20 + 180 * salt(ROWS[id_]))
    assert sorted(test.ids.tolist()) == sorted(TEST)
    for id_, pixels in zip(test.ids.tolist(), test.probabilities, strict=True):
        assert np.array_equal(pixels, 150 * salt(int(id_[1]) + 1))  # (100 + 150 + 200) / 3


def test_predict_takes_what_is_finished(trained: Trained) -> None:
    trained.run.fold(2).metrics.unlink()
    assert steps.predict(trained.run, place(trained)) == (2, 3)
    oof, test = runs.load_predictions(trained.run.oof), runs.load_predictions(trained.run.test)
    assert sorted(oof.ids.tolist()) == sorted(id_ for id_ in TRAIN if id_[1] != "2")
    assert test.of(("t0",)).max() == 125  # (100 + 150) / 2
    for number in (0, 1):
        trained.run.fold(number).metrics.unlink()
    with pytest.raises(InputError, match=r"run 'tiny-run' has no finished fold; go on with scripts/train.py"):
        steps.predict(trained.run, place(trained))


FIRST = tuple(id_ for id_ in TRAIN if id_.endswith("0"))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (FIRST[:-1], r"differ in 1 ids, the first 'd0'; delete the fold's oof.npz and predict again"),
        ((*FIRST, "foreign"), r"differ in 1 ids, the first 'foreign'"),
        ((*FIRST[:-1], "foreign"), r"differ in 2 ids, the first 'd0'"),
        ((*FIRST, "b1"), r"hold id .*b1.* more than once"),
    ],
    ids=["missing", "foreign", "exchanged", "in two folds"],
)
def test_out_of_fold_predictions_that_do_not_fit_are_refused(
    ids: tuple[str, ...], message: str, trained: Trained
) -> None:
    runs.save_predictions(trained.run.fold(0).oof, predictions(ids, lambda _: salt(3)))
    with pytest.raises(InputError, match=message):
        steps.predict(trained.run, place(trained))
    assert not trained.run.oof.exists()


def test_predictions_of_another_folds_images_are_refused(trained: Trained) -> None:
    """Swapped, they are no longer out of fold: each network has trained on the other's images."""
    zero, one = trained.run.fold(0).oof, trained.run.fold(1).oof
    content = zero.read_bytes()
    zero.write_bytes(one.read_bytes())
    one.write_bytes(content)
    with pytest.raises(InputError, match="fold"):
        steps.predict(trained.run, place(trained))


def test_folds_that_predicted_other_test_images_are_refused(trained: Trained) -> None:
    runs.save_predictions(trained.run.fold(1).test, predictions(TEST[:-1], lambda _: salt(3)))
    with pytest.raises(InputError, match=r"predictions to average differ in 1 ids, the first 't3'"):
        steps.predict(trained.run, place(trained))


@pytest.mark.parametrize("step", [steps.predict, steps.optimise, steps.submit])
def test_a_changed_dataset_is_refused_by_every_step(step: Callable[..., object], trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    steps.optimise(trained.run, place(trained))
    image = trained.root / "train" / "images" / "a0.png"
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"tiny has changed since tiny-run was trained on it; restore it or"):
        step(trained.run, place(trained))


def test_changed_folds_are_refused(trained: Trained) -> None:
    trained.table.write_text(trained.table.read_text().replace("a0,0", "a0,1"))
    with pytest.raises(InputError, match=r"the folds of tiny have changed since tiny-run was trained"):
        steps.predict(trained.run, place(trained))


def test_a_missing_dataset_is_named(trained: Trained) -> None:
    with pytest.raises(InputError, match=r"no dataset 'tiny' under .*nowhere"):
        steps.predict(trained.run, steps.Place(trained.input / "nowhere", trained.output))


def test_a_missing_prediction_is_made_from_that_folds_checkpoint(trained: Trained) -> None:
    fold = trained.run.fold(1)
    fold.test.unlink()
    checkpoint(trained, 1, 0.6)
    untouched = trained.run.fold(0).oof.read_bytes()
    steps.predict(trained.run, place(trained))
    oof = runs.load_predictions(fold.oof)
    assert sorted(oof.ids.tolist()) == ["a1", "b1", "c1", "d1"]
    assert (oof.probabilities == 153).all()  # 0.6 * 255
    test = runs.load_predictions(trained.run.test)
    assert test.of(("t0",))[0, 0, 0] == 151  # (100 + 153 + 200) / 3
    assert test.of(("t0",))[0, -1, 0] == 51  # (0 + 153 + 0) / 3
    assert trained.run.fold(0).oof.read_bytes() == untouched


class Brightness(torch.nn.Module):
    """Salt probability of a pixel = its grey value, times a slope, plus an offset."""

    def __init__(self, slope: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.slope, self.offset = (torch.nn.Parameter(torch.tensor(value)) for value in (slope, offset))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.logit(self.slope * image + self.offset, eps=1e-6)


def test_each_id_is_predicted_from_its_own_image(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "load_network", lambda settings, path: Brightness())
    trained.run.fold(1).oof.unlink()
    steps.predict(trained.run, place(trained))
    for ids, path in ((TRAIN, trained.run.fold(1).oof), (TEST, trained.run.fold(1).test)):
        found = runs.load_predictions(path)
        wanted = [id_ for id_ in ids if path.stem == "test" or id_.endswith("1")]
        assert sorted(found.ids.tolist()) == wanted
        for id_ in wanted:
            assert (found.of((id_,)) == 10 * ids.index(id_)).all()  # tile number k is the constant 10 k


def test_other_views_predict_every_fold_anew(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    says = {"fold_0": 0.2, "fold_1": 0.4, "fold_2": 0.8}
    monkeypatch.setattr(networks, "load_network", lambda settings, path: Brightness(0.0, says[path.parent.name]))
    steps.predict(trained.run, place(trained), ("identity", "hflip"))
    oof = runs.load_predictions(trained.run.oof)
    assert {(id_[1], *np.unique(p)) for id_, p in zip(oof.ids.tolist(), oof.probabilities, strict=True)} == {
        ("0", 51), ("1", 102), ("2", 204),
    }  # fmt: skip
    assert (runs.load_predictions(trained.run.test).probabilities == 119).all()
    figures = [storage.read_json(trained.run.fold(number).metrics) for number in range(FOLDS)]
    assert [entry["views"] for entry in figures] == [["identity", "hflip"]] * 3
    # One tile of four is empty, one full: salt nowhere scores the first, salt everywhere the second.
    assert [entry["score_at_half"] for entry in figures] == [0.25, 0.25, 0.25]
    # 0, 20, 40 and 101 of 101 rows hold salt: 0.6015 of the pixels have none. The networks trained on the same rows.
    for entry in figures:
        salt_everywhere = entry["fold"] == 2
        wanted = 161 / 404 if salt_everywhere else 243 / 404
        assert entry["valid_pixel_accuracy"] == pytest.approx(wanted)
        assert entry["train_pixel_accuracy"] == pytest.approx(wanted)
        assert entry["train_score_at_half"] == 0.25
        sample = runs.load_predictions(trained.run.fold(entry["fold"]).train)
        assert sorted(sample.ids.tolist()) == [id_ for id_ in TRAIN if int(id_[1]) != entry["fold"]]


@pytest.mark.parametrize("views", [["hflip"], []], ids=["other views", "interrupted"])
def test_folds_of_unlike_views_are_not_mixed(views: list[str], trained: Trained) -> None:
    storage.write_json(trained.run.fold(1).metrics, {"fold": 1, "views": views})
    with pytest.raises(InputError, match=r"tiny-run were predicted with different views; .*--views identity$"):
        steps.predict(trained.run, place(trained))


def test_a_prediction_that_stops_half_way_is_noticed(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networks, "load_network", lambda settings, path: Brightness())
    with monkeypatch.context() as patch:
        patch.setattr(networks, "predictions", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            steps.predict(trained.run, place(trained), ("hflip",))
    with pytest.raises(InputError, match=r"were predicted with different views"):
        steps.predict(trained.run, place(trained))
    assert steps.predict(trained.run, place(trained), ("identity",)) == (3, 3)


def test_a_misspelt_view_is_refused_before_anything_happens(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(trained, 0, 0.5)
    with pytest.raises(InputError, match=r"predict.views is 'hflp'; choose one of identity, hflip"):
        steps.predict(trained.run, place(trained), ("hflp",))
    assert capsys.readouterr().err == ""  # one line on standard error: the script's own


def test_without_a_checkpoint_there_is_nothing_to_predict_with(trained: Trained) -> None:
    trained.run.fold(1).oof.unlink()
    with pytest.raises(InputError, match=r"no checkpoint at .*fold_1/network.ckpt; train the fold first"):
        steps.predict(trained.run, place(trained))


# ---------------------------------------------------------------- optimise


def faint(trained: Trained, order: tuple[str, ...] = TRAIN) -> None:
    """Out-of-fold predictions that are right at 60/255 and say "no salt" at one half."""
    made = predictions(order, lambda id_: 100 * salt(ROWS[id_]))
    runs.save_predictions(trained.run.oof, replace(made, fold=np.array([int(id_[1]) for id_ in order])))


@pytest.mark.parametrize("order", [TRAIN, tuple(reversed(TRAIN))], ids=["as the table", "reversed"])
def test_optimise_joins_by_id_and_finds_the_rule(order: tuple[str, ...], trained: Trained) -> None:
    faint(trained, order)
    found = steps.optimise(trained.run, place(trained))
    assert found["score_at_half"] == 0.25  # three empty tiles of twelve
    assert found["naive"]["score"] == found["cross_fitted"]["score"] == 1
    assert (found["adopted"], found["n"], found["folds"]) == ("tuned", 12, [0, 1, 2])
    assert found["rule"]["threshold"] <= 100
    assert storage.read_json(trained.run.postprocess) == found


def half(trained: Trained) -> dict:
    faint(trained)
    trained.write_settings(replace(trained.settings, predict=config.PredictConfig(decision="half")))
    return steps.optimise(trained.run, place(trained))


def test_an_experiment_that_asks_for_one_half_gets_it(trained: Trained) -> None:
    found = half(trained)
    assert found["rule"] == HALF.to_dict()
    assert found["adopted"].startswith("half")
    assert storage.read_json(trained.run.postprocess) == found
    assert found["cross_fitted"]["score"] == 1  # told all the same


def test_scores_by_coverage_are_those_of_the_rule_in_use(trained: Trained) -> None:
    scores = {row["coverage_class"]: row["score"] for row in half(trained)["per_coverage"]}
    assert scores == {0: 1, 2: 0, 4: 0, 10: 0}  # 20, 40 and 101 rows of 101


def test_optimise_tries_the_gate_where_the_network_says_whether_there_is_salt(trained: Trained) -> None:
    """Right but for three empty tiles, predicted with 40 rows like others, and known as empty by their presence."""
    made = predictions(TRAIN, lambda id_: 200 * salt(ROWS[id_] or 40))
    fold, presence = np.array([int(id_[1]) for id_ in TRAIN]), np.array([200 * (ROWS[id_] > 0) for id_ in TRAIN])
    runs.save_predictions(trained.run.oof, replace(made, fold=fold))
    found = steps.optimise(trained.run, place(trained))
    assert "empty-image gate" not in [row["step"] for row in found["steps"]]
    runs.save_predictions(trained.run.oof, replace(made, fold=fold, presence=presence.astype(np.uint8)))
    gate = steps.optimise(trained.run, place(trained))["steps"][-1]
    assert (gate["step"], gate["adopted"], gate["score"]) == ("empty-image gate", True, 1)
    assert gate["gain"]["mean"] == pytest.approx(3 / 12)


def test_optimise_refuses_a_foreign_id(trained: Trained) -> None:
    faint(trained)
    made = predictions((*TRAIN, "foreign"), lambda _: salt(3))
    runs.save_predictions(trained.run.oof, replace(made, fold=np.zeros(len(made.ids), int)))
    with pytest.raises(InputError, match="foreign"):
        steps.optimise(trained.run, place(trained))


def test_optimise_refuses_predictions_that_name_no_folds(trained: Trained) -> None:
    runs.save_predictions(trained.run.oof, predictions(TRAIN, lambda _: salt(3)))
    with pytest.raises(InputError, match=r"oof.npz names no folds; make it again with: python scripts/predict.py \S+$"):
        steps.optimise(trained.run, place(trained))


def test_optimise_before_predict_says_so(trained: Trained) -> None:
    with pytest.raises(InputError, match=r"no predictions at .*oof.npz; run scripts/train.py or scripts/predict.py"):
        steps.optimise(trained.run, place(trained))


# ---------------------------------------------------------------- submit


def ready(trained: Trained, threshold: int = 128, min_area: int = 0, ids: tuple[str, ...] = TEST) -> None:
    """Test tile k: k + 1 rows of 150."""
    runs.save_predictions(trained.run.test, predictions(ids, lambda id_: 150 * salt(int(id_[1]) + 1)))
    storage.write_json(trained.run.postprocess, {"rule": {"threshold": threshold, "min_area": min_area}})


def submitted(path: Path) -> dict[str, str]:
    header, *lines = path.read_text().splitlines()
    assert header == "id,rle_mask"
    return dict(line.split(",") for line in lines)  # type: ignore[misc]


@pytest.mark.parametrize("ids", [TEST, tuple(reversed(TEST))])
def test_the_submission_has_the_order_of_the_sample_and_the_masks_of_the_ids(
    ids: tuple[str, ...], trained: Trained
) -> None:
    ready(trained, ids=ids)
    assert steps.submit(trained.run, place(trained)) is None  # no solution here
    found = submitted(trained.run.submission)
    assert tuple(found) == SAMPLE
    for id_, text in found.items():  # k + 1 rows: a run of k + 1 pixels at the top of each of the 101 columns
        assert text == " ".join(f"{1 + 101 * column} {int(id_[1]) + 1}" for column in range(101))
    assert not trained.run.solution_score.exists()


def test_the_rule_decides_the_masks(trained: Trained) -> None:
    ready(trained, threshold=151)
    steps.submit(trained.run, place(trained))
    assert set(submitted(trained.run.submission).values()) == {""}
    ready(trained, min_area=3 * 101)
    steps.submit(trained.run, place(trained))
    empty = {id_ for id_, text in submitted(trained.run.submission).items() if not text}
    assert empty == {"t0", "t1"}  # one and two rows; three rows are exactly enough


def test_the_gate_decides_by_the_presence_of_the_test_images(trained: Trained) -> None:
    ready(trained)
    storage.write_json(trained.run.postprocess, {"rule": Rule(gate=100).to_dict()})
    with pytest.raises(InputError, match=r"the rule's gate of 100/255 .* the predictions do not say"):
        steps.submit(trained.run, place(trained))
    made = runs.load_predictions(trained.run.test)
    presence = np.array([50 * (int(id_[1]) + 1) for id_ in made.ids], np.uint8)
    runs.save_predictions(trained.run.test, replace(made, presence=presence))
    steps.submit(trained.run, place(trained))
    empty = {id_ for id_, text in submitted(trained.run.submission).items() if not text}
    assert empty == {"t0"}  # presence 50; t1 has 100, which is enough


def test_the_solution_scores_the_submission(trained: Trained) -> None:
    ready(trained)
    true = {"t0": (1, "Public"), "t1": (4, "Public"), "t2": (0, "Private"), "t3": (5, "Private")}
    rows: list[list[object]] = [[id_, rle.encode(salt(count)), usage] for id_, (count, usage) in true.items()]
    write_table(trained.root / "solution.csv", [["id", "rle_mask", "usage"], *rows])
    score = steps.submit(trained.run, place(trained))
    assert score is not None
    # IoU 1, 2/4, nothing there, 4/5: average precision 1, 0, 0, 0.6
    assert score["all"] == pytest.approx(0.4)
    assert score["public"] == pytest.approx(0.5)
    assert score["private"] == pytest.approx(0.3)
    assert storage.read_json(trained.run.solution_score) == score


def test_an_incomplete_submission_is_not_written(trained: Trained) -> None:
    ready(trained, ids=TEST[:-1])
    with pytest.raises(InputError, match=r"no prediction for 1 ids: t3"):
        steps.submit(trained.run, place(trained))
    assert not trained.run.submission.exists()


def test_a_rule_of_other_predictions_is_not_used(trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    steps.optimise(trained.run, place(trained))
    assert steps.rule_of(trained.run) == Rule.from_dict(storage.read_json(trained.run.postprocess)["rule"])
    found = runs.load_predictions(trained.run.oof)
    runs.save_predictions(trained.run.oof, replace(found, probabilities=found.probabilities + np.uint8(1)))
    message = r"postprocess.json was fitted on other predictions than tiny-run has now; python scripts/optimise.py tiny"
    for step in (lambda: steps.submit(trained.run, place(trained)), lambda: steps.rule_of(trained.run)):
        with pytest.raises(InputError, match=message):
            step()
    assert facts.read(trained.run).postprocess is None  # as if it were not tuned yet
    steps.optimise(trained.run, place(trained))
    assert facts.read(trained.run).postprocess is not None
    trained.run.postprocess.unlink()
    assert steps.rule_of(trained.run) == HALF
    storage.write_json(trained.run.borrowed, {"rule_of": "other", "rule": Rule(threshold=99).to_dict()})
    assert steps.rule_of(trained.run) == Rule(threshold=99)


def test_submit_before_optimise_says_so(trained: Trained) -> None:
    ready(trained)
    trained.run.postprocess.unlink()
    with pytest.raises(InputError, match=r"no file .*postprocess.json; run the step that writes it"):
        steps.submit(trained.run, place(trained))


def test_all_steps_in_a_row(trained: Trained) -> None:
    """Test tiles are at 150, so any rule between 21 and 150 gives the rows of the tile."""
    steps.predict(trained.run, place(trained))
    rule = steps.optimise(trained.run, place(trained))["rule"]
    assert 21 <= rule["threshold"] <= 200
    steps.submit(trained.run, place(trained))
    assert tuple(submitted(trained.run.submission)) == SAMPLE


def test_a_submission_goes_with_the_predictions_or_the_rule_that_it_is_of(trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    steps.optimise(trained.run, place(trained))
    steps.submit(trained.run, place(trained))
    for step in (steps.predict, steps.optimise):  # once more, and nothing has changed
        step(trained.run, place(trained))
    assert trained.run.submission.is_file()
    fold = trained.run.fold(0)
    found = runs.load_predictions(fold.test)
    runs.save_predictions(fold.test, replace(found, probabilities=found.probabilities // 2))
    steps.predict(trained.run, place(trained))
    assert not trained.run.submission.exists()
    steps.submit(trained.run, place(trained))
    storage.write_json(trained.run.solution_score, {"all": 1.0})
    faint(trained)
    steps.optimise(trained.run, place(trained))
    assert not trained.run.submission.exists()
    assert not trained.run.solution_score.exists()

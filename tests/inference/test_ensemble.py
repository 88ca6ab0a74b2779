"""Blends: the mean by id, refused where it would leak; weights only where they are worth it."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from tiny_run import SAMPLE, TEST, TRAIN, Trained, place

from saltseg import runs, storage
from saltseg.core import selection, thresholds
from saltseg.errors import InputError
from saltseg.inference import ensemble, steps
from saltseg.reporting import leaderboard

SCRIPT = Path(__file__).parents[2] / "scripts" / "blend.py"


def copied(trained: Trained, name: str, brighter: int = 0, noise: bool = False) -> runs.RunDir:
    """A second run of the same folds, its rows in another order, its probabilities higher by so much, or noise."""
    other = runs.run_dir(trained.output, name)
    for path, ours in ((other.oof, trained.run.oof), (other.test, trained.run.test)):
        found = runs.load_predictions(ours)
        turned = None if found.fold is None else found.fold[::-1]
        values = found.probabilities[::-1] + brighter
        if noise:
            values = np.random.default_rng(0).integers(0, 256, values.shape).astype(np.uint8)
        runs.save_predictions(path, runs.Predictions(found.ids[::-1], values, turned))
    storage.write_atomic(other.config, trained.run.config.read_text())
    storage.write_atomic(other.provenance, trained.run.provenance.read_text())
    return other


@pytest.fixture
def pair(trained: Trained) -> list[runs.RunDir]:
    """The perfect run and one that is brighter by 40, in the opposite order of ids."""
    steps.predict(trained.run, place(trained))
    return [trained.run, copied(trained, "other", 40)]


def blend_dir(trained: Trained) -> runs.RunDir:
    return runs.RunDir(trained.output / "blends" / "both")


def found_weights(monkeypatch: pytest.MonkeyPatch, gain: float) -> list[np.ndarray]:
    """Let the fit find (3, 1) on everything, (1, 0), (0, 1) and (1, 1) without fold 0, 1 and 2, and such a gain.

    Returns a list that every call adds its groups to.
    """
    groups = []

    def cross_fit(stacks: list[np.ndarray], true: np.ndarray, group: np.ndarray, progress: object) -> selection.Fitted:
        groups.append(group)
        equal = np.full(len(group), 0.5)
        return selection.Fitted((3, 1), {0: (1, 0), 1: (0, 1), 2: (1, 1)}, equal + gain, equal)

    monkeypatch.setattr(selection, "cross_fit", cross_fit)
    return groups


def test_a_blend_is_the_mean_by_id_and_can_be_submitted_like_a_run(trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    target = blend_dir(trained)
    members = [trained.run, copied(trained, "other", 11)]
    found = ensemble.blend_runs(members, target, place(trained))
    assert found == {"members": ["tiny-run", "other"], "weights": [1, 1], "evidence": None}
    assert target.read_provenance().items() >= found.items()
    single, both = runs.load_predictions(trained.run.oof), runs.load_predictions(target.oof)
    assert both.fold is not None
    assert dict(zip(both.ids.tolist(), both.fold.tolist(), strict=True)) == {id_: int(id_[1]) for id_ in TRAIN}
    assert np.array_equal(both.of(TRAIN), single.of(TRAIN) + 6)  # 11 / 2, halves go up
    steps.optimise(target, place(trained))
    steps.submit(target, place(trained))
    board = {row.name: row for row in leaderboard.rows(trained.output)}
    assert (board["both"].kind, board["tiny-run"].kind) == ("blend", "run")
    assert board["both"].cross_fitted == storage.read_json(target.postprocess)["cross_fitted"]["score"]
    assert tuple(line.partition(",")[0] for line in target.submission.read_text().splitlines()[1:]) == SAMPLE
    with pytest.raises(InputError, match=r"both exists; choose another --name or remove it"):
        ensemble.blend_runs([trained.run, trained.run], target, place(trained))


def test_a_blend_tells_what_is_handed_down_by_its_members(trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    other = copied(trained, "other")
    for facts, wanted in (({}, (False, [])), ({"transduction": True, "epoch_chosen_in": ["t"]}, (True, ["t"]))):
        storage.write_json(other.provenance, trained.run.read_provenance() | facts)
        target = runs.RunDir(blend_dir(trained).path.with_name(f"both-{len(facts)}"))
        ensemble.blend_runs([trained.run, other], target, place(trained))
        found = target.read_provenance()
        assert (found["transduction"], found["epoch_chosen_in"]) == wanted


def test_runs_of_other_data_or_folds_do_not_blend(trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    other, target = copied(trained, "other"), blend_dir(trained)
    facts = other.read_provenance()
    storage.write_json(other.provenance, facts | {"dataset_hash": "0" * 64})
    with pytest.raises(InputError, match=r"runs to blend differ in dataset_hash: "):
        ensemble.blend_runs([trained.run, other], target, place(trained))
    storage.write_json(other.provenance, facts)
    oof = runs.load_predictions(other.oof)
    runs.save_predictions(other.oof, runs.Predictions(oof.ids, oof.probabilities, np.roll(oof.fold, 1)))
    with pytest.raises(InputError, match=r"trained on different folds; their average would leak"):
        ensemble.blend_runs([trained.run, other], target, place(trained))
    with pytest.raises(InputError, match=r"unknown weights 'fited'; did you mean fitted\?"):
        ensemble.blend_runs([trained.run, other], target, place(trained), weights="fited")
    assert not target.path.exists()


def test_kept_weights_are_cross_fitted_out_of_fold_and_final_on_test_images(
    trained: Trained, pair: list[runs.RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    found_weights(monkeypatch, gain=0.1)
    for name, members in (("both", pair), ("turned", pair[::-1])):  # the order of the rows is that of the first
        target = runs.RunDir(trained.output / "blends" / name)
        found = ensemble.blend_runs(members, target, place(trained), "fitted")
        assert found["weights"] == [3, 1]
        single, both = runs.load_predictions(trained.run.oof), runs.load_predictions(target.oof)
        brighter = {0: 0, 1: 40, 2: 20} if name == "both" else {0: 40, 1: 0, 2: 20}
        for id_ in TRAIN:
            assert np.array_equal(both.of((id_,)), single.of((id_,)) + brighter[int(id_[1])]), id_
        of_test = runs.load_predictions(trained.run.test).of(TEST)
        expected = of_test + (10 if name == "both" else 30)
        assert np.array_equal(runs.load_predictions(target.test).of(TEST), expected)
    evidence = target.read_provenance()["evidence"]
    assert evidence["weights_of_group"] == [
        {"group": 0, "weights": [1, 0]},
        {"group": 1, "weights": [0, 1]},
        {"group": 2, "weights": [1, 1]},
    ]
    assert (evidence["groups"], evidence["adopted"], evidence["weights"]) == ("folds", True, [3, 1])
    figures = [evidence["equal"], evidence["fitted"], evidence["difference"], *evidence["interval"]]
    assert figures == pytest.approx([0.5, 0.6, 0.1, 0.1, 0.1])


@pytest.mark.parametrize("gain", [0.0, 1e-9, -0.1])
def test_weights_that_do_not_beat_equal_ones_are_not_kept(
    trained: Trained, pair: list[runs.RunDir], monkeypatch: pytest.MonkeyPatch, gain: float
) -> None:
    found_weights(monkeypatch, gain)
    target = blend_dir(trained)
    found = ensemble.blend_runs(pair, target, place(trained), "fitted")
    assert (found["weights"], found["evidence"]["adopted"]) == ([1, 1], False)
    assert found["evidence"]["weights"] == [3, 1]  # what was found and not kept
    for ours, theirs, ids in ((trained.run.oof, target.oof, TRAIN), (trained.run.test, target.test, TEST)):
        assert np.array_equal(runs.load_predictions(theirs).of(ids), runs.load_predictions(ours).of(ids) + 20)


def test_presence_follows_the_weights_of_its_fold(
    trained: Trained, pair: list[runs.RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    found_weights(monkeypatch, gain=0.1)
    for run, presence in zip(pair, (100, 200), strict=True):
        oof = runs.load_predictions(run.oof)
        full = np.full(len(oof.ids), presence, np.uint8)
        runs.save_predictions(run.oof, runs.Predictions(oof.ids, oof.probabilities, oof.fold, full))
    ensemble.blend_runs(pair, blend_dir(trained), place(trained), "fitted")
    both = runs.load_predictions(blend_dir(trained).oof)
    assert both.presence is not None
    assert {i: int(p) for i, p in zip(both.ids.tolist(), both.presence, strict=True)} == {
        id_: (100, 200, 150)[int(id_[1])] for id_ in TRAIN
    }


def test_a_blend_with_fitted_weights_asks_for_the_rule_they_were_fitted_for(
    trained: Trained, pair: list[runs.RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    found_weights(monkeypatch, gain=0.1)
    for run in pair:
        storage.write_atomic(run.config, run.config.read_text().replace("decision: tuned", "decision: half"))
    plain, fitted = (runs.RunDir(trained.output / "blends" / name) for name in ("plain", "fitted"))
    ensemble.blend_runs(pair, plain, place(trained))
    ensemble.blend_runs(pair, fitted, place(trained), "fitted")
    assert (plain.read_config().predict.decision, fitted.read_config().predict.decision) == ("half", "tuned")


def test_one_fold_is_parted_at_random_as_optimise_parts_it(
    trained: Trained, pair: list[runs.RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = found_weights(monkeypatch, gain=0.1)
    for run in pair:
        oof = runs.load_predictions(run.oof)
        runs.save_predictions(run.oof, runs.Predictions(oof.ids, oof.probabilities, np.zeros(len(oof.ids), np.int16)))
    found = ensemble.blend_runs(pair, blend_dir(trained), place(trained), "fitted")
    assert found["evidence"]["groups"] == "random parts"
    assert np.array_equal(groups[0], thresholds.random_parts(len(TRAIN)))


def test_noise_loses_its_weight(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real fit, in fewer rounds; the labels reach it by id."""
    monkeypatch.setattr(selection, "MOST_ROUNDS", 2)
    steps.predict(trained.run, place(trained))
    members = [copied(trained, "noise", noise=True), trained.run]
    found = ensemble.blend_runs(members, blend_dir(trained), place(trained), "fitted")
    assert found["evidence"]["adopted"]
    assert found["weights"][0] < found["weights"][1]
    assert found["evidence"]["fitted"] == 1 > found["evidence"]["equal"]
    assert steps.optimise(blend_dir(trained), place(trained))["cross_fitted"]["score"] == 1


@pytest.mark.parametrize(
    ("gain", "lines"),
    [
        (
            0.1,
            [
                "  tiny-run   3 of 4  75.0%",
                "  other      1 of 4  25.0%",
                "out of fold, weights and rule cross-fitted over folds:",
                "  equal weights   0.5000",
                "  fitted weights  0.6000  3 : 1",
                "  difference     +0.1000  +0.1000 to +0.1000 (paired, 95 % interval)",
                "  kept            fitted",
            ],
        ),
        (
            -0.1,
            [
                "  tiny-run   1 of 2  50.0%",
                "  other      1 of 2  50.0%",
                "out of fold, weights and rule cross-fitted over folds:",
                "  equal weights   0.5000",
                "  fitted weights  0.4000  3 : 1",
                "  difference     -0.1000  -0.1000 to -0.1000 (paired, 95 % interval)",
                "  kept            equal: the fitted ones do not beat them",
            ],
        ),
    ],
)
def test_the_script_says_what_was_kept_and_why(
    trained: Trained,
    pair: list[runs.RunDir],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gain: float,
    lines: list[str],
) -> None:
    found_weights(monkeypatch, gain)
    places = ["--input", str(trained.input), "--output", str(trained.output)]
    monkeypatch.setattr("sys.argv", ["blend.py", "tiny-run", "other", "--name", "both", "--weights", "fitted", *places])
    with pytest.raises(SystemExit, match=r"^0$"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
    first, *printed, last = capsys.readouterr().out.splitlines()
    assert first == f"{blend_dir(trained).path}: 2 runs"
    assert printed == lines
    assert last == "next: python scripts/optimise.py both"


def test_a_gain_that_may_be_chance_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    evidence = {"groups": "folds", "equal": 0.5, "fitted": 0.6, "difference": 0.1, "adopted": True, "weights": [1, 0]}
    found = {"members": ["a", "b"], "weights": [1, 0], "evidence": evidence}
    print_table = runpy.run_path(str(SCRIPT))["print_table"]
    for low, doubted in ((-0.01, True), (0.01, False)):
        evidence["interval"] = [low, 0.2]
        print_table(found)
        assert ("the interval holds 0" in capsys.readouterr().out) == doubted

"""Blends: the mean by id, refused where it would leak; fitted weights only where they raise the score."""

import subprocess
import sys
from pathlib import Path

import in_process
import numpy as np
import pytest
from tiny_run import SAMPLE, TEST, TRAIN, Trained

from saltseg import io, predictions, runs
from saltseg.errors import InputError
from saltseg.pipeline import blend, collate, submit, tune
from saltseg.postprocessing import blend_weights, threshold_search
from saltseg.reporting import leaderboard


def copied(trained: Trained, name: str, brighter: int = 0, noise: bool = False) -> runs.RunDir:
    """A second run of the same folds, its rows in another order, its probabilities higher by so much, or noise."""
    other = runs.run_dir(trained.output, name)
    for path, ours in ((other.oof, trained.run.oof), (other.test, trained.run.test)):
        found = predictions.load_predictions(ours)
        turned = None if found.fold is None else found.fold[::-1]
        values = found.probabilities[::-1] + brighter
        if noise:
            values = np.random.default_rng(0).integers(0, 256, values.shape).astype(np.uint8)
        predictions.save_predictions(path, predictions.Predictions(found.ids[::-1], values, turned))
    io.write_atomic(other.config, trained.run.config.read_text())
    io.write_atomic(other.provenance, trained.run.provenance.read_text())
    return other


@pytest.fixture
def pair(trained: Trained) -> list[runs.RunDir]:
    """The perfect run and one that is brighter by 40, in the opposite order of ids."""
    collate.collate_run(trained.run, trained.workspace)
    return [trained.run, copied(trained, "other", 40)]


def blend_dir(trained: Trained) -> runs.RunDir:
    return runs.RunDir(trained.output / "blends" / "both")


def found_weights(monkeypatch: pytest.MonkeyPatch, gain: float | np.ndarray) -> list[np.ndarray]:
    """Let the fit find (3, 1) on everything, (1, 0), (0, 1) and (1, 1) without fold 0, 1 and 2, and such a gain.

    Returns a list that every call adds its groups to.
    """
    groups = []

    def cross_fit(
        stacks: list[np.ndarray], true: np.ndarray, group: np.ndarray, progress: object
    ) -> blend_weights.FittedWeights:
        groups.append(group)
        equal = np.full(len(group), 0.5)
        return blend_weights.FittedWeights((3, 1), {0: (1, 0), 1: (0, 1), 2: (1, 1)}, equal + gain, equal)

    monkeypatch.setattr(blend_weights, "cross_fit", cross_fit)
    return groups


def test_a_blend_is_the_mean_by_id_and_can_be_submitted_like_a_run(trained: Trained) -> None:
    collate.collate_run(trained.run, trained.workspace)
    target = blend_dir(trained)
    members = [trained.run, copied(trained, "other", 11)]
    found = blend.blend_runs(members, target, trained.workspace)
    assert found == {"members": ["tiny-run", "other"], "weights": [1, 1], "evidence": None}
    assert target.read_provenance().items() >= found.items()
    single, both = predictions.load_predictions(trained.run.oof), predictions.load_predictions(target.oof)
    assert both.fold is not None
    assert dict(zip(both.ids.tolist(), both.fold.tolist(), strict=True)) == {id_: int(id_[1]) for id_ in TRAIN}
    assert np.array_equal(both.select(TRAIN), single.select(TRAIN) + 6)  # 11 / 2, halves go up
    tune.tune_run(target, trained.workspace)
    submit.write_submission(target, trained.workspace)
    board = {row.name: row for row in leaderboard.read(trained.output).rows}
    assert (board["both"].kind, board["tiny-run"].kind) == ("blend", "run")
    assert board["both"].cross_fitted == io.read_json(target.postprocess)["cross_fitted"]["score"]
    assert tuple(line.partition(",")[0] for line in target.submission.read_text().splitlines()[1:]) == SAMPLE
    with pytest.raises(InputError, match=r"both exists; choose another name or remove it"):
        blend.blend_runs([trained.run, trained.run], target, trained.workspace)


def test_a_blend_tells_what_is_handed_down_by_its_members(trained: Trained) -> None:
    collate.collate_run(trained.run, trained.workspace)
    other = copied(trained, "other")
    io.write_json(trained.run.dataset, {"of the dataset": "a part"})
    for facts, wanted in (({}, (False, [])), ({"transduction": True, "epoch_chosen_in": ["t"]}, (True, ["t"]))):
        io.write_json(other.provenance, trained.run.read_provenance() | facts)
        target = runs.RunDir(blend_dir(trained).path.with_name(f"both-{len(facts)}"))
        blend.blend_runs([trained.run, other], target, trained.workspace)
        found = target.read_provenance()
        assert (found["transduction"], found["epoch_chosen_in"]) == wanted
        assert io.read_json(target.dataset) == {"of the dataset": "a part"}


def test_runs_of_other_data_or_folds_do_not_blend(trained: Trained) -> None:
    collate.collate_run(trained.run, trained.workspace)
    other, target = copied(trained, "other"), blend_dir(trained)
    facts = other.read_provenance()
    io.write_json(other.provenance, facts | {"dataset_hash": "0" * 64})
    with pytest.raises(InputError, match=r"runs to blend differ in dataset_hash: "):
        blend.blend_runs([trained.run, other], target, trained.workspace)
    io.write_json(other.provenance, facts)
    oof = predictions.load_predictions(other.oof)
    predictions.save_predictions(other.oof, predictions.Predictions(oof.ids, oof.probabilities, np.roll(oof.fold, 1)))
    with pytest.raises(InputError, match=r"trained on different folds; their average would leak"):
        blend.blend_runs([trained.run, other], target, trained.workspace)
    with pytest.raises(InputError, match=r"unknown weights 'fited'; did you mean fitted\?"):
        blend.blend_runs([trained.run, other], target, trained.workspace, weights="fited")
    assert not target.path.exists()


def test_selected_weights_are_cross_fitted_out_of_fold_and_final_on_test_images(
    trained: Trained, pair: list[runs.RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    found_weights(monkeypatch, gain=0.1)
    for name, members in (("both", pair), ("turned", pair[::-1])):  # the order of the rows is that of the first
        target = runs.RunDir(trained.output / "blends" / name)
        found = blend.blend_runs(members, target, trained.workspace, "fitted")
        assert found["weights"] == [3, 1]
        single, both = predictions.load_predictions(trained.run.oof), predictions.load_predictions(target.oof)
        brighter = {0: 0, 1: 40, 2: 20} if name == "both" else {0: 40, 1: 0, 2: 20}
        for id_ in TRAIN:
            assert np.array_equal(both.select((id_,)), single.select((id_,)) + brighter[int(id_[1])]), id_
        of_test = predictions.load_predictions(trained.run.test).select(TEST)
        expected = of_test + (10 if name == "both" else 30)
        assert np.array_equal(predictions.load_predictions(target.test).select(TEST), expected)
    evidence = target.read_provenance()["evidence"]
    assert evidence["weights_of_group"] == [
        {"group": 0, "weights": [1, 0]},
        {"group": 1, "weights": [0, 1]},
        {"group": 2, "weights": [1, 1]},
    ]
    assert (evidence["groups"], evidence["selected"], evidence["weights"]) == ("folds", True, [3, 1])
    figures = [evidence["equal"], evidence["fitted"], evidence["difference"], *evidence["interval"]]
    assert figures == pytest.approx([0.5, 0.6, 0.1, 0.1, 0.1])


@pytest.mark.parametrize("gain", [0.0, 1e-9, -0.1])
def test_weights_that_do_not_beat_equal_ones_are_not_selected(
    trained: Trained, pair: list[runs.RunDir], monkeypatch: pytest.MonkeyPatch, gain: float
) -> None:
    found_weights(monkeypatch, gain)
    target = blend_dir(trained)
    found = blend.blend_runs(pair, target, trained.workspace, "fitted")
    assert (found["weights"], found["evidence"]["selected"]) == ([1, 1], False)
    assert found["evidence"]["weights"] == [3, 1]  # what was found and not kept
    for ours, theirs, ids in ((trained.run.oof, target.oof, TRAIN), (trained.run.test, target.test, TEST)):
        assert np.array_equal(
            predictions.load_predictions(theirs).select(ids), predictions.load_predictions(ours).select(ids) + 20
        )


def test_presence_follows_the_weights_of_its_fold(
    trained: Trained, pair: list[runs.RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    found_weights(monkeypatch, gain=0.1)
    for run, presence in zip(pair, (100, 200), strict=True):
        oof = predictions.load_predictions(run.oof)
        full = np.full(len(oof.ids), presence, np.uint8)
        predictions.save_predictions(run.oof, predictions.Predictions(oof.ids, oof.probabilities, oof.fold, full))
    blend.blend_runs(pair, blend_dir(trained), trained.workspace, "fitted")
    both = predictions.load_predictions(blend_dir(trained).oof)
    assert both.presence_probability is not None
    assert {i: int(p) for i, p in zip(both.ids.tolist(), both.presence_probability, strict=True)} == {
        id_: (100, 200, 150)[int(id_[1])] for id_ in TRAIN
    }


def test_a_blend_with_fitted_weights_asks_for_tuned_post_processing(
    trained: Trained, pair: list[runs.RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    found_weights(monkeypatch, gain=0.1)
    for run in pair:
        io.write_atomic(run.config, run.config.read_text().replace("postprocessing: tuned", "postprocessing: half"))
    plain, fitted = (runs.RunDir(trained.output / "blends" / name) for name in ("plain", "fitted"))
    blend.blend_runs(pair, plain, trained.workspace)
    blend.blend_runs(pair, fitted, trained.workspace, "fitted")
    assert (plain.read_config().predict.postprocessing, fitted.read_config().predict.postprocessing) == (
        "half",
        "tuned",
    )


def test_one_fold_is_split_at_random_as_tuning_splits_it(
    trained: Trained, pair: list[runs.RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = found_weights(monkeypatch, gain=0.1)
    for run in pair:
        oof = predictions.load_predictions(run.oof)
        predictions.save_predictions(
            run.oof, predictions.Predictions(oof.ids, oof.probabilities, np.zeros(len(oof.ids), np.int16))
        )
    found = blend.blend_runs(pair, blend_dir(trained), trained.workspace, "fitted")
    assert found["evidence"]["groups"] == "random parts"
    assert np.array_equal(groups[0], threshold_search.random_parts(len(TRAIN)))


def test_noise_loses_its_weight(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real fit, in fewer rounds; the labels reach it by id."""
    monkeypatch.setattr(blend_weights, "MOST_ROUNDS", 2)
    collate.collate_run(trained.run, trained.workspace)
    members = [copied(trained, "noise", noise=True), trained.run]
    found = blend.blend_runs(members, blend_dir(trained), trained.workspace, "fitted")
    assert found["evidence"]["selected"]
    assert found["weights"][0] < found["weights"][1]
    assert found["evidence"]["fitted"] == 1 > found["evidence"]["equal"]
    assert tune.tune_run(blend_dir(trained), trained.workspace)["cross_fitted"]["score"] == 1


@pytest.mark.parametrize("gain", [0.1, -0.1])
def test_the_command_prints_weights_evidence_and_what_was_selected(
    trained: Trained,
    pair: list[runs.RunDir],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    gain: float,
) -> None:
    found_weights(monkeypatch, gain)
    folders = ["--input", str(trained.input), "--output", str(trained.output)]
    assert in_process.call("blend", "tiny-run", "other", "--name", "both", "--weights", "fitted", *folders) == 0
    printed = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert printed[0] == f"{blend_dir(trained).path}: 2 runs"
    shares = (
        ["tiny-run 3 of 4 75.0%", "other 1 of 4 25.0%"] if gain > 0 else ["tiny-run 1 of 2 50.0%", "other 1 of 2 50.0%"]
    )
    assert printed[1:3] == shares
    assert "equal weights 0.5000" in printed
    assert f"fitted weights {0.5 + gain:.4f} 3 : 1" in printed
    assert f"difference {gain:+.4f} {gain:+.4f} to {gain:+.4f} (paired, 95 % interval)" in printed
    assert any(line.startswith("selected fitted" if gain > 0 else "selected equal") for line in printed)
    assert printed[-1].startswith("next: saltseg tune both")


def test_a_gain_that_may_be_chance_is_called_so(
    trained: Trained, pair: list[runs.RunDir], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ["--input", str(trained.input), "--output", str(trained.output)]
    for name, spread, doubted in (("doubted", 0.5, True), ("certain", 0.0, False)):
        found_weights(monkeypatch, gain=0.1 + spread * (np.arange(len(TRAIN)) % 2 - 0.5))
        assert in_process.call("blend", "tiny-run", "other", "--name", name, "--weights", "fitted", *folders) == 0
        assert ("equal weights may do as well" in capsys.readouterr().out) == doubted


HOLD = """
import sys
from pathlib import Path
from saltseg import io
with io.atomic_dir(Path(sys.argv[1])) as new:
    (new / "oof.npz").touch()
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_blends_of_one_name_do_not_mix_and_a_killed_one_is_made_again(
    trained: Trained, pair: list[runs.RunDir]
) -> None:
    target = blend_dir(trained)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(target.path)], text=True, **pipes)
    try:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(
            InputError, match=r"blends/both is being written by another process; wait for it or stop it"
        ):
            blend.blend_runs(pair, target, trained.workspace)
    finally:
        other.kill()
        other.communicate()
    assert runs.all_runs(trained.output) == pair[::-1]
    blend.blend_runs(pair, target, trained.workspace)
    assert sorted(path.name for path in target.path.iterdir()) == [
        "config.yaml",
        "oof.npz",
        "provenance.json",
        "test.npz",
    ]
    assert [path.name for path in target.path.parent.iterdir()] == ["both"]


def test_a_blend_that_fails_half_way_leaves_nothing(
    trained: Trained, pair: list[runs.RunDir], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, value: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(io, "write_json", full)
        with pytest.raises(OSError, match="no space"):
            blend.blend_runs(pair, blend_dir(trained), trained.workspace)
    assert list((trained.output / "blends").iterdir()) == []
    blend.blend_runs(pair, blend_dir(trained), trained.workspace)

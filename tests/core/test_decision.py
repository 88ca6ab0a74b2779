"""Which steps are adopted: data made for one step each, worked out by hand; no leakage; noise is not adopted."""

import json
from dataclasses import replace

import numpy as np
import pytest

from saltseg.core import decision, metric, thresholds
from saltseg.core.areas import areas
from saltseg.core.postprocess import HALF, Rule
from saltseg.errors import InputError

FOLD = np.arange(12) % 3


def summarise(probabilities: np.ndarray, true: np.ndarray, fold: np.ndarray, *rest: object) -> dict:
    return decision.summarise([f"id{index}" for index in range(len(true))], probabilities, true, fold, *rest)


def adopted(summary: dict) -> list[str]:
    return [row["step"] for row in summary["steps"] if row["adopted"]]


def gains(summary: dict) -> dict[str, float]:
    return {row["step"]: pytest.approx(row["gain"]["mean"], abs=1e-12) for row in summary["steps"]}


def rings() -> tuple[np.ndarray, np.ndarray]:
    """Twelve squares of 5 x 5 whose inner 3 x 3 is predicted as less likely than the rock around, and their truth."""
    true = np.zeros((12, 9, 9), np.uint8)
    true[:, 2:7, 2:7] = 1
    probabilities = np.where(true == 1, 200, 20).astype(np.uint8)
    probabilities[:, 3:6, 3:6] = 10
    return probabilities, true


def test_filling_is_adopted_where_it_helps() -> None:
    probabilities, true = rings()
    summary = summarise(probabilities, true, FOLD)
    # IoU 16/25 = 0.64 passes 0.5, 0.55 and 0.6; no threshold fills the hole.
    assert summary["score_at_half"] == pytest.approx(0.3)
    assert adopted(summary) == ["hole filling"]
    assert gains(summary) == {"threshold": 0, "minimum area": 0, "hole filling": 0.7, "hysteresis": 0}
    assert summary["cross_fitted"]["score"] == summary["plateau"]["score"] == summary["naive"]["score"] == 1
    assert all(rule["fill_holes"] for rule in summary["cross_fitted"]["rules"])
    assert summary["rule"] == summary["plateau"]["rule"]
    assert Rule.from_dict(summary["rule"]).apply(probabilities).tolist() == true.tolist()
    assert summary["per_coverage"] == [{"coverage_class": 4, "n": 12, "score": 1.0}]


def test_filling_is_not_adopted_where_it_hurts() -> None:
    probabilities, true = rings()
    true[:, 3:6, 3:6] = 0
    summary = summarise(probabilities, true, FOLD)
    assert adopted(summary) == []
    assert gains(summary)["hole filling"] == -0.7
    assert summary["rule"] == HALF.to_dict()
    assert summary["adopted"] == "half"
    assert not summary["plateau"]["rule"]["fill_holes"]
    assert summary["cross_fitted"]["score"] == 1  # of threshold and minimum area, as where nothing else is tried


def test_hysteresis_is_adopted_where_it_helps() -> None:
    """Salt is sure at its core and pale at its skirt; something as pale as the skirt lies apart from it."""
    true = np.zeros((12, 9, 9), np.uint8)
    true[:, :5] = 1
    probabilities = np.zeros_like(true)
    probabilities[:, :3], probabilities[:, 3:5], probabilities[:, 7:] = 220, 150, 150
    summary = summarise(probabilities, true, FOLD)
    # Without: 45 of 63 pixels, IoU 0.71, or 27 of 45 at the core's threshold, IoU 0.6: passes two.
    assert adopted(summary) == ["hysteresis"]
    assert summary["steps"][-1]["gain"] == {"mean": 0.5, "interval": [0.5, 0.5]}
    assert summary["rule"]["high"] == 153  # the first above the pale 150, up to 204 are as good
    assert summary["cross_fitted"]["score"] == 1


def doubtful(presence: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images predicted alike, every other one in error: it is empty."""
    true = np.zeros((len(presence), 5, 5), np.uint8)
    true[::2, :2] = 1
    probabilities = np.zeros_like(true)
    probabilities[:, :2] = 200
    return probabilities, true, presence


def test_the_gate_is_adopted_where_it_helps() -> None:
    probabilities, true, presence = doubtful(np.where(np.arange(12) % 2, 20, 190).astype(np.uint8))
    summary = summarise(probabilities, true, FOLD, presence)
    assert adopted(summary) == ["empty-image gate"]
    assert summary["steps"][-1]["score"] == 1
    assert summary["steps"][-1]["gain"]["mean"] == 0.5
    assert summary["rule"]["gate"] == 26  # the first above 20
    assert "empty-image gate" not in gains(summarise(probabilities, true, FOLD))


def test_a_gate_that_knows_nothing_gains_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Presence at random: on the images themselves some gate nearly always helps, on others it is a coin's toss."""
    monkeypatch.setattr(decision, "STEPS", {"empty-image gate": decision.STEPS["empty-image gate"]})
    generator = np.random.default_rng(0)
    in_sample, cross_fitted = [], []
    for _ in range(60):
        presence = generator.integers(0, 256, 60).astype(np.uint8)
        probabilities, true, _ = doubtful(presence)
        tried = [metric.score(Rule(gate=gate).apply(probabilities, presence), true) for gate in decision.GATES]
        in_sample.append(max(tried) - 0.5)
        [trial] = decision.try_steps(decision.OutOfFold(probabilities, true, np.arange(60) % 5, presence))
        assert trial.adopted == (trial.gain.mean() > 1e-9)
        cross_fitted.append(trial.gain.mean())
    assert np.mean(in_sample) > 0.05
    assert np.mean(cross_fitted) < 0.01
    assert np.mean(np.array(in_sample) > 0) > 0.85
    assert np.mean(np.array(cross_fitted) > 0) < 0.5


def noisy(n: int, seed: int = 0) -> decision.OutOfFold:
    """Squares of salt with holes under noise, every third image empty; presence that is right more often than not."""
    generator = np.random.default_rng(seed)
    true = np.zeros((n, 12, 12), np.uint8)
    for mask in true[: 2 * n // 3]:
        row, column = generator.integers(0, 6, 2)
        mask[row : row + 6, column : column + 6] = 1
    logits = 3.0 * true - 1.5 + generator.normal(0, 1, true.shape) + generator.normal(0, 0.7, (n, 1, 1))
    chance = 100.0 * true.any(axis=(1, 2)) + generator.uniform(0, 150, n)
    order = generator.permutation(n)
    probabilities = np.rint(255 / (1 + np.exp(-logits[order]))).astype(np.uint8)
    return decision.OutOfFold(probabilities, true[order], np.arange(n) % 3, chance[order].astype(np.uint8))


def test_every_score_is_that_of_the_masks() -> None:
    images = noisy(60)
    true = np.asarray(images.true)
    trials = decision.try_steps(images)
    assert [trial.step for trial in trials] == list(decision.STEPS)
    for trial in trials:
        for name in (0, 1, 2):
            own = images.groups == name
            masks = trial.fit.rules[name].apply(images.probabilities[own], np.asarray(images.presence)[own])
            np.testing.assert_array_equal(trial.fit.average_precision[own], metric.average_precision(masks, true[own]))
    summary = summarise(images.probabilities, true, images.groups, images.presence)
    assert len(adopted(summary)) >= 3  # or the lines above have shown little
    for key in ("naive", "plateau"):
        masks = Rule.from_dict(summary[key]["rule"]).apply(images.probabilities, images.presence)
        assert summary[key]["score"] == pytest.approx(metric.score(masks, true))


def test_scores_of_the_whole_rule_are_those_of_the_rules_adopted() -> None:
    """Recomputed from the masks, each group under the rule that the other groups chose."""
    images = noisy(60)
    found = decision.cross_fit(images)
    last = [trial for trial in decision.try_steps(images) if trial.adopted][-1]
    for name in range(3):
        own = images.groups == name
        assert images.presence is not None
        masks = last.fit.rules[name].apply(images.probabilities[own], np.asarray(images.presence)[own])
        assert np.array_equal(found[own], metric.average_precision(masks, np.asarray(images.true)[own]))
    assert found.mean() > metric.score(HALF.apply(images.probabilities), images.true) + 0.1


def test_without_a_step_that_helps_the_whole_rule_is_one_half() -> None:
    true = np.zeros((4, 8, 8), np.uint8)
    true[::2, 2:6, 2:6] = 1
    perfect = decision.OutOfFold(np.where(true, 255, 0).astype(np.uint8), true, np.arange(4) // 2, None)
    assert not any(trial.adopted for trial in decision.try_steps(perfect))
    assert decision.cross_fit(perfect).tolist() == [1.0] * 4


def test_a_value_is_the_best_of_those_there_are() -> None:
    """Each option on its own: no rule of a step has a higher plateau on the images it was fitted on."""
    images = noisy(60)
    for trial in decision.try_steps(images):
        for name, rule in trial.fit.rules.items():
            seen = np.ones(60, bool) if name is None else images.groups != name
            heights = {}
            for option in decision.STEPS[trial.step]:
                shaped = replace(trial.before.rules[name], **option)
                columns = None if trial.fit.min_area else 1
                surface = thresholds.surface(images.areas(shaped).take(seen))[:, :columns]
                found, height = thresholds.plateau(surface)
                heights[replace(shaped, threshold=found.threshold, min_area=found.min_area)] = height
            assert rule == max(heights, key=lambda rule: heights[rule])


def test_each_step_is_compared_with_those_adopted_before_it() -> None:
    images = noisy(60)
    best = metric.average_precision(HALF.apply(images.probabilities), images.true)
    for trial in decision.try_steps(images):
        np.testing.assert_array_equal(trial.before.average_precision, best)
        assert trial.adopted == (trial.fit.score > trial.before.score + 1e-9)
        row = trial.to_dict()
        assert row["gain"]["mean"] == pytest.approx(trial.fit.score - best.mean())
        assert tuple(row["gain"]["interval"]) == metric.bootstrap_interval(trial.fit.average_precision - best)
        if trial.adopted:
            best = trial.fit.average_precision


@pytest.mark.parametrize("name", [0, 1, 2])
def test_the_rule_of_a_group_never_saw_that_group(name: int) -> None:
    images = noisy(60)
    own = images.groups == name
    true, probabilities, presence = (np.array(a) for a in (images.true, images.probabilities, images.presence))
    true[own] = 1 - true[own]
    probabilities[own] = 255 - probabilities[own] // 3
    presence[own] = 255 - presence[own]
    for step, options in decision.STEPS.items():
        before = dict.fromkeys([0, 1, 2, None], HALF)
        rules = decision._fit(images, before, options, min_area=True).rules
        changed = decision.OutOfFold(probabilities, true, images.groups, presence)
        after = decision._fit(changed, before, options, min_area=True).rules
        assert after[name] == rules[name], step
        # The others did see it: were labels ignored altogether, this test would prove nothing.
        assert any(after[other] != rules[other] for other in rules if other != name), step


def test_summary_is_json_and_consistent() -> None:
    images = noisy(90)
    probabilities, true, fold = images.probabilities, np.asarray(images.true), images.groups
    summary = summarise(probabilities, true, fold)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["n"] == 90
    assert summary["folds"] == [0, 1, 2]
    assert summary["cross_fit_groups"] == "folds"
    at_half = metric.score(HALF.apply(probabilities), true)
    assert summary["score_at_half"] == pytest.approx(at_half)
    fitted = summary["cross_fitted"]
    assert fitted["score"] == [row["score"] for row in summary["steps"] if row["adopted"]][-1]
    assert fitted["interval"][0] < fitted["score"] < fitted["interval"][1]
    assert summary["tuning_gain"]["mean"] == pytest.approx(fitted["score"] - at_half)
    low, high = summary["tuning_gain"]["interval"]
    assert low <= summary["tuning_gain"]["mean"] <= high
    assert summary["adopted"] == "tuned"
    assert summary["rule"] == summary["plateau"]["rule"]
    assert summary["naive"]["score"] >= summary["plateau"]["score"]
    weighted = sum(row["n"] * row["score"] for row in summary["per_coverage"]) / 90
    assert weighted == pytest.approx(fitted["score"])
    assert summary["pixel"]["accuracy"] == pytest.approx(((probabilities >= 128) == true).mean())
    plateau, curve = summary["plateau"], summary["curve"]
    assert curve["threshold"] == list(range(1, 256))
    assert curve["score"][plateau["rule"]["threshold"] - 1] == pytest.approx(plateau["score"])
    bare = replace(Rule.from_dict(plateau["rule"]), threshold=99, min_area=0)
    assert curve["score_no_min_area"][98] == pytest.approx(metric.score(bare.apply(probabilities), true))


def test_threshold_and_area_alone_give_what_cross_fitting_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decision, "STEPS", {name: decision.STEPS[name] for name in ("threshold", "minimum area")})
    images = noisy(90)
    summary = summarise(images.probabilities, np.asarray(images.true), images.groups)
    assert adopted(summary)[-1] == "minimum area"
    fitted = thresholds.cross_fit(images.probabilities, images.true, images.groups)
    assert summary["cross_fitted"]["score"] == fitted.score
    assert summary["cross_fitted"]["interval"] == list(fitted.interval)
    assert summary["cross_fitted"]["rules"][1] == {"group": 1, **fitted.rules[1].to_dict()}
    assert summary["plateau"]["rule"] == thresholds.search(images.probabilities, images.true).rule.to_dict()


def test_one_half_is_adopted_where_tuning_does_not_carry_over() -> None:
    """Two folds that want opposite thresholds: the rule of one ruins the other."""
    true = np.zeros((20, 6, 6), np.uint8)
    true[:, :3] = 1
    probabilities = np.where(true == 1, 250, 120).astype(np.uint8)  # perfect at 121 ... 250
    probabilities[10:] = np.where(true[10:] == 1, 135, 10)  # perfect at 11 ... 135
    summary = summarise(probabilities, true, np.arange(20) // 10)
    assert summary["cross_fitted"]["score"] < summary["score_at_half"] == 1.0
    assert summary["adopted"] == "half"
    assert adopted(summary) == []
    assert summary["rule"] == HALF.to_dict()
    assert summary["per_coverage"] == [{"coverage_class": 5, "n": 20, "score": 1.0}]


def test_for_a_single_fold_random_parts_stand_in() -> None:
    images = noisy(30)
    summary = summarise(images.probabilities, np.asarray(images.true), np.zeros(30, np.int8))
    assert summary["cross_fit_groups"] == "random parts"
    assert summary["folds"] == [0]
    assert [row["group"] for row in summary["cross_fitted"]["rules"]] == [0, 1, 2, 3, 4]


def test_progress_is_told_after_each_step() -> None:
    images, told = noisy(30), []
    summarise(images.probabilities, np.asarray(images.true), images.groups, None, lambda: told.append(1))
    assert len(told) == len(decision.STEPS)


def test_summary_wants_every_id_once() -> None:
    images = noisy(4)
    for ids in (["a", "b", "c", "c"], ["a", "b", "c"]):
        with pytest.raises(InputError, match="its own id, two at least: 3 ids for 4 images"):
            decision.summarise(ids, images.probabilities, images.true, images.groups)


def test_counts_that_no_rule_needs_are_let_go() -> None:
    """Each takes a tenth of the memory of the probabilities, and seven shapes of rule are tried."""
    images = noisy(30)
    fits = [trial.fit for trial in decision.try_steps(images) if trial.adopted]
    needed = {Rule(fill_holes=rule.fill_holes, high=rule.high) for fit in fits for rule in fit.rules.values()}
    assert set(images._counted) <= needed | {Rule()}
    assert len(needed) < 6


def test_many_images_are_counted_in_stacks_and_give_what_one_pass_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.integers(0, 256, (10, 12, 12)).astype(np.uint8)
    true, groups = (probabilities > 140).astype(np.uint8), np.arange(10) % 2
    rule = Rule(fill_holes=True, high=179)
    whole = areas(rule.shape(probabilities), true)
    monkeypatch.setattr(decision, "_CHUNK", 3)
    counted = decision.OutOfFold(probabilities, true, groups, None).areas(rule)
    for name in ("intersection", "predicted", "true"):
        assert np.array_equal(getattr(counted, name), getattr(whole, name))
    search = thresholds.surface(counted)
    monkeypatch.setattr(thresholds, "_CHUNK", 4)
    assert np.array_equal(thresholds.surface(counted), search)

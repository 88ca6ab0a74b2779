"""Selection of steps: data made for one step each, worked out by hand; no leakage; noise is not selected."""

import json
from dataclasses import replace

import numpy as np
import pytest

from saltseg.errors import InputError
from saltseg.metrics import average_precision, bootstrap
from saltseg.postprocessing import step_selection, threshold_search
from saltseg.postprocessing.areas import areas
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing
from saltseg.postprocessing.summary import summarize
from saltseg.postprocessing.threshold_search import SEARCHED

FOLD = np.arange(12) % 3


def summarized(probabilities: np.ndarray, true: np.ndarray, fold: np.ndarray, *rest: object) -> dict:
    return summarize([f"id{index}" for index in range(len(true))], probabilities, true, fold, *rest)


def selected(summary: dict) -> list[str]:
    return [row["step"] for row in summary["steps"] if row["selected"]]


def gains(summary: dict) -> dict[str, float]:
    return {row["step"]: pytest.approx(row["gain"]["mean"], abs=1e-12) for row in summary["steps"]}


def rings() -> tuple[np.ndarray, np.ndarray]:
    """Twelve squares of 5 x 5 whose inner 3 x 3 is predicted as less likely than the rock around, and their truth."""
    true = np.zeros((12, 9, 9), np.uint8)
    true[:, 2:7, 2:7] = 1
    probabilities = np.where(true == 1, 200, 20).astype(np.uint8)
    probabilities[:, 3:6, 3:6] = 10
    return probabilities, true


def test_filling_is_selected_where_it_helps() -> None:
    probabilities, true = rings()
    summary = summarized(probabilities, true, FOLD)
    # IoU 16/25 = 0.64 passes 0.5, 0.55 and 0.6; no threshold fills the hole.
    assert summary["score_at_half"] == pytest.approx(0.3)
    assert selected(summary) == ["hole filling"]
    assert gains(summary) == {"threshold": 0, "minimum area": 0, "hole filling": 0.7, "hysteresis": 0}
    assert summary["cross_fitted"]["score"] == summary["smoothed_argmax"]["score"] == summary["argmax"]["score"] == 1
    assert all(chosen["fill_holes"] for chosen in summary["cross_fitted"]["per_group"])
    assert summary["postprocessing"] == summary["smoothed_argmax"]["postprocessing"]
    assert Postprocessing.from_dict(summary["postprocessing"]).apply(probabilities).tolist() == true.tolist()
    assert summary["per_coverage"] == [{"coverage_class": 4, "n": 12, "score": 1.0}]


def test_filling_is_not_selected_where_it_hurts() -> None:
    probabilities, true = rings()
    true[:, 3:6, 3:6] = 0
    summary = summarized(probabilities, true, FOLD)
    assert selected(summary) == []
    assert gains(summary)["hole filling"] == -0.7
    assert summary["postprocessing"] == THRESHOLD_HALF.to_dict()
    assert summary["selected"] == "half"
    assert not summary["smoothed_argmax"]["postprocessing"]["fill_holes"]
    assert summary["cross_fitted"]["score"] == 1  # of threshold and minimum area, as where nothing else is tried


def test_hysteresis_is_selected_where_it_helps() -> None:
    """Salt is sure at its core and pale at its skirt; something as pale as the skirt lies apart from it."""
    true = np.zeros((12, 9, 9), np.uint8)
    true[:, :5] = 1
    probabilities = np.zeros_like(true)
    probabilities[:, :3], probabilities[:, 3:5], probabilities[:, 7:] = 220, 150, 150
    summary = summarized(probabilities, true, FOLD)
    # Without: 45 of 63 pixels, IoU 0.71, or 27 of 45 at the core's threshold, IoU 0.6: passes two.
    assert selected(summary) == ["hysteresis"]
    assert summary["steps"][-1]["gain"] == {"mean": 0.5, "interval": [0.5, 0.5]}
    assert summary["postprocessing"]["hysteresis_high"] == 153  # the first above the pale 150, up to 204 are as good
    assert summary["cross_fitted"]["score"] == 1


def doubtful(presence: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Images predicted alike, every other one in error: it is empty."""
    true = np.zeros((len(presence), 5, 5), np.uint8)
    true[::2, :2] = 1
    probabilities = np.zeros_like(true)
    probabilities[:, :2] = 200
    return probabilities, true, presence


def test_the_presence_threshold_is_selected_where_it_helps() -> None:
    probabilities, true, presence = doubtful(np.where(np.arange(12) % 2, 20, 190).astype(np.uint8))
    summary = summarized(probabilities, true, FOLD, presence)
    assert selected(summary) == ["presence threshold"]
    assert summary["steps"][-1]["score"] == 1
    assert summary["steps"][-1]["gain"]["mean"] == 0.5
    assert summary["postprocessing"]["presence_threshold"] == 26  # the first above 20
    assert "presence threshold" not in gains(summarized(probabilities, true, FOLD))


def test_random_presence_probabilities_gain_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the images themselves some threshold nearly always helps; on others it is a coin's toss."""
    monkeypatch.setattr(step_selection, "STEPS", {"presence threshold": step_selection.STEPS["presence threshold"]})
    generator = np.random.default_rng(0)
    in_sample, cross_fitted = [], []
    for _ in range(60):
        presence = generator.integers(0, 256, 60).astype(np.uint8)
        probabilities, true, _ = doubtful(presence)
        scores = [
            average_precision.score(Postprocessing(presence_threshold=threshold).apply(probabilities, presence), true)
            for threshold in step_selection.PRESENCE_THRESHOLDS
        ]
        in_sample.append(max(scores) - 0.5)
        [result] = step_selection.forward_selection(
            step_selection.OutOfFold(probabilities, true, np.arange(60) % 5, presence), margin=0
        )
        assert result.selected == (result.gain.mean() > 1e-9)
        cross_fitted.append(result.gain.mean())
    assert np.mean(in_sample) > 0.05
    assert np.mean(cross_fitted) < 0.01
    assert np.mean(np.array(in_sample) > 0) > 0.85
    assert np.mean(np.array(cross_fitted) > 0) < 0.5


def noisy(n: int, seed: int = 0) -> step_selection.OutOfFold:
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
    return step_selection.OutOfFold(probabilities, true[order], np.arange(n) % 3, chance[order].astype(np.uint8))


def test_every_score_is_that_of_the_masks() -> None:
    images = noisy(60)
    true = np.asarray(images.true)
    results = step_selection.forward_selection(images)
    assert [result.step for result in results] == list(step_selection.STEPS)
    for result in results:
        for name in (0, 1, 2):
            own = images.groups == name
            masks = result.fit.per_group[name].apply(
                images.probabilities[own], np.asarray(images.presence_probability)[own]
            )
            np.testing.assert_array_equal(
                result.fit.average_precision[own], average_precision.average_precision(masks, true[own])
            )
    summary = summarized(images.probabilities, true, images.groups, images.presence_probability)
    assert len(selected(summary)) >= 3  # or the lines above have shown little
    for key in ("argmax", "smoothed_argmax"):
        masks = Postprocessing.from_dict(summary[key]["postprocessing"]).apply(
            images.probabilities, images.presence_probability
        )
        assert summary[key]["score"] == pytest.approx(average_precision.score(masks, true))


def test_cross_fitted_scores_are_those_of_what_the_other_groups_select() -> None:
    """Recomputed from the masks: each group with the steps and the values of a selection that never had it."""
    images = noisy(60)
    presence = np.asarray(images.presence_probability)
    found = step_selection.cross_fit(images)
    for name in range(3):
        own = images.groups == name
        alone = step_selection.OutOfFold(
            images.probabilities[~own], np.asarray(images.true)[~own], images.groups[~own], presence[~own]
        )
        last = [result for result in step_selection.forward_selection(alone) if result.selected][-1]
        assert found.per_group[name] == last.fit.per_group[None]
        masks = last.fit.per_group[None].apply(images.probabilities[own], presence[own])
        expected = average_precision.average_precision(masks, np.asarray(images.true)[own])
        assert np.array_equal(found.average_precision[own], expected)
    assert found.score > average_precision.score(THRESHOLD_HALF.apply(images.probabilities), images.true) + 0.1


def test_sections_decide_without_each_group_as_on_all_images(monkeypatch: pytest.MonkeyPatch) -> None:
    images, sections, seen = noisy(60), np.array([f"s{image // 2}" for image in range(60)]), []
    original = step_selection.forward_selection

    def spy(part: step_selection.Rest, progress: object, **options: object) -> object:
        seen.append(options["sections"].tolist())
        return original(part, progress, **options)

    monkeypatch.setattr(step_selection, "forward_selection", spy)
    step_selection.cross_fit(images, sections=sections)
    assert seen == [sections[images.groups != name].tolist() for name in range(3)]


def test_steps_that_are_selected_by_chance_gain_nothing_in_the_cross_fitted_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Presence probabilities at random: where the step is selected its own score is high by selection alone."""
    monkeypatch.setattr(step_selection, "STEPS", {"presence threshold": step_selection.STEPS["presence threshold"]})
    generator = np.random.default_rng(0)
    optimistic, cross_fitted = [], []
    for _ in range(150):
        presence = generator.integers(0, 256, 60).astype(np.uint8)
        probabilities, true, _ = doubtful(presence)
        images = step_selection.OutOfFold(probabilities, true, np.arange(60) % 5, presence)
        [result] = step_selection.forward_selection(images)
        if result.selected:
            optimistic.append(result.gain.mean())
            cross_fitted.append(step_selection.cross_fit(images).score - 0.5)
    assert len(optimistic) >= 10
    assert np.mean(optimistic) > 0.05
    assert np.mean(cross_fitted) < 0.6 * np.mean(optimistic)


def test_two_groups_select_on_random_parts_of_the_other() -> None:
    images = replace(noisy(60), groups=np.arange(60) % 2)
    found = step_selection.cross_fit(images)
    assert sorted(found.per_group) == [0, 1]
    rest = images.without(0)
    assert np.unique(rest.groups).tolist() == [0, 1, 2, 3, 4]
    assert len(rest.areas(THRESHOLD_HALF).true) == len(rest.groups) == 30


@pytest.mark.parametrize(
    "sections",
    [
        ["a"] * 15 + ["b"] * 15,  # each group without the other is one section
        ["a"] * 15 + ["b"] * 7 + ["c"] * 8,
        ["a"] * 29 + ["b"],
    ],
)
def test_where_one_section_is_left_without_a_group_its_images_are_resampled(sections: list[str]) -> None:
    images = replace(noisy(30), groups=np.arange(30) // 15)
    found = step_selection.cross_fit(images, sections=np.array(sections))
    assert np.isfinite(found.average_precision).all()


@pytest.mark.parametrize("folds", [[0, 1], [0, 1, 1, 1], [0, 0, 1, 1, 2]])
def test_of_very_few_images_nothing_is_fitted_on_none(folds: list[int]) -> None:
    """One image alone has no others to fit on: what is left without the others is scored at 0.5."""
    images = replace(noisy(30), groups=np.array(folds))
    few = replace(
        images, probabilities=images.probabilities[: len(folds)], true=np.asarray(images.true)[: len(folds)],
        presence_probability=None,
    )  # fmt: skip
    found = step_selection.cross_fit(few)
    assert np.isfinite(found.average_precision).all()
    for name in set(folds):
        if sum(fold != name for fold in folds) == 1:
            assert found.per_group[name] == THRESHOLD_HALF
    assert step_selection.forward_selection(replace(few, groups=np.zeros(len(folds), int))) == []


def test_without_a_step_that_helps_the_threshold_is_one_half() -> None:
    true = np.zeros((4, 8, 8), np.uint8)
    true[::2, 2:6, 2:6] = 1
    perfect = step_selection.OutOfFold(np.where(true, 255, 0).astype(np.uint8), true, np.arange(4) // 2, None)
    assert not any(result.selected for result in step_selection.forward_selection(perfect))
    found = step_selection.cross_fit(perfect)
    assert (found.average_precision.tolist(), set(found.per_group.values())) == ([1.0] * 4, {THRESHOLD_HALF})


def test_the_best_option_of_a_step_is_taken() -> None:
    """Each option on its own: none has a higher smoothed score on the images it was fitted on."""
    images = noisy(60)
    for result in step_selection.forward_selection(images):
        for name, chosen in result.fit.per_group.items():
            seen = np.ones(60, bool) if name is None else images.groups != name
            scores = {}
            for option in step_selection.STEPS[result.step].options:
                candidate = replace(result.before.per_group[name], **option)
                columns = None if "min_area" in result.fit.searched else 1
                first, stop = (1, 256) if "threshold" in result.fit.searched else (128, 129)
                surface = threshold_search.surface(images.areas(candidate).take(seen))[first - 1 : stop - 1, :columns]
                fitted, score = threshold_search.smoothed_argmax(surface, first)
                scores[replace(candidate, threshold=fitted.threshold, min_area=fitted.min_area)] = score
            assert chosen == max(scores, key=lambda candidate: scores[candidate])


def test_each_step_is_compared_with_those_selected_before_it() -> None:
    images = noisy(60)
    best = average_precision.average_precision(THRESHOLD_HALF.apply(images.probabilities), images.true)
    for result in step_selection.forward_selection(images):
        np.testing.assert_array_equal(result.before.average_precision, best)
        error = result.gain.std() / np.sqrt(60)
        assert result.selected == (result.gain.mean() > error + 1e-9)
        row = result.to_dict()
        assert row["gain"]["mean"] == pytest.approx(result.fit.score - best.mean())
        assert tuple(row["gain"]["interval"]) == bootstrap.bootstrap_interval(result.fit.average_precision - best)
        if result.selected:
            best = result.fit.average_precision


@pytest.mark.parametrize("name", [0, 1, 2])
def test_what_is_fitted_for_a_group_never_saw_that_group(name: int) -> None:
    images = noisy(60)
    own = images.groups == name
    true, probabilities, presence = (
        np.array(a) for a in (images.true, images.probabilities, images.presence_probability)
    )
    true[own] = 1 - true[own]
    probabilities[own] = 255 - probabilities[own] // 3
    presence[own] = 255 - presence[own]
    for step, parts in step_selection.STEPS.items():
        before = dict.fromkeys([0, 1, 2, None], THRESHOLD_HALF)
        fitted = step_selection.fit_step(images, before, parts.options, SEARCHED).per_group
        changed = step_selection.OutOfFold(probabilities, true, images.groups, presence)
        after = step_selection.fit_step(changed, before, parts.options, SEARCHED).per_group
        assert after[name] == fitted[name], step
        # The others did see it: were labels ignored altogether, this test would prove nothing.
        assert any(after[other] != fitted[other] for other in fitted if other != name), step


def test_summary_is_json_and_consistent() -> None:
    images = noisy(90)
    probabilities, true, fold = images.probabilities, np.asarray(images.true), images.groups
    summary = summarized(probabilities, true, fold)
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["n"] == 90
    assert summary["folds"] == [0, 1, 2]
    assert summary["cross_fit_groups"] == "folds"
    at_half = average_precision.score(THRESHOLD_HALF.apply(probabilities), true)
    assert summary["score_at_half"] == pytest.approx(at_half)
    fitted = summary["cross_fitted"]
    assert fitted["score"] == step_selection.cross_fit(replace(images, presence_probability=None)).score
    assert fitted["nested"]
    assert fitted["interval"][0] < fitted["score"] < fitted["interval"][1]
    assert summary["tuning_gain"]["mean"] == pytest.approx(fitted["score"] - at_half)
    low, high = summary["tuning_gain"]["interval"]
    assert low <= summary["tuning_gain"]["mean"] <= high
    assert summary["selected"] == "tuned"
    assert summary["postprocessing"] == summary["smoothed_argmax"]["postprocessing"]
    assert summary["argmax"]["score"] >= summary["smoothed_argmax"]["score"]
    weighted = sum(row["n"] * row["score"] for row in summary["per_coverage"]) / 90
    assert weighted == pytest.approx(fitted["score"])
    assert summary["pixel"]["accuracy"] == pytest.approx(((probabilities >= 128) == true).mean())
    smoothed, curve = summary["smoothed_argmax"], summary["curve"]
    assert curve["threshold"] == list(range(1, 256))
    assert curve["score"][smoothed["postprocessing"]["threshold"] - 1] == pytest.approx(smoothed["score"])
    bare = replace(Postprocessing.from_dict(smoothed["postprocessing"]), threshold=99, min_area=0)
    assert curve["score_no_min_area"][98] == pytest.approx(average_precision.score(bare.apply(probabilities), true))


def test_threshold_and_area_alone_give_what_cross_fitting_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_selection, "STEPS", {"both": step_selection.Step(searched=frozenset(SEARCHED))})
    images = noisy(90)
    summary = summarized(images.probabilities, np.asarray(images.true), images.groups)
    assert selected(summary) == ["both"]
    fitted = threshold_search.cross_fit_areas(areas(images.probabilities, images.true), images.groups)
    assert summary["cross_fitted"]["score"] == fitted.average_precision.mean()
    assert summary["cross_fitted"]["interval"] == list(bootstrap.bootstrap_interval(fitted.average_precision))
    assert summary["cross_fitted"]["per_group"][1] == {"group": 1, **fitted.per_group[1].to_dict()}
    assert (
        summary["smoothed_argmax"]["postprocessing"]
        == threshold_search.search(images.probabilities, images.true).smoothed_argmax.to_dict()
    )


def test_one_half_is_selected_where_tuning_does_not_carry_over() -> None:
    """Two folds that need opposite thresholds: that of one ruins the other."""
    true = np.zeros((20, 6, 6), np.uint8)
    true[:, :3] = 1
    probabilities = np.where(true == 1, 250, 120).astype(np.uint8)  # perfect at 121 ... 250
    probabilities[10:] = np.where(true[10:] == 1, 135, 10)  # perfect at 11 ... 135
    summary = summarized(probabilities, true, np.arange(20) // 10)
    assert summary["cross_fitted"]["score"] == summary["score_at_half"] == 1.0  # each fold alone selects one half, too
    assert summary["steps"][0]["score"] < 1
    assert summary["selected"] == "half"
    assert selected(summary) == []
    assert summary["postprocessing"] == THRESHOLD_HALF.to_dict()
    assert summary["per_coverage"] == [{"coverage_class": 5, "n": 20, "score": 1.0}]


def test_a_single_fold_is_cross_fitted_over_random_parts() -> None:
    images = noisy(30)
    summary = summarized(images.probabilities, np.asarray(images.true), np.zeros(30, np.int8))
    assert summary["cross_fit_groups"] == "random parts"
    assert summary["folds"] == [0]
    assert [row["group"] for row in summary["cross_fitted"]["per_group"]] == [0, 1, 2, 3, 4]


def test_the_threshold_of_a_step_that_is_not_selected_is_not_applied() -> None:
    """Small bodies are errors at any threshold; a threshold of its own gains nothing, and must not enter with them."""
    true = np.zeros((20, 8, 8), np.uint8)
    true[::2, :4] = 1
    probabilities = np.where(true == 1, 200, 0).astype(np.uint8)
    probabilities[1::2, 0, 0] = 255
    summary = summarized(probabilities, true, np.arange(20) % 5)
    assert selected(summary) == ["minimum area"]
    threshold, area = summary["steps"][:2]
    assert threshold["postprocessing"]["threshold"] != 128  # fitted: the middle of a plateau of 200
    assert area["postprocessing"]["threshold"] == 128
    assert summary["postprocessing"]["threshold"] == 128
    assert summary["argmax"]["postprocessing"]["threshold"] == 128
    assert area["gain"]["mean"] == pytest.approx(0.5)


@pytest.mark.parametrize(("gaining", "expected"), [(2, []), (8, ["hole filling"])])
def test_a_gain_within_a_standard_error_is_not_selected(gaining: int, expected: list[str]) -> None:
    """Filling helps some images and hurts half as many: of 40, +0.7 for 2, -0.7 for 1 is +0.018 with error 0.030."""
    probabilities, true = (np.tile(part[:1], (40, 1, 1)) for part in rings())
    probabilities[gaining : -(gaining // 2)] = np.where(true == 1, 200, 20)[:1]
    true[-(gaining // 2) :, 3:6, 3:6] = 0
    summary = summarized(probabilities, true, np.random.default_rng(0).permutation(40) % 4)
    [filling] = [row for row in summary["steps"] if row["step"] == "hole filling"]
    assert filling["gain"]["mean"] == pytest.approx(0.7 * (gaining - gaining // 2) / 40)
    assert selected(summary) == expected
    assert summary["margin"] == 1


@pytest.mark.parametrize(("gaining", "expected"), [(1, []), (2, ["hole filling"])])
@pytest.mark.parametrize("sections", [None, np.arange(40) % 20])
def test_a_single_image_selects_no_step(gaining: int, expected: list[str], sections: np.ndarray | None) -> None:
    probabilities, true = (np.tile(part[:1], (40, 1, 1)) for part in rings())
    probabilities[gaining:] = np.where(true[0] == 1, 200, 20)  # the others have no hole
    summary = summarized(probabilities, true, np.arange(40) % 4, None, lambda: None, sections)
    [filling] = [row for row in summary["steps"] if row["step"] == "hole filling"]
    assert filling["gain"]["mean"] == pytest.approx(0.7 * gaining / 40)
    assert selected(summary) == expected


def test_progress_is_called_after_each_step() -> None:
    images, calls = noisy(30), []
    summarized(images.probabilities, np.asarray(images.true), images.groups, None, lambda: calls.append(1))
    assert len(calls) == len(step_selection.STEPS) * (1 + 3)  # on all images, and without each of three groups


def test_summary_wants_every_id_once() -> None:
    images = noisy(4)
    for ids in (["a", "b", "c", "c"], ["a", "b", "c"]):
        with pytest.raises(InputError, match="its own id, two at least: 3 ids for 4 images"):
            summarize(ids, images.probabilities, images.true, images.groups)


def test_every_filter_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pass over the pixels for each, however many groups select without each other; at most twelve filters."""
    counted = []
    original = step_selection.areas
    monkeypatch.setattr(step_selection, "areas", lambda *arguments: counted.append(1) or original(*arguments))
    images = noisy(30)
    step_selection.forward_selection(images)
    step_selection.cross_fit(images)
    assert 7 <= len(counted) == len(images._counted) <= 12


def test_many_images_are_counted_in_stacks_and_give_what_one_pass_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.integers(0, 256, (10, 12, 12)).astype(np.uint8)
    true, groups = (probabilities > 140).astype(np.uint8), np.arange(10) % 2
    chosen = Postprocessing(fill_holes=True, hysteresis_high=179)
    whole = areas(chosen.filter_probabilities(probabilities), true)
    monkeypatch.setattr(step_selection, "_CHUNK", 3)
    counted = step_selection.OutOfFold(probabilities, true, groups, None).areas(chosen)
    for name in ("intersection", "predicted", "true"):
        assert np.array_equal(getattr(counted, name), getattr(whole, name))
    search = threshold_search.surface(counted)
    monkeypatch.setattr(threshold_search, "_CHUNK", 4)
    assert np.array_equal(threshold_search.surface(counted), search)

"""What a lever is worth: records by hand, paired differences, refusals."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import Trained, place

from saltseg import config, experiments, runs, storage
from saltseg.core.metric import bootstrap_interval
from saltseg.errors import InputError
from saltseg.inference import levers, steps


def digits(tenths: list[int]) -> str:
    return "".join(f"{value:x}" for value in tenths)


def entry(lever: str, tenths: list[int], seed: int = 0, folds: str = "same") -> dict[str, Any]:
    return {
        **dict.fromkeys(levers.SAME, "same"), "folds_hash": folds, "lever": lever, "changes": ["x=1"], "seed": seed,
        "settings": {"train.clip": 1.0},
        "n_train": 60, "n": len(tenths), "log_loss": 0.5, "at_half": 0.25,
        "cross_fitted": float(np.mean(tenths)) / 10, "whole_rule": float(np.mean(tenths)) / 10,
        "tenths_at_half": digits(tenths), "tenths_cross_fitted": digits(tenths),
        "tenths_whole_rule": digits(tenths[::-1]),
    }  # fmt: skip


def test_a_gain_is_paired_by_seed_and_image() -> None:
    base = [entry("base", [0, 5, 10, 5]), entry("base", [2, 5, 10, 3], 1), entry("base", [9, 9, 9, 9], 2)]
    better = [entry("better", [6, 5, 10, 5], 1), entry("better", [3, 5, 10, 8])]
    first, second = levers.table([*better, *base])
    assert (first.lever, first.gain_cross_fitted) == ("base", None)
    assert first.by_seed == pytest.approx((0.5, 0.5, 0.9))
    assert first.cross_fitted == pytest.approx(1.9 / 3)
    gains = np.array([(0.3 - 0.0 + 0.6 - 0.2) / 2, 0.0, 0.0, (0.8 - 0.5 + 0.5 - 0.3) / 2])  # seed 2 has no partner
    assert second.gain_cross_fitted == pytest.approx((gains.mean(), *bootstrap_interval(gains)))
    assert second.by_seed == pytest.approx((0.6 / 4, 0.6 / 4))
    assert second.gain_whole_rule is not None
    assert second.gain_whole_rule[0] == pytest.approx(gains.mean())  # the same images in another order


def test_the_baseline_comes_first_and_the_rest_best_first() -> None:
    found = levers.table([entry("a", [1, 1]), entry("base", [5, 5]), entry("b", [9, 9]), entry("c", [1, 1])])
    assert [worth.lever for worth in found] == ["base", "b", "a", "c"]


def test_the_noise_between_seeds_is_the_pooled_standard_deviation() -> None:
    assert levers.seed_noise([entry("base", [5]), entry("a", [6])]) is None
    records = [entry("base", [4]), entry("base", [6], 1), entry("a", [1]), entry("a", [1], 1), entry("b", [9])]
    assert levers.seed_noise(records) == pytest.approx(0.1)  # squares 0.01 + 0.01 and 0, over 1 + 1


def test_records_that_cannot_be_compared_are_refused() -> None:
    with pytest.raises(InputError, match=r"'base' with seed 3 to compare 'a' with; .*--only base --seeds 3$"):
        levers.table([entry("a", [1], 3), entry("base", [1])])
    with pytest.raises(InputError, match=r"records differ in folds_hash \(other, same\); they do not compare"):
        levers.table([entry("base", [1]), entry("a", [1], folds="other")])


def test_records_of_another_baseline_are_refused_and_an_option_they_do_not_know_has_its_default() -> None:
    def found(**settings: object) -> dict[str, Any]:
        return entry("base", [5], len(settings)) | {"settings": {"train.clip": 1.0, **settings}}

    levers.table([found(), found(**{"train.start_from": ""})])  # made before and after that option was
    with pytest.raises(InputError, match=r"records differ in train.start_from \(, other\); they do not compare"):
        levers.table([found(), found(**{"train.start_from": "other"})])
    with pytest.raises(InputError, match=r"records differ in train.clip \(0.5, 1.0\)"):
        levers.table([found(), found(**{"train.clip": 0.5})])


def test_a_record_of_an_older_kind_is_refused() -> None:
    old = entry("a", [1])
    del old["tenths_whole_rule"]
    with pytest.raises(InputError, match="the record of 'a' has no score under the whole rule; remove it and train"):
        levers.table([entry("base", [1]), old])


def test_another_lever_can_be_what_gains_are_measured_against() -> None:
    records = [
        entry("base", [5, 5]),
        entry("a", [6, 6]),
        entry("a", [8, 8], 1),
        entry("b", [9, 7]),
        entry("c", [1, 1], 2),
    ]
    first, second, third = levers.table([*records, entry("base", [1, 1], 2)], "a")
    assert (first.lever, first.gain_cross_fitted) == ("a", None)
    assert (second.lever, second.by_seed) == ("b", pytest.approx((0.2,)))  # c shares no seed with a
    assert (third.lever, third.by_seed) == ("base", pytest.approx((-0.1,)))
    with pytest.raises(InputError, match=r"unknown lever with a record 'd'; known: base, a, b, c"):
        levers.table(records, "d")


def test_no_records_say_what_to_train() -> None:
    with pytest.raises(InputError, match=r"no records yet; train the baseline first: scripts/levers.py"):
        levers.table([])


def test_published_records_are_of_the_baseline_as_it_is_today() -> None:
    """A changed baseline, or a changed default that it relies on, must not be compared with older trainings."""
    published = Path(__file__).parents[2] / "output" / "published" / "levers"
    records = [entry for folder in sorted(published.iterdir()) for entry in levers.read(folder)]
    assert records
    for found in records:
        baseline = experiments.named(found["experiment"])
        today = config.flat(config.override(baseline, experiments.BUDGETS[found["budget"]]))
        assert {key: today.get(key) for key in found["settings"]} == found["settings"]


def test_the_table_is_markdown_with_signed_gains() -> None:
    costs = {"base": {"time": 1.0, "mb": 999, "images_per_second": 3.0}, "a": {"time": 1.5, "mb": 1234}}
    lines = levers.markdown(levers.table([entry("base", [5, 5]), entry("a", [4, 4])]), 0.01, costs).splitlines()
    assert lines[1] == "|" + " --- |" * 11
    assert lines[2].startswith("| `base` | `x=1` | 0.5000 |  | 0.5000 | 0.5000 |  | 0.2500 |")
    assert lines[3].startswith("| `a` | `x=1` | 0.4000 | -0.1000 [-0.1000, -0.1000] | -0.1000 | 0.4000 | -0.1000 [")
    assert lines[2].endswith("| 0.5000 | 20 s (1.00) | 999 |")  # 60 images, three a second
    assert lines[3].endswith("| 0.5000 | 30 s (1.50) | 1,234 |")
    assert "scatter by 0.0100 (one sigma), so the difference of two unrelated trainings by 0.0141." in lines[5]


def test_the_noise_of_a_gain_is_that_between_its_seeds() -> None:
    base = [entry("base", [4]), entry("base", [6], 1)]
    assert levers.gain_noise(levers.table([*base, entry("a", [5])])) is None
    found = levers.table([*base, entry("a", [5]), entry("a", [9], 1), entry("b", [4]), entry("b", [6], 1)])
    # gains 0.1 and 0.3: squares 0.01 + 0.01 about their mean; 0 and 0: none; two degrees of freedom
    assert levers.gain_noise(found) == pytest.approx(0.1)
    assert "Gains with the same seed on both sides scatter by 0.1000 from seed to seed (2 levers)." in levers.markdown(
        found, 0.1
    )


def test_a_record_holds_every_image_in_id_order(trained: Trained) -> None:
    steps.predict(trained.run, place(trained))
    for fold in trained.run.finished_folds():
        storage.write_json(
            fold.metrics,
            storage.read_json(fold.metrics)
            | {"n_train": 8, "images_per_second": 0.8, "peak_memory_mb": 7 + fold.number, "git_commit": "abc"},
        )
    storage.write_json(trained.run.provenance, trained.run.read_provenance() | {"command": "x", "machine": "y"})
    broken = runs.load_predictions(trained.run.fold(1).oof)
    wrong = np.where(broken.ids[:, None, None] == "b1", 0, broken.probabilities).astype(np.uint8)
    runs.save_predictions(trained.run.fold(1).oof, runs.Predictions(broken.ids, wrong))  # b1 holds salt: scores 0
    found = levers.record(trained.run, place(trained), experiments.named("unet_efficientnet_lite0"), "cpu", "scse", 3)
    assert found["tenths_at_half"] == "aaaa0aaaaaaa"  # a0 a1 a2 b0 b1 b2 …
    assert found["at_half"] == pytest.approx(11 / 12)
    assert found["tenths_whole_rule"] == "aaaa0aaaaaaa"  # no step can mend an empty prediction
    assert found["whole_rule"] == pytest.approx(11 / 12)
    assert (found["n_train"], found["n"], found["seconds_per_epoch"], found["peak_memory_mb"]) == (8, 12, 10.0, 9)
    assert (found["device"], found["settings"]["train.epochs"], found["settings"]["model.skip"]) == ("cpu", 8, "concat")
    assert (found["lever"], found["seed"], found["changes"]) == ("scse", 3, ["model.attention=scse"])


@pytest.mark.parametrize("lever", experiments.LEVERS)
@pytest.mark.parametrize("budget", experiments.BUDGETS)
def test_every_lever_is_a_valid_change_of_the_baseline(lever: str, budget: str) -> None:
    baseline = experiments.named("unet_efficientnet_lite0")
    base = config.override(baseline, experiments.BUDGETS[budget])
    changed = config.override(baseline, experiments.with_lever(baseline, budget, lever))
    assert bool(config.differences(base, changed)) == (lever != levers.BASE)
    assert changed.train.keep != "best"  # no epoch is picked on the images that report the gain
    # As many operations: an epoch at half the size has a quarter of them.
    assert changed.train.epochs - 0.75 * changed.train.half_size_until == pytest.approx(base.train.epochs, abs=0.5)

"""Records of the case study weighed against the noise between trainings, and what they say in words."""

import pytest
from study_records import case, case_record, case_sweep, details, record, write

from saltseg.errors import InputError
from saltseg.metrics.bootstrap import MeanInterval
from saltseg.studies.case_study import document, pixels, results
from saltseg.studies.case_study.results import signed, verdict
from saltseg.studies.records import AT_HALF, TUNED


def test_gains_are_over_base_or_the_narrow_network(tmp_path) -> None:
    study = case(
        tmp_path,
        {"half": "7", "tuned": "9"},
        {"variant": "no_skips", "half": "5", "tuned": "a"},
        {"variant": "narrow", "half": "4", "tuned": "4"},
        {"variant": "fcn_same_parameters", "half": "6", "tuned": "3"},
    )
    gains = {name: (result.gains[AT_HALF], result.gains[TUNED]) for name, result in study.results.items()}
    assert gains["base"] == (None, None)
    # the same difference in every image, hence intervals of no width
    assert gains["no_skips"] == (pytest.approx((-0.2,) * 3), pytest.approx((0.1,) * 3))
    assert gains["narrow"] == (pytest.approx((-0.3,) * 3), pytest.approx((-0.5,) * 3))
    assert gains["fcn_same_parameters"] == (pytest.approx((0.2,) * 3), pytest.approx((-0.1,) * 3))
    up, down = "better by 0.{0}00 [+0.{0}00, +0.{0}00]".format, "worse by 0.{0}00 [−0.{0}00, −0.{0}00]".format
    shown = ["base", "no_skips", "add", "fcn_same_parameters"]
    assert document.answers(study, shown).splitlines() == [
        f"- `no_skips` against `base`: {up(1)}",
        f"- `fcn_same_parameters` against `narrow`: {down(1)}",
    ]
    assert document.verdicts(study, shown).splitlines()[2:] == [  # post-processed scores are as tuned
        f"| `no_skips` | `base` | {down(2)} | {up(1)} | +0.100, +0.100 | {up(1)} |",
        f"| `fcn_same_parameters` | `narrow` | {up(2)} | {down(1)} | −0.100, −0.100 | {down(1)} |",
    ]
    assert study.gain_of_tuning() == pytest.approx((0.2,) * 3)


def test_gains_are_means_over_shared_seeds_and_their_noise_is_that_between_seeds(tmp_path) -> None:
    tuned = (("base", 0, "2"), ("base", 1, "8"), ("add", 0, "4"), ("add", 1, "7"), ("add", 5, "0"), ("max", 5, "0"))
    study = case(tmp_path, *({"variant": name, "seed": seed, "tuned": score} for name, seed, score in tuned))
    assert study.results["add"].gain == pytest.approx((0.05,) * 3)  # (0.2 - 0.1) / 2; base has no seed 5
    assert study.score("add") == pytest.approx(0.55)
    assert "not compared" in document.answers(study, ["max"])
    # gains 0.2 and -0.1: variance 0.045; the mean of two has its root over √2
    assert study.sigma("add") == pytest.approx((0.045 / 2) ** 0.5)
    answer = document.answers(study, ["add"])
    assert answer.endswith("higher by 0.050 [+0.050, +0.050], within the noise between trainings")


def test_the_noise_is_known_for_each_score_and_a_second_seed_of_base_alone_takes_none_away(tmp_path) -> None:
    study = case(tmp_path, "base", {"seed": 1, "tuned": "6"}, {"variant": "add", "tuned": "5555599999"})
    # folds of add gain 0 and 0.4: variance 0.08, of their mean 0.04
    assert study.gain_noise(TUNED) == study.sigma("add") == pytest.approx(0.2)
    halves = (("base", 0, "2"), ("base", 1, "8"), ("add", 0, "4"), ("add", 1, "7"))
    several = case(tmp_path / "half", *({"variant": name, "seed": seed, "half": half} for name, seed, half in halves))
    assert several.sigma("add", AT_HALF) == pytest.approx((0.045 / 2) ** 0.5)
    assert several.sigma("add", TUNED) == 0
    assert "within the noise between trainings | no detectable" in document.verdicts(several, ["add"])


def test_means_over_seeds(tmp_path) -> None:
    sides = {
        "train": {"pixel_accuracy": 0.97, "score_at_half": 0.8},
        "valid": {"pixel_accuracy": 1, "score_at_half": 0.5},
    }
    study = case(tmp_path, "base", {"seed": 1, "changed": sides | {"pixel_accuracy": 0.8}})
    assert study.mean("base", "pixel_accuracy") == pytest.approx(0.85)
    assert study.mean("base", "train", "pixel_accuracy") == pytest.approx(0.96)
    assert study.gap("base") == pytest.approx(0.75 - 0.55)
    assert study.gap("base", "pixel_accuracy") == pytest.approx(0.96 - 0.95)


def test_the_noise_of_training_is_what_folds_disagree_by_beyond_what_images_explain(tmp_path) -> None:
    """Gains of 0.1 and 0.3 in every image of a fold: variance 0.02 of a fold's gain, 0.01 of their mean."""
    made = {"add": "6666688888", "max": "6666666666", "flip_tta": "9999911111", "plateau": "9999911111"}
    study = case(tmp_path, "base", *({"variant": name, "tuned": tuned} for name, tuned in made.items()))
    assert [part.mean() for part in study.fold_gains("add")] == pytest.approx([0.1, 0.3])
    # flip_tta has the networks of base, and the epochs of plateau are selected: neither says anything of training
    assert study.training_noise(TUNED) == study.sigma("add") == pytest.approx((0.01 / 2) ** 0.5)
    assert study.sigma("flip_tta") is None
    other = {"curves": [[{**row, "train_loss": 0.3} for row in fold] for fold in details()["curves"]]}
    again = case(tmp_path / "other", "base", {"variant": "flip_tta", "tuned": "9999911111", "changed": other})
    assert again.sigma("flip_tta") == again.training_noise(TUNED) > 0  # trained by another processor or code
    assert "| +0.100, +0.300 |" in document.verdicts(study, ["add"])
    assert document.answers(study, ["max"]).endswith("within the noise between trainings")
    spread = case(tmp_path / "spread", "base", {"variant": "add", "tuned": "5555a5555a"})
    assert spread.training_noise(TUNED) == 0  # images explain more than the folds disagree by


def test_a_training_that_marks_nothing_makes_comparisons_void_and_other_seeds_are_taken(tmp_path) -> None:
    silent = {"variant": "narrow", "half": "57575a000a", "tuned": "3333333333"}  # in fold 1 every image scores 0 or 1
    study = case(
        tmp_path,
        "base",
        silent,
        {"variant": "narrow", "seed": 1, "tuned": "4"},
        {"variant": "narrow", "seed": 2, "tuned": "6"},
        silent | {"seed": 3},
        {"variant": "fcn_same_parameters", "tuned": "7"},
    )
    assert (study.silent("narrow"), study.silent("fcn_same_parameters"), study.silent("base")) == ([1], [], [])
    assert [record.seed for record in study.not_silent("narrow")] == [1, 2]
    gain, sigma = study.gain_over("fcn_same_parameters", study.not_silent("narrow"))
    assert gain == pytest.approx((0.2,) * 3)
    assert sigma == pytest.approx(0.1)  # 0.4 and 0.6: deviation 0.1414, of their mean 0.1
    assert study.training_noise(TUNED) is None  # nothing else is left to judge it by
    where = "at 0.5 nothing at all is marked by `narrow` in fold 1"
    assert f"void, since {where}" in document.answers(study, ["fcn_same_parameters"])
    table = document.verdicts(study, ["fcn_same_parameters"])
    assert ("| `fcn_same_parameters` (void) |" in table, table.endswith(f"*Void: {where}.*")) == (True, True)
    assert case(tmp_path / "wrong", {"half": "5555500000"}).silent("base") == []  # all wrong, but something is marked
    assert study.noise is None  # seeds of narrow alone say nothing about base


def test_verdicts_in_words() -> None:
    assert verdict(MeanInterval(-0.031, -0.04, -0.02)) == "worse by 0.031 [−0.040, −0.020]"
    assert verdict(MeanInterval(0.0125, 0.004, 0.02)) == "better by 0.013 [+0.004, +0.020]"
    assert verdict(MeanInterval(0.002, -0.01, 0.013)) == "no detectable difference: +0.002 [−0.010, +0.013]"
    assert verdict(MeanInterval(0.01, 0.0, 0.02)).startswith("no detectable difference")  # zero is in the interval
    assert verdict(None).startswith("not compared")
    # Twice the root of the squares of both noises, 0.01 / 1.96 = 0.0051 over images: 0.0336 and 0.0298.
    gain = MeanInterval(-0.03, -0.04, -0.02)
    assert verdict(gain, 0.016) == "lower by 0.030 [−0.040, −0.020], within the noise between trainings"
    assert verdict(gain, 0.014) == "worse by 0.030 [−0.040, −0.020]"
    assert (signed(-0.0314), signed(0.5, 1)) == ("−0.031", "+0.5")
    assert (document.percent(0.1234), document.percent(float("nan"))) == ("12.3 %", "–")
    assert (pixels.price(1 / 3), pixels.price(10.0)) == ("1/3", "10")


def test_what_is_missing_is_named_and_what_the_budget_never_trains_is_not_called_missing(tmp_path) -> None:
    study = case(tmp_path, "base", budget="gpu")
    assert study.lacking(["base", "images_half", "images_double"]) == ["images_half"]
    assert document.missing(study, ["base"]) == ""
    assert document.missing(study, ["base", "images_half", "images_double"]) == (
        "*Not measured yet: `images_half`.* *Not part of the budget `gpu`, which has too few images: `images_double`.*"
    )


def test_records_that_do_not_serve_are_refused(tmp_path) -> None:
    of = case_sweep(tmp_path)
    for made, message in (
        (case_record(of, "add"), r"no record of base in .*; train it with: .* --data fake --budget cpu --only base$"),
        (record(of), r"base-0.json: no folds in it; remove it and rerun: saltseg study case_study --data fake"),
        (case_record(of, changed={"totals": {}}), r"base-0.json: \S+ .*thresholds.*; remove it and rerun"),
        (case_record(of, changed={"curves": []}), "base-0.json: its scores, folds and counts do not belong together"),
        (case_record(of, changed={"image_folds": "00"}), "base-0.json: its scores, folds and counts do not belong"),
        (case_record(of, changed={"train": {"pixel_accuracy": 2}}), r"base-0.json: train\.\S+ "),
    ):
        write(of, made)
        with pytest.raises(InputError, match=message) as refused:
            results.read(of)
        assert "\n" not in str(refused.value)

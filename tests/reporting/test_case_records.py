"""Records of the case study: what does not serve is refused, and each variant is paired with its partner by seed."""

import pytest
from fake_records import entry, read

from saltseg import studies
from saltseg.errors import InputError
from saltseg.reporting import case_tables


def test_gains_are_paired_with_base_or_with_the_narrow_network(tmp_path) -> None:
    study = read(
        tmp_path,
        entry(half="7", fitted="9"),
        entry("no_skips", half="5", fitted="a"),
        entry("narrow", half="4", fitted="4"),
        entry("fcn_same_parameters", half="6", fitted="3"),
        entry("fcn_same_operations", half="6", fitted="3"),
    )
    gains = {name: (study.gain_at_half(name), worth.gain_cross_fitted) for name, worth in study.worth.items()}
    assert gains["base"] == (None, None)
    # the same difference in every image, hence intervals of no width
    assert gains["no_skips"] == (pytest.approx((-0.2,) * 3), pytest.approx((0.1,) * 3))
    assert gains["narrow"] == (pytest.approx((-0.3,) * 3), pytest.approx((-0.5,) * 3))
    assert gains["fcn_same_parameters"] == (pytest.approx((0.2,) * 3), pytest.approx((-0.1,) * 3))
    assert gains["fcn_same_operations"] == (pytest.approx((-0.1,) * 3), pytest.approx((-0.6,) * 3))
    assert list(study.records) == [name for name in studies.VARIANTS if name in gains]
    assert case_tables.answers(study, ["base", "no_skips", "add", "fcn_same_parameters"]).splitlines() == [
        "- `no_skips` against `base`: with the tuned rule better by 0.100 [+0.100, +0.100]; at 0.5 worse by 0.200 "
        "[−0.200, −0.200]",
        "- `fcn_same_parameters` against `narrow`: with the tuned rule worse by 0.100 [−0.100, −0.100]; at 0.5 better "
        "by 0.200 [+0.200, +0.200]",
    ]


def test_gains_are_taken_seed_by_seed_and_averaged_over_shared_seeds(tmp_path) -> None:
    study = read(
        tmp_path,
        entry(seed=0, fitted="2"),
        entry(seed=1, fitted="8"),
        entry("add", seed=0, fitted="4"),
        entry("add", seed=1, fitted="7"),
        entry("add", seed=5, fitted="0"),  # base has no such seed
        entry("max", seed=5, fitted="0"),
    )
    assert study.worth["add"].gain_cross_fitted == pytest.approx((0.05,) * 3)  # (0.2 - 0.1) / 2
    assert study.worth["add"].by_seed == pytest.approx((0.2, -0.1))
    assert study.worth["add"].cross_fitted == pytest.approx(0.55)
    assert study.worth["max"].gain_cross_fitted is None
    assert study.worth["max"].lever == "max"
    assert "not compared" in case_tables.answers(study, ["max"])
    # gains 0.2 and -0.1: variance 0.045; the mean of two has its root over √2
    assert study.sigma("add") == pytest.approx((0.045 / 2) ** 0.5)
    assert case_tables.answers(study, ["add"], brief=True).endswith(
        "higher by 0.050 [+0.050, +0.050], within the noise between trainings"
    )


def test_the_interval_is_over_images(tmp_path) -> None:
    """Half of the images gain 0.4, half nothing: the mean of ten draws lies within 0.08 and 0.32 in 95 of 100."""
    study = read(tmp_path, entry(half="0"), entry("add", half="4040404040"))
    gain, low, high = study.gain_at_half("add")
    assert gain == pytest.approx(0.2)
    assert low == pytest.approx(0.08, abs=1e-9)
    assert high == pytest.approx(0.32, abs=1e-9)


def test_what_the_tuned_rule_gives(tmp_path) -> None:
    study = read(tmp_path, entry(half="4", fitted="7"), entry(seed=1, half="4", fitted="5"))
    assert study.gain_of_tuned_rule() == pytest.approx((0.2,) * 3)


def test_means_over_seeds(tmp_path) -> None:
    sides = {
        "train": {"pixel_accuracy": 0.97, "score_at_half": 0.8},
        "valid": {"pixel_accuracy": 1, "score_at_half": 0.5},
    }
    study = read(tmp_path, entry(), entry(seed=1, milliseconds=2.5, **sides))
    assert study.mean("base", "milliseconds") == pytest.approx(2.0)
    assert study.side("base", "train") == pytest.approx((0.96, 0.75))
    assert study.side("base", "valid") == pytest.approx((0.95, 0.55))
    assert study.gap("base") == pytest.approx(0.2)


def test_what_the_budget_has_no_images_for_is_not_lacking(tmp_path) -> None:
    study = read(tmp_path / "gpu", entry(budget="gpu"), budget="gpu")
    assert study.lacking(["base", "images_half", "images_double"]) == ["images_half"]
    assert read(tmp_path / "cpu", entry()).lacking(["base", "images_double"]) == ["images_double"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], r"no records in .*; make them with: python scripts/study.py --data fake --budget cpu$"),
        ([entry("add")], r"no record of 'base' .* --budget cpu --only base$"),
        ([{"variant": "base", "seed": 0}], "lacks 'budget'; delete it and run again: python scripts/study.py"),
        ([entry(variant="add") | {"variant": "ad"}], "unknown variant 'ad'; did you mean add"),
        ([entry(budget="gpu")], "base-0 .* is of budget 'gpu'"),
        ([entry(), entry("add", changes=["model.skip: concat → sum"])], "add-0 .* not what studies.py says now"),
        ([entry(), entry("add", n=9)], "base-0 was judged on 10 images of folds .*, add on 9"),
        ([entry(), entry("add", folds=[0])], r"judged on 10 images of folds \[0, 1\], add on 10 of \[0\]"),
        ([entry(), entry("add", dataset_hash="00")], "records differ in dataset_hash"),
        ([entry(), entry("fcn_same_parameters", dataset_hash="00")], "records differ in dataset_hash"),  # no partner
        ([entry(), entry("max", seed=1, device="gpu")], r"max-1: records differ in device \(cpu, gpu\)"),
    ],
)
def test_records_that_do_not_serve_are_refused(tmp_path, entries, message) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, *entries)


FOLDS = {"image_folds": "0000011111"}


def test_the_noise_of_training_is_what_folds_disagree_by_beyond_what_images_explain(tmp_path) -> None:
    """Gains of 0.1 and 0.3 in every image of a fold: variance 0.02 of a fold's gain, 0.01 of their mean."""
    study = read(
        tmp_path,
        entry(**FOLDS),
        entry("add", fitted="6666688888", **FOLDS),
        entry("max", fitted="6666666666", **FOLDS),  # no disagreement
        entry("flip_tta", fitted="9999911111", **FOLDS),  # networks of base: no training of its own
        entry("plateau", fitted="9999911111", **FOLDS),  # its epochs are chosen
    )
    assert study.fold_gains("add") == pytest.approx((0.1, 0.3))
    assert study.training_noise("cross_fitted") == pytest.approx((0.01 / 2) ** 0.5)
    assert study.sigma("add") == study.training_noise("cross_fitted")
    assert study.sigma("flip_tta") is None
    assert "(by fold +0.100, +0.300)" in case_tables.answers(study, ["add"])
    assert case_tables.answers(study, ["max"], brief=True).endswith("within the noise between trainings")
    spread = read(tmp_path / "spread", entry(**FOLDS), entry("add", fitted="5555a5555a", **FOLDS))
    assert spread.training_noise("cross_fitted") == 0  # images explain more than the folds disagree by


def test_without_folds_in_the_records_nothing_is_said_of_training_noise(tmp_path) -> None:
    study = read(tmp_path, entry(), entry("add", fitted="6666688888"))
    assert (study.fold_gains("add"), study.training_noise("cross_fitted"), study.silent("add")) == ((), None, [])


def test_a_training_that_marks_nothing_makes_comparisons_void_and_other_seeds_are_taken(tmp_path) -> None:
    silent = {"half": "57575a000a", "fitted": "3333333333"}  # in fold 1 every image scores 0 or 1
    study = read(
        tmp_path,
        entry(**FOLDS),
        entry("narrow", **silent, **FOLDS),
        entry("narrow", seed=1, fitted="4444444444", **FOLDS),
        entry("narrow", seed=2, fitted="6666666666", **FOLDS),
        entry("narrow", seed=3, **silent, **FOLDS),
        entry("fcn_same_parameters", fitted="7777777777", **FOLDS),
    )
    assert study.silent("narrow") == [1]
    assert study.silent("fcn_same_parameters") == study.silent("base") == []
    assert study.gain_over_other_seeds("fcn_same_parameters") == pytest.approx((0.2,) * 3)
    assert study.training_noise("cross_fitted") is None  # nothing else is left to judge it by
    assert "void, since at 0.5 nothing at all is marked by `narrow` in fold 1" in case_tables.answers(
        study, ["fcn_same_parameters"]
    )
    assert study.noise is None  # seeds of narrow alone say nothing about base


def test_a_variant_without_its_partner_is_told_and_not_called_void(tmp_path) -> None:
    study = read(tmp_path, entry(**FOLDS), entry("fcn_same_parameters", **FOLDS))
    assert study.silent("narrow") == study.silent("fcn_same_parameters") == []
    assert "not compared" in case_tables.answers(study, ["fcn_same_parameters"])

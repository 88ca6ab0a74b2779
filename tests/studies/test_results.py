"""Records read and compared: pairs by seed and image, the order, the noise, refusals."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from study_records import record, sweep, write

from saltseg import io
from saltseg.errors import InputError
from saltseg.metrics.bootstrap import bootstrap_interval
from saltseg.studies import ablations, benchmark, records, results, self_training
from saltseg.studies.records import POSTPROCESSED, TUNED

PUBLISHED = Path(__file__).parents[2] / "output" / "published" / "studies"


def compared(of, *made, against=""):
    return results.compare_all(of, results.read(write(of, *made)), against)


def test_a_gain_is_paired_by_seed_and_image(tmp_path) -> None:
    of = sweep(tmp_path)
    base = [record(of, seed=0, tuned="05a5"), record(of, seed=1, tuned="25a3"), record(of, seed=2, tuned="9999")]
    better = [record(of, "focal", 1, tuned="65a5"), record(of, "focal", 0, tuned="35a8")]
    first, second = compared(of, *base, *(replace(one, passed=one.passed | {"score_at_half": None}) for one in better))
    assert (first.variant, first.reference, first.gain) == ("base", "", None)
    assert first.per_seed == pytest.approx((0.5, 0.5, 0.9))
    assert first.score(TUNED) == pytest.approx(1.9 / 3)
    gains = np.array([(0.3 - 0.0 + 0.6 - 0.2) / 2, 0.0, 0.0, (0.8 - 0.5 + 0.5 - 0.3) / 2])  # seed 2 has no partner
    assert second.gain == pytest.approx((gains.mean(), *bootstrap_interval(gains)))
    assert second.per_seed == pytest.approx((0.6 / 4, 0.6 / 4))
    assert second.gains[POSTPROCESSED] == second.gain  # of the same scores
    assert second.gains["score_at_half"] is None  # not recorded


def test_post_processed_scores_made_in_two_ways_are_not_compared(tmp_path) -> None:
    """Of an older record the steps were selected on all folds; the score with threshold and area is the same."""
    of = sweep(tmp_path)
    write(of, record(of), record(of, "focal", tuned="6", nested=True))
    gains = results.compare_all(of, results.read(of))[1].gains
    assert (gains[POSTPROCESSED], gains[TUNED].mean) == (None, pytest.approx(0.1))
    write(of, record(of, nested=True))
    assert results.compare_all(of, results.read(of))[1].gains[POSTPROCESSED].mean == pytest.approx(0.1)


def test_a_record_without_the_tuned_score_is_ranked_by_the_postprocessed_one(tmp_path) -> None:
    of = sweep(tmp_path)
    old = [replace(one, scores=one.scores | {TUNED: None}, passed=one.passed | {TUNED: None})
           for one in (record(of), record(of, "focal", tuned="7"))]  # fmt: skip
    base, focal = compared(of, *old)
    assert (focal.main, focal.per_seed, base.score(TUNED)) == (POSTPROCESSED, pytest.approx((0.2,)), None)


def test_the_base_comes_first_and_the_rest_best_first(tmp_path) -> None:
    of = sweep(tmp_path)
    made = [record(of, "focal", tuned="1"), record(of), record(of, "swa", tuned="9"), record(of, "dice", tuned="1")]
    assert [result.variant for result in compared(of, *made)] == ["base", "swa", "dice", "focal"]


def test_a_chain_keeps_its_order_and_each_stage_has_its_own_reference(tmp_path) -> None:
    of = sweep(tmp_path, benchmark.STUDY)
    made = [record(of, name, tuned=tuned) for name, tuned in (("longer", "9"), ("recipe", "8"), ("baseline", "2"))]
    found = [
        (result.variant, result.reference, result.gain and round(result.gain.mean, 6)) for result in compared(of, *made)
    ]
    assert found == [("baseline", "", None), ("recipe", "baseline", 0.6), ("longer", "recipe", 0.1)]


def test_shared_variants_are_read_from_the_study_that_trains_them(tmp_path) -> None:
    own, parent = sweep(tmp_path, self_training.STUDY), sweep(tmp_path, benchmark.STUDY)
    write(parent, record(parent, "baseline"), record(parent, "longer", tuned="4"))
    of_longer, confident = compared(own, record(own, "student1", tuned="6"), record(own, "confident", tuned="7"))[::2]
    assert own.record_path("longer", 0) == parent.record_path("longer", 0)
    assert (of_longer.variant, confident.gain.mean) == ("longer", pytest.approx(0.1))  # over student1


def test_another_variant_can_be_what_gains_are_measured_against(tmp_path) -> None:
    of = sweep(tmp_path)
    made = [
        record(of),
        record(of, "focal", tuned="6"),
        record(of, "focal", 1, tuned="8"),
        record(of, "dice", tuned="9"),
    ]
    found = compared(of, *made, record(of, "swa", 2, tuned="1"), record(of, seed=2, tuned="1"), against="focal")
    assert [(one.variant, one.per_seed) for one in found] == [
        ("focal", pytest.approx((0.6, 0.8))), ("dice", pytest.approx((0.3,))), ("base", pytest.approx((-0.1,))),
    ]  # fmt: skip  # swa shares no seed
    with pytest.raises(InputError, match="unknown variant with a record 'lovasz'"):
        results.compare_all(of, results.read(of), "lovasz")


def test_noise_is_the_pooled_standard_deviation_between_seeds(tmp_path) -> None:
    of = sweep(tmp_path)
    made = [record(of, tuned="4"), record(of, "focal", tuned="5"), record(of, "dice", tuned="4")]
    assert results.seed_noise(results.read(write(of, *made))) is None
    assert results.gain_noise(compared(of)) is None
    more = [record(of, seed=1, tuned="6"), record(of, "focal", 1, tuned="9"), record(of, "dice", 1, tuned="6")]
    # scores 4 6, 5 9, 4 6 tenths: squares 0.02 + 0.08 + 0.02 about their means, three degrees of freedom
    assert results.seed_noise(results.read(write(of, *more)), "base") == pytest.approx(0.2)
    # gains 0.1 and 0.3 of focal: squares 0.02; 0 and 0 of dice; two degrees of freedom
    assert results.gain_noise(compared(of)) == pytest.approx(0.1)
    of_variant = results.read(of)
    assert results.seed_noise(of_variant | {"base": of_variant["base"][:1]}, "base") is None  # others may be odd


def test_what_does_not_compare_is_refused_in_one_line(tmp_path) -> None:
    of = sweep(tmp_path)

    def refused(message: str, *made) -> None:
        with pytest.raises(InputError, match=message) as error:
            compared(of, record(of), *made)
        assert "\n" not in str(error.value)
        for path in of.folder.iterdir():
            path.unlink()

    with pytest.raises(InputError, match=r"no records in .*; train with: saltseg study ablations --data fake --budget"):
        results.compare_all(of, {})
    other = sweep(tmp_path, ablations.STUDY.with_base("recipe_lite0"))
    with pytest.raises(InputError, match="train with: saltseg study ablations --experiment recipe_lite0 --data fake"):
        results.compare_all(other, {})
    focal = record(of, "focal")
    refused("base and focal in .* differ in folds_hash", replace(focal, folds_hash="other"))
    refused("differ in device", replace(focal, device="gpu"))
    refused(r"differ in precision \(32, bf16\)", replace(focal, precision="bf16"))
    refused("differ in n ", replace(focal, n=1, passed=dict.fromkeys(focal.passed, "5")))
    settings = focal.settings | {"train.learning_rate": 0.5}
    refused(
        r"other settings than the study has now \(train.learning_rate: 0.5 → 0.0005\)",
        replace(focal, settings=settings),
    )
    refused("is the record of focal-0 of ablations on other; remove it", replace(focal, dataset="other"))
    io.write_json_lines(of.folder / "facol-0.json", {})
    refused("unknown variant 'facol'; did you mean focal")
    chain = sweep(tmp_path, benchmark.STUDY)
    write(
        chain,
        replace(record(chain, "longer"), created="2026-02-01"),
        replace(record(chain, "student1"), created="2026-01-01"),
    )
    with pytest.raises(InputError, match="student1 learned from an earlier training of longer than the one recorded"):
        results.read(chain)


def test_an_option_that_did_not_exist_had_its_defaults_effect_and_places_do_not_count(tmp_path) -> None:
    of = sweep(tmp_path, benchmark.STUDY)
    student = record(of, "student1")
    settings = {
        key: value for key, value in student.settings.items() if key not in ("pseudo.all_folds", "train.init_from")
    }
    of_today = write(of, replace(student, settings=settings | {"name": "x", "pseudo.teacher": "elsewhere"}))
    assert list(results.read(of_today)) == ["student1"]


def test_a_record_without_a_precision_is_in_float32_whatever_its_settings_say(tmp_path) -> None:
    of = write(sweep(tmp_path), record(sweep(tmp_path)))
    path = of.record_path("base", 0)
    entries = io.read_json(path)
    assert entries.pop("precision") == entries["settings"]["train.precision"] == "32"
    io.write_json_lines(path, entries | {"settings": entries["settings"] | {"train.precision": "auto"}})
    assert results.read(of)["base"][0].precision == "32"


def test_a_damaged_record_is_one_line(tmp_path) -> None:
    of = sweep(tmp_path)
    path = write(of, record(of)).record_path("base", 0)
    good = io.read_json(path)
    for changed, message in (
        ({"seed": "zero"}, r"base-0.json: seed is .zero.; .*; remove it and rerun the study"),
        ({"passed": {TUNED: "5x"}}, "passed.score_tuned_cv is .5x.; "),
        ({"n": 11}, r"holds scores of \[10\] images, not 11"),
        ({"more": 1}, "more is 1; "),
    ):
        io.write_json_lines(path, good | changed)
        with pytest.raises(InputError, match=message) as error:
            records.read(path)
        assert "\n" not in str(error.value)


def test_digits_are_tenths() -> None:
    assert records.to_digits(np.array([0, 0.1, 0.30000000000000004, 1.0])) == "013a"

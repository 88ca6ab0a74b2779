"""What the records say in words: verdicts, a line of the table, what is missing."""

from fake_records import ensemble, entry, read, steps

from saltseg import storage
from saltseg.reporting import case_pixels
from saltseg.reporting.case_tables import before_and_after, missing, percent, points, price, signed, table, verdict


def test_verdicts_in_words() -> None:
    assert verdict((-0.031, -0.04, -0.02)) == "worse by 0.031 [−0.040, −0.020]"
    assert verdict((0.0125, 0.004, 0.02)) == "better by 0.013 [+0.004, +0.020]"
    assert verdict((0.002, -0.01, 0.013)) == "no detectable difference: +0.002 [−0.010, +0.013]"
    assert verdict((0.01, 0.0, 0.02)).startswith("no detectable difference")  # zero is in the interval
    assert verdict((-0.01, -0.02, 0.0)).startswith("no detectable difference")
    assert verdict(None).startswith("not compared")


def test_a_gain_within_the_noise_between_trainings_is_said_to_be() -> None:
    """Twice the root of the squares of both noises, 0.01 / 1.96 = 0.0051 over images: 0.0336 and 0.0298."""
    assert verdict((-0.03, -0.04, -0.02), 0.016) == (
        "lower by 0.030 [−0.040, −0.020], within the noise between trainings"
    )
    assert verdict((-0.03, -0.04, -0.02), 0.014) == "worse by 0.030 [−0.040, −0.020]"
    assert "noise" not in verdict((0.0, -0.1, 0.1), 1.0)


def test_numbers_in_words() -> None:
    assert (signed(-0.0314), signed(0.5, 1)) == ("−0.031", "+0.5")
    assert points(-0.0123) == "−1.2 percentage points"
    assert (percent(0.1234), percent(float("nan"))) == ("12.3 %", "–")
    assert (price(1 / 3), price(10.0)) == ("1/3", "10")


def test_a_row_of_the_table(tmp_path) -> None:
    study = read(tmp_path, entry("narrow", half="4"), entry("fcn_same_parameters", half="6"), entry(half="7"))
    rows = table(study, ["base", "add", "fcn_same_parameters"]).splitlines()
    assert len(rows) == 4  # header, rule, base, one variant: nothing of what was not measured
    assert rows[2] == "| `base` | 0.2500 | 90.0 % | 0.700 |  | 0.500 |  | 1,000 | 0.002 | 1.50 | 6.0 | 1,234 |"
    assert rows[3].startswith("| `fcn_same_parameters` (against `narrow`) | 0.2500 | 90.0 % | 0.600 | +0.200 [+0.200,")
    assert missing(study, ["base", "add", "max"]) == "*Not measured yet: `add`, `max`.*"
    assert missing(study, ["base"]) == ""


def test_what_a_budget_never_trains_is_not_called_missing(tmp_path) -> None:
    study = read(tmp_path, entry(budget="gpu"), budget="gpu")
    assert missing(study, ["base", "images_half", "images_double"]) == (
        "*Not measured yet: `images_half`.* *Not part of the budget `gpu`, which has too few images: `images_double`.*"
    )


def test_errors_before_and_after_each_change(tmp_path) -> None:
    """flip_tta marks 30 pixels at 0.5, 24 of salt; the rule 20, 16 of them: base has such recalls at full precision.

    Of the 40 pixels that one network marks 10 are salt, of all 100 there are 40: 24 of salt come with 68 (`ensemble`).
    """
    better = {"thresholds": {"intersection": steps((200, 24)), "predicted": steps((0, 100), (200, 30)),
                             "missed": steps((200, 0), (255, 4)), "invented": steps((200, 3))}}  # fmt: skip
    storage.write_json(tmp_path / "ensemble.json", ensemble(together=ensemble()["together"] | better))
    study = read(tmp_path, entry(), entry("flip_tta", **better))
    curves = [case_pixels.pooled([part]) for part in (entry(), entry(**better), study.ensemble["alone"])]
    base, after, alone = (f"{case_pixels.calibration(curve).error:.4f}" for curve in curves)
    rows = before_and_after(study, ["base", "flip_tta", "add"]).splitlines()
    assert rows[2:] == [
        "| `flip_tta` | 100.0 % → 80.0 % | 50.0 % → 60.0 % | 85.7 % | 25.0 % → 0.0 % | 0.0 % → 50.0 % "
        f"| 0.8333 → 0.4800 | {base} → {after} |",
        "| one of 2 networks → their mean | 25.0 % → 80.0 % | 25.0 % → 60.0 % | 35.3 % | 75.0 % → 0.0 % "
        f"| 83.3 % → 50.0 % | 0.3938 → 0.4800 | {alone} → {after} |",
        "| tuned rule | 100.0 % → 80.0 % | 50.0 % → 40.0 % | 100.0 % | 25.0 % → 50.0 % | 0.0 % → 0.0 % "
        "| the same | the same |",
    ]


def test_seeds_that_only_one_of_both_has_are_left_out(tmp_path) -> None:
    other = {"thresholds": ensemble()["alone"]["thresholds"]}
    with_both = before_and_after(read(tmp_path, entry(), entry(seed=1, **other), entry("flip_tta")), ["flip_tta"])
    assert "| `flip_tta` | 100.0 % → 100.0 % | 50.0 % → 50.0 % |" in with_both

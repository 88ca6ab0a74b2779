"""The case study's document: pairing and words, thresholds, receptive fields by hand; what is missing is left out."""

import re
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from saltseg import runs, studies
from saltseg.data import competition, synthetic
from saltseg.errors import InputError
from saltseg.models.fcn import FullResolutionFCN
from saltseg.reporting import case_figures, case_study

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "docs" / "case_study.md.jinja"
N = 10


def steps(*values: tuple[int, int]) -> list[int]:
    """256 counts: each (last threshold, count) in turn, 0 above the last."""
    found = []
    for last, count in values:
        found += [count] * (last + 1 - len(found))
    return found + [0] * (256 - len(found))


def entry(variant="base", seed=0, half="5", fitted="5", budget="cpu", **changed):
    """A record as inference/study.py makes it, of ten images with 10 pixels each.

    half, fitted: tenths of an image, the same for all, or of each. 20 salt pixels have probability 200/255; 20 salt
    and 20 rock pixels 100/255; 40 rock pixels 0.
    """
    half, fitted = (digits * N if len(digits) == 1 else digits for digits in (half, fitted))
    mean = {name: sum(int(digit, 16) for digit in digits) / 100 for name, digits in (("h", half), ("f", fitted))}
    row = {"train_loss": 0.4, "valid_loss": 0.5, "learning_rate": 0.001}
    made = {
        "variant": variant, "budget": budget, "seed": seed, "changes": studies.changes(variant, budget),
        "folds": [0, 1], "dataset": "fake", "dataset_hash": "ab" * 32, "folds_hash": "cd" * 32, "n_train": 800, "n": N,
        "log_loss": 0.25, "at_half": mean["h"], "cross_fitted": mean["f"], "seconds_per_epoch": 6.0,
        "peak_memory_mb": 1234, "command": "python scripts/study.py", "git_commit": "0123456789abcdef",
        "machine": "Linux", "tenths_at_half": half, "tenths_cross_fitted": fitted, "pixel_accuracy": 0.9,
        "thresholds": {
            "intersection": steps((100, 40), (200, 20)),
            "predicted": steps((0, 100), (100, 60), (200, 20)),
            "missed": steps((100, 0), (200, 1), (255, 4)),
            "invented": steps((0, 6), (100, 3)),
        },
        "pixels": 100, "true_pixels": 40, "images_with_salt": 4,
        "boundary": {"distance": [-11, -2, -1, 1, 2, 11], "pixels": [100, 10, 10, 10, 10, 60],
                     "errors": [10, 2, 3, 4, 1, 0]},
        "parameters": 1000, "operations": 2_000_000, "milliseconds": 1.5,
        "curves": [[{"epoch": 2.0, **row}, {"epoch": 4.0, **row}]] * 2,
        "train": {"pixel_accuracy": 0.95, "score_at_half": 0.7}, "valid": {"pixel_accuracy": 0.9, "score_at_half": 0.6},
    }  # fmt: skip
    return made | changed


def read(folder, *entries, budget="cpu"):
    for made in entries:
        runs.write_json_lines(folder / f"{made['variant']}-{made['seed']}.json", made)
    return case_study.read(folder, "fake", budget)


# ---------------------------------------------------------------- words


def test_verdicts_in_words() -> None:
    assert case_study.verdict((-0.031, -0.04, -0.02)) == "worse by 0.031 [−0.040, −0.020]"
    assert case_study.verdict((0.0125, 0.004, 0.02)) == "better by 0.013 [+0.004, +0.020]"
    assert case_study.verdict((0.002, -0.01, 0.013)) == "no detectable difference: +0.002 [−0.010, +0.013]"
    assert case_study.verdict((0.01, 0.0, 0.02)).startswith("no detectable difference")  # zero is in the interval
    assert case_study.verdict((-0.01, -0.02, 0.0)).startswith("no detectable difference")
    assert case_study.verdict(None).startswith("not compared")


def test_a_gain_within_the_noise_between_seeds_is_said_to_be() -> None:
    assert case_study.verdict((-0.03, -0.04, -0.02), 0.016).endswith("], within two sigma of the noise between seeds")
    assert case_study.verdict((-0.03, -0.04, -0.02), 0.014).endswith("]")
    assert "sigma" not in case_study.verdict((0.0, -0.1, 0.1), 1.0)


# ---------------------------------------------------------------- pairing


def test_gains_are_paired_with_base_or_with_the_narrow_network(tmp_path) -> None:
    study = read(
        tmp_path,
        entry(half="7", fitted="9"),
        entry("no_skips", half="5", fitted="a"),
        entry("narrow", half="4", fitted="4"),
        entry("fcn_same_parameters", half="6", fitted="3"),
        entry("fcn_same_operations", half="6", fitted="3"),
    )
    gains = {name: (worth.gain_at_half, worth.gain_cross_fitted) for name, worth in study.worth.items()}
    assert gains["base"] == (None, None)
    # the same difference in every image, hence intervals of no width
    assert gains["no_skips"] == (pytest.approx((-0.2,) * 3), pytest.approx((0.1,) * 3))
    assert gains["narrow"] == (pytest.approx((-0.3,) * 3), pytest.approx((-0.5,) * 3))
    assert gains["fcn_same_parameters"] == (pytest.approx((0.2,) * 3), pytest.approx((-0.1,) * 3))
    assert gains["fcn_same_operations"] == (pytest.approx((-0.1,) * 3), pytest.approx((-0.6,) * 3))
    assert list(study.records) == [name for name in studies.VARIANTS if name in gains]
    assert case_study.answers(study, ["base", "no_skips", "add", "fcn_same_parameters"]).splitlines() == [
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
    assert "not compared" in case_study.answers(study, ["max"])
    # gains 0.2 and -0.1: variance 0.045; the mean of two has its root over √2
    assert study.sigma("add") == pytest.approx((0.045 / 2) ** 0.5)
    assert case_study.answers(study, ["add"], brief=True).endswith("better by 0.050 [+0.050, +0.050], within two sigma "
                                                                   "of the noise between seeds")  # fmt: skip


def test_the_interval_is_over_images(tmp_path) -> None:
    """Half of the images gain 0.4, half nothing: the mean of ten draws lies within 0.08 and 0.32 in 95 of 100."""
    study = read(tmp_path, entry(half="0"), entry("add", half="4040404040"))
    gain, low, high = study.worth["add"].gain_at_half
    assert gain == pytest.approx(0.2)
    assert low == pytest.approx(0.08, abs=1e-9)
    assert high == pytest.approx(0.32, abs=1e-9)


def test_what_the_tuned_rule_gives(tmp_path) -> None:
    study = read(tmp_path, entry(half="4", fitted="7"), entry(seed=1, half="4", fitted="5"))
    assert case_study.tuning(study) == pytest.approx((0.2,) * 3)


def test_a_row_of_the_table(tmp_path) -> None:
    study = read(tmp_path, entry("narrow", half="4"), entry("fcn_same_parameters", half="6"), entry(half="7"))
    rows = case_study.table(study, ["base", "add", "fcn_same_parameters"]).splitlines()
    assert len(rows) == 4  # header, rule, base, one variant: nothing of what was not measured
    assert rows[2] == "| `base` | 0.2500 | 90.0 % | 0.700 |  | 0.500 |  | 1,000 | 0.002 | 1.50 | 6.0 | 1,234 |"
    assert rows[3].startswith("| `fcn_same_parameters` (against `narrow`) | 0.2500 | 90.0 % | 0.600 | +0.200 [+0.200,")
    assert case_study.missing(study, ["base", "add", "max"]) == "*Not measured yet: `add`, `max`.*"
    assert case_study.missing(study, ["base"]) == ""


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
    ],
)
def test_records_that_do_not_serve_are_refused(tmp_path, entries, message) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, *entries)


# ---------------------------------------------------------------- thresholds, by hand (see `entry`)


@pytest.fixture
def curve(tmp_path):
    return case_study.curve(read(tmp_path, entry(), entry(seed=1)), "base")  # two seeds alike: the ratios of one


def test_precision_and_recall(curve) -> None:
    assert curve.precision[[0, 50, 150, 201]] == pytest.approx([0.4, 40 / 60, 1, 1])
    assert curve.recall[[0, 50, 150, 201]] == pytest.approx([1, 1, 0.5, 0])
    assert curve.missed_share[[50, 150, 255]] == pytest.approx([0, 0.25, 1])  # of 4 images with salt
    assert curve.invented_share[[0, 100, 101]] == pytest.approx([1, 0.5, 0])  # of 6 without
    assert (curve.pixels, curve.true_pixels, curve.with_salt, curve.without_salt) == (200, 80, 8, 12)
    assert curve.area == pytest.approx(0.5 * 40 / 60 + 0.5 * 1)


def test_precision_at_a_recall_between_two_thresholds_interpolates_counts(curve) -> None:
    assert curve.precision_at(1.0) == pytest.approx(40 / 60)
    assert curve.precision_at(0.5) == pytest.approx(1)
    # 30 of 40: the 20 above 100/255 and half of the 40 at it, of which half are salt; 0.83 between the precisions
    assert curve.precision_at(0.75) == pytest.approx(30 / 40)
    assert curve.precision_at(0.25) == pytest.approx(1)
    assert np.isnan(curve.precision_at(0.0))


def test_costs_and_the_cheapest_threshold(curve) -> None:
    # at 50: 20 of 100 pixels invented; at 150: 20 missed; at 0: 60 invented
    assert curve.cost(3.0)[[0, 50, 150]] == pytest.approx([600, 200, 600])
    assert curve.cost(0.1)[[50, 150, 201]] == pytest.approx([200, 20, 40])
    assert case_study.cheapest(curve, 3.0) == 64  # all of 1 … 100 cost the same; 255 / 4 = 63.75
    assert case_study.cheapest(curve, 0.1) == 200  # all of 101 … 200; 255 / 1.1 = 231.8


def test_calibration(curve) -> None:
    found = case_study.calibration(curve)
    assert found.pixels.tolist() == [80, 0, 0, 80, 0, 0, 0, 40, 0, 0]
    assert found.predicted[[0, 3, 7]] == pytest.approx([0, 100 / 255, 200 / 255])
    assert found.salt[[0, 3, 7]] == pytest.approx([0, 0.5, 1])
    assert np.isnan(found.salt[1])
    assert found.error == pytest.approx(0.4 * (0.5 - 100 / 255) + 0.2 * (1 - 200 / 255))


def test_bins_of_calibration_begin_at_whole_tenths(tmp_path) -> None:
    """A pixel at 25, 26, 229, 230 and 255 of 255: 0.098, 0.102, 0.898, 0.902 and 1."""
    ends = steps((25, 5), (26, 4), (229, 3), (230, 2), (255, 1))
    counts = entry()["thresholds"] | {"predicted": ends, "intersection": steps((255, 1))}
    found = case_study.calibration(case_study.curve(read(tmp_path, entry(thresholds=counts)), "base"))
    assert found.pixels.tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1, 2]
    assert found.salt[[8, 9]] == pytest.approx([0, 0.5])


def test_errors_near_and_far_from_the_boundary(tmp_path) -> None:
    found = case_study.by_distance(read(tmp_path, entry(), entry(seed=1)), "base")
    assert found.rate == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.1, 0])
    assert (found.near, found.far) == (pytest.approx(10 / 40), pytest.approx(10 / 160))
    assert found.near_of_all == pytest.approx(10 / 20)


# ---------------------------------------------------------------- networks


def conv(**options):
    return nn.Conv2d(1, 1, 3, padding=options.pop("padding", 1), **options)


@pytest.mark.parametrize(
    ("network", "field"),
    [
        (nn.Sequential(conv(), nn.BatchNorm2d(1), nn.ReLU(), conv()), 5),
        (nn.Sequential(conv(dilation=4, padding=4)), 9),
        # back from the output: 1 → the upsampling 1 → the convolution 3 → the pooling 6 → the convolution 8
        (nn.Sequential(conv(), nn.MaxPool2d(2), nn.Dropout(), conv(), nn.Upsample(scale_factor=2)), 8),
        # 1 → 3 at the half resolution, each a window of 3 that moves by 2: 3 + 2 + 2
        (nn.Sequential(conv(stride=2), conv(), nn.Upsample(scale_factor=2)), 7),
        # an odd output pixel has two sources, an even one has one: the largest counts
        (nn.Sequential(nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 3, 2, 1, 1)), 4),
        (FullResolutionFCN(1, 2, (1, 2, 4)), 15),
    ],
)
def test_receptive_fields_by_hand(network, field) -> None:
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert case_study.receptive_field(network, 64) == field
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())  # a copy was probed


def test_a_field_that_leaves_the_image_is_refused() -> None:
    with pytest.raises(InputError, match="reaches the edge of 40 pixels; give a larger size"):
        case_study.receptive_field(FullResolutionFCN(1, 1, (8, 8)), 40)


def test_facts_about_the_networks() -> None:
    """U-Net, back from the output, as wide as it gets: 1 → two convolutions 5 → up-convolution 4 (an odd start) → 8 →
    5 → 9 → 6 → 10 → 6 → 10; four times doubled and widened by two convolutions: 24, 52, 108, 220."""
    found = case_study.networks("cpu")
    assert (found.field, found.plain, found.dilated) == (220, 1 + 2 * 11, 1 + 2 * 48)
    assert (found.parameters, found.size) == (2_161_361, 64)
    assert found.gflop == pytest.approx(4.77 / 3, abs=0.01)  # forward alone, without backward
    assert found.equal_filters == 155
    # 9 products of 155 + 10 · 155² pairs and 155 of the head, each two operations, on every pixel
    fcn = 2 * (9 * (155 + 10 * 155**2) + 155)
    assert found.equal_operations == pytest.approx(fcn * 128 * 128 / (found.gflop * 1e9), rel=1e-6)


def test_shapes_are_those_of_the_network() -> None:
    found = case_study.shapes()
    assert [found[f"contract{level}"] for level in (1, 3, 5)] == [(16, 128, 128), (64, 32, 32), (256, 8, 8)]
    assert [found[name] for name in ("up6", "expand6", "expand9", "head")] == [
        (128, 16, 16), (128, 16, 16), (16, 128, 128), (1, 128, 128),
    ]  # fmt: skip


def test_the_transposed_convolution_adds_stamps() -> None:
    image, kernel, output = case_study.transposed()
    stamps = np.zeros((6, 6))
    for row, column in np.ndindex(2, 2):
        stamps[2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += image[row, column] * kernel
    np.testing.assert_allclose(output, stamps[1:5, 1:5])
    assert output.tolist()[0] == [4, 6, 8, 4]  # 4, between 4 and 8, 8, half of 8


# ---------------------------------------------------------------- the data


def test_aggregates_of_the_dataset_of_the_records_only(tmp_path) -> None:
    root = tmp_path / "fake"
    synthetic.write_dataset(root, n_train=30, n_test=1, seed=2)
    study = read(tmp_path / "a", entry(dataset_hash=competition.fingerprint(root)))
    found = case_study.read_dataset(root, study)
    masks, depths = competition.read_train(root).masks, competition.read_depths(root)
    assert found.coverage == pytest.approx(masks.mean(axis=(1, 2)))
    assert found.depth.tolist() == [depths[id_] for id_ in competition.train_ids(root)]
    assert (found.simulated, len(found.constant)) == (False, 30)
    (root / "source.json").write_text('{"source": "synthetic"}')  # as prepare_data.py leaves it
    assert case_study.read_dataset(root, study).simulated
    assert case_study.read_dataset(root, read(tmp_path / "b", entry())) is None  # other data
    assert case_study.read_dataset(tmp_path / "gone", study) is None
    (root / "depths.csv").unlink()
    assert case_study.read_dataset(root, study).depth is None


def test_salt_by_thirds_of_depth() -> None:
    depth = np.array([30, 10, 20, 60, 50, 40])
    coverage = np.array([0.5, 0.0, 0.1, 0.0, 0.0, 0.0])
    found = case_study.Dataset(coverage, np.zeros(6, bool), depth, False).thirds()
    assert found == [(10, 20, 0.5), (30, 40, 0.5), (50, 60, 0.0)]


# ---------------------------------------------------------------- the document


def links(text: str) -> list[str]:
    return re.findall(r"\(case_study/(\w+)\.png\)", text)


@pytest.fixture
def undrawn(monkeypatch):
    """Charts are made but not rendered."""
    for module in (case_figures, case_figures.gains):
        monkeypatch.setattr(module, "png", lambda figure: b"a picture")


def test_every_variant_is_told_and_every_picture_is_shown_once(tmp_path, undrawn) -> None:
    study = read(tmp_path, *(entry(variant) for variant in studies.VARIANTS))
    dataset = case_study.Dataset(np.linspace(0, 1, 11), np.zeros(11, bool), np.arange(11), True)
    pictures = case_figures.draw(study, dataset)
    text = case_study.render(study, dataset, pictures, TEMPLATE)
    assert sorted(links(text)) == sorted(pictures)
    assert "Not measured yet" not in text
    assert "They do not hold the noise between trainings with different seeds" in text
    assert all(f"| `{variant}` |" in text for variant in studies.VARIANTS)
    assert text.count("no detectable difference: +0.000 [+0.000, +0.000]") > 40
    assert "of one seed" in text
    assert "**45 times its operations**" in text
    assert "\n\n\n" not in text
    assert not re.search(r"nan|None|Undefined|\{\{|\{%", text)


def test_two_records_make_a_document_that_says_what_is_missing(tmp_path, undrawn) -> None:
    study = read(tmp_path, entry(), entry("no_skips", half="3"))
    pictures = case_figures.draw(study, None)
    text = case_study.render(study, None, pictures, TEMPLATE)
    assert sorted(links(text)) == sorted(pictures)
    assert {"coverage", "depth", "pooling_gains", "improve_gains", "images", "operations"} & set(pictures) == set()
    assert "*Not measured yet: `strided_conv`, `average_pool`.*" in text
    assert "*Not measured yet: `add`, `max`, `min`.*" in text
    assert "at 0.5 worse by 0.200 [−0.200, −0.200]" in text
    assert "| `add` |" not in text
    assert "the data of these records was not in `input/fake`" in text
    assert not re.search(r"nan|None|Undefined|\{\{|\{%", text)


def test_no_result_is_typed_into_the_template() -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    prose = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", "", text, flags=re.DOTALL)
    assert set(re.findall(r"\d+\.\d+", prose)) <= {"0.50", "0.55", "0.95", "0.5", "0.7", "5.1", "5.2", "5.3", "5.4"}
    assert not re.search(r"\d\s*%|\d,\d{3}", prose.replace("[95 %]", ""))


# ---------------------------------------------------------------- pictures


@pytest.fixture
def figure(monkeypatch):
    """Figures instead of PNG bytes."""
    monkeypatch.setattr(case_figures, "png", lambda figure: figure)


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def test_the_gap_is_from_validation_to_training(tmp_path, figure) -> None:
    axes = case_figures.gap(read(tmp_path, entry()), ["base"]).axes[0]
    found = lines(axes)
    assert found["training images"].tolist() == [[0.7, 0]]
    assert found["validation images"].tolist() == [[0.6, 0]]
    assert [text.get_text() for text in axes.texts] == ["+0.100"]


def test_the_learning_curve_is_in_the_order_of_images(tmp_path, figure) -> None:
    study = read(tmp_path, entry(n_train=800, fitted="6"), entry("images_double", n_train=1600, fitted="7"),
                 entry("images_half", n_train=400, fitted="3"))  # fmt: skip
    axes = case_figures.images(study, ["images_double", "images_half", "base"]).axes[0]
    assert lines(axes)["validation, tuned rule"].tolist() == [[400, 0.3], [800, 0.6], [1600, 0.7]]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["400", "800", "1,600"]


def test_errors_are_drawn_on_their_side_of_the_boundary(tmp_path, figure) -> None:
    axes = case_figures.boundary(read(tmp_path, entry()), ["base"]).axes[0]
    expected = [[-10.5, 0.1], [-1.5, 0.2], [-0.5, 0.3], [0.5, 0.4], [1.5, 0.1], [10.5, 0]]
    assert lines(axes)["base"] == pytest.approx(np.array(expected))


def test_marks_of_cheapest_and_of_theory(curve, figure) -> None:
    axes = case_figures.costs(curve).axes[0]
    dots = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "o"]
    crosses = [line.get_xydata()[0] for line in axes.lines if line.get_marker() == "x"]
    assert dots[3] == pytest.approx([64 / 255, 200])  # missed salt costs 3
    assert crosses[0] == pytest.approx([232 / 255, 40])  # missed salt costs 1/10: nothing is marked at 232


def test_training_is_dashed_and_validation_solid(figure) -> None:
    losses, rates = case_figures.training_curves(entry()).axes
    style = {tuple(line.get_ydata()): line.get_linestyle() for line in losses.lines}
    assert style == {(0.4, 0.4): "--", (0.5, 0.5): "-"}
    assert [line.get_xydata().tolist() for line in rates.lines] == [[[2, 0.001], [4, 0.001]]] * 2


def test_examples_are_of_their_kind() -> None:
    assert len(case_figures.examples()) == len(case_figures.KINDS)
    for tile, (_, low, high) in zip(case_figures.examples(), case_figures.KINDS, strict=True):
        assert low <= tile.mask.mean() <= high
        assert tile.image.any()


def test_the_diagram_says_the_sizes_of_every_level(figure) -> None:
    texts = {text.get_text() for text in case_figures.diagram().axes[0].texts}
    assert {"16 × 128 × 128", "32 × 64 × 64", "64 × 32 × 32", "128 × 16 × 16", "256 × 8 × 8"} <= texts
    assert "copy: 128 + 128 channels" in texts


# ---------------------------------------------------------------- the script


@pytest.fixture
def script(monkeypatch, tmp_path):
    """`script(*arguments)`: the program as a user runs it in an empty folder; returns its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> int:
        path = str(ROOT / "scripts" / "case_study.py")
        monkeypatch.setattr(sys, "argv", [path, *arguments])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(path, run_name="__main__")
        return left.value.code

    return run


def test_without_records_one_line_says_what_to_run(tmp_path, script, capsys) -> None:
    assert script("--data", "fake") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "make them with: python scripts/study.py --data fake --budget cpu" in said
    assert script("--data", "../fake") == 2
    assert "use letters, digits" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_script_writes_the_document_and_its_pictures(tmp_path, script, capsys) -> None:
    read(tmp_path / "output" / "published" / "study" / "fake-cpu", entry(), entry("no_skips", half="3"))
    assert script("--data", "fake", "--to", "pages") == 0
    assert capsys.readouterr().out.endswith("next: python scripts/study.py --data fake --budget cpu\n")
    text = (tmp_path / "pages" / "case_study.md").read_text(encoding="utf-8")
    assert sorted(links(text)) == sorted(path.stem for path in (tmp_path / "pages" / "case_study").iterdir())
    for name in links(text):
        assert cv2.imread(str(tmp_path / "pages" / "case_study" / f"{name}.png")).shape[1] == 1080

"""The document: whole, with parts missing, its tables by hand; the dataset and the predicted tiles in it."""

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from receptive_field import receptive_field
from study_records import N, case, case_record, case_sweep, details, ensemble, predicted_tiles, steps, write
from torch import nn

from saltseg import io
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.models import zoo
from saltseg.models.fcn import FullResolutionFCN
from saltseg.models.unet import UNet
from saltseg.reporting import plots
from saltseg.studies import charts
from saltseg.studies.case_study import data, document, measure, pixels, variants
from saltseg.studies.case_study.data import Dataset
from saltseg.studies.records import TUNED
from saltseg.synthetic.dataset import write_dataset

PAGE = (Path(__file__).parents[2] / "docs" / "explanation" / "case_study.md").read_text(encoding="utf-8")
PROSE = re.sub(r"<!-- records: .*?<!-- end -->", "", PAGE, flags=re.DOTALL)


def links(text: str) -> list[str]:
    return re.findall(r"\(case_study/(\w+)\.png\)", text)


def text_of(*arguments) -> str:
    return "\n\n".join(document.blocks(*arguments).values())


@pytest.fixture
def undrawn(monkeypatch) -> None:
    """Charts are made but not rendered."""
    for module in (document, charts, plots):
        monkeypatch.setattr(module, "png", lambda figure: b"a picture")


def test_every_variant_is_in_the_blocks_and_every_picture_once(tmp_path, undrawn) -> None:
    predicted_tiles(case_sweep(tmp_path))
    study = case(tmp_path, *variants.VARIANTS)
    dataset = Dataset(np.linspace(0, 1, 11), np.zeros(11, bool), np.arange(11), True)
    tiles = data.read_tiles(study)
    pictures = document.draw(study, dataset, tiles)
    text = text_of(study, dataset, tiles, pictures)
    assert (sorted(links(text)), len(pictures)) == (sorted(pictures), 17)
    assert "Not measured yet" not in text
    assert all(f"| `{variant}` |" in text for variant in variants.VARIANTS)
    assert text.count("no detectable difference: +0.000 [+0.000, +0.000]") > 40
    assert "\n\n\n" not in text
    assert not re.search(r"nan|None|Undefined|\{\{|\{%", text)


def test_two_records_make_blocks_that_say_what_is_missing(tmp_path, undrawn) -> None:
    study = case(tmp_path, "base", {"variant": "no_skips", "half": "3", "commit": None})
    pictures = document.draw(study, None, [])
    text = text_of(study, None, [], pictures)
    assert sorted(links(text)) == sorted(pictures)
    left_out = {"coverage", "depth", "pooling_gains", "improve_gains", "images", "operations", "plateau", "predicted"}
    assert left_out & set(pictures) == set()
    for names in ("`plateau`", "`strided_conv`, `average_pool`", "`add`, `max`, `min`"):
        assert f"*Not measured yet: {names}.*" in text
    assert "| `no_skips` | `base` | worse by 0.200 [−0.200, −0.200] |" in text
    assert "| `add` |" not in text
    assert "the data of these records was not in `input/fake`" in text
    assert "| commits | 0123456789ab, not recorded |" in text
    assert not re.search(r"nan|None|Undefined|\{\{|\{%", text)


def test_a_larger_budget_answers_for_what_it_compares_and_the_smaller_one_for_the_rest(tmp_path, undrawn) -> None:
    large = case_sweep(tmp_path, "cpu_full")
    tuned = {"base": "5", "strided_conv": "5", "average_pool": "6", "add": "7", "fcn_same_parameters": "9"}
    write(large, *(case_record(large, name, half="8", tuned=score) for name, score in tuned.items()))
    small = (name for name in variants.VARIANTS if name != "average_pool")
    study = case(tmp_path, *({"variant": name, "tuned": "4" if name == "narrow" else "5"} for name in small))
    text = document.blocks(study, None, [], document.draw(study, None, []))
    own, full = "udget `cpu`, 800 training images per fold, resized to 64x64", "udget `cpu_full`, 800 training images"
    assert (own in text["about"], full in text["about"]) == (True, True)
    # Pooling: all of the larger budget, whose base scores 0.8 at 0.5. `average_pool` is missing in the smaller one.
    assert (text["pooling"].count(full), own in text["pooling"]) == (2, False)  # table and figure
    assert text["pooling"].count("| `base` | 0.2500 | 90.0 % | 0.800 |") == 1
    assert "Not measured" not in text["pooling"] + text["about"]
    # Skips: one of them, the other three with a base of their own; the figures need all, so they are of the smaller.
    assert [text["skips"].count(row) for row in ("0.800 |", "| 0.500 | 0.500 | 0.500 |")] == [2, 4]
    assert text["skips"].index("| `add` |") < text["skips"].index("| `no_skips` |")
    assert (own in text["boundary"], full in text["boundary"]) == (True, False)
    # The larger `fcn_same_parameters` has no `narrow` to be compared with: the smaller budget answers.
    assert (full in text["necessary"], "| 0.900 |" in text["necessary"]) == (False, False)
    assert (
        "- `fcn_same_parameters` against `narrow`: better by 0.100 [+0.100, +0.100] (budget `cpu`)" in text["in_short"]
    )
    assert "- `add` against `base`: better by 0.200 [+0.200, +0.200] (budget `cpu_full`)\n" in text["in_short"]
    assert (
        "- `max` against `base`: no detectable difference: +0.000 [+0.000, +0.000] (budget `cpu`)" in text["in_short"]
    )
    assert text["method"].count("| command | `saltseg study case_study --data fake --budget cpu") == 2
    assert "| `average_pool` | `model.down: max_pool → average_pool` |" in text["method"]
    assert study.lacking(list(variants.VARIANTS)) == []
    assert not re.search(r"nan|None|Undefined|\{\{|\{%", "".join(text.values()))


def test_what_a_variant_is_compared_with_stands_beside_it(tmp_path) -> None:
    """`narrow` is finished in the larger budget, what is compared with it is not: the smaller part shows both."""
    large = case_sweep(tmp_path, "cpu_full")
    write(large, *(case_record(large, name) for name in ("base", "narrow")))
    study = case(tmp_path, "base", "narrow", "fcn_same_parameters")
    parts = study.parts(variants.NECESSARY)
    assert [(part.sweep.budget_name, names) for part, names in parts] == [
        ("cpu_full", ["base", "narrow"]),
        ("cpu", ["narrow", "fcn_same_parameters"]),
    ]


def test_a_larger_budget_that_compares_nothing_or_other_data_is_not_used(tmp_path) -> None:
    large = case_sweep(tmp_path, "cpu_full")
    write(large, case_record(large, "max"))
    assert case(tmp_path, "base", "add").larger is None  # not even a base
    large.record_path("max", 0).unlink()
    write(large, case_record(large))
    assert case(tmp_path, "base", "add").larger is None
    write(large, case_record(large, "add"))
    study = case(tmp_path, "base", "add")
    assert [part.sweep.budget_name for part, _ in study.parts(variants.SKIPS)] == ["cpu_full"]
    odd = case(tmp_path, "base", "add", {"variant": "min", "seed": 7})
    assert "| `min` | `base` | not compared: no training" in document.compared(odd, variants.SKIPS)
    write(large, case_record(large, dataset_hash="ef" * 32), case_record(large, "add", dataset_hash="ef" * 32))
    with pytest.raises(InputError, match="cpu and cpu_full differ in dataset_hash; remove those of one and rerun"):
        case(tmp_path, "base", "add")


def test_few_variants_of_the_larger_budget_do_not_hide_the_noise_between_trainings(tmp_path) -> None:
    """In the smaller budget the folds disagree by a lot, in the larger one by nothing: a gain of 0.1 stays doubtful."""
    large = case_sweep(tmp_path, "cpu_full")
    write(large, case_record(large), case_record(large, "add", tuned="6"))
    study = case(tmp_path, "base", {"variant": "max", "tuned": "99999" + "11111"})
    assert study.larger.training_noise(TUNED) == 0
    assert study.larger.sigma("add") == study.training_noise(TUNED) > 0.2
    assert "higher by 0.100 [+0.100, +0.100], within the noise" in document.all_answers(study, ["base", "add"])


def test_the_mean_of_folds_is_told_where_it_was_measured(tmp_path, undrawn) -> None:
    without = text_of(case(tmp_path, "base"), None, [], [])
    assert "their mean |" not in without
    study = case(tmp_path, {"changed": {"ensemble": ensemble()}})
    text = text_of(study, None, [], [])
    assert "| one of 2 networks → their mean | 25.0 % → 100.0 % | 25.0 % → 50.0 % |" in text
    assert "1,629 images that trained none of them (1,371 trained one or more, 800 each)" in text
    assert "at 0.5 0.640 against 0.600, better by 0.040 [+0.010, +0.070];" in text
    assert text.count("no detectable difference: +0.040 [−0.010, +0.070]") == 1


def test_blocks_are_filled_into_their_places_and_others_added() -> None:
    page = "a\n<!-- records: one -->\nold\n<!-- end -->\nb\n"
    once = document.fill(page, {"one": "new\\1", "two_more": "c"})
    assert once == (
        "a\n<!-- records: one -->\nnew\\1\n<!-- end -->\nb\n"
        "\n## Two more\n\n<!-- records: two_more -->\nc\n<!-- end -->\n"
    )
    assert document.fill(once, {"one": "new\\1", "two_more": "c"}) == once


@pytest.mark.parametrize("name", ["one", "two"])
def test_prose_below_a_block_that_does_not_end_is_not_deleted(name: str) -> None:
    blocks = {one: f"<!-- records: {one} -->\nold\n<!-- end -->\nprose\n" for one in ("one", "two")}
    document.fill("".join(blocks.values()), {"one": "new"})
    page = "".join({**blocks, name: blocks[name].replace("<!-- end -->\n", "")}.values())
    for found in ("one", "two", "three"):
        with pytest.raises(InputError, match=rf"records: {name} --> has no <!-- end -->.*; add that line"):
            document.fill(page, {found: "new"})


def test_no_result_is_typed_into_the_page_but_facts_about_the_networks() -> None:
    definitions = {"0.50", "0.55", "0.95", "0.5", "0.7", "0.05", "0.1", "0.2", "0.001", "0.00001", "1.59"}
    definitions |= {"5.1", "5.2", "5.3", "5.4"}
    assert set(re.findall(r"\d+\.\d+", PROSE)) <= definitions
    assert not re.search(r"\d\s*%", PROSE.replace("95 % bootstrap interval", ""))
    assert set(re.findall(r"\d+(?:,\d{3})+", PROSE)) == {"2,161,361", "268,435,456"}


def test_facts_about_the_networks_are_true() -> None:
    """U-Net, back from the output, as wide as it gets: 1 → two convolutions 5 → up-convolution 4 (an odd start) → 8 →
    5 → 9 → 6 → 10 → 6 → 10; four times doubled and widened by two convolutions: 24, 52, 108, 220."""
    unet, dilations = UNet(), variants.DILATED["model.dilations"]
    assert zoo.parameters(unet) == 2_161_361
    assert measure.operations(unet, torch.zeros(1, 1, 128, 128)) / 1e9 == pytest.approx(1.59, abs=0.005)
    assert receptive_field(UNet(filters=1), 256) == 220
    assert [receptive_field(FullResolutionFCN(1, 1, every), 128) for every in ((1,) * 11, dilations)] == [23, 97]
    assert ("220x220" in PROSE, "full resolution 23, dilated 97 pixels" in PROSE) == (True, True)
    fcn = FullResolutionFCN(1, 155, (1,) * 11)
    assert zoo.parameters(fcn) == pytest.approx(2_161_361, rel=0.005)
    small = torch.zeros(1, 1, 32, 32)
    assert measure.operations(fcn, small) / measure.operations(unet, small) == pytest.approx(45, abs=0.5)
    assert ("155 filters" in PROSE, "**45 times" in PROSE, 256 * 8 * 8 * 128**2) == (True, True, 268_435_456)


def conv(**options):
    return nn.Conv2d(1, 1, 3, padding=options.pop("padding", 1), **options)


@pytest.mark.parametrize(
    ("network", "field"),
    [
        (nn.Sequential(conv(), nn.BatchNorm2d(1), nn.ReLU(), conv()), 5),
        (nn.Sequential(conv(dilation=4, padding=4)), 9),
        # back from the output: 1 → the upsampling 1 → the convolution 3 → the pooling 6 → the convolution 8
        (nn.Sequential(conv(), nn.MaxPool2d(2), nn.Dropout(), conv(), nn.Upsample(scale_factor=2)), 8),
        # an odd output pixel has two sources, an even one has one: the largest counts
        (nn.Sequential(nn.AvgPool2d(2), nn.ConvTranspose2d(1, 1, 3, 2, 1, 1)), 4),
    ],
)
def test_receptive_fields_by_hand(network, field) -> None:
    assert receptive_field(network, 64) == field


def test_a_row_of_the_table(tmp_path) -> None:
    study = case(
        tmp_path, {"half": "7"}, {"variant": "narrow", "half": "4"}, {"variant": "fcn_same_parameters", "half": "6"}
    )
    rows = document.table(study, ["base", "add", "fcn_same_parameters"]).splitlines()
    assert len(rows) == 4  # header, rule, base, one variant: nothing of what was not measured
    assert rows[2] == "| `base` | 0.2500 | 90.0 % | 0.700 | 0.500 | 0.500 | 1,000 | 0.002 | 6.0 | 1,234 |"
    assert rows[3].startswith("| `fcn_same_parameters` | 0.2500 | 90.0 % | 0.600 | 0.500 | 0.500 | 1,000 |")


def test_variants_are_compared_with_all_trainings_of_base_too(tmp_path) -> None:
    """Tuned 0.4 and 0.8, deviation 0.283: the noise of a gain is 0.4."""
    tuned = (("base", 0, "4"), ("base", 1, "8"), ("add", 0, "5"))
    study = case(tmp_path, *({"variant": name, "seed": seed, "tuned": score} for name, seed, score in tuned))
    assert study.gain_noise(TUNED) == pytest.approx(0.4)
    text = document.compared(study, variants.SKIPS)
    assert "| `base` | 0.2500 | 90.0 % | 0.500 (0.500, 0.500) | 0.600 (0.400, 0.800) | 0.600 (0.400, 0.800) |" in text
    assert "| `add` | `base` | no detectable difference: +0.000 [+0.000, +0.000] | higher by 0.100" in text
    _, _, over_both = text.partition("Against the mean of the 2 trainings of `base`, image by image:")
    assert "| `add` | no detectable difference: +0.000 [+0.000, +0.000] | lower by 0.100 [−0.100, −0.100]," in over_both
    alone = case(tmp_path / "alone", "base", "add")
    assert "Against the mean" not in document.compared(alone, variants.SKIPS)


def test_networks_of_the_narrow_one_s_parameters_are_compared_with_base_and_with_its_other_seeds_too(tmp_path) -> None:
    rival, silent = {"variant": "fcn_same_parameters", "tuned": "7"}, {"variant": "narrow", "half": "a0a0aa0a00"}
    alone = document.blocks(case(tmp_path, "base", silent, rival), None, [], [])["necessary"]
    assert "image by image:\n\n- `fcn_same_parameters` better by 0.200 [+0.200, +0.200]" in alone
    assert "Its other seeds" not in alone
    others = ({"variant": "narrow", "seed": seed, "tuned": "6"} for seed in (1, 2))
    study = case(tmp_path / "others", "base", silent, rival, *others)
    text = document.blocks(study, None, [], [])["necessary"]
    line = "- `fcn_same_parameters` better by 0.100 [+0.100, +0.100]"
    assert f"Its other seeds score 0.600 and 0.600 tuned. Against their mean, image by image:\n\n{line}\n" in text


def test_errors_before_and_after_each_change(tmp_path) -> None:
    """flip_tta marks 30 pixels at 0.5, 24 of salt; tuned 20, 16 of them: base has such recalls at full precision.

    Of the 40 pixels that one network marks 10 are salt, of all 100 there are 40: 24 of salt come with 68 (`ensemble`).
    """
    thresholds = {"intersection": steps((200, 24)), "predicted": steps((0, 100), (200, 30)),
                  "missed": steps((200, 0), (255, 4)), "invented": steps((200, 3))}  # fmt: skip
    better = details()["totals"] | {"thresholds": thresholds}
    mean = ensemble(together=better)
    study = case(tmp_path, {"changed": {"ensemble": mean}}, {"variant": "flip_tta", "changed": {"totals": better}},
                 {"variant": "flip_tta", "seed": 1})  # fmt: skip  # base has no such seed
    curves = [pixels.pooled([totals]) for totals in (details()["totals"], better, mean["alone"])]
    base, after, alone = (f"{pixels.calibration(curve).error:.4f}" for curve in curves)
    assert document.before_and_after(study, ["base", "flip_tta", "add"]).splitlines()[2:] == [
        "| `flip_tta` | 100.0 % → 80.0 % | 50.0 % → 60.0 % | 85.7 % | 25.0 % → 0.0 % | 0.0 % → 50.0 % "
        f"| 0.8333 → 0.4800 | {base} → {after} |",
        "| one of 2 networks → their mean | 25.0 % → 80.0 % | 25.0 % → 60.0 % | 35.3 % | 75.0 % → 0.0 % "
        f"| 83.3 % → 50.0 % | 0.3938 → 0.4800 | {alone} → {after} |",
        "| tuned threshold | 100.0 % → 80.0 % | 50.0 % → 40.0 % | 100.0 % | 25.0 % → 50.0 % | 0.0 % → 0.0 % "
        "| the same | the same |",
    ]


def test_the_dataset_of_the_records_and_no_other_is_described(tmp_path) -> None:
    of = case_sweep(tmp_path / "output")
    root = of.input_dir / "fake"
    write_dataset(root, n_train=30, n_test=1, seed=2)
    study = case(of.output_dir, {"dataset_hash": competition.fingerprint(root)})
    found = data.read_dataset(study)
    masks, depths = competition.read_train(root).masks, competition.read_depths(root)
    assert found.coverage == pytest.approx(masks.mean(axis=(1, 2)))
    assert found.depth.tolist() == [depths[id_] for id_ in competition.train_ids(root)]
    assert (found.simulated, len(found.constant)) == (False, 30)
    io.write_json(root / "source.json", {"source": "synthetic"})
    assert data.read_dataset(study).simulated
    (root / "depths.csv").unlink()
    assert data.read_dataset(study).depth is None
    assert data.read_dataset(case(of.output_dir, "base")) is None  # other data
    thirds = Dataset(np.array([0.5, 0.0, 0.1, 0.0, 0.0, 0.0]), np.zeros(6), np.array([30, 10, 20, 60, 50, 40]), False)
    assert thirds.thirds() == [(10, 20, 0.5), (30, 40, 0.5), (50, 60, 0.0)]


def test_predicted_tiles_of_the_dataset_itself_come_first_and_none_of_another_budget(tmp_path) -> None:
    own, other = case_sweep(tmp_path), case_sweep(tmp_path, "gpu")
    study = case(tmp_path, "base")
    path = predicted_tiles(other)
    assert data.read_tiles(study) == []
    elsewhere = own.folder.with_name("case_study-a-b-cpu")
    shutil.copytree(path.parent, elsewhere)
    assert [tiles.record.budget for tiles in data.read_tiles(study)] == ["gpu"]  # as if it were of this budget
    predicted_tiles(own)
    predicted_tiles(own, "images_eighth", count=1)
    found = data.read_tiles(study)
    assert [tiles.record.variant for tiles in found] == ["base", "images_eighth"]
    halves = data.predicted_figure(found).subfigs
    assert [half.get_suptitle() for half in halves] == ["training images", "validation images"]
    assert [[axes.get_title() for axes in half.axes] for half in halves] == [
        ["IoU 0.50"] * 2
    ] * 2  # all marked, half salt
    predicted_tiles(own, "images_eighth", count=0)
    assert len(data.read_tiles(study)) == 1


def test_damaged_tiles_are_refused_in_one_line(tmp_path) -> None:
    path = predicted_tiles(case_sweep(tmp_path))
    study, good = case(tmp_path, "base"), io.read_arrays(path, (), "", "")
    for changed, message in (
        ({"images": good["images"][:, :1]}, r"cannot be read as tiles of a study \(uint8 \(2, 1, 8, 8\)\)"),
        ({"masks": good["masks"] / 255}, "cannot be read as tiles of a study"),
        ({"git_commit": np.array("other")}, "is of another training than the record beside it; remove both"),
    ):
        io.write_arrays(path, good | changed)
        with pytest.raises(InputError, match=message) as refused:
            data.read_tiles(study)
        assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_the_document_and_its_pictures_are_written(tmp_path) -> None:
    study = case(tmp_path / "output", "base", {"variant": "no_skips", "half": "3"})
    page, count, lacking = document.write(study.sweep, tmp_path / "pages")
    written = sorted((tmp_path / "pages" / "case_study").iterdir())
    assert sorted(links(page.read_text(encoding="utf-8"))) == [path.stem for path in written]
    assert (count, len(lacking)) == (len(written), len(variants.VARIANTS) - 2)
    assert {cv2.imread(str(path)).shape[1] for path in written} == {1080}
    assert study.results["base"].records[0].n == N

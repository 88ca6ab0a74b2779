"""The benchmarks run, on amounts that mean nothing."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tiny_run import write_table
from torch import Tensor

from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.models import losses

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "bench.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_part_measures_what_its_name_says(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found["quick"]
    assert [row["name"].replace(",", "").split()[0] for row in found["rows"]] == [
        *["epoch"] * 2, *["step"] * 4, *["prediction"] * 2, "windows", "reading", "arrays",
        *["metric"] * 2, "threshold", *["RLE"] * 2, "symmetric",
    ]  # fmt: skip
    for row in found["rows"]:
        assert min(row["ratios"]) > 0
        assert row["name"] in done.stdout
    shares = [row["ratios"] for row in found["rows"] if "matrices" in row["against"]]
    assert all(0 < ratio < 1.5 for ratios in shares for ratio in ratios)  # no step multiplies faster than the machine


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("--experiment", "unet_efficientnet_lite", "--only", "base"), "did you mean unet_efficientnet_lite0"),
        (("--only", "scs"), "unknown variant 'scs'; did you mean scse"),
    ],
)
def test_a_misspelt_name_is_not_taken_for_one_that_does_not_fit(
    monkeypatch: pytest.MonkeyPatch, wrong: tuple[str, ...], message: str
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    monkeypatch.setattr(sys, "argv", ["ablation_costs.py", *wrong])
    with pytest.raises(InputError, match=message):
        importlib.import_module("ablation_costs").main()


def test_a_variant_is_timed_over_its_small_and_its_full_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    costs = importlib.import_module("ablation_costs")
    monkeypatch.setattr(costs, "BATCH", 2)
    monkeypatch.setattr(costs, "STEPS", 1)
    sizes: list[tuple[int, int]] = []
    original = losses.LOSSES["bce"]

    def spy(logits: Tensor, masks: Tensor) -> Tensor:
        sizes.append((len(masks), masks.shape[-1]))
        return original(logits, masks)

    monkeypatch.setitem(losses.LOSSES, "bce", spy)
    clock = iter([1.0] * 4 + [4.0, 12.0, 10.0])  # two tries; a small step, a full one, the base's
    monkeypatch.setattr(costs, "seconds", lambda call: (call(), next(clock))[1])
    rate, ratio, peak = map(float, costs.measure("", "progressive").split())
    assert sizes == [(2, 64), (2, 128)] * 2 + [(2, 128)] * 2 + [(2, 64), (2, 128), (2, 128)]
    assert ratio == pytest.approx((12 * 4 + 5 * 12) / 17 / 10, abs=1e-3)  # 12 of 17 epochs at half the size
    assert rate == pytest.approx(2 / ((12 * 4 + 5 * 12) / 17), abs=1e-2)
    assert peak > 0


def test_variants_that_change_what_a_step_costs_are_measured_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    found = set(importlib.import_module("ablation_costs").heavier())
    assert {"resize_192", "upsample_input", "lite2", "progressive", "symmetric_throughout", "no_ema", "sgd"} <= found
    assert not {"base", "resize", "random", "double_rate", "no_augmentation", "one_cycle"} & found


def test_the_cut_of_tgs_is_the_dataset_of_the_published_runs_whatever_order_kaggle_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    cut = importlib.import_module("tgs_split")
    whole = tmp_path / "whole"
    for folder in ("images", "masks"):
        (whole / "train" / folder).mkdir(parents=True)
        for name in "dabc":
            (whole / "train" / folder / f"{name}.png").write_bytes(name.encode())
    write_table(whole / "train.csv", [["id", "rle_mask"], ["d", "1 3"], ["b", ""], ["a", "5 1"], ["c", "1 1"]])
    write_table(tmp_path / "scores.csv", [["id"], ["a"], ["d"]])
    monkeypatch.setattr(cut, "IDS", tmp_path / "scores.csv")

    assert cut.split(whole, tmp_path / "3000" / "tgs") == (2, 2)
    found = competition.manifest(tmp_path / "3000" / "tgs")
    first = tmp_path / "published"  # sorted by id, as the published runs' dataset is
    shutil.copytree(whole / "train", first / "train")
    shutil.copytree(whole / "train" / "images", first / "test" / "images")
    write_table(first / "train.csv", [["id", "rle_mask"], ["a", "5 1"], ["d", "1 3"]])
    write_table(first / "sample_submission.csv", [["id", "rle_mask"], ["b", "1 1"], ["c", "1 1"]])
    assert competition.differences(competition.manifest(first), found) == []
    assert not list((tmp_path / "3000" / "tgs" / "test").rglob("masks"))
    write_table(whole / "train.csv", [["id", "rle_mask"], ["a", "5 1"]])
    with pytest.raises(InputError, match="1 of the 3,000 tiles are missing, the first d"):
        cut.split(whole, tmp_path / "3000" / "other")

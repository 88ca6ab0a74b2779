"""The benchmarks run, on amounts that mean nothing: what they print is of use on a quiet machine only."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "bench.py"
ROWS = {"training": 7, "prediction": 5, "numeric": 7}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", ROWS)
def test_every_part_measures_what_it_says(part: str, tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--only", part, "--quick", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "bench.json").read_text())
    assert found["quick"]
    assert len(found["rows"]) == ROWS[part]
    for row in found["rows"]:
        assert min(row["ratios"]) > 0
        assert row["name"] in done.stdout
    shares = [row["ratios"] for row in found["rows"] if "matrices" in row["against"]]
    assert all(0 < ratio < 1.5 for ratios in shares for ratio in ratios)  # no step multiplies faster than the machine


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (("unet_efficientnet_lite", "--only", "base"), "did you mean unet_efficientnet_lite0"),
        (("unet_efficientnet_lite0", "--only", "scs"), "unknown lever 'scs'; did you mean scse"),
    ],
)
def test_a_misspelt_name_is_not_taken_for_one_that_does_not_fit(wrong: tuple[str, ...], message: str) -> None:
    command = [sys.executable, str(SCRIPT.with_name("levers.py")), *wrong]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1

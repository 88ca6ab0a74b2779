"""scripts/levers.py as a user runs it, on a network and a dataset that train in seconds."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from saltseg import config
from saltseg.data import synthetic

SCRIPT = Path(__file__).parents[1] / "scripts" / "levers.py"
LEVER_SETTINGS = (
    "train.keep=last", "train.schedule=cosine", "train.epochs=4", "train.ema=0.9", "data.size=32", "model.filters=2",
)  # fmt: skip


@pytest.mark.slow
def test_levers_are_trained_once_left_out_or_refused(tmp_path: Path) -> None:
    synthetic.write_dataset(tmp_path / "input" / "tiny", n_train=30, n_test=2, seed=3)
    baseline = config.override(config.Config(name="mine"), LEVER_SETTINGS)
    (tmp_path / "mine.yaml").write_text(config.dump(baseline))

    def levers(*options: str, experiment: str = str(tmp_path / "mine.yaml")) -> subprocess.CompletedProcess[str]:
        places = ["--input", str(tmp_path / "input"), "--output", str(tmp_path / "output")]
        command = [sys.executable, str(SCRIPT), experiment, "--data", "tiny", *options, *places]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = levers("--only", "base,focal,scse")
    assert done.returncode == 0, done.stderr
    assert "scse is left out: model.attention is 'scse': unet has no such option" in done.stderr
    folder = tmp_path / "output" / "published" / "levers" / "tiny-mine-cpu"
    assert {path.name for path in folder.iterdir()} == {"base-0.json", "focal-0.json", "table.md", "levers.png"}
    record = json.loads((folder / "focal-0.json").read_text())
    assert (record["n_train"], record["n"], len(record["tenths_at_half"])) == (12, 18, 18)
    assert record["command"].startswith("python scripts/levers.py")
    alone = levers("--only", "scse")  # one that does not fit is no failure
    assert alone.returncode == 0, alone.stderr
    assert "scse is left out" in alone.stderr
    assert "| `focal` | `train.loss=focal` |" in alone.stdout
    shutil.rmtree(tmp_path / "output" / "levers")  # records alone are enough
    again = levers("--only", "base,focal")
    assert again.returncode == 0, again.stderr
    assert "img/s" not in again.stderr
    assert "| `focal` | `train.loss=focal` |" in again.stdout
    nowhere = levers("--only", "base,focal", "--seeds", "7", "--data", "tinny")
    assert (nowhere.returncode, "left out" in nowhere.stderr) == (2, False)  # a mistake is no misfit
    refused = levers(experiment="unet")
    assert refused.returncode == 2
    assert "unet picks its best epoch on the images that would report the gain" in refused.stderr

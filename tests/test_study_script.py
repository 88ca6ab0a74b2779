"""scripts/study.py as a user runs it, on the budget that trains in seconds."""

import subprocess
import sys
from pathlib import Path

import pytest

from saltseg import storage
from saltseg.data import synthetic

SCRIPT = Path(__file__).parents[1] / "scripts" / "study.py"


@pytest.mark.slow
def test_variants_are_trained_once_side_by_side_and_one_failure_stops_no_other(tmp_path: Path) -> None:
    synthetic.write_dataset(tmp_path / "input" / "tiny", n_train=60, n_test=2, seed=3)
    storage.write_json(tmp_path / "input" / "tiny" / "source.json", {"source": "synthetic"})

    def study(*options: str) -> subprocess.CompletedProcess[str]:
        places = ["--input", str(tmp_path / "input"), "--output", str(tmp_path / "output")]
        command = [sys.executable, str(SCRIPT), "--data", "tiny", "--budget", "tiny", *options, *places]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    # twice 24 images to train on are more than two folds of three have: that variant fails
    done = study("--only", "images_double,images_eighth,fcn_same_operations", "--parallel", "2")
    assert done.returncode == 1, done.stderr
    assert "not finished: images_double-0; the same command tries them again" in done.stderr
    log = tmp_path / "output" / "study" / "tiny-tiny" / "images_double-0.log"
    assert "folds.train_images is 48; fold 0 has 40" in log.read_text()
    folder = tmp_path / "output" / "published" / "study" / "tiny-tiny"
    assert {path.name for path in folder.iterdir()} == {"images_eighth-0.json", "fcn_same_operations-0.json"}
    record = storage.read_json(folder / "images_eighth-0.json")
    assert (record["n_train"], record["n"], record["folds"]) == (3, 40, [0, 1])
    assert record["changes"] == ["folds.train_images: 24 → 3", "train.epochs: 4 → 32"]
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    again = study("--only", "images_eighth,fcn_same_operations")
    assert (again.returncode, again.stdout.splitlines()[0]) == (0, "0 of 2 trainings to do")
    tiles = folder / "images_eighth-0.npz"  # simulated ones may be shown; the page shows this variant's
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir() if path != tiles} == before
    assert storage.read_arrays(tiles, ("ids",), "", "")["ids"].shape[0] == 2

"""What differs on a GPU, for a machine that has one: SALTSEG_TEST_GPU=1 python -m pytest tests/test_gpu.py

Every other test hides the GPU, because bit-equal results are promised on the processor only.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from saltseg import io, runs
from saltseg.synthetic.dataset import write_dataset

pytestmark = pytest.mark.skipif(os.environ.get("SALTSEG_TEST_GPU") != "1", reason="set SALTSEG_TEST_GPU=1 on a GPU")
COMMON = (
    "data.size=64",
    "data.resize_mode=resize",
    "folds.count=2",
    "train.epochs=4",
    "train.batch_size=8",
    "train.schedule.warmup_epochs=0",
)
LITE0 = ("model.encoder=tu-tf_efficientnet_lite0", "model.weights=none")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gpu")
    write_dataset(root / "input" / "tiny", n_train=64, n_test=6, seed=3)
    return root


def call(place: Path, verb: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    places = ["--input", str(place / "input"), "--output", str(place / "output")]
    command = [sys.executable, "-m", "saltseg", verb, *arguments, *places]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize(
    ("name", "experiment", "changes"),
    [
        ("unet", "unet", ()),
        ("ema", "unet_efficientnet_lite0", LITE0),
        ("swa", "unet_efficientnet_lite0", (*LITE0, "train.ema_decay=0", "train.swa_start_epoch=2")),
        ("lovasz", "recipe_lite0", (*LITE0, "model.hypercolumn=true", "model.deep_supervision=true")),
        ("head", "recipe_lite0", (*LITE0, "model.presence_head=true", "model.extra_channels=[row, image_x_row]")),
        ("fp32", "unet_efficientnet_lite0", (*LITE0, "train.precision=32", "runtime.workers=2")),
    ],
)
def test_it_trains_predicts_and_records_its_memory(
    place: Path, name: str, experiment: str, changes: tuple[str, ...]
) -> None:
    settings = [part for change in (*COMMON, *changes) for part in ("--set", change)]
    done = call(place, "run", experiment, "--data", "tiny", "--name", name, *settings)
    assert done.returncode == 0, done.stderr[-2000:]
    run = runs.run_dir(place / "output", name)
    for fold in run.finished_folds():
        figures = io.read_json(fold.metrics)
        assert figures["peak_gpu_memory_mb"] > 0
        assert 0 < figures["log_loss"] < 3
    assert 0 <= json.loads(run.postprocess.read_text())["cross_fitted"]["score"] <= 1
    assert run.submission.is_file()

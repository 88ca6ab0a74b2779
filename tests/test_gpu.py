"""What differs on a GPU, for a machine that has one: SALTSEG_TEST_GPU=1 python -m pytest tests/test_gpu.py

Every other test hides the GPU, because bit-equal results are promised on the processor only.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from saltseg import io, runs
from saltseg.synthetic.dataset import write_dataset

pytestmark = pytest.mark.skipif(os.environ.get("SALTSEG_TEST_GPU") != "1", reason="set SALTSEG_TEST_GPU=1 on a GPU")
COMMON = ("data.size=64", "data.resize_mode=resize", "folds.count=2", "train.epochs=4", "train.batch_size=8")
LITE0 = ("model.encoder=tu-tf_efficientnet_lite0", "model.weights=none", "train.schedule.warmup_epochs=0")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gpu")
    write_dataset(root / "input" / "tiny", n_train=64, n_test=6, seed=3)
    return root


def python(*arguments: str) -> str:
    """The output of a Python process that sees the GPU."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


# Of one fold's network on the GPU, as trained, and on the CPU in float32: the largest difference of probabilities.
COMPARE = """
import sys
from pathlib import Path
from saltseg import config
from saltseg.data import competition
from saltseg.inference import predict
from saltseg.models import checkpoints, precision
from saltseg.runs import RunDir
run, root = RunDir(Path(sys.argv[1])), Path(sys.argv[2])
settings, images = precision.trained_config(run), competition.read_test(root).images
[network] = checkpoints.load_networks(settings, run.fold(0))
assert next(network.parameters()).is_cuda
mixed = predict.probabilities([network], images, settings)
full = predict.probabilities([network.cpu()], images, config.change(settings, {"train.precision": "32"}))
print(abs(mixed - full).max(), full.std())
"""


@pytest.mark.parametrize(
    ("name", "experiment", "changes"),
    [
        ("unet", "unet", ()),
        ("ema", "unet_efficientnet_lite0", LITE0),
        ("swa", "unet_efficientnet_lite0", (*LITE0, "train.ema_decay=0", "train.swa_start_epoch=2")),
        ("lovasz", "recipe_lite0", (*LITE0, "model.hypercolumn=true", "model.deep_supervision=true")),
        ("head", "recipe_lite0", (*LITE0, "model.presence_head=true", "model.extra_channels=[row, image_x_row]")),
        ("32", "unet_efficientnet_lite0", (*LITE0, "train.precision=32", "runtime.workers=2")),
        ("fp16", "unet_efficientnet_lite0", (*LITE0, "train.precision=fp16", "train.optimizer=sgd")),
        ("fp16-clip", "unet", ("train.precision=fp16", "train.grad_clip_norm=1.0")),
    ],
)
def test_it_trains_predicts_and_records_memory_and_precision(
    place: Path, name: str, experiment: str, changes: tuple[str, ...]
) -> None:
    settings = [part for change in (*COMMON, *changes) for part in ("--set", change)]
    where = ("--input", str(place / "input"), "--output", str(place / "output"))
    python("-m", "saltseg", "run", experiment, "--data", "tiny", "--name", name, *settings, *where)
    run = runs.run_dir(place / "output", name)
    hardware = python("-c", "import torch; print(torch.cuda.is_bf16_supported(including_emulation=False))").strip()
    asked = run.read_config().train.precision
    automatic = "bf16" if hardware == "True" else "fp16"
    assert io.read_json(run.provenance)["precision"] == (automatic if asked == "auto" else asked)
    for fold in run.finished_folds():
        metrics = io.read_json(fold.metrics)
        assert metrics["peak_gpu_memory_mb"] > 0
        assert 0 < metrics["log_loss"] < 3
    assert 0 <= io.read_json(run.postprocess)["cross_fitted"]["score"] <= 1
    assert run.submission.is_file()
    difference, spread = map(float, python("-c", COMPARE, str(run.path), str(place / "input" / "tiny")).split())
    assert difference < (1e-3 if asked == "32" else 0.05)
    assert spread > 0.001


def test_a_training_in_fp16_goes_on_after_an_interruption(place: Path) -> None:
    """The scale of the gradients is part of the checkpoint: without it the first steps would be other ones."""
    settings = ("--set", "train.precision=fp16", "--set", "train.epochs=3", "--set", "data.size=64")
    settings += ("--set", "data.resize_mode=resize", "--folds", "0")
    where = ("--input", str(place / "input"), "--output", str(place / "output"))
    code = (
        "import sys\n"
        "from saltseg.cli import app\n"
        "from saltseg.training.module import SaltModule\n"
        "step = SaltModule.training_step\n"
        "def stop(module, batch, index):\n"
        "    if module.current_epoch == 1 and index == 1: raise KeyboardInterrupt\n"
        "    return step(module, batch, index)\n"
        "SaltModule.training_step = stop\n"
        "assert app.call(sys.argv[1:]) == 130\n"
    )
    train = ("train", "unet", "--data", "tiny", "--name", "stopped", *settings, *where)
    python("-c", code, *train)
    fold = runs.run_dir(place / "output", "stopped").fold(0)
    assert fold.last.is_file()
    python("-m", "saltseg", *train)
    assert io.read_json(fold.metrics)["epochs"] == 3

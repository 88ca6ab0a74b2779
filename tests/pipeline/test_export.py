"""An exported folder predicts as saltseg does, without torch and without saltseg."""

import json
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import Trained, metrics, postprocess

from saltseg import config, io
from saltseg.config import Config
from saltseg.errors import InputError
from saltseg.inference import predict
from saltseg.models import checkpoints, onnx_graph, zoo
from saltseg.pipeline import export
from saltseg.pipeline import trained as loading
from saltseg.postprocessing.parameters import Postprocessing, quantize

FLOAT32 = {"train.precision": "32"}


def tiles(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, 101, 101), np.uint8)


# ---------------------------------------------------------------- the whole way, in torch


@pytest.mark.parametrize(
    "changes",
    [
        {
            "data.resize_mode": "pad",
            "data.size": 112,
            "predict.tta": ["identity", "hflip", "transpose", "larger", "hflip_smaller"],
        },
        {"data.resize_mode": "pad", "data.size": 101, "model.in_channels": 3},
        {"data.resize_mode": "resize", "data.size": 128, "model.extra_channels": ["row", "image_x_row"]},
        {"data.resize_mode": "resize", "data.size": 64, "predict.tta": ["rotate180"]},
    ],
)
def test_from_tile_to_probability_it_is_the_prediction(changes: dict) -> None:
    settings = config.change(Config(), {"model.filters": 2, **FLOAT32, **changes})
    torch.manual_seed(0)
    networks = [zoo.build(settings.model).eval() for _ in range(2)]
    for count in (1, 3):
        wanted = predict.probabilities(networks, tiles(count), settings)
        with torch.no_grad():
            (found,) = export.TileNetwork(networks, settings)(torch.from_numpy(tiles(count)))
        assert wanted.std() > 1e-3
        np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_rounding_makes_no_probability_above_one() -> None:
    """Resized from 128 pixels without a limit, 1 becomes 1.0000002, which `quantize` refuses."""

    class Certain(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 100 + 0 * images

    settings = config.change(Config(), {"data.resize_mode": "resize", "data.size": 128})
    (found,) = export.TileNetwork([Certain()], settings)(torch.from_numpy(tiles(1)))
    assert found.max() == 1


# ---------------------------------------------------------------- the folder


@pytest.fixture
def run(trained: Trained) -> Trained:
    """Three networks with random weights, and hflip."""
    pytest.importorskip("onnxruntime")
    settings = config.change(trained.settings, {**FLOAT32, "predict.tta": ["identity", "hflip"]})
    trained.write_settings(settings)
    for fold in trained.run.trained_folds():
        torch.manual_seed(fold.number)
        torch.save({"state_dict": zoo.build(settings.model).state_dict()}, fold.network)
        io.write_json(fold.metrics, metrics(fold.number, tta=["identity", "hflip"]))
    return trained


@pytest.mark.slow
def test_the_example_needs_neither_torch_nor_saltseg(run: Trained, tmp_path: Path) -> None:
    """The example runs in a process of its own. Then the graph gives the probabilities of the run's three networks."""
    onnxruntime = pytest.importorskip("onnxruntime")
    settings, networks, _ = loading.load(run.run)
    wanted = predict.probabilities(networks, tiles(5), settings)
    threshold = int(np.median(quantize(wanted)))
    areas = np.sort((quantize(wanted) >= threshold).sum(axis=(1, 2)))
    assert areas[0] < areas[-1] < 101 * 101
    io.write_json(run.run.postprocess, postprocess(threshold=threshold, min_area=int(areas[-1])))  # some are emptied
    target = tmp_path / "exported"
    described = export.export(run.run, target, run.output, terms="CC BY 4.0")
    assert sorted(path.name for path in target.iterdir()) == ["example.py", "export.json", "network.onnx"]
    assert json.loads((target / "export.json").read_text()) == described
    assert described["source"] == "tiny-run"
    assert described["license"] == "CC BY 4.0"
    assert len(set(described["weights_sha256"])) == 3
    assert described["graph"]["tta"] == ["identity", "hflip"]
    assert described["graph"]["channels"] == ["image"]
    assert described["postprocessing"]["threshold"] == threshold
    assert described["windows"] == {"step": 50, "sigma": 12.625}
    assert 0 <= described["largest_difference"] <= 1e-4
    np.save(tmp_path / "tiles.npy", tiles(5))
    program = (
        "import runpy, sys; sys.argv = ['example.py', 'tiles.npy']; "
        f"runpy.run_path({str(target / 'example.py')!r}); "
        "sys.exit('torch' in sys.modules or 'saltseg' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=tmp_path, timeout=60)

    session = onnxruntime.InferenceSession(target / "network.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"tiles": tiles(5)})
    masks, expected = np.load(tmp_path / "masks.npy"), loading.load(run.run).postprocessing.apply(quantize(found))
    assert {bool(mask.any()) for mask in expected} == {False, True}
    np.testing.assert_array_equal(masks, expected)
    np.testing.assert_allclose(found, wanted, atol=1e-4)


@pytest.mark.parametrize("step", [{"fill_holes": True}, {"hysteresis_high": 129}])
def test_the_example_stops_where_it_cannot_apply_the_post_processing(step: dict, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "example.py").write_bytes(export.EXAMPLE.read_bytes())
    rule = Postprocessing(128, **step).to_dict()
    io.write_json(tmp_path / "export.json", {"postprocessing": rule})
    with pytest.raises(SystemExit, match=next(iter(step))):
        runpy.run_path(str(tmp_path / "example.py"))


def test_the_same_weights_have_the_same_digest(run: Trained) -> None:
    folds = run.run.trained_folds()
    one, same, other = (checkpoints.load_network(run.settings, fold.network) for fold in (folds[0], folds[0], folds[1]))
    first, second, third = (loading.weights_hash([network]) for network in (one, same, other))
    assert first == second != third


# ---------------------------------------------------------------- refusals


def test_a_folder_that_exists_is_left_alone(run: Trained, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"exists; choose another --to"):
        export.export(run.run, tmp_path, run.output)


def test_a_license_that_is_not_known_must_be_given(run: Trained, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--license TEXT"):
        export.export(run.run, tmp_path / "exported", run.output)
    assert not (tmp_path / "exported").exists()


def test_a_graph_that_differs_from_torch_is_not_kept(
    run: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The graph of another module."""

    class Gray(torch.nn.Module):
        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            return tiles.float() / 255

    graph = onnx_graph.convert(Gray(), torch.zeros(2, 101, 101, dtype=torch.uint8), ["tiles", "probability"])
    monkeypatch.setattr(onnx_graph, "convert", lambda *given: graph)
    with pytest.raises(InputError, match=r"ONNX Runtime differs from torch by .* \(limit 0.0001\); use torch"):
        export.export(run.run, tmp_path / "exported", run.output, terms="CC BY 4.0")
    assert not list(tmp_path.glob("*exported*"))


def test_the_documentation_shows_the_example() -> None:
    page = Path(__file__).parents[2] / "docs" / "how-to" / "fast-prediction.md"
    code = export.EXAMPLE.read_text(encoding="utf-8").partition("\n\n")[2]
    assert f"```python\n{code}```" in page.read_text(encoding="utf-8")

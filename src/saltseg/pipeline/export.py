"""A run or a released model as a folder that needs ONNX Runtime alone: no torch, no saltseg.

  network.onnx  tiles, uint8 (N, 101, 101) → probability, float32 (N, 101, 101), and presence (N,) from a presence head
  export.json   where it came from, what is inside the graph, the post-processing, the license
  example.py    masks of an array of tiles

Everything between a tile and its probability is inside the graph: scaling, resizing or padding, the mean over networks
and views, and the way back to 101x101 pixels. Larger images are cut into tiles, see `saltseg.inference.windows`.
"""

import datetime
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from saltseg import __version__, io
from saltseg.config import Config, has_presence_head
from saltseg.data.transforms import TILE, TileTransform
from saltseg.errors import InputError
from saltseg.inference.tta import VIEWS
from saltseg.inference.windows import SIGMA, STEP
from saltseg.models import onnx_graph
from saltseg.models.salt_network import outputs
from saltseg.pipeline import release, trained
from saltseg.releases import ModelDir
from saltseg.runs import RunDir

TOLERANCE = 1e-4  # largest difference of a probability between torch and ONNX Runtime
EXAMPLE = Path(__file__).with_name("export_example.py")


def export(
    source: RunDir | ModelDir,
    target: Path,
    output_dir: Path,
    *,
    tta: tuple[str, ...] | None = None,
    terms: str | None = None,
) -> dict[str, Any]:
    """Write the folder; it is made completely or not at all.

    Args:
        source: a run, all of whose finished folds are averaged, or a released model.
        target: a new folder.
        output_dir: where the runs are that the run learned from.
        tta: names of views; None: those that the run or the model was scored with.
        terms: the license of a run, see `saltseg.pipeline.release.license_of`.

    Returns:
        What export.json says.

    Raises:
        InputError: ``target`` exists, there is no network, the license is unknown, packages of the extra ``onnx`` are
            missing, or ONNX cannot express the network.
    """
    if target.exists():
        raise InputError(f"{target} exists; choose another --to or remove it")
    license_ = _license(source, output_dir, terms)
    settings, networks, postprocessing = trained.load(source, tta)
    module = TileNetwork(networks, settings)
    with io.atomic_dir(target) as new:
        graph = onnx_graph.convert(module, torch.zeros(2, TILE, TILE, dtype=torch.uint8), module.names)
        (new / "network.onnx").write_bytes(graph)
        (new / "example.py").write_bytes(EXAMPLE.read_bytes())
        described = {
            "format": 1,
            "source": source.name,
            "license": license_,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "saltseg": __version__,
            "git_commit": source.read_provenance().get("git_commit"),
            "weights_sha256": [trained.weights_hash([network]) for network in networks],
            "network_sha256": hashlib.sha256(graph).hexdigest(),
            "input": {"name": "tiles", "dtype": "uint8", "shape": ["count", TILE, TILE]},
            "outputs": list(module.names[1:]),
            "graph": {
                "precision": "float32",
                "scaling": "divided by 255",
                "resize_mode": settings.data.resize_mode,
                "size": settings.data.size,
                "channels": ["image"] * settings.model.in_channels + list(settings.model.extra_channels),
                "networks": len(networks),
                "tta": list(settings.predict.tta),
            },
            "windows": {"step": STEP, "sigma": SIGMA},
            "postprocessing": postprocessing.to_dict(),
            "largest_difference": _largest_difference(module, graph),
        }
        io.write_json(new / "export.json", described)
    return described


class TileNetwork(nn.Module):
    """Tiles uint8 (N, 101, 101) → the mean over networks and views: salt probability float32 (N, 101, 101) in [0, 1]
    and, from a presence head, the probability float32 (N,) of holding salt.

    Resizing and padding are products with a matrix along each axis: every runtime computes those alike.
    """

    to_network: Tensor  # (size, 101)
    to_tile: Tensor  # (101, size)

    def __init__(self, networks: Sequence[nn.Module], settings: Config) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks).cpu().eval()
        self.views = [VIEWS[name] for name in settings.predict.tta]
        self.channels, self.presence = settings.model.in_channels, has_presence_head(settings.model)
        self.names = ["tiles", "probability", *(["presence"] if self.presence else [])]
        mode, size = settings.data.resize_mode, settings.data.size
        to_network = TileTransform(mode, size, TILE).forward(np.eye(TILE, dtype=np.float32)[None])[0]
        to_tile = TileTransform(mode, size, size).inverse(np.eye(size, dtype=np.float32)[None], TILE, size)[0]
        self.register_buffer("to_network", torch.from_numpy(to_network.copy()))
        self.register_buffer("to_tile", torch.from_numpy(to_tile.copy()))

    def forward(self, tiles: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        images = self.to_network @ (tiles[:, None].float() / 255) @ self.to_network.T
        images = images.expand(-1, self.channels, -1, -1)
        pairs = [(view, outputs(network, view.forward(images))) for network in self.networks for view in self.views]
        size = images.shape[-2], images.shape[-1]
        views = [view.inverse(torch.sigmoid(result.logits), size) for view, result in pairs]
        mean = torch.stack(views).mean(dim=0)[:, 0]
        probability = (self.to_tile @ mean @ self.to_tile.T).clip(0, 1)
        presence = [torch.sigmoid(result.presence) for _, result in pairs if result.presence is not None]
        return (probability, torch.stack(presence).mean(dim=0)) if self.presence else (probability,)


@torch.no_grad()
def _largest_difference(module: TileNetwork, graph: bytes) -> float:
    """Between torch and ONNX Runtime, for tiles of random layers; raises InputError above `TOLERANCE`."""
    try:
        import onnxruntime
    except ImportError:
        raise InputError("the export needs onnxruntime, which is not installed; pip install -e '.[onnx]'") from None
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    generator, largest = np.random.default_rng(0), 0.0
    for count in (1, 3):
        layers = generator.integers(32, 224, (count, TILE, 1))
        tiles = (layers + generator.integers(-32, 32, (count, TILE, TILE))).astype(np.uint8)
        for one, other in zip(session.run(None, {"tiles": tiles}), module(torch.from_numpy(tiles)), strict=True):
            largest = max(largest, float(np.abs(one - other.numpy()).max()))
    if not largest <= TOLERANCE:  # NaN, too
        raise InputError(f"ONNX Runtime differs from torch by {largest:.2g} (limit {TOLERANCE:g}); use torch")
    return largest


def _license(source: RunDir | ModelDir, output_dir: Path, terms: str | None) -> str:
    if isinstance(source, RunDir):
        return release.license_of(source, output_dir, terms)
    if terms:
        raise InputError(f"{source.name} has a license; leave --license out")
    return source.read_manifest()["license"]

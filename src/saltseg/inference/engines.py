"""What computes the answers of a network: torch, ONNX Runtime or OpenVINO (``runtime.engine``).

ONNX Runtime and OpenVINO compute on the processor, on as many threads as torch would take. Each is told its precision:
left alone, OpenVINO takes bfloat16 wherever the processor has it.
"""

from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor, nn

from saltseg.config import Config
from saltseg.errors import InputError
from saltseg.models import onnx_graph, precision, salt_network
from saltseg.models.salt_network import Outputs

Compute = Callable[[Tensor], Outputs]
Run = Callable[[np.ndarray], list[np.ndarray]]  # float32 (N, C, H, W) → logits (N, 1, H, W), presence (N,) if any

# Images that a thread works on at once on a processor: what a layer makes of 64 images does not fit in its cache.
# Measured in docs/how-to/fast-prediction.md.
IMAGES_PER_THREAD = 8

_known: WeakKeyDictionary[nn.Module, dict[tuple, Compute]] = WeakKeyDictionary()


def outputs(network: nn.Module, images: Tensor, settings: Config) -> Outputs:
    """The outputs of a network, computed by ``runtime.engine``.

    A network is converted when it first sees a size of image, within seconds. From then on its weights must not change.

    Args:
        network: in evaluation mode.
        images: float32 (N, C, H, W) in [0, 1], on the network's device; for torch, within `precision.autocast`.
        settings: with the precision resolved.

    Returns:
        Logits and, from a presence head, presence; on the CPU unless torch computes on a GPU.

    Raises:
        InputError: the engine is not installed, does not have the precision, or cannot express the network.
    """
    on_torch = settings.runtime.engine == "torch"
    if on_torch and images.device.type != "cpu":
        return salt_network.outputs(network, images)
    compute = partial(salt_network.outputs, network) if on_torch else _converted(network, images, settings)
    parts = [compute(part) for part in images.split(IMAGES_PER_THREAD * torch.get_num_threads())]
    if len(parts) == 1:
        return parts[0]
    presence = [part.presence for part in parts if part.presence is not None]
    return Outputs(torch.cat([part.logits for part in parts]), (), torch.cat(presence) if presence else None)


def check(settings: Config) -> None:
    """Raise InputError where ``runtime.engine`` is not installed or does not have the precision to predict in."""
    engine, used = settings.runtime.engine, precision.of_prediction(settings, torch.device("cpu"))
    if engine == "torch":
        return
    for package in (engine, "onnxscript"):
        if find_spec(package) is None:
            extra = "onnx" if engine == "onnxruntime" else engine
            raise InputError(
                f"runtime.engine={engine} needs {package}, which is not installed; pip install -e '.[{extra}]'"
            )
    if used != "32" and (engine == "onnxruntime" or not _openvino_has_bf16()):
        where = "" if engine == "onnxruntime" else " on this processor"
        raise InputError(f"runtime.engine={engine} does not compute in {used}{where}; add --set runtime.precision=32")


def describe(settings: Config, device: torch.device) -> str:
    """What computes predictions with these settings, to be recorded: ``openvino 2026.4.1, bf16``."""
    engine = settings.runtime.engine
    used = precision.of_prediction(settings, device if engine == "torch" else torch.device("cpu"))
    return f"{engine} {version(engine)}, {used}"


def _converted(network: nn.Module, images: Tensor, settings: Config) -> Compute:
    """A network as the engine of the settings computes images of this size; converted once."""
    engine, used = settings.runtime.engine, precision.of_prediction(settings, torch.device("cpu"))
    threads, size = torch.get_num_threads(), tuple(images.shape[1:])
    known, key = _known.setdefault(network, {}), (engine, used, threads, size)
    if key not in known:
        check(settings)
        graph = _Graph(network)
        names = ["images", "logits", "presence"][: 1 + len(graph(images[:1]))]
        compile_graph = _onnxruntime if engine == "onnxruntime" else _openvino
        run = compile_graph(onnx_graph.convert(graph, torch.zeros(2, *size), names), used, threads)
        known[key] = lambda part: _as_outputs(run(part.cpu().contiguous().numpy()))
    return known[key]


class _Graph(nn.Module):
    """Images → logits and, from a presence head, presence."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        result = salt_network.outputs(self.network, images)
        return (result.logits,) if result.presence is None else (result.logits, result.presence)


def _as_outputs(arrays: list[np.ndarray]) -> Outputs:
    logits, *presence = (torch.from_numpy(array) for array in arrays)
    return Outputs(logits, (), presence[0] if presence else None)


def _onnxruntime(graph: bytes, used: str, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(None, {"images": images})


def _openvino_has_bf16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _openvino(graph: bytes, used: str, threads: int) -> Run:
    import openvino

    options = {
        "INFERENCE_PRECISION_HINT": {"32": "f32", "bf16": "bf16"}[used],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # else processes side by side share the first cores
    }
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(graph), "CPU", options)
    return lambda images: [np.array(array) for array in compiled(images).values()]

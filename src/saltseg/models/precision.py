"""Mixed precision: which one a run trains and predicts in. It is chosen once, when the run is created, and recorded.

On a CPU bfloat16 covers everything but the depthwise convolutions, which are slow in it: with fast bfloat16
instructions, a training step of EfficientNet-Lite0 is 1.07 times as fast as in float32 if all of it is in bfloat16, and
1.62 times as fast if the depthwise convolutions stay in float32. On some processors the instructions are slow: on an
Intel Xeon with avx512_bf16 but without AMX that step is 0.9 times as fast as in float32. So a new run measures.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from saltseg.config import Config, Runtime
from saltseg.errors import InputError
from saltseg.models.losses import binary_cross_entropy
from saltseg.models.salt_network import outputs
from saltseg.runs import RunDir

Precision = Literal["32", "bf16", "fp16"]
MIN_SPEEDUP = 1.1  # of bfloat16 on a CPU, to be chosen
TIMING_SECONDS = 1.0


class _Float32OnCPU:
    """Mixed into a convolution: under autocast on a CPU it computes in float32 and returns the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """Float (N, C, H, W) → float (N, C', H', W') of the same dtype."""
        if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super().forward(x)  # type: ignore[misc]
        with torch.autocast("cpu", enabled=False):
            return super().forward(x.float()).to(x.dtype)  # type: ignore[misc]


def keep_depthwise_float32(network: nn.Module) -> nn.Module:
    """Leave depthwise convolutions in float32 under autocast on a CPU, in place; names of tensors stay as they are."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
            kind = type(module)
            module.__class__ = type(kind.__name__, (_Float32OnCPU, kind), {})
    return network


def best_device() -> torch.device:
    """The GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def choose(settings: Config, network: nn.Module, batch_size: int) -> Precision:
    """The precision of a new run.

    ``train.precision=auto`` means: on a GPU bf16 if the hardware has it, else fp16; on a CPU bf16 if it has the
    instructions and `bf16_speedup` measures a gain, else 32.

    Args:
        settings: of the run.
        network: its network, to measure with; its weights stay, its batch statistics change.
        batch_size: images that a device trains on at once.

    Raises:
        InputError: fp16 without a GPU.
    """
    if settings.train.precision != "auto":
        require_gpu(settings.train.precision)
        return settings.train.precision
    if torch.cuda.is_available():
        return "bf16" if _gpu_has_bf16() else "fp16"
    size = settings.data.size
    images = torch.rand(batch_size, settings.model.in_channels, size, size)
    return "bf16" if _cpu_has_bf16() and bf16_speedup(network, images) >= MIN_SPEEDUP else "32"


def require_gpu(precision: str) -> None:
    """Raise InputError for fp16 without a GPU: CPUs only emulate it."""
    if precision == "fp16" and not torch.cuda.is_available():
        raise InputError("train.precision is fp16, which needs a GPU; use bf16, 32 or auto for a new run")


def bf16_speedup(network: nn.Module, images: Tensor) -> float:
    """How many times as fast a training step (forward, backward) is in bfloat16 as in float32 on this CPU.

    One thread does its share of the batch, and the time is the processor's: other processes then hardly change the
    result. Steps in both precisions take turns for about a second, two of each at least. The fastest of each count,
    because the first ones prepare memory and kernels.

    Args:
        network: on the CPU, in any mode; its weights stay, its batch statistics change, its gradients are removed.
        images: float32 (N, C, H, W) in [0, 1], a batch as in training.
    """
    threads = torch.get_num_threads()
    images = images[: max(2, len(images) // threads)].to(memory_format=torch.channels_last)
    masks = (images[:, :1] > 0.5).float()
    network.to(memory_format=torch.channels_last).train()

    def seconds(bf16: bool) -> float:
        started = time.thread_time()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = binary_cross_entropy(outputs(network, images).logits, masks)
        loss.backward()
        network.zero_grad()
        return time.thread_time() - started

    pairs: list[tuple[float, float]] = []
    torch.set_num_threads(1)
    try:
        while len(pairs) < 2 or sum(map(sum, pairs)) < TIMING_SECONDS:
            pairs.append((seconds(False), seconds(True)))
    finally:
        torch.set_num_threads(threads)
    full, mixed = (min(times) for times in zip(*pairs, strict=True))
    return full / mixed


def resolved(settings: Config, provenance: Mapping[str, Any]) -> Config:
    """``settings`` with the precision that a run recorded in place of ``train.precision=auto``.

    Runs without a record are older than it. In those ``auto`` meant bf16 on a GPU that has it, and 32 on any other
    device.
    """
    if settings.train.precision != "auto":
        return settings
    before: Precision = "bf16" if torch.cuda.is_available() and _gpu_has_bf16() else "32"
    return replace(settings, train=replace(settings.train, precision=provenance.get("precision") or before))


def trained_config(run: RunDir, runtime: Runtime | None = None) -> Config:
    """The configuration of a run with the precision that it is trained in, to predict with its networks.

    runtime: how this machine computes; None: the defaults.
    """
    return replace(resolved(run.read_config(), run.read_provenance()), runtime=runtime or Runtime())


def of_prediction(settings: Config, device: torch.device) -> Precision:
    """The precision to predict in: ``runtime.precision``, or that of the training.

    settings: `resolved`. A CPU computes in float32 what was trained in fp16.
    """
    trained, asked = settings.train.precision, settings.runtime.precision
    if asked != "trained":
        return asked
    assert trained != "auto", "not resolved"
    return "32" if trained == "fp16" and device.type == "cpu" else trained


def autocast(settings: Config, device: torch.device) -> torch.autocast:
    """The context to predict in, see `of_prediction`."""
    precision = of_prediction(settings, device)
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "32")


def _gpu_has_bf16() -> bool:
    return torch.cuda.is_bf16_supported(including_emulation=False)


def _cpu_has_bf16() -> bool:
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()  # not in every torch
    return bool(known.get("avx512_bf16") or known.get("amx_bf16"))

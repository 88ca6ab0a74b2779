"""Networks as ONNX graphs, which other programs than torch compute."""

import copy
import logging
import warnings
from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from saltseg.errors import InputError, raise_if_of_machine, reason

PACKAGES = ("onnx", "onnxscript")  # torch's converter needs them


def convert(module: nn.Module, example: Tensor, names: Sequence[str]) -> bytes:
    """The ONNX graph of a module in float32, with any number of images and all other sizes as in the example.

    The converter follows the module's Python code once and keeps the branches that the example takes. That is why
    height and width are fixed: a graph with free ones would leave out the padding that the example did not need.

    Args:
        module: takes one tensor (N, …) and returns a tensor or a tuple of them, (N, …) each.
        example: an input with N of at least 2; its values do not matter.
        names: of the input, which is the first, and of the outputs.

    Returns:
        The bytes of an ``.onnx`` file.

    Raises:
        InputError: the packages of the extra ``onnx`` are missing, or the graph cannot express the module.
    """
    for package in PACKAGES:
        if find_spec(package) is None:
            raise InputError(
                f"the conversion to ONNX needs {package}, which is not installed; pip install -e '.[onnx]'"
            )
    module = copy.deepcopy(module).cpu().eval()
    level = logging.getLogger("torch.onnx").level
    try:
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        with (
            warnings.catch_warnings(),
            torch.inference_mode(False),
            torch.no_grad(),
            torch.autocast("cpu", enabled=False),
        ):
            warnings.simplefilter("ignore")  # of packages that the converter would use, too
            program = torch.onnx.export(
                module,
                (example.detach().clone(),),
                dynamo=True,
                verbose=False,
                input_names=names[:1],
                output_names=names[1:],
                dynamic_shapes=({0: torch.export.Dim("count")},),
            )
    except Exception as error:  # the converter raises a dozen kinds, all with many lines
        raise_if_of_machine(error)
        raise InputError(f"the conversion to ONNX does not know how: {reason(error, 160)}; use torch") from None
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
    assert program is not None
    return program.model_proto.SerializeToString()

"""saltseg: find salt bodies in seismic images.

``saltseg.load(NAME)`` gives a trained model. Importing this package imports nothing else, so that ``import
saltseg.metrics.rle`` stays as light as numpy.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from saltseg.pipeline.model import Model

__version__ = "0.1.0"


def load(name: "str | Path", output_dir: "str | Path" = "output") -> "Model":
    """A released model, or a run, ready to predict.

    Args:
        name: of a model of the checkout's folder ``models``, or of a run or blend under ``output_dir``; or, with a
            slash in it, the path of the folder of one, such as "./salt-simulated".
        output_dir: where runs are.

    Returns:
        `saltseg.pipeline.model.Model`, with ``predict(image)`` and ``mask(image)``; on the GPU where there is one.

    Raises:
        saltseg.errors.InputError: there is no such model, or its files are damaged.

    Warns:
        UserWarning: the license of a model that has another one than this project.
    """
    from saltseg.pipeline import model

    return model.load(name, output_dir)

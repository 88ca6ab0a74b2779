"""The model that `saltseg.load` gives: images of any size to probabilities and masks."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from saltseg import releases
from saltseg.errors import InputError
from saltseg.inference import windows
from saltseg.pipeline import folder, trained
from saltseg.pipeline.trained import Trained
from saltseg.postprocessing.parameters import quantize
from saltseg.releases import ModelDir


@dataclass(frozen=True, eq=False)
class Model:
    """Networks in memory. Make one with `saltseg.load`; it predicts any number of images.

    Attributes:
        name: of the released model, or of the run.
        trained: its networks, settings and post-processing.
    """

    name: str
    trained: Trained

    def predict(self, image: np.ndarray) -> np.ndarray:
        """Probability of salt at each pixel.

        Args:
            image: uint8 (H, W), rows are depth or time, of any size. 101x101 pixels are a tile; a larger image is cut
                into overlapping windows of that size, so its scale counts (`saltseg.inference.windows`).

        Returns:
            float32 (H, W) in [0, 1], in steps of 1/255.

        Raises:
            InputError: another type or shape; the message says how to convert.
        """
        settings, networks, _ = self.trained
        [quantized] = windows.predict_images(networks, [_checked(image)], settings)
        return quantized.astype(np.float32) / 255

    def postprocess(self, probability: np.ndarray) -> np.ndarray:
        """The mask of what `predict` gave, float32 (H, W) in [0, 1]: uint8 {0, 1} (H, W), 1 is salt.

        The post-processing was tuned on tiles. In an image larger than a tile the minimum area removes single bodies
        (`saltseg.pipeline.folder.postprocess`).
        """
        return folder.postprocess(quantize(probability)[None], self.trained.postprocessing)[0]

    def mask(self, image: np.ndarray) -> np.ndarray:
        """The mask of an image as for `predict`: uint8 {0, 1} (H, W), 1 is salt."""
        return self.postprocess(self.predict(image))


def load(name: str | Path, output_dir: str | Path = "output") -> Model:
    """See `saltseg.load`."""
    source = releases.find(str(name), Path(output_dir))
    if isinstance(source, ModelDir) and (notice := releases.notice(source.read_manifest())):
        warnings.warn(notice, stacklevel=3)  # at the caller of `saltseg.load`; Python shows it there once
    return Model(source.name, trained.load(source))


def _checked(image: np.ndarray) -> np.ndarray:
    """A uint8 (H, W) array; raises InputError with the way out for any other."""
    problem = f"image is {type(image).__name__}"
    if isinstance(image, np.ndarray):
        problem = f"image is {image.dtype} of shape {image.shape}"
        if image.ndim == 2 and image.size and image.dtype == np.uint8:
            return image
        if image.ndim == 3 and image.shape[2] in (3, 4):
            raise InputError(f"{problem}; give uint8 (H, W), of gray images one channel: image[..., 0]")
        if image.ndim == 2 and image.dtype == np.uint16:
            raise InputError(f"{problem}; give uint8 (H, W), of 16-bit gray values (image // 257).astype(np.uint8)")
        if image.ndim == 2 and image.dtype.kind == "f":
            raise InputError(
                f"{problem}; give uint8 (H, W): clip amplitudes symmetrically and map them to 0 … 255, with one scale "
                "for a whole survey (saltseg.seismic.scaling.Scaling), or gray values in [0, 1] by "
                "np.rint(255 * image).astype(np.uint8)"
            )
    raise InputError(f"{problem}; give a numpy array uint8 (H, W)")

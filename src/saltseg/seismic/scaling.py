"""Amplitudes of a survey → 8-bit gray as in the training tiles, with one scale for the whole survey.

Training tiles are stretched one by one, from their minimum to their maximum. Windows of a survey are not: neighbors
would get different grays, and a window of noise would look like one of reflectors. So amplitudes are clipped at a
percentile of the survey. On 80 simulated sections, clipping at the 98th to 99th percentile of |amplitude| comes nearest
to the histogram of tiles: 9 to 10 gray levels, against 12 at 95 and 15 at 99.9.
"""

from dataclasses import dataclass

import numpy as np

from saltseg.errors import InputError
from saltseg.seismic.amplitudes import Amplitudes

CLIP_PERCENTILE = 99.0
WARN_DISTANCE = 25.0  # gray levels; 19 of 20 simulated sections lie below 18, all of 80 below 25
# Simulated tiles, in thousandths for 32 equal ranges of gray. Real tiles are 1.7 gray levels away.
_SIMULATED = np.array(
    [1, 2, 3, 5, 6, 9, 12, 17, 24, 34, 52, 64, 73, 81, 91, 98, 92, 77, 62, 49, 38, 30, 22, 16, 12, 9, 7, 5, 4, 3, 2, 1]
)
REFERENCE_HISTOGRAM = np.repeat(_SIMULATED / _SIMULATED.sum() / 8, 8)


@dataclass(frozen=True)
class Scaling:
    """Amplitude → gray, one for a survey.

    Attributes:
        center: amplitude that becomes the middle of the gray scale.
        half_range: distance from it that becomes black or white.
        flip: whether larger amplitudes are darker, for data of the other polarity.
    """

    center: float
    half_range: float
    flip: bool = False

    @classmethod
    def fit(cls, amplitudes: Amplitudes, percentile: float = CLIP_PERCENTILE, flip: bool = False) -> "Scaling":
        """The scaling of a survey.

        Args:
            amplitudes: of a sample of its traces.
            percentile: of the distance from the median at which amplitudes are clipped, over 0 up to 100.
            flip: reverse the polarity.

        Raises:
            InputError: an option is out of range, or the amplitudes are all the same.
        """
        if not 0 < percentile <= 100:
            raise InputError(f"clip percentile {percentile:g}; use a number over 0, at most 100")
        center = float(np.median(amplitudes.values)) if len(amplitudes.values) else 0.0
        distances = np.abs(amplitudes.values.astype(np.float64) - center)
        half_range = float(np.percentile(distances, percentile)) if len(distances) else 0.0
        if not half_range > 0:
            raise InputError(f"all {amplitudes.traces:,} traces examined hold a single amplitude; check the file")
        return cls(center, half_range, flip)

    def apply(self, amplitudes: np.ndarray) -> np.ndarray:
        """Amplitudes, float of any shape, finite → gray, uint8 of that shape."""
        half = np.float32(-127.5 if self.flip else 127.5)
        gray = (amplitudes - np.float32(self.center)) / np.float32(self.half_range) * half
        return np.rint(np.clip(gray + np.float32(127.5), 0, 255)).astype(np.uint8)


def histogram(images: np.ndarray) -> np.ndarray:
    """Shares of the 256 gray levels in images, uint8 (N, H, W), without those of one gray level; float64 (256,)."""
    flat = images.reshape(len(images), -1)
    counts = np.bincount(flat[flat.min(1) != flat.max(1)].ravel(), minlength=256)
    return counts / max(counts.sum(), 1)


def histogram_distance(amplitudes: Amplitudes, scaling: Scaling, reference: np.ndarray = REFERENCE_HISTOGRAM) -> float:
    """How far the survey's gray levels are from those of the training tiles.

    Args:
        amplitudes: of the survey.
        scaling: of the survey.
        reference: shares of the 256 gray levels, `histogram` of the training tiles; default: of simulated ones.

    Returns:
        Earth mover's distance in gray levels, 0 to 255. Over `WARN_DISTANCE` a prediction deserves no trust.
    """
    shares = np.bincount(scaling.apply(amplitudes.values), minlength=256) / len(amplitudes.values)
    return float(np.abs(np.cumsum(shares) - np.cumsum(reference)).sum())

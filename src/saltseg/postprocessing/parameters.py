"""Post-processing: the parameters that turn probabilities into masks, and their application.

Probabilities are stored as uint8 in 255ths (`quantize`): a quarter of the space of float32, and the search over every
threshold is exact (`saltseg.postprocessing.threshold_search`).
"""

import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.errors import InputError
from saltseg.postprocessing.morphology import fill_holes, hysteresis


def quantize(probabilities: ArrayLike) -> NDArray[np.uint8]:
    """Convert probabilities to 255ths.

    Args:
        probabilities: floats in [0, 1], any shape.

    Returns:
        uint8 of the same shape, ``round(255 p)``. 128 and above are exactly the probabilities of 0.5 and
        above (0.5 itself becomes 128: halves round to the even neighbor).

    Raises:
        InputError: not floats, NaN, or outside [0, 1].
    """
    array = np.asarray(probabilities)
    if array.dtype.kind != "f":
        raise InputError(f"only floats are quantized: dtype {array.dtype}; divide by 255 first")
    if array.size == 0:
        return array.astype(np.uint8)
    low, high = float(array.min()), float(array.max())  # both are NaN when any value is
    if np.isnan(low):
        nan = np.isnan(array)
        first = tuple(int(index) for index in np.argwhere(nan)[0])
        raise InputError(
            f"probabilities hold {nan.sum():,} NaN of {array.size:,}, the first at index {first}; the network has "
            "diverged or was given NaN: train it again"
        )
    if not (low >= 0 and high <= 1):
        raise InputError(f"probabilities must lie in [0, 1]: found {low:.6g} to {high:.6g}; apply the sigmoid first")
    # float16 holds too few digits for 255 p.
    return np.rint(array.astype(np.promote_types(array.dtype, np.float32), copy=False) * 255).astype(np.uint8)


def as_quantized(probabilities: ArrayLike) -> NDArray[np.uint8]:
    """Check a stack of probabilities and return it in 255ths.

    Args:
        probabilities: (N, H, W), uint8 in 255ths (returned as it is) or float in [0, 1].

    Returns:
        uint8 (N, H, W).

    Raises:
        InputError: wrong number of axes, empty images, another dtype, or as `quantize`.
    """
    array = np.asarray(probabilities)
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise InputError(f"probabilities must be a stack (N, H, W): shape {array.shape}; add or remove axes")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise InputError(
            f"probabilities must be uint8 in 255ths or floats in [0, 1]: dtype {array.dtype}; use quantize"
        )
    return quantize(array)


@dataclass(frozen=True)
class Postprocessing:
    """Parameters of post-processing: which pixels are salt.

    The steps are applied in the order fill_holes, hysteresis_high, threshold, min_area, presence_threshold.

    Attributes:
        threshold: in 255ths, 1 ... 255; a pixel is salt when its probability is at least that.
        min_area: in pixels, 0 and up; an image with fewer salt pixels becomes empty.
        fill_holes: rock that no 4-connected path of rock joins to the border becomes salt.
        hysteresis_high: in 255ths; an 8-connected body of salt is kept only if one of its pixels is at least that. 0,
            like every value up to the threshold, changes nothing.
        presence_threshold: in 255ths; an image becomes empty when the probability that it holds any salt is below
            that. 0: off.

    Raises:
        InputError: a value of the wrong type, or out of range.
    """

    threshold: int = 128
    min_area: int = 0
    fill_holes: bool = False
    hysteresis_high: int = 0
    presence_threshold: int = 0

    def __post_init__(self) -> None:
        for name in ("threshold", "min_area", "hysteresis_high", "presence_threshold"):
            value = getattr(self, name)
            try:
                if isinstance(value, bool):
                    raise TypeError
                object.__setattr__(self, name, operator.index(value))  # numpy integers become int, for JSON
            except TypeError:
                raise InputError(f"{name} must be a whole number: {value!r}; use an int") from None
        if not isinstance(self.fill_holes, bool):
            raise InputError(f"fill_holes must be true or false: {self.fill_holes!r}; use a bool")
        if not 1 <= self.threshold <= 255:
            raise InputError(f"threshold must be 1 ... 255 (255ths): {self.threshold}; 128 is one half")
        if self.min_area < 0:
            raise InputError(f"min_area must be 0 or more pixels: {self.min_area}; 0 removes nothing")
        for name in ("hysteresis_high", "presence_threshold"):
            if not 0 <= getattr(self, name) <= 255:
                raise InputError(f"{name} must be 0 ... 255 (255ths): {getattr(self, name)}; 0 switches it off")

    def apply(self, probabilities: ArrayLike, presence_probability: ArrayLike | None = None) -> NDArray[np.uint8]:
        """Turn probabilities into masks.

        Args:
            probabilities: (N, H, W), uint8 in 255ths or float in [0, 1].
            presence_probability: (N,), uint8 in 255ths, probability that the image holds any salt; needed for a
                presence threshold only.

        Returns:
            uint8 {0, 1} (N, H, W).

        Raises:
            InputError: another dtype or number of axes, values outside [0, 1], or a presence threshold without
                presence probabilities.
        """
        masks = (self.filter_probabilities(probabilities) >= self.threshold).view(np.uint8)
        masks[masks.sum(axis=(1, 2), dtype=np.int64) < self.min_area] = 0
        masks[self.emptied_by_presence(len(masks), presence_probability)] = 0
        return masks

    def filter_probabilities(self, probabilities: ArrayLike) -> NDArray[np.uint8]:
        """Fill holes and apply hysteresis for all thresholds at once: uint8 (N, H, W) in 255ths."""
        filtered = as_quantized(probabilities)
        if self.fill_holes:
            filtered = fill_holes(filtered)
        return hysteresis(filtered, self.hysteresis_high) if self.hysteresis_high else filtered

    def emptied_by_presence(self, n: int, presence_probability: ArrayLike | None) -> NDArray[np.bool_]:
        """Which of n images the presence threshold makes empty: bool (n,). Raises InputError as `apply`."""
        if self.presence_threshold == 0:
            return np.zeros(n, bool)
        if presence_probability is None:
            raise InputError(
                f"the presence threshold is {self.presence_threshold}/255, but the predictions hold no presence "
                "probabilities; predict with a network that has a presence head"
            )
        given = np.asarray(presence_probability)
        if given.shape != (n,) or given.dtype != np.uint8:
            raise InputError(
                f"presence_probability must be uint8 ({n},), one an image: {given.dtype} {given.shape}; use quantize"
            )
        return given < self.presence_threshold

    def to_dict(self) -> dict[str, int]:
        """All attributes by name, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Postprocessing":
        """The inverse of `to_dict`; only threshold and min_area are required.

        Raises:
            InputError: one of the two is missing, a key is unknown, or a value is not valid.
        """
        known = [field.name for field in fields(cls)]
        if not {"threshold", "min_area"} <= set(values) <= set(known):
            raise InputError(
                f"post-processing has the keys threshold and min_area, of {', '.join(known)}: {sorted(values)}; "
                "correct it"
            )
        return cls(**values)


THRESHOLD_HALF = Postprocessing(128, 0)
"""Needs no tuning: salt where the probability is one half or more."""

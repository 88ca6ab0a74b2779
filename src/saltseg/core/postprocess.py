"""From probabilities to masks: the decision rule.

Probabilities are kept as uint8 in 255ths (`quantise`): a quarter of the space of float32, and a rule can be
searched over every threshold there is, exactly (`saltseg.core.thresholds`).
"""

import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.errors import InputError


def quantise(probabilities: ArrayLike) -> NDArray[np.uint8]:
    """Probabilities in 255ths.

    Args:
        probabilities: floats in [0, 1], any shape.

    Returns:
        uint8 of the same shape, ``round(255 p)``. 128 and above are exactly the probabilities of 0.5 and
        above (0.5 itself becomes 128: halves round to the even neighbour).

    Raises:
        InputError: not floats, NaN, or outside [0, 1].
    """
    array = np.asarray(probabilities)
    if array.dtype.kind != "f":
        raise InputError(f"only floats are quantised: dtype {array.dtype}; divide by 255 first")
    if array.size == 0:
        return array.astype(np.uint8)
    low, high = float(array.min()), float(array.max())  # both are NaN when any value is
    if not (low >= 0 and high <= 1):
        raise InputError(f"probabilities must lie in [0, 1]: found {low:.6g} to {high:.6g}; apply the sigmoid first")
    # float16 holds too few digits for 255 p.
    return np.rint(array.astype(np.promote_types(array.dtype, np.float32), copy=False) * 255).astype(np.uint8)


def as_quantised(probabilities: ArrayLike) -> NDArray[np.uint8]:
    """(N, H, W) uint8 in 255ths from either form: uint8 is taken as it is, floats go through `quantise`."""
    array = np.asarray(probabilities)
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise InputError(f"probabilities must be a stack (N, H, W): shape {array.shape}; add or remove axes")
    if array.dtype == np.uint8:
        return array
    if array.dtype.kind != "f":
        raise InputError(
            f"probabilities must be uint8 in 255ths or floats in [0, 1]: dtype {array.dtype}; use quantise"
        )
    return quantise(array)


@dataclass(frozen=True)
class Rule:
    """A decision rule: which pixels are salt.

    Attributes:
        threshold: in 255ths, 1 ... 255; a pixel is salt when its probability is at least that.
        min_area: in pixels, 0 and up; an image with fewer salt pixels than that becomes empty.

    Raises:
        InputError: not whole numbers, or out of range.
    """

    threshold: int = 128
    min_area: int = 0

    def __post_init__(self) -> None:
        for name in ("threshold", "min_area"):
            value = getattr(self, name)
            try:
                if isinstance(value, bool):
                    raise TypeError
                object.__setattr__(self, name, operator.index(value))  # numpy integers become int, for JSON
            except TypeError:
                raise InputError(f"{name} must be a whole number: {value!r}; use an int") from None
        if not 1 <= self.threshold <= 255:
            raise InputError(f"threshold must be 1 ... 255 (255ths): {self.threshold}; 128 is one half")
        if self.min_area < 0:
            raise InputError(f"min_area must be 0 or more pixels: {self.min_area}; 0 removes nothing")

    def apply(self, probabilities: ArrayLike) -> NDArray[np.uint8]:
        """Masks under this rule.

        Args:
            probabilities: (N, H, W), uint8 in 255ths or float in [0, 1].

        Returns:
            uint8 {0, 1} (N, H, W).

        Raises:
            InputError: another dtype or number of axes, values outside [0, 1].
        """
        masks = (as_quantised(probabilities) >= self.threshold).view(np.uint8)
        masks[masks.sum(axis=(1, 2), dtype=np.int64) < self.min_area] = 0
        return masks

    def to_dict(self) -> dict[str, int]:
        """``{"threshold", "min_area"}``, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Rule":
        """The inverse of `to_dict`. InputError when a key is missing or unknown, or a value is not valid."""
        if set(values) != {"threshold", "min_area"}:
            raise InputError(f"a rule has the keys threshold and min_area: {sorted(values)}; correct it")
        return cls(values["threshold"], values["min_area"])


HALF = Rule(128, 0)
"""The rule that needs no tuning: salt where the probability is one half or more."""

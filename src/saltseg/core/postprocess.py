"""From probabilities to masks: the decision rule.

Probabilities are kept as uint8 in 255ths (`quantise`): a quarter of the space of float32, and a rule can be
searched over every threshold there is, exactly (`saltseg.core.thresholds`, `saltseg.core.decision`).
"""

import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.core.morphology import fill_holes, keep_strong
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
    """A decision rule: which pixels are salt. Holes are filled first, then `high`, `min_area` and `gate` take away.

    Attributes:
        threshold: in 255ths, 1 ... 255; a pixel is salt when its probability is at least that.
        min_area: in pixels, 0 and up; an image with fewer salt pixels than that becomes empty.
        fill_holes: rock that no 4-connected path of rock joins to the border becomes salt.
        high: in 255ths; an 8-connected body of salt stays only if one of its pixels is at least that. 0, like every
            value up to the threshold, changes nothing.
        gate: in 255ths; an image becomes empty when the probability that it holds any salt is below that. 0: off.

    Raises:
        InputError: values of another kind, or out of range.
    """

    threshold: int = 128
    min_area: int = 0
    fill_holes: bool = False
    high: int = 0
    gate: int = 0

    def __post_init__(self) -> None:
        for name in ("threshold", "min_area", "high", "gate"):
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
        for name in ("high", "gate"):
            if not 0 <= getattr(self, name) <= 255:
                raise InputError(f"{name} must be 0 ... 255 (255ths): {getattr(self, name)}; 0 switches it off")

    def apply(self, probabilities: ArrayLike, presence: ArrayLike | None = None) -> NDArray[np.uint8]:
        """Masks under this rule.

        Args:
            probabilities: (N, H, W), uint8 in 255ths or float in [0, 1].
            presence: (N,), uint8 in 255ths, probability that the image holds any salt; needed by a gate only.

        Returns:
            uint8 {0, 1} (N, H, W).

        Raises:
            InputError: another dtype or number of axes, values outside [0, 1], a gate without presence.
        """
        masks = (self.shape(probabilities) >= self.threshold).view(np.uint8)
        masks[masks.sum(axis=(1, 2), dtype=np.int64) < self.min_area] = 0
        masks[self.gated(len(masks), presence)] = 0
        return masks

    def shape(self, probabilities: ArrayLike) -> NDArray[np.uint8]:
        """Hole filling and hysteresis, for any threshold: uint8 (N, H, W) in 255ths, to be cut at the threshold."""
        shaped = as_quantised(probabilities)
        if self.fill_holes:
            shaped = fill_holes(shaped)
        return keep_strong(shaped, self.high) if self.high else shaped

    def gated(self, n: int, presence: ArrayLike | None) -> NDArray[np.bool_]:
        """Which of n images the gate makes empty: bool (n,). Raises InputError as `apply`."""
        if self.gate == 0:
            return np.zeros(n, bool)
        if presence is None:
            raise InputError(
                f"the rule's gate of {self.gate}/255 asks how likely an image holds salt, and the predictions do not "
                "say; predict with a network that has an empty-image head"
            )
        given = np.asarray(presence)
        if given.shape != (n,) or given.dtype != np.uint8:
            raise InputError(f"presence must be uint8 ({n},), one an image: {given.dtype} {given.shape}; use quantise")
        return given < self.gate

    def to_dict(self) -> dict[str, int]:
        """All attributes by name, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Rule":
        """The inverse of `to_dict`; threshold and min_area must be there, the rest is off where it is missing.

        Raises InputError when one of the two is missing, a key is unknown, or a value is not valid.
        """
        known = [field.name for field in fields(cls)]
        if not {"threshold", "min_area"} <= set(values) <= set(known):
            raise InputError(
                f"a rule has the keys threshold and min_area, of {', '.join(known)}: {sorted(values)}; correct it"
            )
        return cls(**values)


HALF = Rule(128, 0)
"""The rule that needs no tuning: salt where the probability is one half or more."""

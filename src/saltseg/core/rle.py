"""Run-length encoding (RLE) of binary masks, as the competition wants it.

A mask is written as pairs ``start length`` separated by spaces. Pixels are numbered from 1, down the columns:
pixel 1 is the top-left corner, pixel 2 lies below it. An empty mask is the empty text.
Source: the evaluation page of the TGS Salt Identification Challenge (Kaggle, 2018).

Decoding is strict. Tolerant decoders (odd counts, zeros, overlaps) turn somebody's bug into a wrong mask.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.errors import InputError

TILE_SHAPE = (101, 101)
"""Height and width of a competition image, in pixels."""

_CHUNK = 256  # masks encoded at once: the working copies then stay in the processor's cache
_DIGITS = re.compile(r"[0-9]{1,18}")


def as_masks(masks: ArrayLike, name: str = "masks") -> NDArray[np.uint8]:
    """Check a stack of binary masks and return it as uint8.

    Args:
        masks: (N, H, W), any bool, integer or float dtype, values 0 and 1 only.
        name: what the error message calls it.

    Returns:
        uint8 {0, 1} (N, H, W); shares memory with the input where the dtype allows.

    Raises:
        InputError: wrong number of axes, empty tiles, or any other value (255 and NaN included).
    """
    array = np.asarray(masks)
    if array.ndim != 3 or 0 in array.shape[1:]:
        raise InputError(f"{name} must be a stack (N, H, W): shape {array.shape}; use mask[None] for one")
    if array.dtype == np.bool_:
        return array.view(np.uint8)
    if array.dtype.kind not in "uif":
        raise InputError(f"{name} must hold numbers: dtype {array.dtype}; use uint8")
    if array.dtype == np.uint8:
        binary = array.size == 0 or int(array.max()) <= 1
    else:
        binary = bool(((array == 0) | (array == 1)).all())
    if not binary:
        value = array[(array != 0) & (array != 1)].flat[0]
        raise InputError(f"{name} must hold only 0 and 1: found {value}; convert with (mask > 0)")
    return array.astype(np.uint8, copy=False)


def encode(mask: ArrayLike) -> str:
    """Encode one mask.

    Args:
        mask: (H, W), values 0 and 1 only, bool or any number dtype; axis 0 runs down.

    Returns:
        ``"start length start length ..."``, sorted, runs never touch; ``""`` for an empty mask.

    Raises:
        InputError: not two axes, or not binary.
    """
    array = np.asarray(mask)
    if array.ndim != 2:
        raise InputError(f"a mask has two axes (H, W): shape {array.shape}; use encode_batch for a stack")
    return encode_batch(array[None])[0]


def encode_batch(masks: ArrayLike) -> list[str]:
    """Encode a stack of masks: `encode` for each, in vectorised passes over a few hundred at a time.

    Args:
        masks: (N, H, W), values 0 and 1 only.

    Returns:
        N texts, in the order of the masks.

    Raises:
        InputError: not three axes, or not binary.
    """
    array = as_masks(masks)
    pixels = array.shape[1] * array.shape[2]
    # Looking a number up is faster than writing it, once there are more of them than pixels in a mask.
    digits = [str(number) for number in range(pixels + 1)] if len(array) >= _CHUNK else None
    texts: list[str] = []
    for begin in range(0, len(array), _CHUNK):
        texts.extend(_encode_chunk(array[begin : begin + _CHUNK], digits))
    return texts


def _encode_chunk(masks: NDArray[np.uint8], digits: list[str] | None) -> list[str]:
    n = len(masks)
    stride = masks.shape[1] * masks.shape[2] + 1  # one background pixel before every image ...
    line = np.zeros(n * stride + 1, np.uint8)  # ... and one after the last, so that every run ends (trap 2)
    line[:-1].reshape(n, stride)[:, 1:] = masks.transpose(0, 2, 1).reshape(n, -1)
    changes = np.flatnonzero(line[1:] != line[:-1])
    starts, ends = changes[0::2], changes[1::2]
    pairs = np.stack([starts % stride + 1, ends - starts], axis=1)  # (runs, 2)
    numbers = pairs.ravel().tolist()
    words = [digits[number] for number in numbers] if digits else list(map(str, numbers))
    last = 2 * np.searchsorted(starts, np.arange(1, n + 1) * stride)  # words up to the end of each image
    bounds = [0, *last.tolist()]
    return [" ".join(words[begin:end]) for begin, end in pairwise(bounds)]


def decode(text: str, shape: tuple[int, int] = TILE_SHAPE) -> NDArray[np.uint8]:
    """Decode one text; the inverse of `encode`.

    Args:
        text: pairs ``start length``; ``""`` is the empty mask. Runs are in rising order and do not overlap
            (they may touch).
        shape: (H, W) of the mask.

    Returns:
        uint8 {0, 1} (H, W).

    Raises:
        InputError: odd count, something that is not a whole number, start or length below 1, unsorted or
            overlapping runs, a run past the last pixel; the message names the run and the value.
    """
    return decode_batch([text], shape)[0]


def decode_batch(texts: Sequence[str], shape: tuple[int, int] = TILE_SHAPE) -> NDArray[np.uint8]:
    """Decode many texts; the inverse of `encode_batch`.

    Args:
        texts: N texts.
        shape: (H, W) of every mask.

    Returns:
        uint8 {0, 1} (N, H, W), contiguous.

    Raises:
        InputError: as `decode`; the message begins with the index of the text where there are several.
    """
    height, width = shape
    masks = np.empty((len(texts), height, width), np.uint8)
    columns = np.empty((_CHUNK, width * height), np.uint8)
    for begin in range(0, len(texts), _CHUNK):
        chunk = texts[begin : begin + _CHUNK]
        columns[:] = 0
        for row, (index, text) in zip(columns, enumerate(chunk, begin), strict=False):
            try:
                runs = parse(text, width * height)
            except InputError as error:
                raise InputError(f"text {index}: {error}" if len(texts) > 1 else str(error)) from None
            for first, end in runs:
                row[first:end] = 1
        masks[begin : begin + _CHUNK] = columns[: len(chunk)].reshape(-1, width, height).transpose(0, 2, 1)
    return masks


def parse(text: str, pixels: int) -> list[tuple[int, int]]:
    """Runs of a text, checked: all the strictness of this module is here.

    Args:
        text: as for `decode`.
        pixels: number of pixels of the mask, H W.

    Returns:
        (first, end) of every run in the order of pixels down the columns, from 0, end excluded.

    Raises:
        InputError: as `decode`.
    """
    numbers = _numbers(text)
    runs: list[tuple[int, int]] = []
    previous = 0  # number of the last pixel used, from 1
    pairs = iter(numbers)
    for start, length in zip(pairs, pairs, strict=True):
        last = start + length - 1
        if start <= previous or length < 1 or last > pixels:
            raise InputError(f"run {len(runs) + 1}: {_reason(start, length, previous, pixels)}")
        previous = last
        runs.append((start - 1, last))
    return runs


def _numbers(text: str) -> list[int]:
    """The numbers of a text, an even count."""
    if not isinstance(text, str):
        raise InputError(f"an RLE is text: {text!r}; an empty mask is the empty text ''")
    words = text.split()
    # int() alone would also take '1_0', '+1' and the digits of other alphabets.
    if words and not (text.isascii() and "".join(words).isdigit() and len(max(words, key=len)) <= 18):
        index, word = next(pair for pair in enumerate(words) if not _DIGITS.fullmatch(pair[1]))
        raise InputError(f"run {index // 2 + 1}: '{word[:20]}' is not a whole number; write 'start length' pairs")
    if len(words) % 2:
        raise InputError(f"run {len(words) // 2 + 1}: start {words[-1]} has no length; write 'start length' pairs")
    return [int(word) for word in words]


def _reason(start: int, length: int, previous: int, pixels: int) -> str:
    if start < 1:
        return f"start {start} is below 1; pixels are numbered from 1"
    if length < 1:
        return f"length {length} is below 1; leave the run out"
    if start <= previous:
        return f"start {start} is not after pixel {previous} of the run before; sort and merge the runs"
    return f"start {start} length {length} goes past the last pixel {pixels}; check the size of the mask"

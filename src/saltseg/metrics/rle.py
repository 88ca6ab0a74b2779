"""Run-length encoding (RLE) of binary masks in the competition's format.

A mask is written as pairs ``start length`` separated by spaces. Pixels are numbered from 1, down the columns:
pixel 1 is the top-left corner, pixel 2 lies below it. An empty mask is the empty text.
Source: the evaluation page of the TGS Salt Identification Challenge (Kaggle, 2018).

Decoding is strict: a tolerant decoder (odd counts, zeros, overlaps) would turn a writer's bug into a wrong mask.
"""

import operator
import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from saltseg.errors import InputError
from saltseg.metrics.masks import as_masks

TILE_SHAPE = (101, 101)
"""Height and width of a competition image, in pixels."""

_CHUNK = 256  # masks at once: the working copies then stay in the processor's cache
_WORD = re.compile(r"(?a:\S+)")  # str.split also splits at white space that is not ASCII
_DIGITS = re.compile(r"[0-9]{1,18}")


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
    """Encode a stack of masks: `encode` for each, in vectorized passes over a few hundred at a time.

    Args:
        masks: (N, H, W), values 0 and 1 only.

    Returns:
        N texts, in the order of the masks.

    Raises:
        InputError: not three axes, or not binary.
    """
    array = as_masks(masks)
    texts: list[str] = []
    for begin in range(0, len(array), _CHUNK):
        texts.extend(_encode_chunk(array[begin : begin + _CHUNK]))
    return texts


def _encode_chunk(masks: NDArray[np.uint8]) -> list[str]:
    n, height, width = masks.shape
    changes = _changes(masks)
    starts, ends = changes[0::2], changes[1::2]
    stride = height * width + 1
    numbers = np.stack([starts % stride + 1, ends - starts], axis=1).ravel()
    letters, count = _decimals(numbers)
    text = letters[letters != 0].tobytes().decode("ascii")
    until = np.append(0, np.cumsum(count))  # letters before each word
    last = 2 * np.searchsorted(starts, np.arange(n + 1) * stride)  # words before each image
    return [text[begin:end].rstrip() for begin, end in pairwise(until[last].tolist())]


def _decimals(numbers: NDArray[np.int64]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Numbers (n,) from 1 as ASCII, NULs in front, a blank after each: (n, L); and their lengths without NULs (n,)."""
    digits = len(str(numbers.max(initial=0)))
    letters = np.full((len(numbers), digits + 1), ord(" "), np.uint8)
    count, rest = np.ones(len(numbers), np.int64), numbers.astype(np.uint32)
    for column in reversed(range(digits)):
        above = rest // 10
        letters[:, column] = np.where(rest > 0, rest - 10 * above + ord("0"), 0)
        count += rest > 0
        rest = above
    return letters, count


def _changes(masks: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Starts and ends of runs, in turn, as positions in one line: images down the columns, a pixel of rock after each.

    Comparing rows and sorting the few changes is faster than transposing the images.
    """
    n, height, width = masks.shape
    changed = np.empty((n, height, width), np.bool_)
    np.not_equal(masks[:, 1:], masks[:, :-1], out=changed[:, 1:])
    np.not_equal(masks[:, 0, 1:], masks[:, -1, :-1], out=changed[:, 0, 1:])  # from column to column
    changed[:, 0, 0] = masks[:, 0, 0]
    image, position = np.divmod(np.flatnonzero(changed), height * width)
    down = np.arange(height * width).reshape(width, height).T.ravel()  # row by row: the number down the columns
    stride = height * width + 1
    open_at_the_end = np.flatnonzero(masks[:, -1, -1]) * stride + stride - 1  # no run goes on into the next image
    ends = [image * stride + down[position], open_at_the_end]
    return np.sort(np.concatenate(ends), kind="stable")  # twice as fast here as the default


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
    height, width = _sides(shape)
    pixels = height * width
    masks = np.empty((len(texts), height, width), np.uint8)
    for begin in range(0, len(texts), _CHUNK):
        chunk = texts[begin : begin + _CHUNK]
        bounds = _bounds(chunk, pixels)
        if bounds is None:
            bounds = _bounds_one_by_one(chunk, pixels, begin if len(texts) > 1 else None)
        gaps = np.diff(bounds, prepend=0, append=len(chunk) * pixels)  # rock, salt, rock ... rock
        salt = np.zeros(len(gaps), np.uint8)
        salt[1::2] = 1
        line = np.repeat(salt, gaps)
        masks[begin : begin + _CHUNK] = line.reshape(-1, width, height).transpose(0, 2, 1)
    return masks


def _sides(shape: tuple[int, int]) -> tuple[int, int]:
    """Height and width as whole numbers; InputError for anything else."""
    try:
        height, width = map(operator.index, shape)
    except (TypeError, ValueError):
        height = width = 0
    if height < 1 or width < 1:
        raise InputError(f"a mask has height and width: shape {shape}; give two whole numbers from 1")
    return height, width


def _bounds(texts: Sequence[str], pixels: int) -> NDArray[np.int64] | None:
    """First pixel and end of each run, int64 (2 runs,), pixels counted on from text to text.

    None where `parse` would refuse something, and for white space other than blanks, which `parse` accepts.
    """
    if not all(isinstance(text, str) for text in texts):
        return None
    joined = " ".join(["", *texts, ""])  # a blank before each text and at the end
    if not joined.isascii():
        return None
    encoded = joined.encode()
    letters = np.frombuffer(encoded, np.uint8)
    digit = (letters >= ord("0")) & (letters <= ord("9"))
    edges = np.flatnonzero(digit[1:] != digit[:-1]) + 1
    begins, ends = edges[0::2], edges[1::2]  # of the words
    if not (digit | (letters == ord(" "))).all() or (ends - begins).max(initial=0) > 18:
        return None
    lengths = [len(text) + 1 for text in texts]
    words = np.diff(np.searchsorted(begins, np.cumsum([0, *lengths])))  # in each text
    if (words % 2).any():
        return None
    numbers = np.fromstring(encoded, np.int64, sep=" ") if len(begins) else np.empty(0, np.int64)
    start, length = numbers[0::2], numbers[1::2]
    last, text = start + length - 1, np.repeat(np.arange(len(texts)), words // 2)
    if (start < 1).any() or (length < 1).any() or (last > pixels).any():
        return None
    if ((start[1:] <= last[:-1]) & (text[1:] == text[:-1])).any():
        return None
    return (np.stack([start - 1, last], axis=1) + pixels * text[:, None]).ravel()


def _bounds_one_by_one(texts: Sequence[str], pixels: int, first: int | None) -> NDArray[np.int64]:
    """`_bounds` by way of `parse`. first: index of the first text for the error message; None: without an index."""
    bounds: list[int] = []
    for index, text in enumerate(texts):
        try:
            bounds += [index * pixels + bound for run in parse(text, pixels) for bound in run]
        except InputError as error:
            raise InputError(str(error) if first is None else f"text {first + index}: {error}") from None
    return np.array(bounds, np.int64)


def parse(text: str, pixels: int) -> list[tuple[int, int]]:
    """Check a text and return its runs.

    Args:
        text: as for `decode`.
        pixels: number of pixels of the mask, H W.

    Returns:
        (first, end) of every run; pixels are numbered from 0 down the columns, end excluded.

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
    words = _WORD.findall(text)
    # int() alone would also accept '1_0', '+1' and the digits of other alphabets.
    if words and not (text.isascii() and "".join(words).isdigit() and len(max(words, key=len)) <= 18):
        index, word = next(pair for pair in enumerate(words) if not _DIGITS.fullmatch(pair[1]))
        raise InputError(f"run {index // 2 + 1}: {word[:20]!r} is not a whole number; write 'start length' pairs")
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

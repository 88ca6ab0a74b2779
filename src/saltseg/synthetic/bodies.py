"""Salt bodies of the synthetic sections: massifs, domes, walls and sheets, as distance to their boundary.

Each body is a simple shape in warped coordinates; the warp gives its boundary coarse and fine relief. Arrays are
(H, W), lengths are in pixels, and `depth` and `along` are the warped coordinates of every pixel.
"""

import cv2
import numpy as np

from saltseg.synthetic.random_fields import smooth_field, smooth_line

_FAR = 1e4  # distance where there is no salt at all
KINDS = ("massif", "dome", "wall", "sheet", "none")
# Chosen so that few tiles have to be skipped to match the real distribution of coverage.
KIND_SHARES = (0.18, 0.26, 0.24, 0.22, 0.10)


def draw(rng: np.random.Generator, shape: tuple[int, int], wavelength: float, size: float) -> tuple[str, np.ndarray]:
    """Draw the salt of a section: a main body and, in a quarter of the sections, a sheet.

    Args:
        rng: source of randomness.
        shape: (H, W), pixels.
        wavelength: dominant wavelength of the image, pixels.
        size: width of a typical body, pixels.

    Returns:
        Kind of the main body, and the distance to the boundary of the salt, float32 (H, W), negative inside.
    """
    kind = str(rng.choice(KINDS, p=KIND_SHARES))
    if kind == "none":
        return kind, np.full(shape, _FAR, np.float32)
    coarse, fine = float(rng.uniform(0.1, 0.8)) * wavelength, float(rng.uniform(0.03, 0.28)) * wavelength
    ragged = fine * smooth_field(rng, shape, 0.8 * wavelength, 0.6 * wavelength)
    depth, along = (
        axis + coarse * smooth_field(rng, shape, 3 * wavelength, 3 * wavelength) + ragged
        for axis in np.indices(shape, dtype=np.float32)
    )
    bodies = {"massif": _massif, "dome": _dome, "wall": _wall, "sheet": _sheet}
    inside = bodies[kind](rng, depth, along, size)
    if rng.random() < 0.25:
        inside |= _sheet(rng, depth, along, size)
    return kind, _signed_distance(inside)


def annotate(rng: np.random.Generator, mask: np.ndarray, kind: str, quality: float) -> np.ndarray:
    """Imitate the annotation of a person or a velocity model.

    Mostly the exact mask; sometimes in steps of a few pixels, or a vertical flank where the survey shows little.

    Args:
        rng: source of randomness.
        mask: uint8 {0, 1} (H, W).
        kind: of the salt body, one of `KINDS`.
        quality: of the survey, 0..1.

    Returns:
        uint8 {0, 1} (H, W).
    """
    if kind == "wall" and quality < 0.6:
        # Barely visible flanks were annotated as vertical: 2.8 % of the real masks are exact vertical bands.
        share = mask.mean(0)
        if np.mean((share > 0.05) & (share < 0.95)) < 0.25:
            return np.repeat((share >= 0.5).astype(np.uint8)[None], mask.shape[0], 0)
    if rng.random() < 0.15:
        step = int(rng.integers(2, 5))
        rows, columns = (np.minimum(np.arange(n) // step * step + step // 2, n - 1) for n in mask.shape)
        return mask[np.ix_(rows, columns)]
    return mask


def _signed_distance(inside: np.ndarray) -> np.ndarray:
    """Euclidean distance to the edge of a bool mask (H, W), float32 (H, W), negative inside."""

    def distance(mask: np.ndarray) -> np.ndarray:
        """From each pixel to the nearest zero of a bool mask (H, W)."""
        if mask.all():  # no edge to measure from
            return np.full(mask.shape, _FAR, np.float32)
        exact = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        # The last bits depend on the number of threads; squared distances are whole numbers.
        return np.sqrt(np.rint(exact.astype(np.float64) ** 2))

    outward, inward = distance(~inside), distance(inside)
    return np.where(inside, 0.5 - inward, outward - 0.5).astype(np.float32)


def _massif(rng: np.random.Generator, depth: np.ndarray, along: np.ndarray, size: float) -> np.ndarray:
    """Everything below an undulating top, with pointed peaks in some sections and flat shoulders in others."""
    height, width = depth.shape
    relief = smooth_line(rng, width, size * float(rng.uniform(0.5, 1.5)))
    relief = np.abs(relief) - 0.8 if rng.random() < 0.5 else np.clip(relief, -1.2, 0.8)
    # Upside down, peaks become the V-shaped minibasins between two highs.
    relief = relief if rng.random() < 0.7 else -relief
    top = height * float(rng.uniform(0, 0.95)) + relief * size * float(rng.uniform(0.1, 0.6))
    return depth > top[None, :]


def _dome(rng: np.random.Generator, depth: np.ndarray, along: np.ndarray, size: float) -> np.ndarray:
    """A diapir: rounded or pointed crest, inclined stem that widens or narrows, overhang at the head."""
    height, width = depth.shape
    below = depth - height * float(rng.uniform(-0.5, 0.75))
    center = width * float(rng.uniform(0.05, 0.95)) + float(rng.normal(0, 0.25)) * below
    crest = np.tanh(np.maximum(below, 0) / (size * float(rng.uniform(0.1, 0.6)))) ** float(rng.uniform(0.5, 1))
    bulge = float(rng.uniform(0, 0.5)) * np.exp(-(((below / size) - 0.4) ** 2) / 0.08)
    half_width = size * float(rng.uniform(0.3, 0.8)) * crest * (1 + bulge) + float(rng.normal(0.1, 0.15)) * below
    return (below > 0) & (np.abs(along - center) < half_width)


def _wall(rng: np.random.Generator, depth: np.ndarray, along: np.ndarray, size: float) -> np.ndarray:
    """The steep flank of a body wider than the section, with or without its top in view."""
    height, width = depth.shape
    side = float(rng.choice([-1, 1]))
    middle = depth - height / 2
    edge = float(rng.normal(0, 0.35)) * middle + float(rng.normal(0, 0.15)) * middle**2 / size
    inside = side * (along - width * float(rng.uniform(0.1, 0.9))) > edge
    if rng.random() < 0.35:
        inside &= depth > height * float(rng.uniform(0, 0.6)) + side * float(rng.normal(0, 0.2)) * along
    return inside


def _sheet(rng: np.random.Generator, depth: np.ndarray, along: np.ndarray, size: float) -> np.ndarray:
    """Allochthonous salt: a lens between a smooth top and an uneven base, tapering to its ends."""
    height, width = depth.shape
    extent = size * float(rng.uniform(0.6, 2.5))
    across = (along - width * float(rng.uniform(0, 1))) / extent
    thickness = size * float(rng.uniform(0.15, 1.1)) * np.sqrt(np.maximum(1 - across**2, 0))
    top = height * float(rng.uniform(-0.4, 0.7)) + float(rng.normal(0, 0.2)) * across * extent
    top = top + smooth_line(rng, width, size)[None, :] * size * 0.06
    base = top + thickness * (1 + 0.25 * smooth_line(rng, width, size * 0.4)[None, :])
    return (depth > top) & (depth < base)

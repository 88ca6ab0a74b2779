"""Geology of the synthetic sections: impedance of folded, faulted, truncated layers and the salt inside them.

Every length is in pixels and most scale with the dominant wavelength of the section, so that a section drawn
with a short wavelength looks like a whole basin seen from afar and one with a long wavelength like a close-up.
Layers are contours of a stratigraphic age field (the depth at which a layer was laid down): folds, dips, faults
and the drag beside salt are displacements added to that field, as in Wu et al., "Building realistic structure
models to train convolutional neural networks for seismic structural interpretation", Geophysics 85 (2020) WA27.
Arrays are (H, W): row = depth downwards, column = distance along the line.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from scipy import fft, ndimage

# Samples of an impedance profile per pixel of depth: fine enough that a thin dipping layer has no stairs.
_FINE = 4
KINDS = ("massif", "dome", "wall", "sheet", "none")
# Shares of the kinds, chosen so that few tiles have to be rejected to match the real shares of coverage.
KIND_SHARES = (0.18, 0.26, 0.24, 0.22, 0.10)


@dataclass(frozen=True)
class Geology:
    """One section before it is imaged; all arrays (H, W).

    impedance float32, in standard deviations of the sediments' impedance; salt float32 in [0, 1], the salt
    share of the pixel (fractions only on the boundary); water bool.
    """

    impedance: np.ndarray
    salt: np.ndarray
    water: np.ndarray
    kind: str


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int], length_z: float, length_x: float
) -> np.ndarray:
    """Gaussian random field, float32 (H, W), mean 0, deviation 1, correlated over the given lengths in pixels."""
    height, width = (fft.next_fast_len(int(side * 1.25), real=True) for side in shape)
    size = (height, width // 2 + 1)
    wave_z = fft.fftfreq(height).astype(np.float32)[:, None] * np.float32(length_z * np.pi)
    wave_x = fft.rfftfreq(width).astype(np.float32)[None, :] * np.float32(length_x * np.pi)
    # Far out the Gaussian is zero: drawing and filling only the corner that matters saves most of the time.
    spectrum = np.zeros(size, np.complex64)
    rows = np.flatnonzero(np.abs(wave_z[:, 0]) < 3.5)
    columns = int(np.count_nonzero(wave_x[0] < 3.5))
    noise = rng.standard_normal((2, rows.size, columns), dtype=np.float32)
    gain = np.exp(-(wave_z[rows] ** 2) - wave_x[:, :columns] ** 2)
    spectrum[rows, :columns] = (noise[0] + 1j * noise[1]) * gain
    field = fft.irfft2(spectrum, s=(height, width))[: shape[0], : shape[1]]
    field = field - field.mean()
    return (field / max(float(field.std()), 1e-12)).astype(np.float32)


def smooth_line(rng: np.random.Generator, count: int, length: float) -> np.ndarray:
    """Random line, float32 (count,), mean 0, deviation 1, correlated over `length` samples."""
    pad = int(2 * length) + 1
    line = ndimage.gaussian_filter1d(rng.standard_normal(count + 2 * pad), length / 2)[pad : pad + count]
    line = line - line.mean()
    return (line / max(float(line.std()), 1e-12)).astype(np.float32)


def simulate(rng: np.random.Generator, shape: tuple[int, int], wavelength: float) -> Geology:
    """Draw the geology of one section.

    shape: (H, W) in pixels; wavelength: dominant wavelength of the later image in pixels, the yardstick of all
    lengths. Salt cuts through the sediments; water, if any, lies over everything.
    """
    size = wavelength * float(rng.uniform(7, 15))
    kind = str(rng.choice(KINDS, p=KIND_SHARES))
    distance = _salt_distance(rng, shape, wavelength, size, kind)
    salt = np.clip(0.5 - distance, 0, 1).astype(np.float32)
    uplift = _uplift(rng, distance, salt, wavelength, size)
    impedance = _sediments(rng, shape, wavelength, size, uplift)
    # From a flank hardly seen to one that outshines everything; the reflection also varies along the boundary.
    contrast = float(np.exp(rng.uniform(np.log(2.5), np.log(18))))
    varied = contrast * np.exp(0.25 * smooth_field(rng, shape, 5 * wavelength, 5 * wavelength))
    impedance += salt * (varied - impedance)
    water = np.zeros(shape, bool)
    if wavelength < 12 and rng.random() < 0.55:
        floor = shape[0] * float(rng.uniform(0.08, 0.25)) - 0.5 * _drape(uplift)
        floor += float(rng.uniform(1, 6)) * smooth_line(rng, shape[1], 12 * wavelength)
        water = np.arange(shape[0])[:, None] < floor[None, :]
        impedance[water] = -float(rng.uniform(3, 6))
        salt[water] = 0
    return Geology(impedance, salt, water, kind)


def _drape(uplift: np.ndarray) -> np.ndarray:
    """Rise of the shallow layers over salt, (W,): the uplift near the top of the section."""
    return uplift[: max(1, uplift.shape[0] // 6)].mean(0)


def _uplift(
    rng: np.random.Generator, distance: np.ndarray, salt: np.ndarray, wavelength: float, size: float
) -> np.ndarray:
    """Displacement of the layers by rising salt: upturned at the flanks, draped over the crest, none below."""
    height = size * float(rng.choice([rng.uniform(0, 0.3), rng.uniform(0.4, 1.5)]))
    reach = size * float(rng.uniform(0.25, 0.6))
    below = (np.cumsum(salt, axis=0, dtype=np.float32) > 1).astype(np.float32)
    free = 1 - 0.9 * below
    lift = height * np.exp(-np.maximum(distance, 0) / reach) * free
    # The distance has creases over a notch in the salt; layers bend.
    return ndimage.uniform_filter(lift, int(2 * wavelength) | 1)


def _sediments(
    rng: np.random.Generator, shape: tuple[int, int], wavelength: float, size: float, uplift: np.ndarray
) -> np.ndarray:
    """Impedance of up to three packages of layers, each younger one truncating the one below it."""
    depth = np.arange(shape[0], dtype=np.float32)[:, None]
    along = np.arange(shape[1], dtype=np.float32)[None, :] - shape[1] / 2
    fold_size = size * float(rng.uniform(0.6, 2))
    folds = smooth_field(rng, shape, 1.5 * fold_size, fold_size) * fold_size * float(rng.uniform(0.03, 0.2))
    faults = _faults(rng, shape, wavelength, size)
    # Small-scale waviness: breaks the layers into the short, uneven reflectors of real sections.
    rough = float(rng.choice([rng.uniform(0.02, 0.1), rng.uniform(0.1, 0.6)])) * wavelength
    rough = rough * smooth_field(rng, shape, 1.5 * wavelength, wavelength * float(rng.uniform(0.7, 2.5)))
    steep = float(rng.normal(0, 0.6 if rng.random() < 0.5 else 0.15))
    displaced = folds + faults + steep * along + uplift
    impedance = _layers(rng, depth + displaced + rough, wavelength)
    for share in np.sort(rng.uniform(0.1, 0.9, int(rng.integers(0, 3))))[::-1]:
        # A younger package keeps a part of the older deformation: it was laid down while the salt still rose.
        kept = float(rng.uniform(0.1, 0.6))
        relief = smooth_line(rng, shape[1], size) * wavelength * float(rng.uniform(0.2, 1.2))
        surface = shape[0] * share + relief - kept * displaced[int((shape[0] - 1) * share)]
        age = depth + kept * displaced + float(rng.normal(0, 0.08)) * along + 0.5 * rough
        young = np.clip(surface[None, :] - depth + 0.5, 0, 1)
        impedance += young * (_layers(rng, age, wavelength) - impedance)
    # Bright spots and washed-out reaches along the same layer.
    lateral = smooth_field(rng, shape, wavelength, wavelength * float(rng.uniform(1, 5)))
    return impedance * np.exp(float(rng.uniform(0.2, 0.8)) * lateral)


def _layers(rng: np.random.Generator, age: np.ndarray, wavelength: float) -> np.ndarray:
    """Impedance float32 (H, W) of random layers: exponential thickness, heavy-tailed contrast, quiet zones."""
    first = float(age.min()) - 1
    count = int((float(age.max()) - first + 2) * _FINE)
    mean_thickness = wavelength * float(rng.uniform(0.15, 0.45)) * _FINE
    number = int(3 * count / mean_thickness) + 8
    thickness = np.maximum(1, rng.exponential(mean_thickness, number)).astype(np.int64)
    profile = np.repeat(rng.standard_t(4, number), thickness)
    profile = np.resize(profile, count) * np.exp(
        float(rng.uniform(0.1, 0.7)) * smooth_line(rng, count, 4 * wavelength * _FINE)
    )
    profile = ndimage.gaussian_filter1d(profile, _FINE / 2)
    profile = profile / max(float(profile.std()), 1e-12)
    position = (age - first) * _FINE
    return np.interp(position.ravel(), np.arange(count), profile).reshape(age.shape).astype(np.float32)


def _faults(rng: np.random.Generator, shape: tuple[int, int], wavelength: float, size: float) -> np.ndarray:
    """Displacement by dipping normal faults: a jump (the throw) at the plane that dies out away from it."""
    depth = np.arange(shape[0], dtype=np.float32)[:, None]
    along = np.arange(shape[1], dtype=np.float32)[None, :]
    displacement = np.zeros(shape, np.float32)
    for _ in range(int(rng.choice([0, 1, 2, 4], p=[0.35, 0.25, 0.25, 0.15]))):
        dip = np.deg2rad(rng.uniform(45, 78)) * rng.choice([-1, 1])
        middle = shape[0] * float(rng.uniform(0.1, 0.9))
        offset = along - shape[1] * float(rng.uniform(0, 1)) - (depth - middle) / np.float32(np.tan(dip))
        # The hanging wall lies over the plane: to the right of one that dips right, and it moves down.
        hanging = np.clip(np.sign(dip) * offset + 0.5, 0, 1)
        throw = wavelength * float(rng.uniform(0.3, 2.2))
        extent = np.exp(-(((depth - middle) / (shape[0] * float(rng.uniform(0.3, 1)))) ** 2))
        displacement -= throw * extent * hanging * np.exp(-np.abs(offset) / (2 * size))
    return displacement


def _salt_distance(
    rng: np.random.Generator, shape: tuple[int, int], wavelength: float, size: float, kind: str
) -> np.ndarray:
    """Distance to the salt boundary in pixels, float32 (H, W), negative inside."""
    if kind == "none":
        return np.full(shape, 1e4, np.float32)
    depth = np.broadcast_to(np.arange(shape[0], dtype=np.float32)[:, None], shape)
    along = np.broadcast_to(np.arange(shape[1], dtype=np.float32)[None, :], shape)
    # Bodies are simple shapes in warped coordinates: the warp gives the boundary its large and small relief.
    coarse, fine = float(rng.uniform(0.1, 0.8)) * wavelength, float(rng.uniform(0.03, 0.28)) * wavelength
    for_z = smooth_field(rng, shape, 3 * wavelength, 3 * wavelength) * coarse
    for_x = smooth_field(rng, shape, 3 * wavelength, 3 * wavelength) * coarse
    ragged = smooth_field(rng, shape, 0.8 * wavelength, 0.6 * wavelength) * fine
    bodies = {"massif": _massif, "dome": _dome, "wall": _wall, "sheet": _sheet}
    inside = bodies[kind](rng, depth + for_z + ragged, along + for_x + ragged, size)
    if rng.random() < 0.25:
        inside |= _sheet(rng, depth + for_z + ragged, along + for_x, size)
    return _signed_distance(inside)


def _signed_distance(inside: np.ndarray) -> np.ndarray:
    """Exact Euclidean distance to the edge of a bool mask (H, W), float32, negative inside."""

    def distance(mask: np.ndarray) -> np.ndarray:
        # An image without a zero has no edge to measure from.
        if mask.all():
            return np.full(mask.shape, 1e4, np.float32)
        return cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)

    outward, inward = distance(~inside), distance(inside)
    return np.where(inside, 0.5 - inward, outward - 0.5).astype(np.float32)


Body = Callable[[np.random.Generator, np.ndarray, np.ndarray, float], np.ndarray]


def _massif(rng: np.random.Generator, depth: np.ndarray, along: np.ndarray, size: float) -> np.ndarray:
    """Everything below an undulating top; pointed peaks in some sections, flat shoulders in others."""
    height, width = depth.shape
    relief = smooth_line(rng, width, size * float(rng.uniform(0.5, 1.5)))
    relief = np.abs(relief) - 0.8 if rng.random() < 0.5 else np.clip(relief, -1.2, 0.8)
    # Upside down, peaks become the V-shaped minibasins between two highs.
    relief = relief if rng.random() < 0.7 else -relief
    top = height * float(rng.uniform(0, 0.95)) + relief * size * float(rng.uniform(0.1, 0.6))
    return depth > top[None, :]


def _dome(rng: np.random.Generator, depth: np.ndarray, along: np.ndarray, size: float) -> np.ndarray:
    """A diapir: rounded or pointed crest, leaning stem that widens or narrows downwards, overhang at the head."""
    height, width = depth.shape
    below = depth - height * float(rng.uniform(-0.5, 0.75))
    centre = width * float(rng.uniform(0.05, 0.95)) + float(rng.normal(0, 0.25)) * below
    crest = np.tanh(np.maximum(below, 0) / (size * float(rng.uniform(0.1, 0.6)))) ** float(rng.uniform(0.5, 1))
    bulge = float(rng.uniform(0, 0.5)) * np.exp(-(((below / size) - 0.4) ** 2) / 0.08)
    half_width = size * float(rng.uniform(0.3, 0.8)) * crest * (1 + bulge) + float(rng.normal(0.1, 0.15)) * below
    return (below > 0) & (np.abs(along - centre) < half_width)


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

"""Geology of the synthetic sections: impedance of folded, faulted and truncated layers with salt inside them.

Layers are contours of a stratigraphic age field (the depth at which a layer was deposited). Folds, dips, faults and the
drag beside salt are displacements added to that field, as in Wu et al., "Building realistic structure models to train
convolutional neural networks for seismic structural interpretation", Geophysics 85 (2020) WA27.

Arrays are (H, W): row = depth downwards, column = distance along the line. Lengths are in pixels, and most scale with
the dominant wavelength: a short one gives a section at the scale of a basin, a long one a close-up.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from saltseg.synthetic import bodies
from saltseg.synthetic.random_fields import smooth_field, smooth_line

# Samples of an impedance profile per pixel of depth: enough to draw a thin dipping layer without steps.
_FINE = 4


@dataclass(frozen=True)
class Geology:
    """One section before it is imaged.

    Attributes:
        impedance: float32 (H, W), in standard deviations of the sediments' impedance.
        salt: float32 (H, W) in [0, 1], share of the pixel that is salt (fractions only on the boundary).
        water: bool (H, W).
        kind: of the main salt body, one of `saltseg.synthetic.bodies.KINDS`.
    """

    impedance: np.ndarray
    salt: np.ndarray
    water: np.ndarray
    kind: str


def simulate(rng: np.random.Generator, shape: tuple[int, int], wavelength: float) -> Geology:
    """Draw the geology of one section: salt cuts through the sediments; water, if any, covers everything.

    Args:
        rng: source of randomness.
        shape: (H, W), pixels.
        wavelength: dominant wavelength of the image, pixels; other lengths scale with it.
    """
    size = wavelength * float(rng.uniform(7, 15))
    kind, distance = bodies.draw(rng, shape, wavelength, size)
    salt = np.clip(0.5 - distance, 0, 1).astype(np.float32)
    uplift = _uplift(rng, distance, salt, wavelength, size)
    impedance = _sediments(rng, shape, wavelength, size, uplift)
    # From a barely visible flank to the strongest reflector of the section; varies along the boundary.
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
    """Rise of the sea floor over salt, (W,): the uplift near the top of the section, smoothed."""
    return ndimage.uniform_filter1d(uplift[: max(1, uplift.shape[0] // 6)].mean(0), 41)


def _uplift(
    rng: np.random.Generator, distance: np.ndarray, salt: np.ndarray, wavelength: float, size: float
) -> np.ndarray:
    """Displacement of the layers by rising salt: upward at its flanks and over it, little below it."""
    height = size * float(rng.choice([rng.uniform(0, 0.3), rng.uniform(0.4, 1.5)]))
    reach = size * float(rng.uniform(0.25, 0.6))
    below = (np.cumsum(salt, axis=0, dtype=np.float32) > 1).astype(np.float32)
    free = 1 - 0.9 * below
    lift = height * np.exp(-np.maximum(distance, 0) / reach) * free
    # The distance field has creases over a notch in the salt; layers bend smoothly.
    return ndimage.uniform_filter(lift, int(2 * wavelength) | 1)


def _sediments(
    rng: np.random.Generator, shape: tuple[int, int], wavelength: float, size: float, uplift: np.ndarray
) -> np.ndarray:
    """Impedance of up to three packages of layers, each truncating the older one below it."""
    depth = np.arange(shape[0], dtype=np.float32)[:, None]
    along = np.arange(shape[1], dtype=np.float32)[None, :] - shape[1] / 2
    fold_size = size * float(rng.uniform(0.6, 2))
    folds = smooth_field(rng, shape, 1.5 * fold_size, fold_size) * fold_size * float(rng.uniform(0.04, 0.25))
    faults = _faults(rng, shape, wavelength, size)
    # Small-scale waviness breaks the layers into short, uneven reflectors as in real sections.
    roughness = float(rng.choice([rng.uniform(0.02, 0.1), rng.uniform(0.15, 0.55)])) * wavelength
    rough = roughness * smooth_field(rng, shape, 1.5 * wavelength, wavelength * float(rng.uniform(0.7, 2.5)))
    steep = float(rng.normal(0, 0.8 if rng.random() < 0.5 else 0.2))
    displaced = folds + faults + steep * along + uplift
    impedance = layers(rng, depth + displaced + rough, wavelength)
    for share in np.sort(rng.uniform(0.1, 0.9, int(rng.integers(0, 3))))[::-1]:
        # A younger package has a part of the older deformation: it was deposited while the salt still rose.
        kept = float(rng.uniform(0.1, 0.6))
        relief = smooth_line(rng, shape[1], size) * wavelength * float(rng.uniform(0.2, 1.2))
        surface = shape[0] * share + relief - kept * displaced[int((shape[0] - 1) * share)]
        age = depth + kept * displaced + float(rng.normal(0, 0.2)) * along + 0.5 * rough
        young = np.clip(surface[None, :] - depth + 0.5, 0, 1)
        impedance += young * (layers(rng, age, wavelength) - impedance)
    # Amplitude varies along a layer.
    lateral = smooth_field(rng, shape, wavelength, wavelength * float(rng.uniform(0.8, 4)))
    return impedance * np.exp(float(rng.uniform(0.2, 0.8)) * lateral)


def layers(rng: np.random.Generator, age: np.ndarray, wavelength: float) -> np.ndarray:
    """Impedance float32 (H, W) of random layers: exponential thickness, heavy-tailed values, quiet zones."""
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
    """Displacement by dipping normal faults: a jump (the throw) at the plane that decays away from it."""
    depth = np.arange(shape[0], dtype=np.float32)[:, None]
    along = np.arange(shape[1], dtype=np.float32)[None, :]
    displacement = np.zeros(shape, np.float32)
    for _ in range(int(rng.choice([0, 1, 2, 4], p=[0.35, 0.25, 0.25, 0.15]))):
        dip = np.deg2rad(rng.uniform(45, 78)) * rng.choice([-1, 1])
        middle = shape[0] * float(rng.uniform(0.1, 0.9))
        offset = along - shape[1] * float(rng.uniform(0, 1)) - (depth - middle) / np.float32(np.tan(dip))
        # The hanging wall lies above the plane, on the right of a plane that dips right, and moves down.
        hanging = np.clip(np.sign(dip) * offset + 0.5, 0, 1)
        throw = wavelength * float(rng.uniform(0.3, 2.2))
        extent = np.exp(-(((depth - middle) / (shape[0] * float(rng.uniform(0.3, 1)))) ** 2))
        displacement -= throw * extent * hanging * np.exp(-np.abs(offset) / (2 * size))
    return displacement

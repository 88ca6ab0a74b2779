"""Imaging of the synthetic sections: from impedance to what a migrated seismic image would show.

A migrated image is close to the reflectivity convolved with a point-spread function: a Ricker wavelet across every
reflector, without the dips that the survey did not illuminate (Lecomte, "Resolution and illumination analyses in PSDM:
A ray-based approach", The Leading Edge 27 (2008) 650). In the wavenumber domain that is one product: vertical
derivative (impedance to reflectivity; an increase downwards is a white peak), Ricker spectrum over the radial
wavenumber, and taper over the dip. For a horizontal layer it equals the vertical convolution with a Ricker wavelet.
"""

import numpy as np
from scipy import fft, ndimage

from saltseg.synthetic.geology import Geology
from saltseg.synthetic.random_fields import smooth_field


def simulate(rng: np.random.Generator, geology: Geology, wavelength: float, quality: float) -> np.ndarray:
    """Simulate the migrated seismic image of a section.

    Args:
        rng: source of randomness.
        geology: of the section, arrays (H, W).
        wavelength: dominant wavelength at the top, pixels; up to half longer at the bottom, because attenuation removes
            high frequencies.
        quality: of the survey, from 0 (noise dominates) to 1 (clean).

    Returns:
        Amplitude, float32 (H, W), mean about 0 and deviation about 1.
    """
    dip_limit = float(rng.uniform(55, 70) if quality < 0.3 else rng.uniform(65, 88))
    signal = reflections(rng, geology.impedance, wavelength, dip_limit)
    sediments = (geology.salt < 0.5) & ~geology.water
    # The median, because the salt reflection extends into the sediments and must not set their level.
    level = 2 * float(np.median(np.abs(signal[sediments] if sediments.any() else signal)))
    signal /= max(level, 1e-6)
    signal *= illumination(rng, geology.salt, wavelength)
    noise = _noise(rng, signal.shape, wavelength, quality)
    loud = float(np.exp(rng.uniform(np.log(0.08), np.log(0.4)))) if quality > 0.6 else 1.1 * (1 - quality)
    # Migration noise is weak in salt and water, which do not scatter, unless the whole survey is noisy.
    quiet = ndimage.gaussian_filter(np.maximum(geology.salt, geology.water), wavelength / 8)
    chaotic = _chaos(rng, signal.shape, wavelength) * float(np.exp(rng.uniform(np.log(0.02), np.log(0.3))))
    muted = float(rng.uniform(0.4, 1))
    image = signal + loud * noise * (1 - muted * quiet) + chaotic * quiet * np.where(geology.water, 0.1, 1)
    return _gain(rng, image, wavelength)


def _wavenumbers(shape: tuple[int, int], pad: int) -> tuple[tuple[int, int], np.ndarray, np.ndarray]:
    """Padded size, and the wavenumbers of its real transform in cycles per pixel: (h, 1) vertical, (1, w) lateral."""
    height, width = (fft.next_fast_len(side + pad, real=True) for side in shape)
    vertical = fft.fftfreq(height).astype(np.float32)[:, None]
    return (height, width), vertical, fft.rfftfreq(width).astype(np.float32)[None, :]


def _ricker(wavenumber: np.ndarray, wavelength: float) -> np.ndarray:
    """Amplitude spectrum of a Ricker wavelet, peak 1 at 1 / wavelength."""
    relative = (wavenumber * np.float32(wavelength)) ** 2
    return relative * np.exp(1 - relative)


def reflections(rng: np.random.Generator, impedance: np.ndarray, wavelength: float, dip_limit: float) -> np.ndarray:
    """Reflectivity convolved with the point-spread function, float32 (H, W); dip_limit in degrees."""
    shape = impedance.shape
    size, vertical, lateral = _wavenumbers((shape[0], shape[1]), int(2 * wavelength))
    pads = [(0, whole - part) for whole, part in zip(size, shape, strict=True)]
    spectrum = fft.rfft2(np.pad(impedance, pads, mode="reflect").astype(np.float32))
    wavenumber = np.sqrt(vertical**2 + lateral**2)
    cosine = np.abs(vertical) / np.maximum(wavenumber, 1e-6)
    # 12 degrees of taper: a hard edge in dip would ring.
    taper = np.clip((np.rad2deg(np.arccos(np.minimum(cosine, 1))) - dip_limit) / 12, 0, 1)
    operator = 1j * np.sign(vertical) * wavenumber * np.cos(np.pi / 2 * taper) ** 2 * np.sqrt(cosine)
    spectrum = spectrum * operator.astype(np.complex64)
    longer = wavelength * float(rng.uniform(1.05, 1.5))
    top = fft.irfft2(spectrum * _ricker(wavenumber, wavelength), s=size)[: shape[0], : shape[1]]
    bottom = fft.irfft2(spectrum * _ricker(wavenumber, longer), s=size)[: shape[0], : shape[1]]
    depth = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
    return ((1 - depth) * top + depth * bottom * np.float32(longer / wavelength)).astype(np.float32)


def illumination(rng: np.random.Generator, salt: np.ndarray, wavelength: float) -> np.ndarray:
    """Factor in (0, 1] for the energy lost in the salt above a point: weak base of salt and shadow below it."""
    thickness = np.cumsum(salt, axis=0, dtype=np.float32) / np.float32(4 * wavelength)
    loss = float(rng.uniform(0.2, 1.3))
    return ndimage.gaussian_filter1d(np.exp(-loss * np.minimum(thickness, 1)), wavelength / 2, axis=1)


def _noise(rng: np.random.Generator, shape: tuple[int, int], wavelength: float, quality: float) -> np.ndarray:
    """Noise in the band of the signal with dipping lines, float32 (H, W), deviation 1."""
    size, vertical, lateral = _wavenumbers((shape[0], shape[1]), 0)
    flat = float(rng.uniform(0.5, 1.1)) if rng.random() < 0.93 else float(rng.uniform(0.4, 0.6))
    radial = np.sqrt((vertical / np.sqrt(flat)) ** 2 + (lateral * flat) ** 2)
    band = _ricker(radial, 0.8 * wavelength) + _ricker(radial, 1.8 * wavelength)
    # Two families of straight lines: remnants of wide migration operators and of multiples.
    lines = float(rng.uniform(0, 1.5))
    for slope in rng.uniform(0.4, 2.0, 2) * rng.choice([-1, 1], 2):
        off = (lateral - slope * vertical) * np.float32(rng.uniform(1.5, 4) * wavelength)
        band = band + lines * _ricker(np.abs(vertical), wavelength) * np.exp(-(off**2))
    # Some surveys have noise well above the band: a fine grain over the reflectors.
    grain = float(rng.uniform(0, 0.5)) if quality < 0.4 and rng.random() < 0.4 else 0.0
    band = band + grain * _ricker(np.sqrt(vertical**2 + (0.6 * lateral) ** 2), max(3.5, wavelength / 3))
    draw = rng.standard_normal((2, *band.shape), dtype=np.float32)
    noise = fft.irfft2((draw[0] + 1j * draw[1]) * band, s=size)[: shape[0], : shape[1]]
    return (noise / noise.std()).astype(np.float32)


def _chaos(rng: np.random.Generator, shape: tuple[int, int], wavelength: float) -> np.ndarray:
    """Texture inside salt: smooth blotches, in some sections steep streaks of migration smear."""
    tall, broad = (2.5, 0.35) if rng.random() < 0.4 else (0.6, 0.6)
    blotches = smooth_field(rng, shape, tall * wavelength, broad * wavelength)
    return blotches * np.exp(0.5 * smooth_field(rng, shape, 4 * wavelength, 4 * wavelength))


def _gain(rng: np.random.Generator, image: np.ndarray, wavelength: float) -> np.ndarray:
    """Partial automatic gain control (division by a power of the local level) and soft clipping of high peaks."""
    power = float(rng.uniform(0, 0.5))
    level = np.sqrt(ndimage.uniform_filter(image**2, int(5 * wavelength) | 1))
    image = image / np.maximum(level, 0.02 * float(image.std())) ** power
    image = image / float(image.std())
    clip = float(rng.uniform(6, 20))
    return (clip * np.tanh(image / clip)).astype(np.float32)

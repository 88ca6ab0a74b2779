"""Smooth random fields and lines: the components of folds, horizons and noise."""

import numpy as np
from scipy import fft, ndimage


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], length_z: float, length_x: float) -> np.ndarray:
    """Draw a Gaussian random field.

    Args:
        rng: source of randomness.
        shape: (H, W), pixels.
        length_z: correlation length along depth, pixels.
        length_x: correlation length along the section, pixels.

    Returns:
        float32 (H, W) with mean 0 and deviation 1.
    """
    height, width = (fft.next_fast_len(int(side * 1.25), real=True) for side in shape)
    size = (height, width // 2 + 1)
    wave_z = fft.fftfreq(height).astype(np.float32)[:, None] * np.float32(length_z * np.pi)
    wave_x = fft.rfftfreq(width).astype(np.float32)[None, :] * np.float32(length_x * np.pi)
    # The Gaussian vanishes at high wavenumbers: drawing only the low ones saves most of the time.
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
    """Draw a smooth random line.

    Args:
        rng: source of randomness.
        count: number of samples.
        length: correlation length, samples.

    Returns:
        float32 (count,) with mean 0 and deviation 1.
    """
    # Drawn at a spacing of a tenth of `length` and interpolated: a long filter would be slow.
    step = max(1.0, length / 10)
    width, pad = length / 2 / step, 20
    nodes = int(count / step) + 2 + 2 * pad
    line = ndimage.gaussian_filter1d(rng.standard_normal(nodes), width)
    line = np.interp(np.arange(count) / step + pad, np.arange(nodes), line)
    line = line - line.mean()
    return (line / max(float(line.std()), 1e-12)).astype(np.float32)

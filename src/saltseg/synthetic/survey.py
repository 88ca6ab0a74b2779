"""A simulated 3-D survey as SEG-Y with its true salt mask: a dome with an overhang, faults, layers.

The geology is a function of inline, crossline and depth, so a survey of any size is written inline by inline in little
memory. It is the model of `saltseg.synthetic.geology` in three dimensions, imaged by `saltseg.synthetic.imaging` along
every inline. Lengths are in pixels: samples, and bins in both directions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from saltseg.errors import InputError
from saltseg.seismic import writer
from saltseg.synthetic import geology, imaging
from saltseg.synthetic.random_fields import smooth_field, smooth_line

WAVELENGTH = 14.0  # pixels, of the training tiles
FIRST_INLINE, FIRST_CROSSLINE, CROSSLINE_STEP = 100, 500, 2
INTERVAL_US = 4000
MAX_SAMPLES = 65_535  # of a trace; headers count them in 2 bytes
_MARGIN = 12  # pixels simulated beyond the edge of a section, so that filters leave no mark on it
_AMPLITUDE = 1000.0  # of a strong reflector, as stored
_DIP_LIMIT = 75.0  # degrees
# Seeds for the random generators of one survey.
_PLAN, _LAYERS, _OPTICS, _RELIEF, _NOISE, _DEAD = range(6)


@dataclass(frozen=True)
class SurveySize:
    """Size and defects of a simulated survey.

    Attributes:
        inlines, crosslines, samples: of the full grid; at least 32 each, and at most `MAX_SAMPLES` samples.
        irregular: whether the edge is ragged and a hole is left out, else every bin has a trace.
        dead_share: share of traces that are all 0, in [0, 1).
        noise: level of the noise relative to the reflections.
    """

    inlines: int = 120
    crosslines: int = 180
    samples: int = 240
    irregular: bool = True
    dead_share: float = 0.0
    noise: float = 0.4


def simulate_survey(
    target: Path,
    size: SurveySize | None = None,
    seed: int = 0,
    *,
    sample_format: int = 1,
    byte_order: str = ">",
    progress: Callable[[int], object] | None = None,
) -> Path:
    """Write a survey and, as ``NAME_mask.sgy`` beside it, the true mask with the same headers (int8, 1 is salt).

    Line numbers are at bytes 9/21 and 189/193, coordinates in decimeters at 73/77 and 181/185 on a rotated grid of
    25 by 12.5 m. The same arguments give the same bytes.

    Args:
        target: of the survey.
        size: default: about 5 million samples.
        seed: 0 or positive.
        sample_format: of the survey, a code of `saltseg.seismic.formats.FORMATS`.
        byte_order: "<" or ">".
        progress: called with the number of inlines written since its last call.

    Returns:
        Path of the mask.

    Raises:
        InputError: a file exists, or a number is out of range.
    """
    size = size or SurveySize()
    sides = min(size.inlines, size.crosslines, size.samples) >= 32 and size.samples <= MAX_SAMPLES
    if not sides or not 0 <= size.dead_share < 1 or seed < 0:
        raise InputError(
            f"survey: {size} with seed {seed}; use sides of at least 32, at most {MAX_SAMPLES:,} samples, "
            "dead_share in [0, 1), seed >= 0"
        )
    mask_target = target.with_name(f"{target.stem}_mask{target.suffix}")
    for path in (target, mask_target):
        if path.exists():
            raise InputError(f"{path} exists; choose another name or remove it")
    model = _Model(size, seed)
    text = ("SIMULATED SURVEY: A SALT DOME WITH AN OVERHANG", "INLINE BYTES 189-192, CROSSLINE BYTES 193-196")
    common = {"samples": size.samples, "interval_us": INTERVAL_US, "text": text, "byte_order": byte_order}
    with (
        writer.create(mask_target, sample_format=8, **common) as masks,  # type: ignore[arg-type]
        writer.create(target, sample_format=sample_format, **common) as images,  # type: ignore[arg-type]
    ):
        written = 0
        for inline in range(size.inlines):
            columns = model.recorded(inline)
            image, mask = model.section(inline)
            image[:, model.dead(inline)] = 0
            headers = model.headers(inline, columns, written)
            images.write(headers, image[:, columns].T)
            masks.write(headers, mask[:, columns].T)
            written += len(columns)
            if progress is not None:
                progress(1)
    return mask_target


class _Field:
    """A smooth random field in 3-D with mean 0 and deviation 1, one inline at a time.

    Independent sections at regular inlines, blended in between so that the deviation stays the same.
    """

    def __init__(self, seed: tuple[int, int], shape: tuple[int, int], lengths: tuple[float, float, float]) -> None:
        self.seed, self.shape = seed, shape
        self.depth, self.along, self.spacing = lengths
        self._nodes: dict[int, np.ndarray] = {}

    def at(self, inline: int) -> np.ndarray:
        """float32 (H, W)."""
        left, part = divmod(inline / self.spacing, 1)
        first, second = self._node(int(left)), self._node(int(left) + 1)
        self._nodes.pop(int(left) - 1, None)
        angle = part * np.pi / 2
        return np.float32(np.cos(angle)) * first + np.float32(np.sin(angle)) * second

    def _node(self, node: int) -> np.ndarray:
        if node not in self._nodes:
            rng = np.random.default_rng((*self.seed, node))
            self._nodes[node] = smooth_field(rng, self.shape, self.depth, self.along)
        return self._nodes[node]


@dataclass(frozen=True)
class _Fault:
    """A plane: where it crosses the middle depth, its strike and dip, its throw."""

    x: float
    y: float
    strike: float
    dip: float
    throw: float
    middle: float
    extent: float


class _Model:
    """The geology of a survey and its image, section by section."""

    def __init__(self, size: SurveySize, seed: int) -> None:
        self.size, self.seed = size, seed
        rng = np.random.default_rng((seed, _PLAN))
        plan = (size.inlines, size.crosslines + 2 * _MARGIN)
        self.shape = (size.samples + 2 * _MARGIN, plan[1])
        self.radius = 0.24 * min(size.inlines, size.crosslines)
        self.crest = size.samples * float(rng.uniform(0.18, 0.3))
        self.center = tuple(side * float(rng.uniform(0.4, 0.6)) for side in plan)
        self.lean = tuple(float(v) for v in rng.uniform(-0.15, 0.15, 2))
        reach = max(plan) / 4
        self.folds = [smooth_field(rng, plan, reach, reach) * WAVELENGTH * float(rng.uniform(0.5, 1.5)) for _ in "ab"]
        self.dips = rng.normal(0, 0.08, 2)
        self.contrast = float(rng.uniform(4, 9))
        self.faults = [_draw_fault(rng, size) for _ in range(int(rng.integers(2, 5)))]
        self.edges = [smooth_line(rng, size.inlines, size.inlines / 4) for _ in "ab"]
        self.hole = tuple(float(v) for v in rng.uniform(0.1, 0.8, 2))
        self.layers = self._layers()
        self.relief = _Field((seed, _RELIEF), self.shape, (2 * WAVELENGTH, 2 * WAVELENGTH, 2 * WAVELENGTH))
        self.noise = _Field((seed, _NOISE), self.shape, (WAVELENGTH / 2, WAVELENGTH, WAVELENGTH / 2))
        self.level = 1.0
        signal, salt = self._signal(size.inlines // 2)
        self.level = 2 * float(np.median(np.abs(signal[salt < 0.5])))

    def section(self, inline: int) -> tuple[np.ndarray, np.ndarray]:
        """Amplitudes, float32 (samples, crosslines), and mask, uint8 {0, 1} of the same shape."""
        signal, salt = self._signal(inline)
        noise = np.gradient(self.noise.at(inline), axis=0) * np.float32(WAVELENGTH / 3)
        image = signal / np.float32(self.level) + np.float32(self.size.noise) * noise * (1 - np.float32(0.6) * salt)
        image = 8 * np.tanh(image / 8) * np.float32(_AMPLITUDE)
        inner = (slice(_MARGIN, -_MARGIN), slice(_MARGIN, -_MARGIN))
        return image[inner].astype(np.float32), (salt >= 0.5)[inner].astype(np.uint8)

    def _signal(self, inline: int) -> tuple[np.ndarray, np.ndarray]:
        """Reflections before noise, and the share of salt of each pixel; both float32 with margins."""
        distance = self._distance(inline)
        salt = np.clip(0.5 - distance, 0, 1).astype(np.float32)
        age = self._age(inline, distance, salt)
        grid, profile = self.layers
        impedance = np.interp(age, grid, profile).astype(np.float32)
        impedance += salt * (np.float32(self.contrast) - impedance)
        # The same generator for every inline: one wavelet and one loss for the survey.
        rng = np.random.default_rng((self.seed, _OPTICS))
        signal = imaging.reflections(rng, impedance, WAVELENGTH, _DIP_LIMIT)
        return signal * imaging.illumination(rng, salt, WAVELENGTH), salt

    def _distance(self, inline: int) -> np.ndarray:
        """Distance to the salt, about, negative inside: a stem that widens to a head, and downwards."""
        below = np.arange(self.shape[0], dtype=np.float32)[:, None] - _MARGIN - self.crest
        across = np.arange(self.shape[1], dtype=np.float32)[None, :] - self.center[1] - self.lean[1] * below
        away = np.hypot(across, inline - self.center[0] - self.lean[0] * below)
        depth = np.maximum(below, 0) / self.radius
        head = 0.55 + 0.55 * np.exp(-((depth - 0.7) ** 2) / 0.25) + 0.12 * np.maximum(depth - 1.5, 0)
        half_width = self.radius * head * np.tanh(2.5 * depth) ** 0.7 * (1 + 0.12 * self.relief.at(inline))
        return np.where(below > 0, away - half_width, np.hypot(away, below)).astype(np.float32)

    def _age(self, inline: int, distance: np.ndarray, salt: np.ndarray) -> np.ndarray:
        """Depth at which the layer of each pixel was deposited."""
        depth = np.arange(self.shape[0], dtype=np.float32)[:, None] - _MARGIN
        share = np.clip(depth / self.size.samples, 0, 1)
        folds = (1 - share) * self.folds[0][inline] + share * self.folds[1][inline]
        across = np.arange(self.shape[1], dtype=np.float32)[None, :] - self.shape[1] / 2
        dip = self.dips[0] * (inline - self.size.inlines / 2) + self.dips[1] * across
        above = np.cumsum(salt, axis=0, dtype=np.float32)
        shadow = 1 - 0.9 * np.minimum(above / self.radius, 1)  # smooth in every direction
        lift = 0.6 * self.radius * np.exp(-np.maximum(distance, 0) / (0.5 * self.radius)) * shadow
        lift = ndimage.uniform_filter(lift, int(2 * WAVELENGTH) | 1)
        return depth + folds + dip + lift + sum(self._slip(fault, inline, depth) for fault in self.faults)

    def _slip(self, fault: _Fault, inline: int, depth: np.ndarray) -> np.ndarray:
        """Displacement by a normal fault, see `saltseg.synthetic.geology`."""
        across = np.arange(self.shape[1], dtype=np.float32)[None, :] - _MARGIN - fault.x
        beside = across * np.cos(fault.strike) + (inline - fault.y) * np.sin(fault.strike)
        offset = beside - (depth - fault.middle) / np.tan(fault.dip)
        hanging = np.clip(np.sign(fault.dip) * offset + 0.5, 0, 1)
        extent = np.exp(-(((depth - fault.middle) / fault.extent) ** 2))
        return -fault.throw * extent * hanging * np.exp(-np.abs(offset) / (2 * self.radius))

    def _layers(self) -> tuple[np.ndarray, np.ndarray]:
        """Ages and the impedance of the layers, one profile for the survey."""
        reach = 2 * self.radius + 8 * WAVELENGTH + float(np.abs(self.dips) @ (self.size.inlines, self.shape[1]))
        ages = np.arange(-reach, self.size.samples + reach, 0.25).astype(np.float32)
        rng = np.random.default_rng((self.seed, _LAYERS))
        return ages, geology.layers(rng, ages[:, None], WAVELENGTH)[:, 0]

    # ------------------------------------------------------------ acquisition

    def recorded(self, inline: int) -> np.ndarray:
        """Crosslines that have a trace, int64 (n,), never empty."""
        count = self.size.crosslines
        if not self.size.irregular:
            return np.arange(count)
        left, right = (int(count * 0.04 * np.clip(edge[inline] + 1.5, 0, 3)) for edge in self.edges)
        columns = np.arange(left, count - right)
        rows, across = (np.array([start, start + 0.1]) for start in self.hole)
        inside = rows[0] <= inline / self.size.inlines < rows[1]
        return columns[~inside | (columns < across[0] * count) | (columns >= across[1] * count)]

    def dead(self, inline: int) -> np.ndarray:
        """bool (crosslines,)."""
        rng = np.random.default_rng((self.seed, _DEAD, inline))
        return rng.random(self.size.crosslines) < self.size.dead_share

    def headers(self, inline: int, columns: np.ndarray, written: int) -> dict[int, np.ndarray | int]:
        """Trace headers by byte."""
        number, crosslines = FIRST_INLINE + inline, FIRST_CROSSLINE + CROSSLINE_STEP * columns
        angle = np.deg2rad(30)
        x = np.rint(10 * (432000 + 12.5 * columns * np.cos(angle) - 25 * inline * np.sin(angle)))
        y = np.rint(10 * (6781000 + 12.5 * columns * np.sin(angle) + 25 * inline * np.cos(angle)))
        place: dict[int, np.ndarray | int] = {73: x, 77: y, 181: x, 185: y, 71: -10}
        lines: dict[int, np.ndarray | int] = {9: number, 21: crosslines, 189: number, 193: crosslines}
        order: dict[int, np.ndarray | int] = {
            1: np.arange(len(columns)) + 1,
            5: written + np.arange(len(columns)) + 1,
            29: 1,
        }
        return {**order, **lines, **place, 115: self.size.samples, 117: INTERVAL_US}


def _draw_fault(rng: np.random.Generator, size: SurveySize) -> _Fault:
    return _Fault(
        x=size.crosslines * float(rng.uniform(0, 1)),
        y=size.inlines * float(rng.uniform(0, 1)),
        strike=float(rng.uniform(-0.9, 0.9)),
        dip=float(np.deg2rad(rng.uniform(50, 75)) * rng.choice([-1, 1])),
        throw=WAVELENGTH * float(rng.uniform(0.4, 1.8)),
        middle=size.samples * float(rng.uniform(0.2, 0.8)),
        extent=size.samples * float(rng.uniform(0.4, 1)),
    )

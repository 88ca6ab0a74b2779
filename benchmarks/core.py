"""Time the numpy core on masks like the competition's: python benchmarks/core.py

Smooth random masks, 39 % of them empty, and probabilities around them. Best of three, seconds, this process only
(``time.process_time``), so that other work on the machine counts little.
"""

import time
from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from saltseg.core import metric, rle, thresholds


def main() -> None:
    rng = np.random.default_rng(0)
    field = gaussian_filter(rng.normal(size=(4000, 101, 101)).astype(np.float32), (0, 20, 20))
    field /= field.std(axis=(1, 2), keepdims=True)
    field[rng.random(4000) < 0.39] -= 9
    true = (field > 0.6).astype(np.uint8)
    noise = gaussian_filter(rng.normal(size=field.shape).astype(np.float32), (0, 3, 3)) * 4
    stored = (255 / (1 + np.exp(-(4 * field - 2.4 + noise)))).astype(np.uint8)
    many = np.tile(true, (5, 1, 1))[:18_000]
    texts = rle.encode_batch(many)
    fold = np.arange(4000) % 5
    for name, call in (
        ("metric, 4,000 images", lambda: metric.score(stored >= 128, true)),
        ("search of 255 thresholds x 10,202 areas, 4,000 images", lambda: thresholds.search(stored, true)),
        ("the same cross-fitted over 5 folds", lambda: thresholds.cross_fit(stored, true, fold)),
        ("RLE encode, 18,000 masks", lambda: rle.encode_batch(many)),
        ("RLE decode, 18,000 masks", lambda: rle.decode_batch(texts)),
    ):
        print(f"{name:<56} {best_of(call):6.2f} s")


def best_of(call: Callable[[], object], repeats: int = 3) -> float:
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        call()
        seconds.append(time.process_time() - begin)
    return min(seconds)


if __name__ == "__main__":
    main()

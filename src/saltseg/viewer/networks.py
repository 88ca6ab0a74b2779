"""The networks behind the page: one image at a time."""

import threading
import time
from typing import Any

import numpy as np

from saltseg.inference import windows
from saltseg.pipeline.trained import Trained


class Abandoned(Exception):
    """Nobody waits for the image any more."""


class Networks:
    """Predicts images for the page. Threads may call it: they wait for each other.

    Args:
        name: of the run or the model.
        trained: its networks.
    """

    def __init__(self, name: str, trained: Trained) -> None:
        self.name, self._trained = name, trained
        self._turn = threading.Lock()
        self._progress = (0, 0, 0.0)  # windows done, in all, time of the start

    def predict(self, image: np.ndarray, gone: threading.Event) -> np.ndarray:
        """Probability of salt, uint8 (H, W) in 255ths.

        Args:
            image: uint8 (H, W).
            gone: set as soon as nobody waits for the result; looked at between batches of windows.

        Raises:
            Abandoned: it was set.
            InputError: the networks give NaN.
        """

        def advance(count: int) -> None:
            if gone.is_set():
                raise Abandoned
            done, total, start = self._progress
            self._progress = (done + count, total, start)

        with self._turn:
            self._progress = (0, windows.count_windows(*image.shape), time.monotonic())
            try:
                advance(0)
                settings, networks, _ = self._trained
                [probability] = windows.predict_images(networks, [image], settings, progress=advance)
            finally:
                self._progress = (0, 0, 0.0)
        return probability

    def progress(self) -> dict[str, Any]:
        """Of the image under way: windows ``done`` and ``total``, and ``seconds_left``, None while that is unknown."""
        done, total, start = self._progress
        left = (time.monotonic() - start) / done * (total - done) if done else None
        return {"done": done, "total": total, "seconds_left": left}

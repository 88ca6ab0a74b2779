"""Something to show: six tiles, a network that sees gray values, a small survey; and a server for it in a thread."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from scipy import ndimage
from torch import Tensor, nn

from saltseg import config
from saltseg.data.competition import Labeled
from saltseg.pipeline.survey_files import Outputs
from saltseg.pipeline.trained import Trained
from saltseg.postprocessing.parameters import Postprocessing
from saltseg.predictions import Predictions
from saltseg.reporting import gallery
from saltseg.seismic import writer
from saltseg.seismic.volume import Survey
from saltseg.viewer import server
from saltseg.viewer.content import Content
from saltseg.viewer.networks import Networks
from saltseg.viewer.slices import Slices
from saltseg.viewer.tiles import Tiles

TUNED = Postprocessing(threshold=120, min_area=30, hysteresis_high=170)
SETTINGS = config.Config(
    data=config.DataConfig(resize_mode="pad", size=112),
    train=config.TrainConfig(precision="32"),
    predict=config.PredictConfig(tta=("identity",)),
)
INLINES, CROSSLINES, SAMPLES = 5, 7, 12
FIRST_INLINE, FIRST_CROSSLINE, CROSSLINE_STEP, INTERVAL_US = 20, 300, 2, 4000


class Known(nn.Module):
    """Probability 0.99 where an image is white, 0.01 where it is black."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(9.2))

    def forward(self, image: Tensor) -> Tensor:
        return self.slope * (image[:, :1] - 0.5)


def smooth(*shape: int, seed: int = 0, sigma: float = 4) -> np.ndarray:
    """Smooth random bodies, uint8 over the whole range."""
    noise = np.random.default_rng(seed).normal(size=shape)
    field = ndimage.gaussian_filter(noise, [0] * (len(shape) - 2) + [sigma, sigma])
    return np.clip(128 + 90 * field / field.std(), 0, 255).astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def networks() -> Networks:
    return Networks("known", Trained(SETTINGS, [Known()], TUNED))


def tiles() -> Tiles:
    """Probabilities, and truth that is a little larger than the salt in them."""
    probabilities, ids = smooth(6, 101, 101, seed=1), tuple("fedcba")
    labeled = Labeled(ids, smooth(6, 101, 101, seed=2, sigma=1), (probabilities >= 100).astype(np.uint8))
    return Tiles("known", gallery.score(Predictions(np.array(ids), probabilities), labeled, TUNED))


@dataclass(frozen=True)
class SurveyFiles:
    """A survey of a full grid on the disk, without the bin of its second inline and third crossline.

    Attributes:
        survey, salt, truth: SEG-Y files.
        probability, true: what is in the last two, uint8 (inlines, crosslines, samples), 0 in the missing bin.
    """

    survey: Path
    salt: Path
    truth: Path
    probability: np.ndarray
    true: np.ndarray


def survey_files(folder: Path) -> SurveyFiles:
    probability = smooth(INLINES, CROSSLINES, SAMPLES, seed=3, sigma=2)
    true = (probability > 140).astype(np.uint8)
    probability[1, 2] = true[1, 2] = 0
    there = np.ones((INLINES, CROSSLINES), bool)
    there[1, 2] = False
    inline, crossline = np.nonzero(there)
    path, truth = folder / "s.sgy", folder / "truth.sgy"
    amplitudes = 4 * (smooth(INLINES, CROSSLINES, SAMPLES, seed=4, sigma=1).astype(np.float32) - 127.5)
    headers = {189: FIRST_INLINE + inline, 193: FIRST_CROSSLINE + CROSSLINE_STEP * crossline}
    for file, values in ((path, amplitudes), (truth, true)):
        with writer.create(file, samples=SAMPLES, interval_us=INTERVAL_US) as new:
            new.write(headers, values[there].astype(np.float32))
    layout = Survey.open(path).layout
    outputs = Outputs(folder / "salt.sgy")
    record = {
        "run": "known", "directions": ["inline"], "clip_percentile": 99.0, "polarity": "as stored",
        "amplitude_center": 0.0, "amplitude_half_range": 510.0, "histogram_distance": 1.0,
        "postprocessing": TUNED.to_dict(), "traces": layout.traces, "traces_with_salt": 1, "salt_share": 0.1,
    }  # fmt: skip
    rows = probability[there] / 255
    writer.write_segy(layout, outputs.mask, lambda start, stop: rows[start:stop] > 0.5, scale=1)
    writer.write_segy(layout, outputs.probability, lambda start, stop: rows[start:stop], about=record)
    return SurveyFiles(path, outputs.probability, truth, probability, true)


def content(files: SurveyFiles) -> Content:
    slices = Slices(Survey.open(files.survey), files.salt, files.truth)
    return Content("known", TUNED, networks(), tiles(), slices, ("a note <b>as text</b>",))


@contextmanager
def serving(shown: Content) -> Iterator[int]:
    """The port at which this is shown."""
    running = server.create_server(shown)
    with socket.socket() as listener:
        listener.bind((server.HOST, 0))
        thread = threading.Thread(target=running.run, args=[[listener]])
        thread.start()
        try:
            while not running.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield listener.getsockname()[1]
        finally:
            running.should_exit = True
            thread.join()

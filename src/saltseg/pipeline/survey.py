"""Predict a survey: salt probability and mask as SEG-Y, the top of salt as CSV, a page with three slices.

Sections along inlines and along crosslines are predicted slab by slab, by one worker or several, and averaged. Memory
grows with the size of a slab, and by some 300 bytes with each trace. What is predicted stays until the results are
written: a call that was killed is repeated with the same result and predicts only the slabs that are missing.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from saltseg import io
from saltseg.config import Runtime
from saltseg.data import competition, image_files
from saltseg.errors import InputError
from saltseg.inference import windows
from saltseg.pipeline import survey_slabs, trained
from saltseg.pipeline.survey_bodies import Bodies
from saltseg.pipeline.survey_files import Outputs, Record
from saltseg.pipeline.survey_slices import Slice, three_slices
from saltseg.postprocessing.parameters import Postprocessing, quantize
from saltseg.releases import ModelDir
from saltseg.runs import RunDir
from saltseg.seismic import scaling as gray
from saltseg.seismic import scan, writer
from saltseg.seismic.amplitudes import Amplitudes, sample_amplitudes
from saltseg.seismic.results import Results
from saltseg.seismic.scaling import Scaling
from saltseg.seismic.volume import Survey
from saltseg.workers import Workers

TILES = 500  # of the training data, for its histogram
SPEED_SHAPE = (404, 404)  # of the image by which the speed of a prediction is measured


@dataclass(frozen=True)
class Options:
    """How a survey is predicted.

    Attributes:
        clip: percentile of the survey's |amplitude| that becomes black or white; None: that of the labeled lines which
            the networks were trained on (`saltseg lines`) where these are here, unchanged, else 99. Both this and
            ``reverse`` are needed where they are here, but have changed.
        reverse: whether to reverse the polarity; None: as in such lines of a file of this name, else not.
        along: "both", or the direction of the sections: "inline" or "crossline".
        depth: whether samples are meters, not milliseconds.
        tta: names of views; None: those of the run or the model.
    """

    clip: float | None = None
    reverse: bool | None = None
    along: str = "both"
    depth: bool = False
    tta: tuple[str, ...] | None = None


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a page shows: the record of the prediction, the survey, and slices of it."""

    record: dict[str, Any]
    survey: Survey
    slices: list[Slice]


Page = Callable[[Prediction], str]  # HTML
Warn = Callable[[Mapping[str, Any]], object]


def predict_survey(
    source: RunDir | ModelDir,
    survey: Survey,
    target: Path,
    page: Page,
    options: Options | None = None,
    *,
    input_dir: Path,
    warn: Warn = lambda record: None,
    runtime: Runtime | None = None,
    where: Workers | None = None,
) -> Record:
    """Predict a survey with the mean of a run's folds, or a released model, and its post-processing (`Bodies`).

    Args:
        source: a run with at least one finished fold, or a model.
        survey: a volume, or a line.
        target: new SEG-Y file of the probability, with every header byte of the survey. `Outputs` names the others.
        page: makes the HTML page.
        options: None: the defaults.
        input_dir: where datasets are, to compare gray levels with those of the training tiles.
        warn: called before anything is predicted, which may take hours, with what the record says by then: ``warnings``
            and ``histogram_distance``, among others.
        runtime: how a machine computes; None: the defaults.
        where: slabs are predicted; the rest is done here. None: here, too.

    Returns:
        What the JSON file beside the probability says.

    Raises:
        InputError: a file of the results exists, or is the survey; another process is making it; the survey cannot be
            predicted; clip or polarity is not known; the run has no finished fold; too little space on the disk.
    """
    options, outputs = options or Options(), Outputs(target)
    directions = _directions(survey, options.along)
    with outputs.making(survey):
        amplitudes = sample_amplitudes(survey.layout)
        data = _trained_on(source, input_dir)
        clip, reverse = _gray_scale(data, survey, options, source.name)
        scaling = fit_scaling(survey, amplitudes, clip, reverse)
        predictor = trained.load(source, options.tta, runtime)
        postprocessing = predictor.postprocessing
        key = [trained.fingerprint(predictor), asdict(scaling), postprocessing.to_dict(), options.depth]
        outputs.require_space(survey, len(directions))
        results = Results(outputs.parts, survey, key, directions, survey_slabs.slab_bytes(survey))
        masks = Results(outputs.parts / "masks", survey, key, directions[:1], survey_slabs.slab_bytes(survey))
        distance, compared_with = _histogram_distance(data, amplitudes, scaling)
        record = {
            "run": source.name,
            "directions": list(directions),
            "clip_percentile": clip,
            "polarity": "reversed" if reverse else "as stored",
            "amplitude_center": scaling.center,
            "amplitude_half_range": scaling.half_range,
            "histogram_distance": distance,
            "histogram_reference": compared_with,
            "warnings": list(scan.warnings(survey.layout, survey.geometry, amplitudes)),
            "postprocessing": postprocessing.to_dict(),
        }
        warn(record)
        if not outputs.whole.is_dir():
            reference = trained.refer(predictor, source, options.tta, runtime)
            survey_slabs.predict(results, predictor, scaling, reference, where or Workers())
            _postprocess(results, masks, postprocessing)
            _write(outputs, results, masks, scaling, record, page, options.depth)
    return outputs.read_record()


def pixels_per_second(source: RunDir | ModelDir, runtime: Runtime | None = None) -> float:
    """Measured speed of a prediction; pixels of all directions count."""
    settings, networks, _ = trained.load(source, None, runtime)
    image = np.random.default_rng(0).integers(0, 256, SPEED_SHAPE, np.uint8)
    list(windows.predict_images(networks, [image[:101, :101]], settings))  # prepares memory and kernels
    started = time.perf_counter()
    list(windows.predict_images(networks, [image], settings))
    return image.size / (time.perf_counter() - started)


def fit_scaling(survey: Survey, amplitudes: Amplitudes, clip: float, reverse: bool) -> Scaling:
    """The gray scale of a survey; raises InputError where its samples are no amplitudes."""
    layout = survey.layout
    if found := list(scan.problems(layout, survey.geometry, amplitudes)):
        raise InputError(f"{layout.path} cannot be predicted: {found[0]}")
    return Scaling.fit(amplitudes, clip, flip=reverse)


def _directions(survey: Survey, along: str) -> tuple[str, ...]:
    if along == "both":
        return survey.directions
    if along not in survey.directions:
        raise InputError(f"--along {along}: {survey.layout.path} is a line, which has one direction; leave it out")
    return (along,)


@dataclass(frozen=True)
class _Data:
    """The dataset that has the name of the one that a run was trained on; unchanged: whether it is that one."""

    root: Path
    unchanged: bool


def _trained_on(source: RunDir | ModelDir, input_dir: Path) -> _Data | None:
    """None where no dataset has that name."""
    recorded = source.read_provenance()
    try:
        root = competition.dataset_root(input_dir, recorded["dataset"])
    except InputError:
        return None
    return _Data(root, competition.has_fingerprint(root, recorded.get("dataset_hash")))


def _gray_scale(data: _Data | None, survey: Survey, options: Options, run: str) -> tuple[float, bool]:
    """Clip and polarity: as given, or as in the labeled lines of the training; InputError where these have changed."""
    clip, reverse = gray.CLIP_PERCENTILE, False
    lines = None if data is None else competition.read_source(data.root)
    if data and isinstance(lines, dict) and lines.get("source") == "lines" and type(lines.get("clip")) in (int, float):
        if data.unchanged:
            clip = lines["clip"]
            same = Path(str(lines.get("survey"))).name == survey.layout.path.name
            reverse = same and lines.get("reverse") is True
        elif options.clip is None or options.reverse is None:
            raise InputError(
                f"the labeled lines in {data.root} are not those that {run} was trained on, and clip and polarity are "
                "taken from there; give --clip and --polarity"
            )
    return clip if options.clip is None else options.clip, reverse if options.reverse is None else options.reverse


def _histogram_distance(data: _Data | None, amplitudes: Amplitudes, scaling: Scaling) -> tuple[float, str]:
    """Of the survey's gray levels from those of the run's training tiles, or of simulated ones without those.

    Returns:
        The distance; "training" or "simulated".
    """
    if data is not None and data.unchanged:
        with suppress(InputError):
            ids = competition.train_ids(data.root)
            paths = [data.root / "train" / "images" / f"{id_}.png" for id_ in ids[:: -(-len(ids) // TILES)]]
            found = gray.histogram(np.stack([image_files.read_image(path, competition.SHAPE) for path in paths]))
            if found.any():  # every tile may be of one gray level
                return gray.histogram_distance(amplitudes, scaling, found), "training"
    return gray.histogram_distance(amplitudes, scaling), "simulated"


# ---------------------------------------------------------------- from probabilities to files


def _postprocess(results: Results, masks: Results, postprocessing: Postprocessing) -> None:
    """Make the slabs of masks that are missing, from the mean of the directions."""
    survey, direction = results.survey, masks.directions[0]
    missing, total = masks.missing(), survey.num_lines(direction)
    if not missing:
        return

    def section(position: int) -> np.ndarray:
        return quantize(results.section(direction, position))

    with tqdm(desc="post-processing", total=2 * total, unit="line", mininterval=1) as bar:

        def sections() -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for position in range(total):
                yield survey.columns(direction, position)[0], section(position)
                bar.update()

        bodies = Bodies(postprocessing, sections())
        for slab in missing:
            salt = []
            for position in range(slab.start, slab.stop):
                salt.append(bodies.mask(position, section(position)) * np.uint8(255))
                bar.update()
            masks.write(slab, survey.read(slab), salt)


def _write(
    outputs: Outputs,
    results: Results,
    masks: Results,
    scaling: Scaling,
    record: dict[str, Any],
    page: Page,
    depth: bool,
) -> None:
    """Write all files into the folder `Outputs.whole`, which is there when they are."""
    survey = results.survey
    salt_of_trace, salt_of_sample = np.zeros(survey.layout.traces, np.int64), np.zeros(survey.layout.samples, np.int64)

    def mask_rows(start: int, stop: int) -> np.ndarray:
        return masks.read(np.arange(start, stop))

    def counted(start: int, stop: int) -> np.ndarray:
        rows = mask_rows(start, stop)
        salt_of_trace[start:stop] = np.count_nonzero(rows, 1)
        salt_of_sample[:] += np.count_nonzero(rows, 0)
        return rows

    with (
        io.atomic_dir(outputs.whole) as folder,
        tqdm(desc="writing", total=2 * survey.layout.traces, unit="trace", unit_scale=True, mininterval=1) as bar,
    ):
        new = Outputs(folder / outputs.probability.name)
        about = {"values": "1 is salt", "run": record["run"]}
        writer.write_segy(survey.layout, new.mask, counted, scale=1, about=about, progress=bar.update)
        record["traces"] = survey.layout.traces
        record["traces_with_salt"] = writer.write_top_of_salt(new.top, survey, mask_rows, depth)
        record["salt_share"] = float(salt_of_trace.sum() / (survey.layout.traces * survey.layout.samples))
        slices = three_slices(results, masks, scaling, salt_of_trace, salt_of_sample, depth)
        io.write_atomic(new.page, page(Prediction(record, survey, slices)))
        writer.write_segy(
            survey.layout,
            new.probability,
            lambda start, stop: results.read(np.arange(start, stop)),
            about={"values": "probability of salt", **record},
            progress=bar.update,
        )

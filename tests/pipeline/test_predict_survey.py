"""A survey through the command: worked-out probabilities, headers, refusals, resuming, memory."""

import csv
import json
import os
import signal
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import cv2
import in_process
import numpy as np
import pytest
import segy_files
import torch
from tiny_run import Bright, Trained, postprocess

from saltseg import io
from saltseg.errors import InputError
from saltseg.inference import windows
from saltseg.models import checkpoints
from saltseg.pipeline import survey_slabs
from saltseg.pipeline.survey_files import Outputs
from saltseg.postprocessing.parameters import quantize
from saltseg.reporting import survey_page
from saltseg.seismic import amplitudes, writer
from saltseg.seismic.headers import read_layout
from saltseg.seismic.scaling import Scaling
from saltseg.seismic.traces import read_traces
from saltseg.seismic.volume import Survey

SAMPLES = 24


@pytest.fixture
def predict(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """`saltseg predict tiny-run …` with such networks and a threshold of 100/255."""
    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: Bright())
    io.write_json(trained.run.postprocess, postprocess(threshold=100))
    places = ("--input", str(trained.input), "--output", str(trained.output))
    return lambda *words: in_process.call("predict", "tiny-run", *map(str, words), *places)


def volume(path: Path, *, code: int = 5, order: str = ">", dead: int | None = None, missing: int | None = None) -> Path:
    """4 inlines by 5 crosslines, with coordinates."""
    headers = [{**h, 71: -10, 181: n, 185: 2 * n} for n, h in enumerate(segy_files.grid(range(10, 14), range(5)))]
    picture = np.random.default_rng(1).integers(-100, 101, (20, SAMPLES)).astype(float)
    if dead is not None:
        picture[dead] = 0
    keep = [n for n in range(20) if n != missing]
    return segy_files.write(path, picture[keep], [headers[n] for n in keep], code=code, order=order)


def stored(path: Path) -> np.ndarray:
    layout = read_layout(path)
    return read_traces(layout, np.arange(layout.traces))


def headers(path: Path) -> bytes:
    """Every byte but the samples."""
    layout, data = read_layout(path), path.read_bytes()
    starts = [layout.first_trace + n * layout.trace_bytes for n in range(layout.traces)]
    return b"".join([data[: layout.first_trace], *(data[start : start + 240] for start in starts)])


def expected(path: Path, reverse: bool = False) -> np.ndarray:
    """255ths that `Bright` gives, by hand."""
    values = stored(path)
    live = values.max(1) != values.min(1)
    center = np.median(values[values != 0])
    half = np.percentile(np.abs(values[values != 0] - center), 99)
    gray = np.rint(np.clip((values - center) / half * (-127.5 if reverse else 127.5) + 127.5, 0, 255))
    return np.where(live[:, None], quantize(1 / (1 + np.exp(4 - 8 * gray / 255))), 0)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize(("code", "scale"), [(1, 1), (2, 1_000_000), (3, 10_000), (5, 1), (8, 127)])
def test_each_format_and_byte_order(
    code: int, scale: float, order: str, tmp_path: Path, predict: Callable[..., int]
) -> None:
    source, target = volume(tmp_path / "a.sgy", code=code, order=order), tmp_path / "salt.sgy"
    assert predict(source, "--to", target) == 0
    found = stored(target) / scale
    np.testing.assert_allclose(found, expected(source) / 255, atol=1.01 / 255 + 0.5 / scale * (scale > 1))
    mask = stored(tmp_path / "salt_mask.sgy")
    assert set(np.unique(mask)) == {0, 1}
    clear = np.abs(expected(source).astype(int) - 100) > 1
    assert np.array_equal(mask[clear], (expected(source) >= 100)[clear])
    for path in (target, tmp_path / "salt_mask.sgy"):
        assert headers(path) == headers(source)
    assert json.loads((tmp_path / "salt.sgy.json").read_text())["scale"] == scale
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_top_of_salt_page_and_what_is_printed(
    tmp_path: Path, predict: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    source = volume(tmp_path / "a.sgy", dead=7, missing=12)
    assert predict(source, "--to", tmp_path / "salt.sgy", "--depth") == 0
    mask = stored(tmp_path / "salt_mask.sgy")
    rows = list(csv.DictReader((tmp_path / "salt_top.csv").open()))
    assert list(rows[0]) == ["x", "y", "inline", "crossline", "depth_m"]
    assert [float(row["depth_m"]) for row in rows] == (4 * mask.argmax(1)[mask.any(1)]).tolist()
    assert not mask[7].any()  # dead
    assert not stored(tmp_path / "salt.sgy")[7].any()
    page = (tmp_path / "salt.html").read_text()
    assert page.count("<img") == 3
    out = capsys.readouterr().out
    assert f"{len(rows)} of 19 traces meet salt, {mask.mean():.2%} of all" in out
    assert "warning: The gray levels of this survey" in out  # noise is no seismic


def test_warnings_are_printed_once_and_before_anything_is_predicted(
    tmp_path: Path, predict: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An interval that contradicts itself, and gray levels of noise."""
    numbers = segy_files.grid(range(10, 14), range(5), b117=2000)
    source = segy_files.write(tmp_path / "a.sgy", np.random.default_rng(1).integers(-99, 100, (20, SAMPLES)), numbers)
    whole, before = windows.predict_images, []

    def look(*arguments: object, **options: object) -> object:
        before.append(capsys.readouterr().out)
        return whole(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(windows, "predict_images", look)
    assert predict(source, "--to", tmp_path / "salt.sgy") == 0
    warnings = [line for line in before[0].splitlines() if line.startswith("warning: ")]
    assert ["2000 µs" in warnings[0], "gray levels of this survey" in warnings[1]] == [True, True]
    assert len(warnings) == 2
    assert "warning: " not in "".join(before[1:]) + capsys.readouterr().out


def test_the_page_says_which_tiles_the_gray_levels_were_compared_with(
    tmp_path: Path, predict: Callable[..., int], trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run's, where its dataset is here unchanged; else simulated ones. An older record does not say which."""
    source, dice = volume(tmp_path / "a.sgy"), np.random.default_rng(0)
    for path in (trained.root / "train" / "images").iterdir():
        path.write_bytes(cv2.imencode(".png", dice.integers(0, 20, (101, 101), np.uint8))[1].tobytes())
    trained.write_provenance()
    for name, compared, text in (
        ("training", "training", "the tiles that the run was trained on"),
        ("changed", "simulated", "simulated tiles, since the training tiles are missing or have changed"),
    ):
        if name == "changed":
            next((trained.root / "train" / "images").iterdir()).write_bytes(b"another")
        assert predict(source, "--to", tmp_path / f"{name}.sgy") == 0
        outputs = Outputs(tmp_path / f"{name}.sgy")
        record = outputs.read_record()
        assert record["histogram_reference"] == compared
        assert f"between this survey and {text}<" in outputs.page.read_text()
        assert f"levels away from those of {text};" in capsys.readouterr().out
    sidecar = writer.sidecar_path(outputs.probability)
    io.write_json(sidecar, {key: value for key, value in io.read_json(sidecar).items() if "reference" not in key})
    (older,) = survey_page.warnings(outputs.read_record())
    assert "or of simulated ones" in older


def test_polarity_and_one_direction(tmp_path: Path, predict: Callable[..., int]) -> None:
    source = volume(tmp_path / "a.sgy")
    assert predict(source, "--to", tmp_path / "b.sgy", "--polarity", "reversed", "--along", "crossline") == 0
    np.testing.assert_allclose(stored(tmp_path / "b.sgy"), expected(source, reverse=True) / 255, atol=1.01 / 255)
    record = json.loads((tmp_path / "b.sgy.json").read_text())
    assert (record["polarity"], record["directions"]) == ("reversed", ["crossline"])


def test_a_line(tmp_path: Path, predict: Callable[..., int], trained: Trained) -> None:
    source = segy_files.write(
        tmp_path / "line.sgy", np.random.default_rng(2).integers(-100, 101, (30, SAMPLES)), [{21: n} for n in range(30)]
    )
    assert predict(source) == 0
    target = trained.output / "predictions" / "tiny-run" / "line.sgy"
    np.testing.assert_allclose(stored(target), expected(source) / 255, atol=1.01 / 255)
    assert target.with_suffix(".html").read_text().count("<img") == 1
    assert predict(source, "--to", tmp_path / "b.sgy", "--along", "inline") == 2


@pytest.mark.parametrize("traces", [1, 3])
def test_a_section_of_a_single_trace_has_a_picture(traces: int, tmp_path: Path, predict: Callable[..., int]) -> None:
    """The line with the most salt may be one trace wide, in a ragged volume; a file may hold a single trace."""
    numbers = [(10, 5), (10, 6), (11, 5)][:traces]
    picture = np.tile(np.linspace(-100, 100, SAMPLES), (traces, 1))
    headers = [{189: i, 193: j, 21: n} for n, (i, j) in enumerate(numbers)]
    source = segy_files.write(tmp_path / "a.sgy", picture, headers)
    words = ["--as-line"] if traces == 1 else ["--along", "inline"]
    assert predict(source, "--to", tmp_path / "salt.sgy", *words) == 0
    assert "<img" in (tmp_path / "salt.html").read_text()


@pytest.mark.parametrize("name", ["small-ps.sgy", "shot-gather.sgy", "small.sgy", "broken.sgy"])
def test_what_cannot_be_predicted_leaves_nothing(
    name: str, tmp_path: Path, predict: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    source = segy_files.public(name)
    assert predict(source, "--to", tmp_path / "new" / "salt.sgy") == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert not (tmp_path / "new").exists()
    assert in_process.call("scan", str(source)) == 2
    assert "it cannot be predicted" in capsys.readouterr().out


def test_nothing_is_written_over(
    tmp_path: Path, predict: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    source = volume(tmp_path / "salt_mask.sgy")
    before = source.read_bytes()
    link = tmp_path / "folder" / "link.sgy"
    link.parent.mkdir()
    link.symlink_to("nowhere.sgy")
    for target, message in (
        (source, "is the input itself"),
        (tmp_path / "salt.sgy", "salt_mask.sgy is the input itself"),
        (tmp_path / "salt.png", "name a file that ends in .sgy or .segy"),
        (tmp_path / f"{'x' * 230}.sgy", "its name has 234 bytes; take 200 at most"),
        (link, "link.sgy exists; choose another name or remove it"),
    ):
        assert predict(source, "--to", target) == 2
        assert message in capsys.readouterr().err
    (tmp_path / "new_top.csv").write_text("mine")
    assert predict(source, "--to", tmp_path / "new.sgy") == 2
    assert "new_top.csv exists; choose another name" in capsys.readouterr().err
    assert source.read_bytes() == before
    assert sorted(path.name for path in tmp_path.glob("*.*")) == ["new_top.csv", "salt_mask.sgy"]


def test_options_of_surveys_and_files_that_are_not_there(
    tmp_path: Path, predict: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(tmp_path / "none.sgy") == 2
    assert "no folder of images and no SEG-Y file" in capsys.readouterr().err
    assert predict(tmp_path, "--clip", "98") == 2
    assert "are for a SEG-Y file" in capsys.readouterr().err


# ---------------------------------------------------------------- resuming


def results(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name[0] != "."}


@pytest.fixture
def small_slabs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_slabs, "SLAB_BYTES", 1)  # a line each


@pytest.mark.usefixtures("small_slabs")
def test_an_interrupted_prediction_goes_on_with_the_same_bytes(
    tmp_path: Path, predict: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = volume(tmp_path / "a.sgy")
    assert predict(source, "--to", tmp_path / "one" / "salt.sgy") == 0
    calls, whole = [], windows.predict_images

    def count(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return whole(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(windows, "predict_images", count)
    target = tmp_path / "two" / "salt.sgy"
    assert predict(source, "--to", target) == 130
    assert results(target.parent) == {}
    assert predict(source, "--to", target, "--polarity", "reversed") == 2
    assert "results of another survey or other settings" in capsys.readouterr().err
    assert predict(source, "--to", target) == 0
    assert len(calls) == 9 + 1  # 4 inlines and 5 crosslines, one of them twice
    assert results(target.parent) == results(tmp_path / "one")


@pytest.mark.usefixtures("small_slabs")
def test_a_survey_that_is_replaced_in_the_middle_ends_the_prediction(
    tmp_path: Path, predict: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, other = volume(tmp_path / "a.sgy"), volume(tmp_path / "b.sgy", dead=3)
    calls, whole = [], windows.predict_images

    def replacing(*arguments: object, **options: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            other.replace(source)
        return whole(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(windows, "predict_images", replacing)
    assert predict(source, "--to", tmp_path / "new" / "salt.sgy") == 2
    assert "a.sgy was changed while it was read; leave it alone and rerun" in capsys.readouterr().err
    assert results(tmp_path / "new") == {}


def test_killed_while_files_are_moved(
    tmp_path: Path, predict: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = volume(tmp_path / "a.sgy")
    assert predict(source, "--to", tmp_path / "one" / "salt.sgy") == 0
    every = Outputs.all
    monkeypatch.setattr(Outputs, "all", lambda self: every(self)[:3])
    monkeypatch.setattr(io, "remove", lambda path: None)
    assert predict(source, "--to", tmp_path / "two" / "salt.sgy") == 2  # no record beside a probability
    monkeypatch.undo()
    assert len(results(tmp_path / "two")) == 3
    outputs = Outputs(tmp_path / "two" / "salt.sgy")
    with outputs.making(Survey.open(source)):
        pass
    assert results(tmp_path / "two") == results(tmp_path / "one")
    assert not outputs.parts.exists()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not fork")
@pytest.mark.usefixtures("small_slabs")
def test_killed_at_any_moment(tmp_path: Path, predict: Callable[..., int]) -> None:
    source = volume(tmp_path / "a.sgy")
    started = time.monotonic()
    assert predict(source, "--to", tmp_path / "one" / "salt.sgy") == 0
    seconds, whole = time.monotonic() - started, results(tmp_path / "one")
    dice, killed = np.random.default_rng(0), 0
    target = tmp_path / "two" / "salt.sgy"
    for _ in range(40):
        child = os.fork()
        if child == 0:
            torch.set_num_threads(1)
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os._exit(predict(source, "--to", target))
        time.sleep(dice.uniform(0, seconds))
        os.kill(child, signal.SIGKILL)
        killed += os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        found = results(target.parent) if target.parent.exists() else {}
        assert found.items() <= whole.items()
        if found == whole:
            io.remove(target.parent)
        if killed == 10:
            break
    assert killed >= 5
    io.remove(target.parent)
    assert predict(source, "--to", target) == 0
    assert results(target.parent) == whole


@pytest.mark.slow
def test_memory_does_not_grow_with_the_survey(
    tmp_path: Path, predict: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cubes, one twice as long, whose slabs are small beside them; a stand-in for the network."""
    from saltseg.seismic import traces

    monkeypatch.setattr(survey_slabs, "SLAB_BYTES", 2**18)
    monkeypatch.setattr(amplitudes, "MAX_VALUES", 10_000)
    monkeypatch.setattr(writer, "WRITE_BYTES", 2**16)
    monkeypatch.setattr(traces, "CHUNK_BYTES", 2**16)
    monkeypatch.setattr(survey_page, "render", lambda prediction: "")  # a chart takes 35 MB, whatever the survey
    monkeypatch.setattr(windows, "predict_images", lambda networks, images, settings: iter(map(np.copy, images)))
    peaks = []
    for inlines in (12, 12, 24):
        path = tmp_path / f"{len(peaks)}.sgy"
        numbers = segy_files.grid(range(inlines), range(40))
        segy_files.write(path, np.random.default_rng(0).integers(-99, 99, (len(numbers), 500)), numbers, code=3)
        tracemalloc.start()
        assert predict(path, "--to", tmp_path / f"{len(peaks)}-salt.sgy") == 0
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # The first call imports. The longer cube has 240,000 samples more; 480 more traces, and crosslines twice as long,
    # take a share of these 0.4 MB.
    assert peaks[2] < peaks[1] + 400_000, peaks


def test_too_little_space(tmp_path: Path, predict: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    survey = Survey.open(volume(tmp_path / "a.sgy"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match=r"take .* GB, 1e-06 GB are free"):
        Outputs(tmp_path / "salt.sgy").require_space(survey, 2)


def test_scan_measures_the_time_of_a_prediction(
    tmp_path: Path, predict: Callable[..., int], trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    source = volume(tmp_path / "a.sgy")
    assert in_process.call("scan", str(source), "--run", "tiny-run", "--output", str(trained.output)) == 0
    out = capsys.readouterr().out
    assert "960 pixels" in out
    assert "seconds" in out
    assert f"next: saltseg predict tiny-run {source}" in out


def test_one_gray_scale_for_the_survey() -> None:
    """A quiet line stays quiet: lines are not stretched one by one."""
    scaling = Scaling(0, 100)
    assert scaling.apply(np.array([10.0, -10.0], np.float32)).tolist() == [140, 115]

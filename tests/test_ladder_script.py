"""scripts/ladder.py as a user runs it, on the budget that trains in seconds."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import in_process
import numpy as np
import pytest
from tiny_run import salt, write_table

from saltseg import ladders, runs, storage
from saltseg.core import rle
from saltseg.inference import compare, ladder, steps
from saltseg.training.task import SaltTask

pytestmark = pytest.mark.slow


def write_tiles(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Tiles with a bright body of salt at the top, 10 to 90 rows of it; returns the masks."""
    rng = np.random.default_rng(len(names))
    masks = {name: salt(int(rows)) for name, rows in zip(names, rng.integers(10, 91, len(names)), strict=True)}
    folder.mkdir(parents=True)
    for name, mask in masks.items():
        tile = np.clip(rng.normal(80 + 80.0 * mask, 25), 0, 255).astype(np.uint8)
        (folder / f"{name}.png").write_bytes(cv2.imencode(".png", tile)[1].tobytes())
    return masks


def options(base: Path, *more: str) -> list[str]:
    places = ["--input", str(base / "input"), "--output", str(base / "output")]
    return ["--data", "tiny", "--images", str(base / "tiles"), "--budget", "tiny", *more, *places]


def stages(base: Path) -> dict[str, dict[str, Any]]:
    """The records by stage."""
    found = json.loads((base / "output" / "published" / "ladder" / "tiny-tiny-score" / "ladder.json").read_text())
    return {entry["stage"]: entry for entry in found["stages"]}


def run(base: Path, stage: str) -> runs.RunDir:
    return runs.existing_run(base / "output", ladders.run_name("tiny", "tiny", stage))


def times(base: Path) -> dict[str, int]:
    """When every file was written, but those that say the same each time."""
    again = ("leaderboard.html", "pseudo.json")
    files = (path for path in (base / "output").rglob("*") if path.is_file() and path.name not in again)
    return {str(path.relative_to(base)): path.stat().st_mtime_ns for path in files}


def ctrl_c_at(step: int) -> Any:
    """Ctrl-C before the training step of that number, counted from 0."""
    original = SaltTask.training_step

    def training_step(task: SaltTask, batch: Any, index: int) -> Any:
        if task.global_step == step:
            raise KeyboardInterrupt
        return original(task, batch, index)

    return mock.patch.object(SaltTask, "training_step", training_step)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 labelled tiles and 24 without labels; the ladder stopped in longer, which first has a seventh step."""
    root = tmp_path_factory.mktemp("ladder")
    dataset = root / "input" / "tiny"
    masks = write_tiles(dataset / "train" / "images", [f"a{k}" for k in range(40)])
    test = write_tiles(dataset / "test" / "images", [f"t{k}" for k in range(4)])
    write_tiles(root / "tiles", [f"u{k}" for k in range(24)])
    write_table(dataset / "train.csv", [["id", "rle_mask"], *([id_, rle.encode(mask)] for id_, mask in masks.items())])
    write_table(dataset / "sample_submission.csv", [["id", "rle_mask"], *([id_, "1 1"] for id_ in test)])
    with ctrl_c_at(6):
        assert in_process.call("ladder", *options(root)) == 130
    return root


def test_a_stopped_ladder_keeps_what_is_finished_and_goes_on_in_the_middle_of_a_training(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(stages(base)) == ["baseline", "recipe", "pretrained"]
    longer = run(base, "longer").fold(0)
    assert (longer.last.is_file(), longer.finished(), len(storage.read_csv(longer.log))) == (True, False, 3)
    before = times(base)
    assert in_process.call("ladder", *options(base)) == 0
    said = capsys.readouterr().out
    assert list(stages(base)) == list(ladders.RUNGS)
    assert len(storage.read_csv(longer.log)) == 4
    assert [line for line in said.splitlines() if "skipped" in line] == [
        f"stage {k} of 7, {name}: finished already; skipped"
        for k, name in enumerate(("baseline", "recipe", "pretrained"), start=1)
    ]
    after = times(base)
    for name in ("baseline", "recipe", "pretrained"):
        folder = f"output/runs/{run(base, name).name}/"
        own = {path: time for path, time in before.items() if path.startswith(folder)}
        assert {path: after[path] for path in own} == own
    found = stages(base)
    for name, entry in found.items():
        (low, high), gain = entry["interval"], entry["gain"]
        line = f"{name}: {entry['score']:.4f} ({low:.4f} to {high:.4f}) out of fold, cross-fitted"
        if gain:
            low, high = gain["interval"]
            line += f"; {gain['difference']:+.4f} ({low:+.4f} to {high:+.4f}) over {gain['over']}, paired"
        assert line in said.splitlines()
    best = max(found.values(), key=lambda entry: entry["score"])
    assert said.splitlines()[-1] == f"next: python scripts/publish.py {best['run']}"


def test_a_second_call_starts_nothing(base: Path) -> None:
    """In a process of its own."""
    before = times(base)
    command = [sys.executable, str(in_process.SCRIPTS / "ladder.py"), *options(base)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("finished already; skipped") == 7
    after = times(base)
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {
        f"output/published/ladder/tiny-tiny-score/{name}" for name in ("ladder.json", "ladder.png", "table.md")
    }
    assert before.keys() == after.keys()


def test_the_figures_are_those_of_the_runs_and_of_compare(base: Path) -> None:
    place, found = steps.Place(base / "input", base / "output"), stages(base)
    table = (base / "output" / "published" / "ladder" / "tiny-tiny-score" / "table.md").read_text()
    for name, entry in found.items():
        own = run(base, name)
        values = compare.whole_rule(own, place)
        assert entry["score"] == values.mean()
        assert entry["tenths"] == "".join(f"{round(10 * value):x}" for value in values)
        assert (entry["run"], entry["n"]) == (own.name, 40)
        network = "" if name == "blend" else " (`unet`)" if name == "baseline" else " (`recipe_lite0`)"
        assert f"| `{name}` | {ladders.STAGES[name].what}{network} | {entry['score']:.4f} [" in table
        over = ladders.STAGES[name].over
        if not over:
            assert entry["gain"] is None
            continue
        paired = compare.compare(run(base, over), own, place)["whole_rule"]
        wanted = {"over": over, "difference": paired["difference"], "interval": paired["interval"]}
        assert entry["gain"] == wanted
        assert wanted["difference"] == pytest.approx(entry["score"] - found[over]["score"])
        assert f"{paired['difference']:+.4f} [" in table
    assert len({entry["score"] for entry in found.values()}) > 3
    assert sum(entry["gain"]["difference"] != 0 for entry in found.values() if entry["gain"]) > 2


def test_stages_learn_from_what_they_say(base: Path) -> None:
    found = stages(base)
    assert [entry.get("n_pseudo") for entry in found.values()] == [0, 0, 0, 0, 20, 20, None]
    assert [entry.get("n_train") for entry in found.values()] == [16] * 6 + [None]
    assert {entry["transduction"] for entry in found.values()} == {False}
    assert found["blend"]["members"] == [found[name]["run"] for name in ladders.STAGES["blend"].members]
    assert f"pseudo.teacher:  → {found['student1']['run']}" in found["student2"]["changes"]
    pretraining = storage.read_json(base / "output" / "pretrained" / found["pretrained"]["run"] / "provenance.json")
    assert (pretraining["method"], pretraining["images"]) == ("masked", 20)
    metrics = storage.read_json(run(base, "pretrained").fold(1).metrics)
    assert metrics["encoder_weights"].startswith("all weights from file weights.safetensors")


def test_a_blend_that_was_stopped_half_way_is_made_again(base: Path) -> None:
    blend, before = run(base, "blend"), stages(base)
    for path in (blend.provenance, blend.report, blend.test):
        path.unlink()
    (blend.path / "left-over").write_text("")
    assert in_process.call("ladder", *options(base, "--only", "blend")) == 0
    assert not (blend.path / "left-over").exists()
    assert {name: entry["score"] for name, entry in stages(base).items()} == {
        name: entry["score"] for name, entry in before.items()
    }


def test_a_blend_of_others_or_of_earlier_networks_is_made_again(base: Path) -> None:
    blend = run(base, "blend")
    good = blend.read_provenance()
    members = [run(base, name) for name in ladders.STAGES["blend"].members]
    assert ladder.blend_is_current(blend, members)
    with changed(blend.provenance, {"created": "2020-01-01T00:00:00+00:00"}):
        assert not ladder.blend_is_current(blend, members)
    storage.write_json(blend.provenance, good | {"members": ["other", "runs"]})
    assert in_process.call("ladder", *options(base, "--only", "blend")) == 0
    assert blend.read_provenance()["members"] == good["members"]


def test_a_script_that_fails_stops_the_ladder_and_is_named(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(base, "student2").report.unlink()
    labelled = run(base, "student1").pseudo
    before = storage.read_json(labelled)
    storage.write_json(labelled, before | {"hash": "of other images"})
    try:
        assert in_process.call("ladder", *options(base, "--only", "student2")) == 2
    finally:
        storage.write_json(labelled, before)
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "student2 is not finished; the same command goes on with it"
    assert "has labelled other images" in said[-2]


def test_what_learnt_from_something_else_than_is_there_now_is_refused(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(message: str) -> None:
        assert in_process.call("ladder", *options(base)) == 2
        assert message in capsys.readouterr().err

    longer, later = run(base, "longer").fold(1).metrics, {"finished": "2999-01-01T00:00:00+00:00"}
    with changed(longer, later):
        student = run(base, "student1")
        refused(
            f"{student.name} learnt from an earlier {run(base, 'longer').name} than there is now; remove {student.path}"
        )
    gone = run(base, "longer").path
    gone.rename(gone.with_name("elsewhere"))
    try:
        refused(f"{student.name} learnt from {gone.name}, which is gone; restore that, or remove {student.path}")
        members = [run(base, "student1"), run(base, "student2"), runs.RunDir(gone)]
        assert not ladder.blend_is_current(run(base, "blend"), members)
    finally:
        gone.with_name("elsewhere").rename(gone)
    pretrained = run(base, "pretrained")
    made = base / "output" / "pretrained" / pretrained.name
    with changed(made / "provenance.json", {"created": "2999-01-01T00:00:00+00:00"}):
        refused(f"{pretrained.name} learnt from an earlier pretraining {pretrained.name} than there is now")
    before = (made / "config.yaml").read_text()
    (made / "config.yaml").write_text(before.replace("transduction: false", "transduction: true"))
    try:
        refused(f"{pretrained.name} is another training (pseudo.transduction: True → False); remove {made}")
    finally:
        (made / "config.yaml").write_text(before)
    labels = run(base, "student1").pseudo
    checksums = storage.read_json(labels)["checksums"]
    with changed(labels, {"checksums": checksums | {"1": "of labels made anew"}}):
        refused(
            f"fold 1 of {run(base, 'student2').name} learnt from other labels than {run(base, 'student1').name} gives "
            f"now; remove {run(base, 'student2').path}"
        )
    shutil.copy(base / "tiles" / "u0.png", base / "tiles" / "a.png")
    try:
        refused(f"ladder.json was made with other images than those of {base / 'tiles'}")
    finally:
        (base / "tiles" / "a.png").unlink()


def test_too_few_labels_are_refused_before_anything_is_trained(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    places = options(base)
    places[places.index("tiny", places.index("--budget"))] = "cpu"
    assert in_process.call("ladder", *places) == 2
    assert "baseline trains on 500 images, and tiny leaves 20 beside those that validate" in capsys.readouterr().err


@contextmanager
def changed(path: Path, values: dict[str, Any]) -> Iterator[None]:
    """A JSON file that says something else for a moment."""
    before = storage.read_json(path)
    storage.write_json(path, before | values)
    try:
        yield
    finally:
        storage.write_json(path, before)


def test_a_finished_stage_that_is_another_training_now_is_refused(
    base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = run(base, "recipe")
    before = recipe.config.read_text()
    recipe.config.write_text(before.replace("learning_rate: 0.01", "learning_rate: 0.02"))
    try:
        assert in_process.call("ladder", *options(base)) == 2
    finally:
        recipe.config.write_text(before)
    said = capsys.readouterr().err
    assert f"{recipe.name} is another training (train.learning_rate: 0.02 → 0.01); remove {recipe.path}" in said


def test_the_ladder_of_labels_pretrains_once_and_draws_scores_over_labels(base: Path) -> None:
    names = ["random_longer_100", "masked_100", "masked_300"]
    assert in_process.call("ladder", *options(base, "--ladder", "labels", "--only", ",".join(names))) == 0
    place = base / "output" / "published" / "ladder" / "tiny-tiny-labels"
    found = {entry["stage"]: entry for entry in storage.read_json(place / "ladder.json")["stages"]}
    assert list(found) == names
    assert [entry["n_train"] for entry in found.values()] == [8, 8, 12]
    assert [entry["gain"] and entry["gain"]["over"] for entry in found.values()] == [None, "random_longer_100", None]
    assert (base / "output" / "pretrained" / ladders.run_name("tiny", "tiny", "masked")).is_dir()
    assert (place / "ladder.png").read_bytes().startswith(b"\x89PNG")

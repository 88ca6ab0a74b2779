"""`saltseg study` as a user calls it, on budgets that train in seconds."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import in_process
import numpy as np
import pytest
import study_records
from tiny_run import salt, write_table

from saltseg import config, io, runs, workers
from saltseg.data.image_files import write_png
from saltseg.errors import InputError
from saltseg.metrics import rle
from saltseg.pipeline import compare
from saltseg.pipeline.workspace import Workspace
from saltseg.reporting import gallery, plots
from saltseg.studies import benchmark, engine, label_efficiency, results, self_training
from saltseg.studies.records import POSTPROCESSED
from saltseg.studies.sweep import Study, Sweep
from saltseg.synthetic.dataset import write_dataset
from saltseg.training import processes
from saltseg.training.module import SaltModule
from saltseg.workers import Workers

STAGES = list(benchmark.VARIANTS)


def write_tiles(folder: Path, names: list[str]) -> dict[str, np.ndarray]:
    """Tiles with a bright body of salt at the top, 10 to 90 rows of it; returns the masks."""
    rng = np.random.default_rng(len(names))
    masks = {name: salt(int(rows)) for name, rows in zip(names, rng.integers(10, 91, len(names)), strict=True)}
    folder.mkdir(parents=True)
    for name, mask in masks.items():
        write_png(folder / f"{name}.png", np.clip(rng.normal(80 + 80.0 * mask, 25), 0, 255).astype(np.uint8))
    return masks


@pytest.fixture(scope="module", autouse=True)
def children_in_this_process() -> Iterator[None]:
    """Trainings that would have a process of their own are called one after the other: torch is imported once."""

    def run(commands, where, logs):
        codes = {}
        for name, (_, _, *command) in commands.items():
            with mock.patch.dict(os.environ, {workers.CHILD: "1"}):
                codes[name] = in_process.call(*command)
            if codes[name] == 130:
                raise KeyboardInterrupt
        return codes

    with mock.patch.object(processes, "run", run):
        yield


def options(base: Path, *more: str) -> list[str]:
    return ["--data", "tiny", *more, "--input", str(base / "input"), "--output", str(base / "output")]


def study(base: Path, *more: str, name: str = "benchmark") -> int:
    images = ["--images", str(base / "tiles"), "--budget", "tiny"]
    return in_process.call("study", name, *options(base, *images, *more))


def sweep(base: Path, of: Study = benchmark.STUDY) -> Sweep:
    return Sweep(of, "tiny", "tiny", base / "input", base / "output")


@pytest.fixture(scope="module", autouse=True)
def undrawn_reports() -> Iterator[None]:
    """The reports of ten runs are written without pictures, which take most of their time."""
    with (
        mock.patch.object(plots, "png", return_value=b"a picture"),
        mock.patch.object(gallery, "draw", return_value=b"a picture"),
    ):
        yield


@contextmanager
def ctrl_c_at(step: int) -> Iterator[None]:
    """Ctrl-C before the training step of that number, counted from 0."""
    original = SaltModule.training_step

    def training_step(module, batch, index):
        if module.global_step == step:
            raise KeyboardInterrupt
        return original(module, batch, index)

    with mock.patch.object(SaltModule, "training_step", training_step):
        yield


@contextmanager
def changed(path: Path, **values) -> Iterator[None]:
    """A JSON file with other values for a moment."""
    before = io.read_json(path)
    io.write_json(path, before | values)
    try:
        yield
    finally:
        io.write_json(path, before)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """40 labeled tiles and 24 without labels; the benchmark stopped in longer, which first has a seventh step."""
    root = tmp_path_factory.mktemp("study")
    dataset = root / "input" / "tiny"
    masks = write_tiles(dataset / "train" / "images", [f"a{k}" for k in range(40)])
    test = write_tiles(dataset / "test" / "images", [f"t{k}" for k in range(4)])
    write_tiles(root / "tiles", [f"u{k}" for k in range(24)])
    write_table(dataset / "train.csv", [["id", "rle_mask"], *([id_, rle.encode(mask)] for id_, mask in masks.items())])
    write_table(dataset / "sample_submission.csv", [["id", "rle_mask"], *([id_, "1 1"] for id_ in test)])
    with ctrl_c_at(6):
        assert study(root) == 130
    return root


@pytest.mark.slow
def test_a_stopped_study_keeps_what_is_finished_and_goes_on_in_the_middle_of_a_training(base, capsys) -> None:
    of = sweep(base)
    assert list(results.read(of)) == ["baseline", "recipe", "pretrained"]
    longer = of.run_dir("longer", 0).fold(0)
    assert (longer.last.is_file(), longer.finished(), len(io.read_csv(longer.log))) == (True, False, 3)
    finished = [of.record_path(name, 0) for name in ("baseline", "recipe", "pretrained")]
    before = {path: path.stat().st_mtime_ns for path in finished}
    assert study(base) == 0
    assert capsys.readouterr().out.startswith("4 trainings to do")
    assert list(results.read(of)) == STAGES
    assert len(io.read_csv(longer.log)) == 4
    assert {path: path.stat().st_mtime_ns for path in finished} == before
    assert (of.folder / "chart.png").read_bytes().startswith(b"\x89PNG")
    with mock.patch.object(SaltModule, "training_step", side_effect=AssertionError):
        assert study(base) == 0
    printed = capsys.readouterr().out
    assert (of.folder / "table.md").read_text() in printed
    assert printed.splitlines()[-1] == f"next: git add {of.folder}"


@pytest.mark.slow
def test_scores_and_gains_are_those_of_the_runs_and_of_compare(base) -> None:
    of, workspace = sweep(base), Workspace(base / "input", base / "output")
    found = {result.variant: result for result in results.compare_all(of, results.read(of))}
    for name, result in found.items():
        (record,), run = result.records, of.run_dir(name, 0)
        scores = np.array([float(row[POSTPROCESSED]) for row in compare.image_scores(run, workspace)])
        assert (record.scores[POSTPROCESSED], record.n, record.run) == (scores.mean(), 40, run.name)
        assert record.images(POSTPROCESSED) == pytest.approx(scores)
        assert run.report.is_file()
        assert run.submission.is_file()
        if result.reference:
            paired = compare.compare(of.run_dir(result.reference, 0), run, workspace)[POSTPROCESSED]
            gain = result.gains[POSTPROCESSED]
            assert [gain.mean, gain.interval] == [paired["difference"], paired["interval"]]
    assert len({result.records[0].scores[POSTPROCESSED] for result in found.values()}) > 2
    records = [result.records[0] for result in found.values()]
    assert [record.n_pseudo for record in records] == [0, 0, 0, 0, 20, 20, None]
    assert [record.n_train for record in records] == [16] * 6 + [None]
    assert {record.transduction for record in records} == {False}
    assert {record.precision for record in records} == {"32", None}
    hashed = [result.variant for result in found.values() if result.records[0].unlabeled_hash]
    assert hashed == ["pretrained", "student1", "student2"]
    pretraining = io.read_json(of.pretraining("pretrained", 0)[0] / "provenance.json")
    assert (pretraining["method"], pretraining["images"]) == ("masked", 20)
    assert of.run_dir("blend", 0).members() == [of.run_dir(name, 0).name for name in ("longer", "student1", "student2")]


@pytest.mark.slow
def test_variants_of_another_study_are_not_trained_again(base, capsys) -> None:
    assert study(base, "--only", "longer,student1,pseudo_labels_only,fine_tuned", name="self_training") == 0
    assert capsys.readouterr().out.startswith("2 trainings to do")
    of = sweep(base, self_training.STUDY)
    assert list(results.read(of)) == ["recipe", "longer", "student1", "pseudo_labels_only", "fine_tuned"]
    assert of.run_dir("fine_tuned", 0).read_config().train.init_from == "self_training-tiny-tiny-pseudo_labels_only-0"


@pytest.mark.slow
def test_a_blend_without_a_record_is_made_again_from_the_members_of_now(base) -> None:
    of = sweep(base)
    before = results.read(of)["blend"][0].scores
    of.record_path("blend", 0).unlink()
    (of.run_dir("blend", 0).path / "left-over").write_text("")
    assert study(base, "--only", "blend") == 0
    assert not (of.run_dir("blend", 0).path / "left-over").exists()
    assert results.read(of)["blend"][0].scores == before


@pytest.mark.slow
def test_what_learned_from_something_else_than_is_there_now_is_refused(base, capsys) -> None:
    of = sweep(base)

    def refused(message: str, *more: str, code: int = 2) -> None:
        assert study(base, *more) == code
        assert message in capsys.readouterr().err

    with changed(of.record_path("longer", 0), created="2999-01-01T00:00:00+00:00"):
        refused("student1 learned from an earlier training of longer than the one recorded; remove")
    student = of.record_path("student1", 0)
    kept = student.read_text()
    student.unlink()
    try:
        with changed(of.run_dir("longer", 0).fold(1).metrics, finished="2999-01-01T00:00:00+00:00"):
            refused(
                "learned from an earlier benchmark-tiny-tiny-longer-0 than there is now",
                "--only",
                "student1",
                code=1,
            )
        shutil.copy(base / "tiles" / "u0.png", base / "tiles" / "a.png")
        refused("was trained with other images without labels than those of", "--only", "student1")
    finally:
        student.write_text(kept)
        (base / "tiles" / "a.png").unlink(missing_ok=True)
    with changed(
        of.record_path("recipe", 0), settings=io.read_json(of.record_path("recipe", 0))["settings"] | {"data.size": 64}
    ):
        refused("other settings than the study has now (data.size: 64 → 32)")


@pytest.mark.slow
def test_ablations_are_trained_once_left_out_or_refused(tmp_path, capsys) -> None:
    write_dataset(tmp_path / "input" / "tiny", n_train=30, n_test=2, seed=3)
    changes = {"train.checkpoint": "last", "train.schedule": "cosine", "train.epochs": 4, "train.ema_decay": 0.9,
               "data.size": 32, "model.filters": 2}  # fmt: skip
    experiment = tmp_path / "mine.yaml"
    experiment.write_text(config.dump(config.change(config.Config(name="mine"), changes)))

    def ablate(*more: str, base: str = str(experiment)) -> tuple[int, str, str]:
        code = in_process.call("study", "ablations", *options(tmp_path, "--experiment", base, *more))
        return code, *capsys.readouterr()

    code, _, errors = ablate("--only", "base,focal,scse,dice")
    assert code == 0, errors
    assert "scse is left out: model.architecture=unet has no attention" in errors
    folder = tmp_path / "output" / "published" / "studies" / "ablations_mine-tiny-cpu"
    assert {path.name for path in folder.iterdir()} == {
        "base-0.json",
        "focal-0.json",
        "dice-0.json",
        "table.md",
        "chart.png",
    }
    record = io.read_json(folder / "focal-0.json")
    assert (record["n_train"], record["n"], len(record["passed"]["score_at_half"])) == (12, 18, 18)
    shutil.rmtree(tmp_path / "output" / "studies")  # records alone are enough
    code, text, _ = ablate("--only", "base,focal,scse")
    assert (code, "| `focal` | `train.loss=focal` |" in text) == (0, True)
    assert "| `base` |" in ablate("--table")[1]
    assert ablate("--against", "focal")[1].splitlines()[2].startswith("| `focal` |")
    code, _, errors = ablate("--only", "base", "--seeds", "7", "--data", "tinny")
    assert (code, "left out" in errors) == (2, False)  # a mistake is no misfit
    assert "unet selects its best epoch on the images that report the gain" in ablate(base="unet")[2]


@pytest.mark.slow
def test_one_with_too_few_labels_is_left_out_and_tiles_of_simulated_data_are_kept(tmp_path, capsys) -> None:
    write_dataset(tmp_path / "input" / "tiny", n_train=60, n_test=2, seed=3)
    io.write_json(tmp_path / "input" / "tiny" / "source.json", {"source": "synthetic"})
    # twice 24 images to train on are more than two folds of three have: that variant is left out
    tiny = options(tmp_path, "--budget", "tiny")
    assert in_process.call("study", "case_study", *tiny, "--only", "base,images_double,images_eighth") == 0
    out, errors = capsys.readouterr()
    assert errors.count("images_double is left out: folds.train_images is 48; fold 0 has 40") == 1
    assert "| `images_eighth` |" in out
    folder = tmp_path / "output" / "published" / "studies" / "case_study-tiny-tiny"
    names = ("base-0.json", "base-0.npz", "images_eighth-0.json", "images_eighth-0.npz", "table.md", "chart.png")
    assert {path.name for path in folder.iterdir()} == set(names)
    record = io.read_json(folder / "images_eighth-0.json")
    assert (record["n_train"], record["n"], record["details"]["folds"]) == (3, 40, [0, 1])
    assert record["changes"] == ["folds.train_images: 24 → 3", "train.epochs: 4 → 32"]
    assert io.read_json(folder / "base-0.json")["details"]["ensemble"]["n"] > 2
    assert in_process.call("study", "case_study", *tiny, "--only", "base", "--table") == 0
    assert in_process.call("case-study", *tiny, "--to", str(tmp_path / "docs")) == 0
    assert "next: saltseg study case_study --data tiny --budget tiny" in capsys.readouterr().out
    assert (tmp_path / "docs" / "case_study" / "predicted.png").is_file()


@pytest.mark.slow
def test_folds_of_one_training_run_side_by_side(tmp_path) -> None:
    write_dataset(tmp_path / "input" / "tiny", n_train=60, n_test=2, seed=3)
    tiny = options(tmp_path, "--budget", "tiny", "--only", "base", "--parallel", "2")
    with mock.patch.object(processes, "run", side_effect=processes.run) as started:
        assert in_process.call("study", "case_study", *tiny) == 0
    assert list(started.call_args.args[0]) == ["base-0-fold_0", "base-0-fold_1"]
    run = runs.RunDir(tmp_path / "output" / "studies" / "case_study-tiny-tiny" / "base-0")
    assert len(run.finished_folds()) == 2


def test_what_trainings_share_is_made_before_they_start_side_by_side(tmp_path, capsys) -> None:
    write_dataset(tmp_path / "input" / "tiny", n_train=20, n_test=1, seed=3)
    of, calls = sweep(tmp_path, label_efficiency.STUDY), []

    def started(commands, where, logs):
        calls.append(list(commands))
        return dict.fromkeys(commands, 0)

    def prepared(_, training):
        calls.append(training[0])
        if training[0] == "synthetic_300":
            raise InputError("no")

    names = ("synthetic_100", "synthetic_300", "synthetic_1000", "synthetic_all")
    pending = [(name, 0) for name in names] + [("synthetic_1000", 1)]
    with mock.patch.object(engine, "_prepare", prepared), mock.patch.object(processes, "run", started):
        failed = engine.run(of, pending, Workers(1), ["study"])
    # of 20 images 12 train, not 16
    assert calls == ["synthetic_100", "synthetic_300", "synthetic_all", ["synthetic_100-0", "synthetic_all-0"]]
    assert list(failed) == ["synthetic_300-0"]
    out, errors = capsys.readouterr()
    assert out == "3 trainings to do\n"
    assert errors.count("\n") == 1
    assert errors.startswith("synthetic_1000 is left out: folds.train_images is 16")


def test_the_page_of_the_case_study_follows_its_own_base_alone(tmp_path, capsys) -> None:
    for experiment, follows in (("", True), ("recipe_lite0", False)):
        of = study_records.case_sweep(tmp_path / "output")
        of = replace(of, study=of.study.with_base(experiment)) if experiment else of
        study_records.write(of, study_records.case_record(of))
        where = ["--data", "fake", "--output", str(tmp_path / "output")]
        more = ["--experiment", experiment] if experiment else []
        assert in_process.call("study", "case_study", *where, "--table", *more) == 0
        line = capsys.readouterr().out.splitlines()[-1]
        assert line.startswith("next: saltseg case-study --data fake" if follows else f"next: git add {of.folder}")


def test_what_needs_a_variant_with_too_few_labels_is_left_out_too(tmp_path, capsys) -> None:
    write_dataset(tmp_path / "input" / "tiny", n_train=20, n_test=1, seed=3)
    write_tiles(tmp_path / "tiles", ["u0", "u1"])
    of = replace(sweep(tmp_path), images=tmp_path / "tiles")
    pending = [(name, 0) for name in ("longer", "student1", "student2", "blend")]
    with mock.patch.object(processes, "run", side_effect=AssertionError):
        assert engine.run(of, pending, Workers(1), ["study"]) == {}
    out, errors = capsys.readouterr()
    assert out == "0 trainings to do\n"
    assert [line.partition(" is left out: ")[2][:15] for line in errors.splitlines()] == [
        "folds.train_ima", "it needs longer", "it needs studen", "it needs longer"
    ]  # fmt: skip


def test_a_record_alone_is_not_enough_to_learn_from(tmp_path) -> None:
    of = sweep(tmp_path)
    study_records.write(of, study_records.record(of, "longer"))
    with pytest.raises(InputError, match="student1 needs the run of longer, of which only the record is here; copy"):
        engine.run(of, [("student1", 0)], 1, [])


def test_mistakes_are_told_before_anything_is_trained(tmp_path, capsys) -> None:
    write_dataset(tmp_path / "input" / "tiny", n_train=4, n_test=1, seed=3)

    def refused(message: str, name: str, *more: str) -> None:
        assert in_process.call("study", name, *options(tmp_path, *more)) == 2
        assert message in capsys.readouterr().err

    refused("did you mean scse", "ablations", "--only", "base,scce")
    refused("--seeds 'one'; write numbers such as 0,1", "ablations", "--seeds", "one")
    refused("unknown budget 'tny'; did you mean tiny", "benchmark", "--budget", "tny")
    refused("learns from images without labels; give --images FOLDER", "benchmark", "--only", "student1,longer")
    refused("student2 needs student1, which is not finished; add it to --only", "benchmark", "--only", "student2")
    refused("train with: saltseg study ablations --data tiny --budget cpu", "ablations", "--table")
    assert in_process.call("case-study", *options(tmp_path)) == 2
    assert "train with: saltseg study case_study --data tiny --budget cpu" in capsys.readouterr().err
    assert not (tmp_path / "output").exists()

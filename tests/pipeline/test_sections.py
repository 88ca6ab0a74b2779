"""Intervals resample sections where the dataset names some that images share, and images everywhere else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_run import ROWS, TRAIN, Trained, checkpoint, make_predictions, postprocess, salt, write_table

from saltseg import io, predictions, runs, schemas
from saltseg.data import image_files
from saltseg.metrics import bootstrap, rle
from saltseg.pipeline import blend, collate, compare, evaluate, tune
from saltseg.postprocessing import blend_weights, step_selection
from saltseg.postprocessing.parameters import THRESHOLD_HALF
from saltseg.reporting import caveats, run_summary

LETTER = {id_: id_[0] for id_ in TRAIN}  # four sections of three tiles, one in each fold
SCORES = np.array([id_[0] != "b" for id_ in TRAIN], float)  # the empty tiles of section b are wrong


def write_sections(root: Path, sections: dict[str, str]) -> None:
    write_table(root / "sections.csv", [["id", "section"], *map(list, sections.items())])


def write_oof(trained: Trained, name: str) -> runs.RunDir:
    """A run that is right but for the tiles of section b, all of which it predicts full."""
    run = runs.run_dir(trained.output, name)
    io.write_json(run.provenance, trained.run.read_provenance())
    io.write_atomic(run.config, trained.run.config.read_text())
    made = make_predictions(TRAIN, lambda id_: 200 * salt(101 if id_[0] == "b" else ROWS[id_]))
    fold = np.array([int(id_[1]) for id_ in TRAIN])
    predictions.save_predictions(run.oof, predictions.Predictions(made.ids, made.probabilities, fold))
    predictions.save_predictions(run.test, predictions.load_predictions(trained.run.test))
    return run


@pytest.fixture
def wrong(trained: Trained) -> runs.RunDir:
    collate.collate_run(trained.run, trained.workspace)
    return write_oof(trained, "wrong")


BY_IMAGE = bootstrap.bootstrap_interval(SCORES)
BY_SECTION = bootstrap.bootstrap_interval(SCORES, list(LETTER.values()))


@pytest.mark.parametrize(
    ("sections", "by"),
    [
        (None, "image"),
        ({id_: f"s{id_}" for id_ in TRAIN}, "image"),  # each tile has its own
        (dict.fromkeys(TRAIN, "one"), "image"),  # nothing to resample
        (LETTER, "section"),
        ({id_: letter for id_, letter in LETTER.items() if letter != "d"}, "section"),  # three tiles of their own
    ],
)
def test_tuning_says_by_what_its_intervals_are(
    sections: dict[str, str] | None, by: str, trained: Trained, wrong: runs.RunDir
) -> None:
    if sections is not None:
        write_sections(trained.root, sections)
    tuned = tune.tune_run(wrong, trained.workspace)
    assert tuned["by"] == schemas.read(wrong.postprocess)["by"] == by
    labels = [(sections or {}).get(id_, id_) for id_ in TRAIN]
    expected = BY_IMAGE if by == "image" else bootstrap.bootstrap_interval(SCORES, labels)
    assert tuple(tuned["cross_fitted"]["interval"]) == expected
    assert tuned["cross_fitted"]["score"] == 0.75
    assert BY_SECTION[1] - BY_SECTION[0] >= 1.5 * (BY_IMAGE[1] - BY_IMAGE[0])
    text = " ".join(caveats.caveats(run_summary.read(wrong)))
    assert f"It covers the sampling of {by}s only" in text


def test_steps_and_the_gain_of_tuning_resample_sections_too(trained: Trained, wrong: runs.RunDir) -> None:
    """Sections c and d are predicted too faintly for threshold 0.5, and right at a lower one."""
    oof = predictions.load_predictions(wrong.oof)
    faint = np.array([id_[0] in "cd" for id_ in oof.ids.tolist()])
    oof.probabilities[faint] //= 2
    predictions.save_predictions(wrong.oof, oof)
    write_sections(trained.root, LETTER)
    tuned = tune.tune_run(wrong, trained.workspace)
    gain = faint.astype(float)
    expected = list(bootstrap.bootstrap_interval(gain, [id_[0] for id_ in oof.ids.tolist()]))
    assert tuned["tuning_gain"] == {"mean": 0.5, "interval": expected}
    assert tuned["steps"][0]["gain"] == {"mean": 0.5, "interval": expected}
    assert expected != list(bootstrap.bootstrap_interval(gain))


def published(trained: Trained, run: runs.RunDir) -> runs.RunDir:
    record = runs.RunDir(trained.output / "published" / f"{run.name}-published")
    io.write_json(record.provenance, run.read_provenance())
    io.write_csv(record.image_scores, compare.image_scores(run, trained.workspace))
    return record


def test_runs_are_compared_by_section_with_their_predictions_and_with_published_scores(
    trained: Trained, wrong: runs.RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_half(images: step_selection.OutOfFold, sections: object = None) -> dict[str, np.ndarray]:
        values = images.areas(THRESHOLD_HALF).average_precision(THRESHOLD_HALF)
        return dict.fromkeys(step_selection.SCORE_KINDS, values)

    monkeypatch.setattr(step_selection, "scores", at_half)  # all kinds take half a minute
    before = published(trained, wrong)
    assert list(schemas.read(before.image_scores)[0])[:3] == ["id", "fold", "score_at_half"]
    plain = compare.compare(trained.run, wrong, trained.workspace)
    assert (plain["by"], plain["score_at_half"]["interval"]) == ("image", [x - 1 for x in BY_IMAGE])
    write_sections(trained.root, LETTER)
    now = published(trained, trained.run)
    assert {row["id"]: row["section"] for row in schemas.read(now.image_scores)} == LETTER
    expected = list(bootstrap.bootstrap_interval(SCORES[np.argsort(TRAIN)] - 1, sorted(LETTER.values())))
    for pair in ((trained.run, wrong), (now, wrong), (now, before)):  # one side's sections are enough
        found = compare.compare(*pair, trained.workspace)
        assert (found["by"], found["score_at_half"]["interval"]) == ("section", pytest.approx(expected, abs=1e-12))
    (trained.root / "sections.csv").unlink()
    assert compare.compare(before, wrong, trained.workspace)["by"] == "image"


def test_steps_of_compared_scores_are_selected_by_section_as_those_of_tuning_are(
    trained: Trained, wrong: runs.RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_sections(trained.root, LETTER)
    seen = []
    original = step_selection.forward_selection

    def spy(images: step_selection.OutOfFold, *arguments: object, **options: object) -> object:
        seen.append(options["sections"])
        return original(images, *arguments, **options)

    monkeypatch.setattr(step_selection, "forward_selection", spy)
    compare.image_scores(wrong, trained.workspace)
    compare.compare(trained.run, wrong, trained.workspace)
    assert len(seen) == 3 * 3  # scores of three runs, without each of three folds
    assert all(set(np.asarray(sections).tolist()) == set(LETTER.values()) for sections in seen)


def test_fitted_weights_are_judged_by_section(
    trained: Trained, wrong: runs.RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cross_fit(stacks: list[np.ndarray], *_: object) -> blend_weights.FittedWeights:
        equal = np.full(12, 0.5)
        return blend_weights.FittedWeights((1, 0), dict.fromkeys(range(3), (1, 0)), equal + SCORES / 2, equal)

    monkeypatch.setattr(blend_weights, "cross_fit", cross_fit)
    evidence = {}
    for by, prepare in {"image": lambda: None, "section": lambda: write_sections(trained.root, LETTER)}.items():
        prepare()
        target = runs.RunDir(trained.output / "blends" / by)
        found = blend.blend_runs([wrong, trained.run], target, trained.workspace, "fitted")
        evidence[by] = found["evidence"]
        assert schemas.read(target.provenance)["evidence"]["by"] == by
    assert evidence["image"]["interval"] == pytest.approx([x / 2 for x in BY_IMAGE])
    assert evidence["section"]["interval"] == pytest.approx([x / 2 for x in BY_SECTION])


@pytest.mark.parametrize("by", ["image", "section"])
def test_another_dataset_is_scored_by_its_own_sections(
    by: str, trained: Trained, make_other: Callable[[], Path]
) -> None:
    for number in range(3):
        checkpoint(trained, number, 0.9)
    io.write_json(trained.run.postprocess, postprocess())
    root = make_other()
    if by == "section":
        write_sections(root, {f"e{k}": f"s{k // 2}" for k in range(6)})
    result = evaluate.evaluate(trained.run, trained.workspace, "other")
    scores, labels = [1, 1, 1, 1, 0, 0], [0, 0, 1, 1, 2, 2]  # full, full, full, full, empty, empty
    expected = bootstrap.bootstrap_interval(scores, labels if by == "section" else None)
    assert (result["by"], tuple(result["interval"])) == (by, expected)


@pytest.fixture
def make_other(trained: Trained) -> Callable[[], Path]:
    """A dataset of six tiles, of which the last two hold no salt."""

    def make() -> Path:
        root = trained.input / "other"
        rows = [[f"e{k}", rle.encode(salt(101 if k < 4 else 0))] for k in range(6)]
        write_table(root / "train.csv", [["id", "rle_mask"], *rows])
        (root / "train" / "images").mkdir(parents=True)
        for k in range(6):
            image = np.random.default_rng(k).integers(0, 256, (101, 101), dtype=np.uint8)
            image_files.write_png(root / "train" / "images" / f"e{k}.png", image)
        return root

    return make

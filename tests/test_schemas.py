"""The files of a run: what must be in them, and the one line about what is not."""

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_run import metrics, postprocess

from saltseg import io, provenance, runs, schemas
from saltseg.errors import InputError

PUBLISHED = Path(__file__).parents[1] / "output" / "published"

WHOLE: dict[str, Any] = {
    "provenance.json": {
        "dataset": "tgs", "dataset_hash": "ab", "folds_hash": "cd", "synthetic": False,
        "members": ["one", "two"], "weights": [2, 1],
        "evidence": {"groups": "folds", "equal": 0.8, "fitted": 0.81, "difference": 0.01, "interval": [-0.1, 0.1],
                     "selected": True},
    },
    "metrics.json": metrics(0),
    "postprocess.json": postprocess() | {"steps": [
        {"step": "threshold", "selected": True, "score": 0.5, "gain": {"mean": 0.1, "interval": [0.0, 0.2]}}
    ], "per_coverage": [{"coverage_class": 0, "n": 3, "score": 0.5}]},
    "postprocessing_source.json": {"postprocessing_from": "x", "postprocessing": {"threshold": 128, "min_area": 0}},
    "solution_score.json": {"all": 0.5, "public": None, "private": 0.5},
    "pseudo.json": {"folder": "images", "limit": None, "n": 3, "hash": "ab", "checksums": {"0": "cd"}},
    "on_tgs.json": {"run": "x", "dataset": "tgs", "n": 3, "score_at_half": 0.5, "score_postprocessed": 0.5,
                    "interval": [0.4, 0.6]},
    "dataset.json": {"order of train.csv": "sha256 ab"},
}  # fmt: skip
OPTIONAL = ("members", "weights", "evidence", "log_loss", "limit", "checksums", "steps", "by", "order of train.csv")
LOG = "epoch,train_loss,valid_loss,valid_frame_accuracy,learning_rate,seconds,speed\n1,0.5,nan,nan,0.001,2,3\n"
SCORES = "id,fold,score_at_half,score_tuned_cv,score_postprocessed_cv\na,0,1.0,0.9,0.8\n"


def written(folder: Path, name: str, value: Any) -> Path:
    io.write_json(folder / name, value)
    return folder / name


def refusal(path: Path) -> str:
    """The one line about a file that cannot be used."""
    with pytest.raises(InputError) as refused:
        schemas.read(path)
    text = str(refused.value)
    assert str(path) in text
    assert "\n" not in text
    assert len(text) < 400 + len(str(path))
    return text


@pytest.mark.parametrize("name", WHOLE)
def test_whole_files_are_read_as_they_are_and_further_keys_stay(name: str, tmp_path: Path) -> None:
    assert schemas.read(written(tmp_path, name, WHOLE[name])) == WHOLE[name]
    if name != "dataset.json":
        more = WHOLE[name] | {"of a later version": [1, {"a": None}]}
        assert schemas.read(written(tmp_path, name, more)) == more


@pytest.mark.parametrize(
    ("name", "key"),
    [(name, key) for name, value in WHOLE.items() for key in value if key not in OPTIONAL],
)
def test_a_missing_key_is_named(name: str, key: str, tmp_path: Path) -> None:
    value = {other: value for other, value in WHOLE[name].items() if other != key}
    assert f"{name}: no {key} in it; " in refusal(written(tmp_path, name, value))


@pytest.mark.parametrize(
    ("name", "changed", "where"),
    [
        ("provenance.json", {"dataset_hash": 3}, "dataset_hash is 3; "),
        ("provenance.json", {"synthetic": "no"}, "synthetic is 'no'; "),
        ("provenance.json", {"members": ["../x", "two"]}, "members.0 is '../x'; "),
        ("provenance.json", {"members": "one"}, "members is 'one'; "),
        ("provenance.json", {"weights": [1]}, "there are 2 members and the weights [1]"),
        ("provenance.json", {"weights": [0, 0]}, "which must not all be 0"),
        ("provenance.json", {"weights": [1, -1]}, "weights.1 is -1; "),
        ("metrics.json", {"fold": -1}, "fold is -1; "),
        ("metrics.json", {"seconds": "fast"}, "seconds is 'fast'; "),
        ("metrics.json", {"seconds": 1e300}, "seconds is 1e+300; "),
        ("metrics.json", {"score_at_half": 1.01}, "score_at_half is 1.01; "),
        ("metrics.json", {"epochs": True}, "epochs is True; "),
        ("metrics.json", {"best_epoch": 1.5}, "best_epoch is 1.5; "),
        ("metrics.json", {"tta": "identity"}, "tta is 'identity'; "),
        ("postprocess.json", {"postprocessing": 1}, "postprocessing is 1; "),
        ("postprocess.json", {"postprocessing": {"threshold": 0, "min_area": 0}}, "postprocessing.threshold is 0; "),
        ("postprocess.json", {"postprocessing": {"rule": 1}}, "no postprocessing.threshold in it"),
        ("postprocess.json", {"cross_fitted": {"score": 0.5, "interval": [0.4]}}, "cross_fitted.interval is [0.4]; "),
        ("postprocess.json", {"selected": "both"}, "selected is 'both'; "),
        ("postprocess.json", {"curve": {"threshold": [1], "score": [], "score_no_min_area": []}}, "curve.threshold is"),
        ("pseudo.json", {"checksums": {"0": 1}}, "checksums.0 is 1; "),
        ("solution_score.json", {"all": None}, "all is None; "),
        ("on_tgs.json", {"n": "many"}, "n is 'many'; "),
        ("postprocessing_source.json", {"postprocessing_from": "a/b"}, "postprocessing_from is 'a/b'; "),
    ],
)
def test_a_value_that_does_not_fit_is_named(name: str, changed: dict[str, Any], where: str, tmp_path: Path) -> None:
    assert where in refusal(written(tmp_path, name, WHOLE[name] | changed))


@pytest.mark.parametrize("name", WHOLE)
@pytest.mark.parametrize("value", [[], None, 1, "x", [{}]], ids=str)
def test_another_shape_is_named(name: str, value: Any, tmp_path: Path) -> None:
    assert f"{name}: its content is " in refusal(written(tmp_path, name, value))


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100_000_000)


@pytest.mark.parametrize(
    ("write", "why"),
    [
        (lambda path: path.write_text('{"seconds": NaN}'), "is not JSON"),
        (lambda path: path.write_text('{"seconds": Infinity}'), "is not JSON"),
        (lambda path: path.write_text('{"seconds": 1e999}'), "is not JSON (it holds an infinite number)"),
        (lambda path: path.write_text('{"a": [{"b": -1e999}]}'), "is not JSON (it holds an infinite number)"),
        (lambda path: path.write_text("[" * 100_000), "is not JSON (recursion limit exceeded"),
        (lambda path: path.write_text('{"a":' * 100_000), "is not JSON (recursion limit exceeded"),
        (lambda path: path.write_text('{"fold": ' + "9" * 5000 + "}"), "is not JSON"),
        (lambda path: path.write_text(""), "is not JSON"),
        (lambda path: path.write_bytes(b"\xff\xfe{}"), "is not UTF-8"),
        (sparse, "cannot be read (100,000,000 bytes, at most 20,000,000)"),
        (Path.mkdir, "cannot be read (a folder)"),
        (os.mkfifo, "cannot be read (a pipe, a device or a socket)"),
        (lambda path: path.symlink_to("/dev/zero"), "cannot be read (a pipe, a device or a socket)"),
        (lambda path: path.symlink_to("nowhere"), "no file"),
        (lambda path: path.symlink_to(path), "cannot be opened"),
    ],
)
def test_a_file_that_is_no_json_is_refused_in_one_line(
    write: Callable[[Path], object], why: str, tmp_path: Path
) -> None:
    write(tmp_path / "metrics.json")
    assert why in refusal(tmp_path / "metrics.json")


def test_rows_are_numbers_and_a_bad_one_is_named_by_its_line(tmp_path: Path) -> None:
    log, scores = tmp_path / "log.csv", tmp_path / "image_scores.csv"
    log.write_text(LOG)
    [row] = schemas.read(log)
    assert (row["epoch"], row["train_loss"], math.isnan(row["valid_loss"])) == (1, 0.5, True)
    scores.write_text(SCORES)
    assert schemas.read(scores) == [
        {"id": "a", "fold": 0, "score_at_half": 1.0, "score_tuned_cv": 0.9, "score_postprocessed_cv": 0.8}
    ]
    for path, text, where in (
        (log, LOG + "2,high,0.5,nan,0.001,2,3\n", "row 3, train_loss is 'high'; "),
        (log, LOG + "2\n", "row 3, train_loss is None; "),
        (log, LOG.replace("train_loss", "loss"), "row 2 has no train_loss"),
        (log, LOG.replace("\n1,", "\n0,"), "row 2, epoch is '0'; "),
        (log, LOG.partition("\n")[0] + "\n", "its content is []; "),
        (log, LOG + "2,1,1,1,1,1,1,1\n", "row 3, "),
        (log, '"' + "x" * 200_000, "is not a readable CSV file"),
        (scores, SCORES.replace("a,0", "a,-1"), "row 2, fold is '-1'; "),
        (scores, SCORES.replace("1.0", "nan"), "row 2, score_at_half is 'nan'; "),
        (scores, SCORES.replace("1.0", "1.1"), "row 2, score_at_half is '1.1'; "),
    ):
        path.write_text(text)
        assert where in refusal(path)


def test_a_pretraining_has_another_provenance_and_a_run_cannot_claim_to_be_one(tmp_path: Path) -> None:
    found = {"method": "masked", "images_hash": "x"}
    assert schemas.read(written(tmp_path / "pretrained" / "a", "provenance.json", found)) == found
    assert "method is 'guess'; " in refusal(
        written(tmp_path / "pretrained" / "a", "provenance.json", {"method": "guess"})
    )
    for kind in ("runs", "blends", "published"):
        assert "no dataset in it" in refusal(written(tmp_path / kind / "a", "provenance.json", found))


def test_what_the_program_records_can_be_read(tmp_path: Path) -> None:
    entries = {"dataset": "tgs", "dataset_hash": "a", "folds_hash": "b", "synthetic": True}
    for chosen in ("bf16", None):
        record = provenance.record(**entries, devices=1, precision=chosen, transduction=False, epoch_chosen_in=["x"])
        assert schemas.read(written(tmp_path / "runs" / "x", "provenance.json", record)) == record


def test_every_published_run_can_be_read() -> None:
    folders = [path.parent for path in PUBLISHED.rglob("provenance.json")]
    paths = [path for folder in folders for path in sorted(folder.rglob("*"))]
    read = [schemas.read(path) for path in paths if path.name in schemas.SCHEMAS or path.name.startswith("on_")]
    assert len(read) > 50


@pytest.mark.parametrize("members", [{"a": ["a"]}, {"a": ["b"], "b": ["c"], "c": ["b"]}, {"a": ["b", "b"], "b": ["a"]}])
def test_a_blend_of_itself_is_refused(members: dict[str, list[str]], tmp_path: Path) -> None:
    for name, names in members.items():
        written(tmp_path / "blends" / name, "provenance.json", WHOLE["provenance.json"] | {
            "members": names, "weights": [1] * len(names)
        })  # fmt: skip
    with pytest.raises(InputError, match=r"^blend [ab] contains itself \(a > .*\); remove it and blend again$"):
        runs.leaf_runs(tmp_path, "a")


def test_the_runs_of_a_blend_are_listed_through_blends(tmp_path: Path) -> None:
    alone = {key: value for key, value in WHOLE["provenance.json"].items() if key not in ("members", "weights")}
    for name in ("one", "two", "three"):
        written(tmp_path / "runs" / name, "provenance.json", alone)
    for name, names in (("inner", ["two", "one"]), ("outer", ["three", "inner"])):
        written(tmp_path / "blends" / name, "provenance.json", alone | {"members": names})
    assert [run.name for run in runs.leaf_runs(tmp_path, "outer")] == ["three", "two", "one"]
    assert [run.name for run in runs.leaf_runs(tmp_path, "one")] == ["one"]
    with pytest.raises(InputError, match=re.escape("unknown run 'outr'; did you mean outer?")):
        runs.leaf_runs(tmp_path, "outr")

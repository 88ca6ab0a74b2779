"""Submission files: what is written, what is refused and how it is scored."""

import csv
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from saltseg.data import submission
from saltseg.errors import InputError
from saltseg.metrics import average_precision, rle

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def masks() -> np.ndarray:
    generator = np.random.default_rng(0)
    stack = (generator.random((4, 101, 101)) > 0.9).astype(np.uint8)
    stack[1] = 0
    return stack


def write_text(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_written_by_id_in_the_order_of_the_sample(tmp_path: Path, masks: np.ndarray) -> None:
    path = tmp_path / "submission.csv"
    submission.write(path, np.array(["d", "b", "a", "c"]), masks, ["a", "b", "c", "d"])
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["id", "rle_mask"]
    assert [row[0] for row in rows[1:]] == ["a", "b", "c", "d"]
    assert [row[1] for row in rows[1:]] == [rle.encode(masks[index]) for index in (2, 1, 3, 0)]
    assert b"b,\n" in path.read_bytes()  # an empty mask is an empty cell
    ids, texts = submission.read(path, ["d", "c", "b", "a"])
    assert ids == ("a", "b", "c", "d")
    np.testing.assert_array_equal(rle.decode_batch(texts), masks[[2, 1, 3, 0]])


@pytest.mark.parametrize(
    ("ids", "sample", "message"),
    [
        (["a", "b", "c"], ["a", "b", "c", "d"], "3 ids for 4 masks"),
        (["a", "b", "c", "c"], ["a", "b", "c"], "ids of the predictions occur twice: c"),
        (["a", "b", "c", "d"], ["a", "b", "c", "d", "d"], "ids of the sample occur twice: d"),
        (["a", "b", "c", "x"], ["a", "b", "c", "d"], "no prediction for 1 ids: d"),
        (["a", "b", "c", "x"], ["a", "b", "c"], "1 ids are not in the sample: x"),
        (["a", "b", "c", "d"], list("abcdefghij"), "no prediction for 6 ids: e, f, g, and 3 more"),
    ],
)
def test_ids_must_match_one_to_one(
    tmp_path: Path, masks: np.ndarray, ids: list[str], sample: list[str], message: str
) -> None:
    path = write_text(tmp_path / "submission.csv", "the old file")
    with pytest.raises(InputError, match=message):
        submission.write(path, ids, masks, sample)
    assert path.read_text() == "the old file\n"


def test_a_file_that_does_not_hold_the_masks_is_noticed(
    tmp_path: Path, masks: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = rle.encode_batch
    monkeypatch.setattr(rle, "encode_batch", lambda array: right(array.transpose(0, 2, 1)))
    with pytest.raises(AssertionError, match=r"submission.csv would not hold the masks"):
        submission.write(tmp_path / "submission.csv", list("abcd"), masks, list("abcd"))
    assert list(tmp_path.iterdir()) == []


def test_a_sample_without_images_is_refused_and_nothing_written(tmp_path: Path) -> None:
    (tmp_path / "submission.csv").write_text("earlier")
    with pytest.raises(InputError, match=r"the sample lists no image, so there is nothing to submit; give the dataset"):
        submission.write(tmp_path / "submission.csv", [], np.zeros((0, 101, 101), np.uint8), [])
    assert [path.read_text() for path in tmp_path.iterdir()] == ["earlier"]


def test_kaggles_sample_is_read(tmp_path: Path) -> None:
    path = write_text(tmp_path / "sample_submission.csv", "id,rle_mask", "a,1 1", "b,1 1", "c,")
    assert submission.read(path) == (("a", "b", "c"), ("1 1", "1 1", ""))


def test_other_writers_forms_are_read(tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_bytes(b'\xef\xbb\xbfrle_mask,id\r\n"1 2 ",a\r\n\r\n,b\r\n')  # BOM, CRLF, quotes, order
    assert submission.read(path) == (("a", "b"), ("1 2", ""))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["id,mask", "a,1 1"], "row 1: unexpected columns 'id,mask'"),
        (["id,rle_mask,usage", "a,1 1,Public"], "row 1: unexpected columns 'id,rle_mask,usage'"),
        (["id,rle_mask,id", "a,1 1,a"], "row 1: unexpected columns 'id,rle_mask,id'"),
        ([""], "row 1: unexpected columns ''"),
        (["id,rle_mask"], "no rows below the header"),
        (["id,rle_mask", "a,1 1", "b"], "row 3: 1 fields, not 2"),
        (["id,rle_mask", "a,1 1", "b,,"], "row 3: 3 fields, not 2"),
        (["id,rle_mask", "a,1 1", ",1 1"], "row 3: id '' is no file name"),
        (["id,rle_mask", "a,1 1", "b,1 1", "a,"], "row 4: id a repeated (first in line 2)"),
        (["id,rle_mask", "a,1 1", "b,1 1", "x,"], "row 4: id 'x' is not asked for"),
        (["id,rle_mask", "b,1 1"], "1 of 2 ids are missing: a"),
        (
            ["id,rle_mask", "a,1 1", "b,5 2 6 1"],
            "row 3: rle_mask of id 'b': run 2: start 6 is not after pixel 6",
        ),
        (["id,rle_mask", "a,nan", "b,"], "row 2: rle_mask of id 'a': run 1: 'nan' is not a whole number"),
        (["id,rle_mask", 'a,"1 1', "b,"], "not a readable CSV file"),
    ],
)
def test_malformed_files_are_refused_with_row_and_reason(tmp_path: Path, lines: list[str], message: str) -> None:
    path = write_text(tmp_path / "s.csv", *lines)
    with pytest.raises(InputError, match=re.escape(message)) as refusal:
        submission.read(path, ["a", "b"])
    assert "s.csv is refused" in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv is refused: file is missing"):
        submission.read(tmp_path / "none.csv")
    with pytest.raises(InputError, match=r"cannot be read \(a folder\)"):
        submission.read(tmp_path)
    (tmp_path / "binary.csv").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(InputError, match=r"not a readable CSV file \(no UTF-8 text\)"):
        submission.read(tmp_path / "binary.csv")


def test_all_problems_are_listed_and_a_refusal_is_short(tmp_path: Path) -> None:
    path = write_text(tmp_path / "s.csv", "id,rle_mask", *(f"x{index},0 1" for index in range(50)), "a,1 1")
    table = submission.check(path, ["a", *(f"missing{index:02}" for index in range(40))])
    assert len(table.problems) == 51
    assert table.problems[-1] == "40 of 41 ids are missing: missing00, missing01, missing02, and 37 more"
    assert table.ids == ("a",)
    with pytest.raises(InputError, match="and 48 more") as refusal:
        submission.read(path, ["a", "missing"])
    assert len(str(refusal.value)) < 500


SOLUTION = ["id,rle_mask,usage", "a,1 100,Public", "b,,Private", "c,1 10201,Private"]


def test_score_by_hand(tmp_path: Path) -> None:
    solution = write_text(tmp_path / "solution.csv", *SOLUTION)
    predicted = write_text(tmp_path / "s.csv", "id,rle_mask", "c,1 8080", "a,1 80", "b,")
    result = submission.score(predicted, solution)
    # a: IoU 80/100 -> 0.6; b: both empty -> 1; c: 8080/10201 = 0.792 -> 0.6
    assert result.all == pytest.approx(2.2 / 3)
    assert (result.public, result.private) == (pytest.approx(0.6), pytest.approx(0.8))
    assert (result.n, result.n_public, result.n_private) == (3, 1, 2)
    assert [(row["coverage_class"], row["n"]) for row in result.per_coverage] == [(0, 1), (1, 1), (10, 1)]
    assert result.to_dict()["all"] == result.all


def test_sample_submission_scores_nothing_where_there_is_salt(tmp_path: Path) -> None:
    solution = write_text(tmp_path / "solution.csv", *SOLUTION)
    sample = write_text(tmp_path / "s.csv", "id,rle_mask", "a,1 1", "b,1 1", "c,1 1")
    assert submission.score(sample, solution).all == 0


def test_an_empty_prediction_scores_the_share_of_empty_masks(tmp_path: Path) -> None:
    true = np.zeros((1, 101, 101), np.uint8)
    true[0, :80] = 1  # 80 of 101 rows: the metric that many kernels copy gives 0.6 for an empty prediction
    write_text(tmp_path / "solution.csv", "id,rle_mask", f"a,{rle.encode(true[0])}")
    write_text(tmp_path / "s.csv", "id,rle_mask", "a,")
    assert submission.score(tmp_path / "s.csv", tmp_path / "solution.csv").all == 0


def test_without_usage_a_third_is_public_and_stays_so(tmp_path: Path) -> None:
    names = [f"{index:05x}" for index in range(3000)]
    public = {name for name in names if submission.usage_of_id(name) == "Public"}
    assert 900 < len(public) < 1100
    literal = [submission.usage_of_id(name) for name in "abcdef"]  # the split must never move
    assert literal == ["Private"] * 5 + ["Public"]
    lines = ["id,rle_mask", *(f"{name},{'' if name in public else '1 1'}" for name in names)]
    write_text(tmp_path / "solution.csv", *lines)
    write_text(tmp_path / "s.csv", "id,rle_mask", *(f"{name}," for name in names))
    result = submission.score(tmp_path / "s.csv", tmp_path / "solution.csv")
    assert (result.public, result.private, result.n_public) == (1.0, 0.0, len(public))


def test_a_part_without_images_has_no_score(tmp_path: Path) -> None:
    solution = write_text(tmp_path / "solution.csv", "id,rle_mask,usage", "a,,Private")
    predicted = write_text(tmp_path / "s.csv", "id,rle_mask", "a,")
    result = submission.score(predicted, solution)
    assert (result.public, result.private) == (None, 1.0)


def test_score_refuses_as_read_does(tmp_path: Path) -> None:
    solution = write_text(tmp_path / "solution.csv", *SOLUTION)
    predicted = write_text(tmp_path / "s.csv", "id,rle_mask", "a,1 80", "b,")
    with pytest.raises(InputError, match=r"s\.csv is refused: 1 of 3 ids are missing: c"):
        submission.score(predicted, solution)
    bad = write_text(tmp_path / "solution.csv", "id,rle_mask,usage", "a,1 100,Ignored")
    with pytest.raises(InputError, match="row 2: usage 'Ignored' is neither Public nor Private"):
        submission.score(predicted, bad)


def test_score_agrees_with_the_metric(tmp_path: Path, masks: np.ndarray) -> None:
    names = list("abcd")
    other = masks.copy()
    other[0, :9] ^= 1
    submission.write(tmp_path / "solution.csv", names, masks, names)
    submission.write(tmp_path / "s.csv", names, other, names[::-1])
    result = submission.score(tmp_path / "s.csv", tmp_path / "solution.csv")
    assert result.all == pytest.approx(average_precision.score(other, masks))


def run_script(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "score.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_script_prints_the_table_and_the_next_step(tmp_path: Path) -> None:
    solution = write_text(tmp_path / "solution.csv", *SOLUTION)
    predicted = write_text(tmp_path / "s.csv", "id,rle_mask", "c,1 8080", "a,1 80", "b,")
    result = run_script(str(predicted), str(solution))
    assert result.returncode == 0, result.stderr
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[:3] == [
        ["all", "0.7333", "3", "images"],
        ["public", "0.6000", "1", "images"],
        ["private", "0.8000", "2", "images"],
    ]
    assert ["no", "salt", "1", "1.0000"] in lines
    assert ["90-100", "%", "1", "0.6000"] in lines


def test_script_refuses_in_one_line(tmp_path: Path) -> None:
    solution = write_text(tmp_path / "solution.csv", *SOLUTION)
    result = run_script(str(tmp_path / "none.csv"), str(solution))
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1

"""Tables as people and spreadsheets write them."""

from pathlib import Path

import pytest

from saltseg.data import competition, submission, tables
from saltseg.data.check import check_dataset
from saltseg.errors import InputError

COLUMNS = ("id", "rle_mask")


def write(path: Path, data: str | bytes) -> Path:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    "data",
    [
        "\ufeffrle_mask,id\r\n1 1 ,ä\r\n,b\r\n\r\n",  # byte order mark, other order, line ends, an empty line
        " ID , Rle_Mask \nä, 1 1\n b ,\n",
        "id,rle_mask,,\nä,1 1,,\nb,,,\n,,,\n",  # empty columns at the right, an empty row
        'id,rle_mask\r"ä","1 1"\r"b",""\r',
        "index,id,rle_mask\n0,ä,1 1\n1,b,\n",
    ],
    ids=["BOM", "blanks and case", "empty cells", "quotes", "index"],
)
def test_what_spreadsheets_and_programs_write_is_read(tmp_path, data):
    assert tables.read_columns(write(tmp_path / "t.csv", data), COLUMNS) == [("ä", "1 1"), ("b", "")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"id,rle_mask\n\xff\xfe,\n", r"t\.csv: not a readable CSV file \(no UTF-8 text\); save it as CSV in UTF-8"),
        ("id,rle_mask\na,1 1\n".encode("utf-16"), r"no UTF-8 text"),
        (b'id,rle_mask\na,"1 1\n', r"t\.csv: not a readable CSV file \(.*; fetch the table again"),
        (b"id;rle_mask\na;1 1\n", r"line 1: unexpected columns 'id;rle_mask'; save it with commas between the columns"),
        (b"id\trle_mask\na\t1 1\n", r"save it with commas"),
        (b"name,rle_mask\na,1 1\n", r"line 1: unexpected columns 'name,rle_mask'; make the first line id,rle_mask"),
        (b"id,rle_mask,id\na,1 1,a\n", r"line 1: unexpected columns 'id,rle_mask,id'"),
        (b"", r"line 1: unexpected columns ''"),
        (b"id,rle_mask\na,1 1\n\na,\n", r"line 4: id a repeated \(first in line 2\); keep one row for each id"),
        (b"id,rle_mask\n,1 1\n", r"line 2: id '' is no file name"),
        (b"id,rle_mask\n../../etc/x,1 1\n", r"line 2: id '../../etc/x' is no file name"),
        (b'id,rle_mask\n"a\nb",1 1\n', r"line 3: id 'a\\nb' is no file name"),
        (b"id,rle_mask\na\n", r"line 2: 1 fields, not 2; give the row one field for each column"),
        (b"id,rle_mask\na,1 1,2 2\n", r"line 2: 3 fields, not 2"),
    ],
)
def test_the_first_problem_of_a_table_is_told_with_its_line(tmp_path, data, message):
    with pytest.raises(InputError, match=message) as refused:
        tables.read_columns(write(tmp_path / "t.csv", data), COLUMNS)
    assert "\n" not in str(refused.value)


def test_all_problems_are_collected_and_the_other_rows_read(tmp_path):
    table = tables.read_table(write(tmp_path / "t.csv", "id,rle_mask\na,1 1\na,\nb\n/,\nc,2 2\n"), COLUMNS)
    assert [problem.line for problem in table.problems] == [3, 4, 5]
    assert (list(table.rows), table.lines, table.repeated) == (["a", "c"], {"a": 2, "c": 6}, {3: "a"})


@pytest.mark.parametrize(
    "header", ["id, rle_mask, usage", "ID,RLE_mask,Usage", " usage ,rle_mask,id", "rle_mask,usage,id,"]
)
def test_check_submit_and_score_read_a_solution_alike(make_dataset, header):
    root = make_dataset(n_train=2, n_test=3)
    ids = competition.test_ids(root)
    names = [name.strip().lower() for name in header.split(",")]
    rows = [{"id": f" {id_}", "rle_mask": "1 3 ", "usage": " Public", "": ""} for id_ in ids]
    lines = [header, *(",".join(row[name] for name in names) for row in rows)]
    write(root / "solution.csv", "\n".join(lines))
    assert check_dataset(root) == []
    submission.write(root / "mine.csv", ids, [[[1] * 101] + [[0] * 101] * 100] * 3, ids)
    score = submission.score(root / "mine.csv", root / "solution.csv")
    assert (score.n_public, score.n_private) == (3, 0)


@pytest.mark.parametrize(
    ("solution", "what"),
    [
        ("id,rle_mask,usage\n{},1 3,public\n", "usage 'public'"),
        ("id,rle_mask,note\n{},1 3,x\n", "unexpected columns 'id,rle_mask,note'"),
        ("id,rle_mask\n{},3 1 1\n", "rle_mask|malformed RLE"),
        ("id,rle_mask\n{},1 3\n{},1 3\n", "repeated"),
    ],
)
def test_what_submit_would_refuse_of_a_solution_the_check_finds(make_dataset, solution, what):
    root = make_dataset(n_train=2, n_test=1)
    (id_,) = competition.test_ids(root)
    write(root / "solution.csv", solution.format(id_, id_))
    with pytest.raises(InputError, match=rf"solution\.csv is refused: .*{what}"):
        submission.score(root / "sample_submission.csv", root / "solution.csv")
    assert [p.places[0][0].split()[0] for p in check_dataset(root)] == ["solution.csv"]


def test_depths_are_read_as_far_as_they_can_be(make_dataset):
    root = make_dataset(n_train=4, n_test=2)
    ids = [*competition.train_ids(root), *competition.test_ids(root)]
    cells = ["638.0", "1e3", "-7", "12.5", "", "deep"]
    write(
        root / "depths.csv",
        ",id,z\n" + "".join(f"{i},{id_},{z}\n" for i, (id_, z) in enumerate(zip(ids, cells, strict=True))),
    )
    assert competition.read_depths(root) == dict(zip(ids, [638, 1000, -7], strict=False))
    notes = check_dataset(root)
    assert all(problem.is_note for problem in notes)
    assert [(len(p.places), p.places[0]) for p in notes] == [
        (1, ("depths.csv line 1", "further columns ['']")),
        (2, ("depths.csv line 2", "z '638.0'")),
        (3, ("depths.csv line 5", "z '12.5'")),
    ]
    for data in (b"\xff\xfe\0", b"number,depth\n1,2\n", b"", b"id,z\na,inf\nb,nan\nc," + b"9" * 400 + b"\n"):
        write(root / "depths.csv", data)
        assert competition.read_depths(root) == {}
        assert all(problem.is_note for problem in check_dataset(root))


def test_a_tile_without_a_section_is_one_of_its_own(make_dataset):
    root = make_dataset(n_train=6, n_test=2)
    ids = [*competition.train_ids(root), *competition.test_ids(root)]
    cells = ["line 1", "", " ", "nan", "line 1", "line 2", "NA", "<NA>"]
    write(
        root / "sections.csv",
        ",id,section\n" + "".join(f"0,{id_},{cell}\n" for id_, cell in zip(ids, cells, strict=True)),
    )
    sections = competition.read_sections(root)
    assert sections is not None
    assert sections[ids[0]] == sections[ids[4]] == "line 1"
    assert len(set(sections.values())) == 7
    notes = check_dataset(root)
    assert [(p.is_note, len(p.places)) for p in notes] == [(True, 1), (True, 5)]


def test_sections_that_were_computed_lie_beside_the_dataset(make_dataset, tmp_path):
    root = make_dataset(n_train=2, n_test=1)
    link = tmp_path / "input" / "mine"
    link.symlink_to(root)
    (root / "sections.csv").unlink()
    assert competition.read_sections(link) is None
    ids = [*competition.train_ids(root), *competition.test_ids(root)]
    write(tmp_path / "input" / "mine.sections.csv", "id,section\n" + "".join(f"{id_},m1\n" for id_ in ids))
    assert competition.read_sections(link) == dict.fromkeys(ids, "m1")
    assert competition.read_sections(root) is None
    assert check_dataset(link) == []
    write(root / "sections.csv", "id,section\n" + "".join(f"{id_},own\n" for id_ in ids))
    assert competition.read_sections(link) == dict.fromkeys(ids, "own")

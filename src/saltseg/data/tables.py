"""CSV files with a column ``id``, as people, programs and spreadsheets write them: one reader for all of them.

Names of columns may be in any order and case, and have blanks around them, as values may. Rows of empty cells are left
out, and so are empty columns at the right.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from saltseg.data.files import FileProblem, read_bytes
from saltseg.errors import reason


@dataclass(frozen=True)
class Table:
    """A table as far as it can be read.

    Attributes:
        path: of the file.
        columns: their names, in lower case.
        rows: fields by column of each valid row, by id; of an id that is repeated the first.
        lines: number of each row's line, by id; the header is line 1.
        problems: of the file, its header and its rows, in this order.
        repeated: line and id of the further rows of an id, which `problems` has, too.
    """

    path: Path
    columns: tuple[str, ...] = ()
    rows: dict[str, dict[str, str]] = field(default_factory=dict)
    lines: dict[str, int] = field(default_factory=dict)
    problems: list[FileProblem] = field(default_factory=list)
    repeated: dict[int, str] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether the columns that are required are there."""
        return bool(self.columns)


def read_table(path: Path, required: Sequence[str], optional: Sequence[str] | None = ()) -> Table:
    """Read a table and collect its problems.

    Args:
        path: CSV file in UTF-8, comma separated.
        required: columns that must be there, id among them.
        optional: columns that may be there, too; None for any.
    """
    try:
        lines = _read_lines(path)
    except FileProblem as problem:
        return Table(path, problems=[problem])
    header = [name.strip().lower() for name in lines[0][1]] if lines else []
    while header and not header[-1]:
        header.pop()
    table = Table(path, tuple(header) if set(required) <= set(header) else ())
    named = [name for name in header if name or optional is not None]
    permitted = set(named) if optional is None else {*required, *optional}
    if not set(required) <= set(named) <= permitted or len(set(named)) < len(named):
        fix = "make the first line " + ",".join(required) + "".join(f"[,{name}]" for name in optional or ())
        if len(header) == 1 and any(sign in header[0] for sign in ";\t|"):
            fix = "save it with commas between the columns"
        table.problems.append(FileProblem(path, f"unexpected columns {','.join(header)[:80]!r}", fix, 1))
    for line, row in lines[1:] if table.usable else ():
        _add_row(table, line, row, len(lines[0][1]))
    return table


def _read_lines(path: Path) -> list[tuple[int, list[str]]]:
    """Rows, header included, each with its line number; those of empty cells are left out."""
    data = read_bytes(path)
    try:
        reader = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        return [(reader.line_num, row) for row in reader if any(cell.strip() for cell in row)]
    except UnicodeDecodeError:
        raise FileProblem(path, "not a readable CSV file (no UTF-8 text)", "save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise FileProblem(path, f"not a readable CSV file ({reason(error)})", "fetch the table again") from None


def _add_row(table: Table, line: int, row: list[str], max_fields: int) -> None:
    """Add one row to the table, or what is wrong with it to its problems."""
    cells, width = [cell.strip() for cell in row], len(table.columns)
    if not width <= len(cells) <= max_fields or any(cells[width:]):
        problem = f"{len(cells)} fields, not {width}", "give the row one field for each column"
    else:
        fields = dict(zip(table.columns, cells, strict=False))
        id_ = fields["id"]
        if not id_ or "/" in id_ or "\\" in id_ or not id_.isprintable():
            problem = f"id {id_!r} is no file name", "write the name of the image without .png"
        elif id_ in table.rows:
            problem = f"id {id_} repeated (first in line {table.lines[id_]})", "keep one row for each id"
            table.repeated[line] = id_
        else:
            table.lines[id_], table.rows[id_] = line, fields
            return
    table.problems.append(FileProblem(table.path, *problem, line))


def read_columns(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """Values of the named columns of a table, id first, one tuple a row.

    Raises:
        InputError: the first problem of the table; other columns are none.
    """
    table = read_table(path, columns, None)
    if table.problems:
        raise table.problems[0]
    return [tuple(fields[name] for name in columns) for fields in table.rows.values()]

"""The notebooks: stripped, linked, and executed cell by cell.

They are executed by plain Python and not by Jupyter, which would bring 31 packages. So no cell may use a magic.
"""

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny_run import Trained, checkpoint, postprocess

from saltseg import io
from saltseg.synthetic import dataset

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
RUNNER = """
import json, sys
names = {"__name__": "__main__"}
for number, cell in enumerate(json.load(open(sys.argv[1], encoding="utf-8"))["cells"]):
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)
"""


def cells(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text(encoding="utf-8"))["cells"]


def execute(name: str, folder: Path, **environment: object) -> str:
    """Execute all cells in one process, in a folder; returns what they print."""
    settings = {key: str(value) for key, value in environment.items()}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER, str(FOLDER / name)],
        cwd=folder, env=os.environ | {"MPLBACKEND": "Agg"} | settings, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_there_are_notebooks() -> None:
    assert len(NOTEBOOKS) >= 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=[path.stem for path in NOTEBOOKS])
def test_a_notebook_is_stripped_plain_python_and_its_links_exist(path: Path) -> None:
    assert json.loads(path.read_text(encoding="utf-8"))["nbformat"] == 4
    ids = [cell["id"] for cell in cells(path)]
    assert len(ids) == len(set(ids))
    for cell in cells(path):
        source = "".join(cell["source"])
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            ast.parse(source)
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", source) if cell["cell_type"] == "markdown" else ():
            assert target.startswith("https://") or (FOLDER / target).exists(), target


@pytest.mark.slow
def test_the_unet_learns_in_the_notebook(tmp_path: Path) -> None:
    out = execute("unet-on-simulated-tiles.ipynb", tmp_path, SALTSEG_STEPS=6)
    assert "2,161,361 parameters" in out
    assert re.search(r"^contract5 +256 x +7 x +7$", out, re.MULTILINE)
    assert re.search(r"^cropped +1 x 101 x 101$", out, re.MULTILINE)
    first, last = (float(text) for text in re.findall(r"loss (\d\.\d+)", out))
    assert last < first
    assert re.search(r"^the network: 0\.\d{3}, IoU 0\.\d{3}$", out, re.MULTILINE)


@pytest.mark.slow
def test_the_kaggle_notebook_writes_a_submission(trained: Trained, tmp_path: Path) -> None:
    """Three simulated tiles, and a run whose network calls every pixel salt; the second call predicts nothing."""
    dataset.write_dataset(tmp_path / "data", n_train=1, n_test=3)
    for fold in trained.run.trained_folds():
        checkpoint(trained, fold.number, 0.9)
    io.write_json(trained.run.postprocess, postprocess(threshold=128))
    (tmp_path / "work").mkdir()
    places = {
        "SALTSEG_DATA": tmp_path / "data",
        "SALTSEG_OFFLINE": tmp_path / "none",
        "SALTSEG_MODEL": trained.run.path,
    }
    for _ in range(2):
        out = execute("kaggle-submission.ipynb", tmp_path / "work", **places)
        assert out.endswith("submission.csv: 3 masks, 3 with salt\n")
    rows = (tmp_path / "work" / "submission.csv").read_text().splitlines()
    order = [line.split(",")[0] for line in (tmp_path / "data" / "sample_submission.csv").read_text().splitlines()]
    assert [row.split(",")[0] for row in rows] == order
    assert {row.split(",")[1] for row in rows[1:]} == {"1 10201"}

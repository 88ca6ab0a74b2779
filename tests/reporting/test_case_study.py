"""The case study's document: every variant told, what is missing named, no result typed; and the script around it."""

import re
import runpy
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_records import ensemble, entry, predicted_tiles, read

from saltseg import storage, studies
from saltseg.errors import InputError
from saltseg.reporting import case_figures, case_records, case_study, gains
from saltseg.reporting.case_data import Dataset

ROOT = Path(__file__).parents[2]
READ_FROM = ("0dc11f974c93" + "0" * 28, "b5136af5f8d1" + "0" * 52)  # what the readings in the template are about
TEMPLATE = ROOT / "docs" / "case_study.md.jinja"


def links(text: str) -> list[str]:
    return re.findall(r"\(case_study/(\w+)\.png\)", text)


@pytest.fixture
def undrawn(monkeypatch):
    """Charts are made but not rendered."""
    for module in (case_figures, gains):
        monkeypatch.setattr(module, "png", lambda figure: b"a picture")


def test_every_variant_is_told_and_every_picture_is_shown_once(tmp_path, undrawn) -> None:
    study = read(tmp_path, *(entry(variant) for variant in studies.VARIANTS))
    dataset = Dataset(np.linspace(0, 1, 11), np.zeros(11, bool), np.arange(11), True)
    tiles = predicted_tiles(tmp_path / "rock-cpu")
    pictures = case_figures.draw(study, dataset, tiles)
    text = case_study.render(study, dataset, tiles, pictures, TEMPLATE)
    assert sorted(links(text)) == sorted(pictures)
    assert "Not measured yet" not in text
    assert "They do not hold the noise between trainings" in text
    assert all(f"| `{variant}` |" in text for variant in studies.VARIANTS)
    assert text.count("no detectable difference: +0.000 [+0.000, +0.000]") > 40
    assert "of one seed" in text
    assert "**45 times its operations**" in text
    assert "\n\n\n" not in text
    assert not re.search(r"nan|None|Undefined|\{\{|\{%", text)


def test_the_mean_of_folds_is_told_where_it_was_measured(tmp_path, undrawn) -> None:
    assert "It is left for a test set." in case_study.render(read(tmp_path, entry()), None, [], [], TEMPLATE)
    storage.write_json(tmp_path / "ensemble.json", ensemble())
    text = " ".join(case_study.render(read(tmp_path, entry()), None, [], [], TEMPLATE).split())
    assert "| one of 2 networks → their mean | 25.0 % → 100.0 % | 25.0 % → 50.0 % |" in text
    assert "1,371 trained one of them or more, against 800 for each" in text
    assert "1,629 images trained none of the 2 networks" in text
    assert (
        "one network alone scores 0.600 on average and their mean 0.640 at 0.5: better by 0.040 [+0.010, +0.070]."
        in text
    )
    assert "no detectable difference: +0.040 [−0.010, +0.070]." in text
    assert "left for a test set" not in text


def test_an_ensemble_of_other_networks_is_refused(tmp_path) -> None:
    for wrong in (ensemble(git_commit="other"), ensemble(seed=3), {}, [], 3, None):
        storage.write_json(tmp_path / "ensemble.json", wrong)
        with pytest.raises(InputError, match=r"ensemble.json is not of the records of 'base' beside it; delete it"):
            read(tmp_path, entry())
    storage.write_json(tmp_path / "ensemble.json", {key: v for key, v in ensemble().items() if key != "alone"})
    with pytest.raises(InputError, match=r"ensemble.json lacks 'alone'; delete it and run: python scripts/study.py"):
        read(tmp_path, entry())


def test_what_a_person_read_is_told_of_the_records_that_were_read_alone(tmp_path, undrawn) -> None:
    origin = dict(zip(("git_commit", "dataset_hash"), READ_FROM, strict=True))
    storage.write_json(tmp_path / "ensemble.json", ensemble(**origin))
    variants = [variant for variant in studies.VARIANTS if variant != studies.PLATEAU]  # which answers no question

    def text(**changed):
        made = [entry(variant, **origin | changed) for variant in variants]
        for one in made:
            storage.write_json_lines(tmp_path / f"{one['variant']}-0.json", one)
        if changed:
            storage.write_json(tmp_path / "ensemble.json", ensemble(**origin | changed))
        return case_study.render(case_records.read(tmp_path, "fake", "cpu"), None, [], [], TEMPLATE)

    assert "Averages do" in text()
    assert "Averages do" not in text(git_commit="0123456789abcdef")
    assert "Averages do" not in text(dataset_hash="ab" * 32)


def test_two_records_make_a_document_that_says_what_is_missing(tmp_path, undrawn) -> None:
    study = read(tmp_path, entry(), entry("no_skips", half="3", git_commit=None))
    pictures = case_figures.draw(study, None, [])
    text = case_study.render(study, None, [], pictures, TEMPLATE)
    assert sorted(links(text)) == sorted(pictures)
    left_out = {"coverage", "depth", "pooling_gains", "improve_gains", "images", "operations", "plateau", "predicted"}
    assert left_out & set(pictures) == set()
    assert "*Not measured yet: `plateau`.*" in text
    assert "*Not measured yet: `strided_conv`, `average_pool`.*" in text
    assert "*Not measured yet: `add`, `max`, `min`.*" in text
    assert "at 0.5 worse by 0.200 [−0.200, −0.200]" in text
    assert "| `add` |" not in text
    assert "the data of these records was not in `input/fake`" in text
    assert "| commits | 0123456789ab, not recorded |" in text
    assert not re.search(r"nan|None|Undefined|\{\{|\{%", text)


def test_no_result_is_typed_into_the_template() -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    prose = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", "", text, flags=re.DOTALL)
    assert set(re.findall(r"\d+\.\d+", prose)) <= {"0.50", "0.55", "0.95", "0.5", "0.7", "5.1", "5.2", "5.3", "5.4"}
    assert not re.search(r"\d\s*%|\d,\d{3}", prose.replace("[95 %]", ""))


@pytest.fixture
def script(monkeypatch, tmp_path):
    """`script(*arguments)`: the program as a user runs it in an empty folder; returns its exit code."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> int:
        path = str(ROOT / "scripts" / "case_study.py")
        monkeypatch.setattr(sys, "argv", [path, *arguments])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(path, run_name="__main__")
        return left.value.code

    return run


def test_without_records_one_line_says_what_to_run(tmp_path, script, capsys) -> None:
    assert script("--data", "fake") == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "make them with: python scripts/study.py --data fake --budget cpu" in said
    assert script("--data", "../fake") == 2
    assert "use letters, digits" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_script_writes_the_document_and_its_pictures(tmp_path, script, capsys) -> None:
    read(tmp_path / "output" / "published" / "study" / "fake-cpu", entry(), entry("no_skips", half="3"))
    assert script("--data", "fake", "--to", "pages") == 0
    assert capsys.readouterr().out.endswith("next: python scripts/study.py --data fake --budget cpu\n")
    text = (tmp_path / "pages" / "case_study.md").read_text(encoding="utf-8")
    assert sorted(links(text)) == sorted(path.stem for path in (tmp_path / "pages" / "case_study").iterdir())
    for name in links(text):
        assert cv2.imread(str(tmp_path / "pages" / "case_study" / f"{name}.png")).shape[1] == 1080

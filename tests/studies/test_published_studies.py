"""The published records: of their studies as they are today, and with the numbers that were published first."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from saltseg import io
from saltseg.studies import ablations, benchmark, label_efficiency, results, self_training, tables
from saltseg.studies.case_study import data, document, variants
from saltseg.studies.case_study import results as case_results
from saltseg.studies.sweep import Sweep

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
STUDIES = {m.STUDY.name: m.STUDY for m in (ablations, benchmark, self_training, label_efficiency, variants)}
COLUMNS = ("tuned", "gain [95 %]", "per seed", "post-processed [95 %]", "gain [95 %]", "over", "at 0.5", "log-loss",
           "epoch", "MiB", "minutes")  # fmt: skip


def published(study: str, data: str = "tgs") -> Sweep:
    return Sweep(STUDIES[study], data, "cpu", ROOT / "input", ROOT / "output")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip()[1:-1].split("|")]


@pytest.mark.parametrize("study", ["ablations", "benchmark", "self_training", "label_efficiency"])
def test_tables_have_the_numbers_that_were_published_first(study: str) -> None:
    sweep = published(study)
    of_variant = results.read(sweep)
    costs = sweep.folder / "cost.json"
    found = results.compare_all(sweep, of_variant)
    noise = results.seed_noise(of_variant, sweep.study.reference)
    table = tables.markdown(sweep, found, noise, io.read_json(costs) if costs.is_file() else None)
    assert (sweep.folder / "table.md").read_text() == table + "\n"
    header, _, *lines = (cells(line) for line in table.splitlines() if line.startswith("|"))
    rows = {line[0].strip("`"): line for line in lines}
    first = [line.split("\t") for line in (HERE / "published_tables.tsv").read_text().splitlines()[1:]]
    first = [line for line in first if line[0] == study]
    assert [variant for _, variant, *_ in first] == [
        variant for variant in rows if (study, variant) != ("self_training", "recipe")
    ]
    for _, variant, *numbers in first:
        seen = 0
        for column, number in zip(COLUMNS, numbers, strict=True):
            places = [place for place, name in enumerate(header) if name == column]
            if number:
                place = places[-1] if column == "gain [95 %]" and seen else places[0]
                assert rows[variant][place].split(" [")[0 : 2 if "[" in number else 1] == number.split(" [")
            seen += column == "gain [95 %]"
    if study == "ablations":
        assert "standard deviation of 0.0092." in table
        assert "two unrelated trainings is 0.0130" in table
        assert "same seed on both sides is 0.0036 (3 variants)" in table


def test_the_case_study_has_the_tables_that_were_published_first() -> None:
    """Those of the small budget, of which the page leaves out what the large one answers by now."""
    first = (HERE / "case_study_tables.txt").read_text().splitlines()
    page = (ROOT / "docs" / "explanation" / "case_study.md").read_text()
    assert set(first[:3]) <= set(page.splitlines())  # of the dataset
    study = case_results.read(published("case_study"))
    pictures = re.findall(r"\(case_study/(\w+)\.png\)", page)
    small = document.blocks(replace(study, larger=None), None, data.read_tiles(study), pictures)
    assert set(first[3:]) <= {line for block in small.values() for line in block.splitlines()}
    found = document.blocks(study, None, data.read_tiles(study), pictures)
    assert re.findall(r"<!-- records: (\w+) -->", page) == list(found)
    of_records = {
        name: block for name, block in found.items() if name not in ("about", "data")
    }  # these tell the dataset
    assert document.fill(page, of_records) == page  # what records say is what the page says
    assert case_results.read(published("case_study", "synthetic-1000")).measured(variants.SHOWN) == list(variants.SHOWN)

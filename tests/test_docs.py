"""The documentation: links exist, commands parse, settings exist, quoted code is the code, scores are the records'."""

import csv
import json
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import cv2
import numpy as np
import pytest
import segy_files
import test_layering
from tiny_run import Trained, checkpoint

from saltseg import config, experiments
from saltseg.cli import app, reference, study
from saltseg.cli.command import VERBS
from saltseg.metrics import bootstrap
from saltseg.studies import records, results

ROOT = Path(__file__).parents[1]
PUBLISHED = ROOT / "output" / "published"
SECTIONS = "model|data|folds|train|pseudo|predict|runtime"
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "RESULTS.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "input/README.md")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "models").glob("*/README.md")),
]
TODAY = [page for page in PAGES if page.name != "CHANGELOG.md"]  # the changelog names what is gone, too

LINK = re.compile(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"")
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+−]?\d[\d,]*(?:\.\d+)?")
BRITISH = re.compile(
    r"\b\w*(?:optimis|normalis|regularis|analys(?=e[ds])|summaris|initialis|labell|modell|colour|neighbour|behaviour|favour)\w*"
    r"|\b(?:centre|licence|grey|judgement|learnt)\w*",
    re.IGNORECASE,
)


def pages(found: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", found, ids=[str(page.relative_to(ROOT)) for page in found])


def blocks(page: Path, language: str) -> list[str]:
    return [text for found, text in FENCE.findall(page.read_text(encoding="utf-8")) if found == language]


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pages(PAGES)
def test_links_and_pictures_exist(page: Path) -> None:
    broken = []
    for target in (unquote(one or other) for one, other in LINK.findall(prose(page))):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in headings(path)):
            broken.append(target)
    assert not broken


@pages(PAGES)
def test_spelling_is_american(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    if page.name == "CHANGELOG.md":
        text = re.sub(r"`[^`\n]*`", "", text)  # old names
    assert [match.group() for match in BRITISH.finditer(text)] == []


def test_british_words_are_found() -> None:
    found = [match.group().lower() for match in BRITISH.finditer("optimised unlabelled colours; optimized, promise")]
    assert found == ["optimised", "unlabelled", "colours"]


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


# ---------------------------------------------------------------- commands


def commands(page: Path) -> list[list[str]]:
    """The words of every command in the page's shell blocks, without comments."""
    lines = [line for text in blocks(page, "sh") for line in text.replace("\\\n", " ").splitlines()]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def parse(verb: str, words: list[str]) -> dict[str, Any]:
    """The options of a verb, parsed as on the command line without running it; typer raises for what does not fit."""
    return app.command_line().commands[verb].make_context(verb, words).params


def check(words: list[str]) -> None:
    """Raise for a command of ours that would not be understood."""
    if words[0] == "timeout":
        words = words[next(i for i, word in enumerate(words) if word == "saltseg") :]
    if words[0] == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
        assert set(words[1:]) <= set(targets), words
    elif words[0] == "python" and re.match(r"scripts/migrate\.py|benchmarks/", words[1]):
        assert (ROOT / words[1]).is_file()
    elif words[0] == "python":
        program = (ROOT / words[1]).read_text(encoding="utf-8")
        words = ["saltseg", *re.findall(r"main\(\"([a-z-]+)\"\)", program), *words[2:]]
    if words[0] != "saltseg":
        return
    options = parse(words[1], words[2:])
    name = str(options.get("experiment") or "unet")
    base = config.Config() if name.endswith(".yaml") else experiments.named(name)
    config.override(base, options.get("changes") or [])
    if words[1] == "study":
        variants = study._study(options["name"]).variants
        assert set(filter(None, options["only"].split(","))) <= set(variants), words


@pages(TODAY)
def test_commands_parse(page: Path) -> None:
    for words in commands(page):
        try:
            check(words)
        except Exception as error:
            pytest.fail(f"{shlex.join(words)}: {error}")


@pytest.mark.parametrize(
    "command",
    [
        "saltseg optimise tgs",
        "saltseg run unet",
        "saltseg tune a --views x",
        "saltseg run unet --data a --set train.keep=x",
    ],
)
def test_a_wrong_command_is_noticed(command: str) -> None:
    with pytest.raises(Exception, match=r"."):
        check(command.split())


@pages(PAGES)
def test_verbs_programs_and_settings_exist(page: Path) -> None:
    known = {*config.setting_names(), "train.schedule"}
    for text in re.findall(r"`([^`\n]+)`", prose(page)):
        if match := re.match(r"saltseg ([a-z-]+)", text):
            assert match.group(1) in VERBS, text
        if page in TODAY:
            for program in re.findall(r"scripts/\w+\.py", text):
                assert (ROOT / program).is_file(), text
            for setting in re.findall(rf"^\"?((?:{SECTIONS})\.(?!csv|zip|json|npz|py)[a-z_.]+)(?==|$)", text):
                assert setting in known, text


def test_every_verb_has_a_line() -> None:
    text = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
    assert [verb for verb in VERBS if f"| `{verb}` |" not in text] == []


def test_settings_are_those_of_the_code() -> None:
    assert (ROOT / "docs/reference/settings.md").read_text(encoding="utf-8") == reference.markdown_page(), (
        "saltseg settings --markdown > docs/reference/settings.md"
    )


def test_every_key_of_a_run_is_explained() -> None:
    text = (ROOT / "docs/reference/files.md").read_text(encoding="utf-8")
    keys = set()
    for name in ("metrics", "postprocess", "solution_score", "on_tgs"):
        for path in PUBLISHED.glob(f"*/**/{name}.json"):
            keys |= set(json.loads(path.read_text(encoding="utf-8")))
    assert {key for key in keys if f"`{key}`" not in text} == set()


# ---------------------------------------------------------------- code


def test_quoted_lines_are_those_of_the_network() -> None:
    source = (ROOT / "src/saltseg/models/unet.py").read_text(encoding="utf-8")
    quoted = [text for text in blocks(ROOT / "docs/tutorials/unet-line-by-line.md", "python") if text.startswith("  ")]
    assert len(quoted) >= 8
    assert [text for text in quoted if text not in source] == []


@pytest.mark.parametrize(
    ("page", "number"),
    [("docs/reference/python.md", 0), ("docs/reference/python.md", 2), ("docs/tutorials/unet-line-by-line.md", -1)],
)
def test_examples_run_and_print_what_they_say(page: str, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    example = blocks(ROOT / page, "python")[number]
    exec(compile(example, page, "exec"), {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^print\(.*\)  # (.+)$", example, re.MULTILINE)


def test_horizons_become_masks_as_the_tutorial_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two inlines of 4 ms, of which one has picks: salt from 8 ms to 20 ms at crosslines 11 and 13, none between."""
    monkeypatch.chdir(tmp_path)
    segy_files.write(tmp_path / "survey.sgy", segy_files.wave(6), segy_files.grid([1, 2], [11, 12, 13]))
    Path("picks.csv").write_text("inline,crossline,top,base\n2,11,8,20\n2,13,8,20\n", encoding="utf-8")
    (example,) = blocks(ROOT / "docs/tutorials/salt-in-a-survey.md", "python")
    exec(compile(example, "tutorial", "exec"), {})
    assert [path.name for path in Path("my_labels").iterdir()] == ["2.png"]
    mask = cv2.imread("my_labels/2.png", cv2.IMREAD_UNCHANGED)
    assert mask is not None
    assert mask.T.tolist() == [[0, 0, 255, 255, 255, 0, 0, 0], [0] * 8, [0, 0, 255, 255, 255, 0, 0, 0]]


def test_a_trained_run_predicts_an_image_as_the_example_does(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks that predict 0.6 for every pixel, and no value of train.precision but "auto"."""
    trained.write_settings(config.change(trained.settings, {"train.precision": "auto"}))
    for fold in trained.run.trained_folds():
        checkpoint(trained, fold.number, 0.6)
    monkeypatch.chdir(trained.output.parent)
    cv2.imwrite("section.png", np.full((120, 150), 100, np.uint8))
    names: dict[str, Any] = {}
    exec(blocks(ROOT / "docs/reference/python.md", "python")[1].replace("synthetic-demo", trained.run.name), names)
    np.testing.assert_array_equal(names["salt"], np.full((120, 150), np.float32(153) / 255))
    np.testing.assert_array_equal(names["mask"], np.ones((120, 150), np.uint8))


def test_the_layers_are_those_of_the_test() -> None:
    assert test_layering.table() in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), (
        "python tests/test_layering.py"
    )


# ---------------------------------------------------------------- scores


def tables(page: Path) -> Iterator[list[dict[str, str]]]:
    """Each table of a page as rows by column title."""
    for text in re.findall(r"(?:^\|.*\n)+", prose(page), re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in text.splitlines()]
        yield [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def numbers(cell: str) -> list[str]:
    return [text.replace(",", "").replace("−", "-") for text in NUMBER.findall(cell.replace(", ", " "))]


def require(cell: str, values: list[float], where: str) -> None:
    """Demand that the numbers of a cell are these values, rounded to the decimals that it shows."""
    shown = numbers(cell)
    assert len(shown) == len(values), f"{where}: {cell!r} against {values}"
    for text, value in zip(shown, values, strict=True):
        decimals = len(text.partition(".")[2])
        assert abs(float(text) - value) <= 0.5 * 10**-decimals + 1e-9, f"{where}: {cell!r} against {values}"


def read(run: Path, name: str) -> dict:
    return json.loads((run / name).read_text(encoding="utf-8"))


def fold_0(run: Path, column: str) -> list[float]:
    with (run / "image_scores.csv").open(encoding="utf-8") as file:
        scores = [float(row[column]) for row in csv.DictReader(file) if row["fold"] == "0"]
    assert len(scores) == 600
    return [float(np.mean(scores))]


def cross_fitted(run: Path, images: int | None = None) -> list[float]:
    found = read(run, "postprocess.json")
    assert images in (None, found["n"])
    return [found["cross_fitted"]["score"], *found["cross_fitted"]["interval"]]


def minutes(run: Path, fold: str) -> list[float]:
    return [sum(json.loads(path.read_text())["seconds"] for path in run.glob(f"fold_{fold}/metrics.json")) / 60]


COLUMNS: dict[str, Callable[[Path], list[float]]] = {
    "images": lambda run: [read(run, "postprocess.json")["n"]],
    "mAP at 0.5": lambda run: [read(run, "postprocess.json")["score_at_half"]],
    "mAP post-processed [95 %]": cross_fitted,
    "log-loss": lambda run: [read(run, "postprocess.json")["log_loss"]],
    "pixel accuracy": lambda run: [read(run, "postprocess.json")["pixel"]["accuracy"]],
    "minutes": lambda run: minutes(run, "*"),
    "fold 0, at 0.5": lambda run: fold_0(run, "score_at_half"),
    "fold 0, post-processed": lambda run: fold_0(run, "score_postprocessed_cv"),
    "all 3,000 tiles [95 %]": lambda run: cross_fitted(run, 3000),
    "minutes, fold 0": lambda run: minutes(run, "0"),
}
WORDS = {"experiment", "what it is", "run", "record", "change", "score"}  # columns without numbers of a record


@pytest.mark.parametrize("name", ["README.md", "RESULTS.md"])
def test_scores_are_those_of_the_records(name: str) -> None:
    checked = 0
    for table in tables(ROOT / name):
        if "record" not in table[0] or "gain [95 %]" in table[0]:
            continue
        for row in table:
            run = ROOT / LINK.findall(row["record"])[0][0]
            for column in row.keys() - WORDS:
                cell = re.sub(r"[*¹²³]", "", row[column])
                if cell:
                    require(cell, COLUMNS[column](run), f"{run.name}, {column}")
                    checked += 1
    assert checked >= 20


KINDS = {"at 0.5": records.AT_HALF, "threshold and area": records.TUNED, "post-processed": records.POSTPROCESSED}


def image_scores(run: Path, kind: str) -> dict[str, float]:
    with (run / "image_scores.csv").open(encoding="utf-8") as file:
        return {row["id"]: float(row[kind]) for row in csv.DictReader(file)}


def section_of(run: Path) -> dict[str, str]:
    """The section of each image, or the image itself where the run names none."""
    with (run / "image_scores.csv").open(encoding="utf-8") as file:
        return {row["id"]: row.get("section", row["id"]) for row in csv.DictReader(file)}


def _records(folder: Path, variant: str) -> list[Path]:
    """Those of a variant; some studies share variants of another one."""
    own = folder.glob(f"{variant}-[0-9].json")
    return sorted(own) or sorted(folder.parent.glob(f"*/{variant}-[0-9].json"))


def gain(folder: Path, one: str, other: str, kind: str) -> tuple[list[float], int]:
    """The paired gain of one variant of a study, or of one published run, over another: mean, interval; images."""
    if (PUBLISHED / one / "image_scores.csv").is_file():
        new, old = (image_scores(PUBLISHED / name, kind) for name in (one, other))
        both = sorted(new.keys() & old.keys())
        section = section_of(PUBLISHED / one)
        sections = bootstrap.clusters([section[id_] for id_ in both])
        paired = bootstrap.mean_interval(np.array([new[id_] - old[id_] for id_ in both]), sections)
        return [paired.mean, *paired.interval], len(both)
    own, others = ([records.read(path) for path in _records(folder, name)] for name in (one, other))
    compared = results.compare(one, own, other, others)
    found = compared.gains[kind]
    assert found is not None
    return [found.mean, *found.interval], compared.records[0].n


def test_gains_are_those_of_the_records() -> None:
    rows = [row for table in tables(ROOT / "RESULTS.md") for row in table if "gain [95 %]" in row]
    assert len(rows) >= 8
    for row in rows:
        one, other = re.findall(r"`([\w.-]+)`", row["record"])
        values, images = gain(ROOT / LINK.findall(row["record"])[0][0], one, other, KINDS[row["score"]])
        require(row["gain [95 %]"], values, one)
        require(row["images"], [images], one)


def test_the_first_score_and_the_findings_of_the_readme() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    first = re.search(r"\*\*(0\.\d+) mAP \(95 % interval (0\.\d+) to (0\.\d+)\)\*\*", text)
    assert first
    require(" ".join(first.groups()), cross_fitted(PUBLISHED / "tgs-lite0_42_student"), "README")
    duration = re.search(r"Two CPU cores train two of them at a time, a pair in (\d+) minutes", text)
    assert duration
    require(duration.group(1), minutes(PUBLISHED / "tgs-lite0_42", "2"), "duration")
    near = re.search(r"Within 2 pixels of the boundary (\d+) % of the pixels are wrong instead of (\d+) %", text)
    outside = re.search(r"(\d+) % instead of (\d+) % are wrongly marked 3 to 10 pixels outside of the salt", text)
    assert near
    assert outside
    for budget, found, distances in (("cpu_full", near, (-2, -1, 1, 2)), ("cpu", outside, range(-10, -2))):
        values = [share_wrong(budget, variant, distances) for variant in ("no_skips", "base")]
        require(" ".join(found.groups()), values, f"skip connections, {budget}")
    further = re.search(r"at 0.5 without them, and by (-0\.\d+ \[-0\.\d+, -0\.\d+\]) post-processed", text)
    assert further
    skips = gain(PUBLISHED / "studies" / "case_study-tgs-cpu_full", "no_skips", "base", records.POSTPROCESSED)
    require(further.group(1), skips[0], "skip connections, post-processed")
    for start, folder, one, other, kind, sign in FINDINGS:
        found = re.search(rf"\*\*{start}[^*]*\*\*:.*?([+-]0\.\d+)(?: \[([+-]0\.\d+), ([+-]0\.\d+)\])?", text)
        assert found, start
        shown = [number for number in found.groups() if number]
        values = [sign * value for value in gain(PUBLISHED / "studies" / folder, one, other, kind)[0]]
        require(" ".join(shown), values[: len(shown)], start)


def share_wrong(budget: str, variant: str, distances: Iterable[int]) -> float:
    """Share of wrong pixels, %, at these distances from the boundary of salt; negative ones lie outside."""
    record = records.read(PUBLISHED / "studies" / f"case_study-tgs-{budget}" / f"{variant}-0.json")
    pixels = {distance: np.array(pair) for distance, *pair in zip(*record.details["boundary"].values(), strict=True)}
    count, errors = sum(pixels[distance] for distance in distances)
    return float(100 * errors / count)


FINDINGS = [
    ("ImageNet weights", "ablations-tgs-cpu", "random", "base", records.TUNED, -1),
    ("The symmetric Lovász loss", "ablations-tgs-cpu", "symmetric_throughout", "base", records.POSTPROCESSED, 1),
    ("Longer training helps", "", "tgs-lite0_42", "tgs-lite0_resized", records.TUNED, 1),
    ("Skip connections", "case_study-tgs-cpu_full", "no_skips", "base", records.AT_HALF, 1),
    ("Unlabeled tiles help", "", "tgs-lite0_42_student", "tgs-lite0_42_again", records.AT_HALF, 1),
]


def test_every_promise_about_security_names_tests_that_exist() -> None:
    """At least one under each promise, which are the bold sentences."""
    promises = re.split(
        r"^\*\*", (ROOT / "SECURITY.md").read_text(encoding="utf-8").split("## What is not")[0], flags=re.MULTILINE
    )
    assert len(promises) > 4
    for promise in promises[1:]:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", promise)
        assert named, promise
        for path, test in named:
            assert f"\ndef {test}(" in (ROOT / path).read_text(encoding="utf-8"), f"{path}::{test}"

"""The page about a run: figures, pictures, caveats, and what it says where something is missing."""

import base64
import html
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from saltseg import runs
from saltseg.core.postprocess import HALF, Rule
from saltseg.errors import InputError
from saltseg.reporting import facts, notes, report

SCRIPT = Path(__file__).parents[2] / "scripts" / "report.py"


def text_of(page):
    """What a reader sees, in one line."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", body)))


def test_the_page_needs_nothing_from_outside(fake, undrawn):
    page = report.build(fake.run, fake.root)
    for pattern in (
        r"https?:",
        r"<script",
        r"<link",
        r"@import",
        r"url\(",
        r'src="(?!data:image/png;base64,)',
    ):
        assert not re.search(pattern, page), pattern
    assert page.startswith("<!DOCTYPE html>")


def test_pictures_are_four_charts_and_six_galleries(fake):
    page = report.build(fake.run, fake.root)
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)">', page)
    assert len(found) == page.count("<img") == 10
    assert len({data for data, _ in found}) == 10
    assert sum("training images of fold 0" in name for _, name in found) == 3
    for data, _ in found:
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 5


def test_text_from_files_is_escaped(fake, undrawn):
    page = report.build(fake.run, fake.root)
    assert "alert(" in page
    assert "<script>" not in page
    assert "a &lt;b&gt;bold&lt;/b&gt; one" in page


def test_headline_and_gap(fake, undrawn):
    found = runs.read_json(fake.run.postprocess)
    text = text_of(report.build(fake.run, fake.root))
    assert found["score_at_half"] == pytest.approx(4.3 / 8)  # the sum of the eight scores by hand
    assert "score at 0.5 0.5375" in text
    assert f"cross-fitted score {found['cross_fitted']['score']:.4f} 95 % interval [" in text
    assert "loss (binary cross-entropy) 0.3000 0.4050 +0.1050" in text
    assert "score at 0.5 (mAP) 0.7500 0.5375 −0.2125" in text
    assert "pixel accuracy 95.0 % 90.0 % −5.0 pp" in text
    assert "case study's notebook: 0.187" in text
    assert "2 of 2 folds finished" in text


def test_a_solution_is_shown_and_its_absence_said(fake, undrawn):
    assert "no known solution here" in text_of(report.build(fake.run, fake.root))
    score = {"all": 0.5, "public": 0.61234, "private": 0.45678, "n": 9, "n_public": 3, "n_private": 6}
    runs.write_json(fake.run.solution_score, score | {"per_coverage": []})
    text = text_of(report.build(fake.run, fake.root))
    assert "private score 0.4568 public 0.6123; solution of 9 test images" in text
    assert "no known solution" not in text


def test_what_is_missing_gets_a_sentence(fake, undrawn):
    fake.run.fold(0).train.unlink()
    assert "training images of fold 1" in report.build(fake.run, fake.root)
    fake.run.fold(1).train.unlink()
    fake.run.postprocess.unlink()
    page = report.build(fake.run, fake.root)
    assert page.count("No predictions for training images were kept.") == 3
    assert "No decision rule has been tuned yet; python scripts/optimise.py small does." in page
    assert page.count("<img") == 5  # learning curves, precision and recall, three galleries
    fake.run.oof.unlink()
    assert "no out-of-fold predictions yet" in report.build(fake.run, fake.root)


def test_without_the_dataset_the_page_has_its_numbers(fake, undrawn, tmp_path):
    page = report.build(fake.run, tmp_path / "nowhere")
    assert "The images of the dataset could not be read" in page
    assert page.count("<img") == 3
    assert page.count("could not be read") == 2  # once for precision and recall, once for all galleries
    assert "0.5375" in page


def test_a_run_that_has_only_begun(fake, undrawn):
    for fold in (fake.run.fold(0), fake.run.fold(1)):
        fold.metrics.unlink()
    fake.run.postprocess.unlink()
    fake.run.oof.unlink()
    text = text_of(report.build(fake.run, fake.root))
    assert "0 of 2 folds finished" in text
    assert "Fold 0 is unfinished. Fold 1 is unfinished." in text
    assert "No fold is finished, so there is nothing to compare." in text
    assert "No fold is finished yet: there is no score" in text


def test_damaged_files_are_errors(fake, undrawn):
    fake.run.postprocess.write_text("{}")
    with pytest.raises(InputError, match=r"postprocess.json has no 'cross_fitted'; delete it"):
        report.build(fake.run, fake.root)


def test_notes_say_how_the_numbers_were_chosen(fake):
    known = facts.read(fake.run)
    text = " ".join(notes.honest(known))
    assert "lowest loss on that fold's own validation images" in text
    assert "0.003 to 0.006" in text
    assert "each fold is scored under the rule fitted on the other folds" in text
    assert "Neighbouring tiles" in text
    assert "simulated" not in text
    assert "Only" not in text


def test_steps_of_the_rule_are_shown_with_what_each_was_worth(fake, undrawn):
    found = runs.read_json(fake.run.postprocess)
    assert [row["step"] for row in found["steps"]] == ["threshold", "minimum area", "hole filling", "hysteresis"]
    steps = [
        {"step": "threshold", "adopted": True, "score": 0.6, "gain": {"mean": 0.0625, "interval": [0.05, 0.08]}},
        {"step": "hysteresis", "adopted": False, "score": 0.59, "gain": {"mean": -0.01, "interval": [-0.03, 0]}},
    ]
    runs.write_json(fake.run.postprocess, found | {"steps": steps, "adopted": "tuned"})
    text = text_of(report.build(fake.run, fake.root))
    assert "threshold 0.6000 +0.0625 +0.0500 to +0.0800 yes hysteresis 0.5900 −0.0100 −0.0300 to +0.0000 no" in text
    assert "None of them is in use" not in text
    assert "Of 2 steps of the rule those stayed that raised this very score: a choice that flatters it" in text
    runs.write_json(fake.run.postprocess, found | {"steps": steps, "adopted": "half", "why": "the experiment says so"})
    text = text_of(report.build(fake.run, fake.root))
    assert "None of them is in use: the experiment says so." in text
    assert "those stayed that raised" not in text


def test_results_from_before_there_were_steps_are_shown_without_them(fake, undrawn):
    found = runs.read_json(fake.run.postprocess)
    del found["steps"]
    old = {"threshold": 100, "min_area": 7}
    runs.write_json(fake.run.postprocess, found | {"adopted": "tuned", "rule": old})
    text = text_of(report.build(fake.run, fake.root))
    assert "What each step of the rule is worth" not in text
    assert "those stayed that raised" not in text
    assert "Rule in use: salt where the probability is at least 0.392 (100/255); tiles with fewer than 7 salt" in text


def test_a_rule_in_words():
    assert notes.rule_text(HALF) == "salt where the probability is at least 0.5"
    assert notes.rule_text(Rule(high=128)) == notes.rule_text(HALF)  # a high at the threshold does nothing
    assert notes.rule_text(Rule(100, 50, True, 204, 26)) == (
        "salt where the probability is at least 0.392 (100/255); holes are filled; bodies that nowhere reach 0.80 go; "
        "tiles with fewer than 50 salt pixels become empty; tiles that hold salt with a probability below 0.10 become "
        "empty"
    )


def test_notes_of_a_partial_simulated_run_cross_fitted_on_random_parts(fake):
    found = runs.read_json(fake.run.postprocess)
    gain = {"mean": 0.01, "interval": [0.002, 0.02]}
    runs.write_json(fake.run.postprocess, found | {"cross_fit_groups": "random parts", "tuning_gain": gain})
    runs.write_json(fake.run.provenance, fake.run.read_provenance() | {"synthetic": True})
    fake.run.fold(1).metrics.unlink()
    sentences = notes.honest(facts.read(fake.run))
    assert sentences[0].startswith("The data is simulated")
    assert sentences[1].startswith("Only 1 of 2 folds are finished")
    assert "average 1 network instead of 2" in sentences[1]
    text = " ".join(sentences)
    assert "random parts" in text
    assert "by +0.0100 (95 % interval +0.0020 to +0.0200, image by image): a gain." in text


def test_the_script_writes_the_page_and_names_the_next_step(fake):
    command = [sys.executable, str(SCRIPT), "small", "--input", str(fake.input), "--output", str(fake.output)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [str(fake.run.report), "next: python scripts/leaderboard.py"]
    assert fake.run.report.read_text(encoding="utf-8").count("<img") == 10
    done = subprocess.run([*command[:2], "smal", *command[3:]], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: unknown run 'smal'; did you mean small?\n")

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
from fake_run import make_blend, reset

from saltseg import storage
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
    found = storage.read_json(fake.run.postprocess)
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
    storage.write_json(fake.run.solution_score, score | {"per_coverage": []})
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


def epoch_note(run):
    """What the page says of the choice of epochs."""
    (note,) = (sentence for sentence in notes.honest(facts.read(run)) if "epoch" in sentence)
    return note


def test_notes_follow_what_the_settings_say_of_the_weights_kept(fake):
    assert "lowest loss on that fold's own validation images" in epoch_note(fake.run)
    reset(fake.run, "train.schedule=cosine", "train.keep=last")
    last = "The length of the training was fixed beforehand and its last weights"
    assert epoch_note(fake.run) == f"{last} predict: no epoch was chosen."
    reset(fake.run, "train.ema=0.99")
    averaged = ", as an exponential moving average over steps (decay 0.99),"
    assert epoch_note(fake.run) == f"{last}{averaged} predict: no epoch was chosen."
    reset(fake.run, "train.ema=0", "train.swa_from=26")
    assert epoch_note(fake.run) == f"{last}, averaged over epochs 26 to 50, predict: no epoch was chosen."
    reset(fake.run, "train.swa_from=0", "train.keep=snapshots", "train.cycles=5")
    assert epoch_note(fake.run) == (
        "The length of the training was fixed beforehand and the weights at the end of each cycle of the learning rate "
        "predict, 5 in all, and their predictions are averaged: no epoch was chosen."
    )


def test_notes_tell_what_is_handed_down_by_what_a_run_learnt_from(fake):
    reset(fake.run, "train.schedule=cosine", "train.keep=last")
    origin = fake.run.read_provenance()
    for chosen, transduction in (([], False), (["teacher"], False), ([], True), (["teacher", "other"], True)):
        storage.write_json(fake.run.provenance, origin | {"epoch_chosen_in": chosen, "transduction": transduction})
        text = " ".join(notes.honest(facts.read(fake.run)))
        assert ("(transduction)" in text) == transduction
        assert ("may be handed down" in text) == bool(chosen)
        assert not chosen or f"It learnt from {', '.join(chosen)}, with the weights of the epoch" in text


def test_notes_of_a_blend_say_which_members_chose_their_epoch(fake, make_run):
    reset(make_run("fixed").run, "train.schedule=cosine", "train.keep=last")
    fixed = epoch_note(make_blend(fake, "f", ["fixed"]))
    assert fixed == "The training of every member had a length fixed beforehand: no epoch was chosen."
    mixed = epoch_note(make_blend(fake, "m", ["fixed", "small"]))
    assert mixed.startswith("Of the 2 members, small predict with the weights of the epoch with the lowest loss")
    unknown = "It is unknown whether an epoch was chosen on the validation images for "
    assert epoch_note(make_blend(fake, "g", ["fixed", "gone"])).startswith(f"{unknown}the members gone, since")
    assert epoch_note(make_blend(fake, "n", [])).startswith(f"{unknown}any member, since")


EVIDENCE = {
    "groups": "folds",
    "equal": 0.85,
    "fitted": 0.8523,
    "difference": 0.0023,
    "interval": [-0.001, 0.0051],
    "adopted": True,
}


def test_a_blend_shows_its_weights_and_what_fitting_them_was_worth(fake, undrawn):
    blend = make_blend(fake, "b", ["small", "other"], weights=[3, 1], evidence=EVIDENCE)
    text = text_of(report.build(blend, fake.root))
    assert "mean of 3/4 small + 1/4 other" in text
    measured = (
        "Weights were fitted out of fold: judged on folds that they were not fitted on, they score 0.8523, equal "
        "weights 0.8500; the difference is +0.0023 (95 % interval −0.0010 to +0.0051, image by image)"
    )
    assert f"{measured}, so they are in use. Test images get the weights fitted on everything, out-of-fold" in text
    assert "A little leaks all the same: the decision rule for each of the folds is tuned on the others" in text
    refused = EVIDENCE | {"adopted": False}
    blend = make_blend(fake, "c", ["small", "other"], weights=[1, 1], evidence=refused)
    text = text_of(report.build(blend, fake.root))
    assert "mean of 1/2 small + 1/2 other" in text
    assert f"{measured}. That is no gain, so the members count equally." in text
    assert "leaks" not in text
    text = text_of(report.build(make_blend(fake, "d", ["small", "other"], evidence=None), fake.root))
    assert "Weights were fitted" not in text


def test_losses_are_compared_only_where_they_are_the_same(fake, undrawn):
    by_heart, apart = "where the solid line leaves the dotted one", "The dotted line is another loss"
    text = text_of(report.build(fake.run, fake.root))
    assert "loss (binary cross-entropy)" in text
    assert by_heart in text
    assert apart not in text
    original = fake.run.config.read_bytes()
    for other in (
        "train.loss=dice",
        "train.loss=bce + dice",
        "train.late_from=3",
        "model.deep_supervision=true",
        "model.empty_head=true",
        "train.loss_region=tile",
    ):
        fake.run.config.write_bytes(original)
        assert facts.read(fake.run).same_loss
        reset(fake.run, other)
        assert not facts.read(fake.run).same_loss, other
    text = text_of(report.build(fake.run, fake.root))
    assert "loss (binary cross-entropy)" not in text
    assert "The training loss is the average" not in text
    assert "score at 0.5 (mAP) 0.7500 0.5375" in text
    assert by_heart not in text
    assert apart in text


def test_what_to_look_at_in_the_curves_follows_the_schedule(fake):
    original = fake.run.config.read_bytes()
    for settings, said in (
        ((), "Each step in the lower panel is a cut of the learning rate, because the validation loss stood still."),
        (("train.schedule=constant",), "heart. The learning rate stays as it is."),
        (("train.schedule=one_cycle",), "heart. The learning rate rises and falls once, as planned beforehand."),
        (("train.schedule=cosine",), "heart. The learning rate falls along a cosine, as planned beforehand."),
        (
            ("train.schedule=cosine", "train.warmup=2", "train.cycles=3"),
            "The learning rate rises, then falls along a cosine 3 times, as planned",
        ),
        (
            ("train.late_from=3", "train.schedule=constant", "train.keep=last", "train.validate_every=10"),
            "The training loss changes at epoch 3, hence a jump there. Validation was measured every 10 epochs.",
        ),
    ):
        fake.run.config.write_bytes(original)
        reset(fake.run, *settings)
        text = notes.curves(facts.read(fake.run))
        assert said in text
        assert ("cut of the learning rate" in text) == (settings == ())


def record(fold, **figures):
    storage.write_json(fold.metrics, storage.read_json(fold.metrics) | figures)


def test_the_network_is_shown_with_the_origin_of_its_weights_and_every_setting_that_was_changed(fake, undrawn):
    text = text_of(report.build(fake.run, fake.root))
    assert "network unet; tiles pad to 112, augmentation light" in text
    reset(fake.run, "model.architecture=smp.FPN", "model.encoder=resnet18", "model.weights=imagenet", "train.ema=0.9")
    text = text_of(report.build(fake.run, fake.root))
    assert "network smp.FPN, encoder resnet18, its weights: imagenet; tiles pad" in text  # nothing was recorded
    changed = "model.architecture: unet → smp.FPN , model.encoder: resnet34 → resnet18 , model.weights: none → imagenet"
    assert f"Settings that differ from the defaults (default → here): {changed} , data.fit: resize → pad" in text
    assert "train.ema: 0.0 → 0.9" in text
    assert "name: unet_spec" not in text
    for fold in fake.run.folds():
        record(fold, encoder_weights="file:a.pth, 120 of 122 keys")
    text = text_of(report.build(fake.run, fake.root))
    assert "encoder resnet18, its weights: file:a.pth, 120 of 122 keys; tiles" in text
    record(fake.run.fold(1), encoder_weights="random")
    text = text_of(report.build(fake.run, fake.root))
    assert "its weights: file:a.pth, 120 of 122 keys or random; tiles" in text


def test_figures_that_no_fold_recorded_have_no_row(fake, undrawn):
    for fold in fake.run.folds():
        record(fold, peak_gpu_memory_mb=None)
    text = text_of(report.build(fake.run, fake.root))
    assert (
        "epoch kept 3 3 training loss of that epoch 0.3000 0.3000 validation loss of that epoch 0.4000 0.4100" in text
    )
    assert "log-loss, one view" not in text
    assert "GPU" not in text
    record(fake.run.fold(1), peak_gpu_memory_mb=2345, log_loss=0.123)
    reset(fake.run, "train.schedule=cosine", "train.keep=snapshots")
    text = text_of(report.build(fake.run, fake.root))
    assert "last epoch kept 3 3" in text
    assert "log-loss, one view – 0.1230" in text
    assert "peak GPU memory, MiB – 2,345" in text


def test_steps_of_the_rule_are_shown_with_what_each_was_worth(fake, undrawn):
    found = storage.read_json(fake.run.postprocess)
    assert [row["step"] for row in found["steps"]] == ["threshold", "minimum area", "hole filling", "hysteresis"]
    steps = [
        {"step": "threshold", "adopted": True, "score": 0.6, "gain": {"mean": 0.0625, "interval": [0.05, 0.08]}},
        {"step": "hysteresis", "adopted": False, "score": 0.59, "gain": {"mean": -0.01, "interval": [-0.03, 0]}},
    ]
    storage.write_json(fake.run.postprocess, found | {"steps": steps, "adopted": "tuned"})
    text = text_of(report.build(fake.run, fake.root))
    assert "threshold 0.6000 +0.0625 +0.0500 to +0.0800 yes hysteresis 0.5900 −0.0100 −0.0300 to +0.0000 no" in text
    assert "None of them is in use" not in text
    assert "Of 2 steps of the rule those stayed that raised this very score: a choice that flatters it" in text
    storage.write_json(
        fake.run.postprocess, found | {"steps": steps, "adopted": "half", "why": "the experiment says so"}
    )
    text = text_of(report.build(fake.run, fake.root))
    assert "None of them is in use: the experiment says so." in text
    assert "those stayed that raised" not in text


def test_results_from_before_there_were_steps_are_shown_without_them(fake, undrawn):
    found = storage.read_json(fake.run.postprocess)
    del found["steps"]
    old = {"threshold": 100, "min_area": 7}
    storage.write_json(fake.run.postprocess, found | {"adopted": "tuned", "rule": old})
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
    found = storage.read_json(fake.run.postprocess)
    gain = {"mean": 0.01, "interval": [0.002, 0.02]}
    storage.write_json(fake.run.postprocess, found | {"cross_fit_groups": "random parts", "tuning_gain": gain})
    storage.write_json(fake.run.provenance, fake.run.read_provenance() | {"synthetic": True})
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

"""The page about a run: metrics, pictures, caveats, and what it shows where something is missing."""

import base64
import html
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from fake_run import make_blend, reset, scores

from saltseg import io
from saltseg.cli import analyze
from saltseg.errors import InputError
from saltseg.pipeline.workspace import Workspace
from saltseg.postprocessing.parameters import THRESHOLD_HALF, Postprocessing
from saltseg.reporting import caveats, report, run_summary


def text_of(page):
    """What a reader sees, in one line."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", body)))


def test_the_page_needs_nothing_from_outside(fake, undrawn):
    page = report.build(fake.run, fake.workspace)
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


def test_every_class_of_a_page_has_a_rule():
    folder = Path(report.__file__).parent
    style = (folder / "page.html.j2").read_text()
    for template in folder.glob("*.html.j2"):
        for names in re.findall(r'class="([a-z ]+)"', template.read_text()):
            for name in names.split():
                assert re.search(rf"\.{name}\b", style), (template.name, name)


def test_pictures_are_four_charts_and_six_galleries(fake):
    page = report.build(fake.run, fake.workspace)
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="([^"]+)">', page)
    assert len(pictures) == page.count("<img") == 10
    assert len({data for data, _ in pictures}) == 10
    assert sum("training images of fold 0" in name for _, name in pictures) == 3
    for data, _ in pictures:
        picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 5


def test_text_from_files_is_escaped(fake, undrawn):
    page = report.build(fake.run, fake.workspace)
    assert "alert(" in page
    assert "<script>" not in page
    assert "a &lt;b&gt;bold&lt;/b&gt; one" in page


def test_headline_and_gap(fake, undrawn):
    content = io.read_json(fake.run.postprocess)
    text = text_of(report.build(fake.run, fake.workspace))
    assert content["score_at_half"] == pytest.approx(4.3 / 8)  # the sum of the eight scores by hand
    assert "score at 0.5 0.5375" in text
    assert f"cross-fitted score {content['cross_fitted']['score']:.4f} single networks; 95 % interval [" in text
    assert "loss (binary cross-entropy) 0.3000 0.4050 +0.1050" in text
    assert "score at 0.5 (mAP) 0.7500 0.5375 −0.2125" in text
    assert "pixel accuracy 95.0 % 90.0 % −5.0 pp" in text
    assert "case study's notebook: 0.187" in text
    assert "2 of 2 folds finished" in text


def test_a_solution_is_shown_and_its_absence_named(fake, undrawn):
    assert "no known solution here" in text_of(report.build(fake.run, fake.workspace))
    score = {"all": 0.5, "public": 0.61234, "private": 0.45678, "n": 9, "n_public": 3, "n_private": 6}
    io.write_json(fake.run.solution_score, score | {"per_coverage": []})
    text = text_of(report.build(fake.run, fake.workspace))
    assert "private score 0.4568 public 0.6123; solution of 9 test images" in text
    assert "no known solution" not in text


def test_what_is_missing_gets_a_sentence(fake, undrawn):
    fake.run.fold(0).train.unlink()
    assert "training images of fold 1" in report.build(fake.run, fake.workspace)
    fake.run.fold(1).train.unlink()
    fake.run.postprocess.unlink()
    page = report.build(fake.run, fake.workspace)
    assert page.count("There are no predictions for training images.") == 3
    assert "No post-processing has been tuned yet: saltseg tune small." in page
    assert page.count("<img") == 5  # learning curves, precision and recall, three galleries
    fake.run.oof.unlink()
    assert "no out-of-fold predictions yet: saltseg predict small." in report.build(fake.run, fake.workspace)


def test_without_the_dataset_the_page_has_its_numbers(fake, undrawn, tmp_path):
    page = report.build(fake.run, Workspace(tmp_path / "nowhere", fake.output))
    assert "The images of the dataset cannot be read" in page
    assert page.count("<img") == 3
    assert page.count("cannot be read") == 2  # once for precision and recall, once for all galleries
    assert "0.5375" in page


def test_another_dataset_of_that_name_counts_as_missing(fake, undrawn, capsys):
    tile = fake.root / "train" / "images" / "a.png"
    tile.write_bytes((fake.root / "train" / "images" / "b.png").read_bytes())
    changed = f"{fake.root} has changed since small was trained on it"
    page = report.build(fake.run, fake.workspace)
    assert f"The images of the dataset cannot be read: {changed}" in page
    assert page.count("<img") == 3
    assert "0.5375" in page
    with pytest.raises(InputError, match=r"no picture of 'small': .* has changed since"):
        report.picture(fake.run, fake.workspace)
    analyze.report("small", input_dir=fake.input, output_dir=fake.output)
    assert capsys.readouterr().out.startswith(f"note: the page has no images: {changed}")


def test_a_run_that_has_only_begun(fake, undrawn):
    for fold in (fake.run.fold(0), fake.run.fold(1)):
        fold.metrics.unlink()
    fake.run.postprocess.unlink()
    fake.run.oof.unlink()
    text = text_of(report.build(fake.run, fake.workspace))
    assert "0 of 2 folds finished" in text
    assert "Fold 0 is unfinished. Fold 1 is unfinished." in text
    assert "No fold is finished, so there is nothing to compare." in text
    assert "No fold is finished yet, so there is no score." in text


def test_damaged_files_are_errors(fake, undrawn):
    fake.run.postprocess.write_text("{}")
    with pytest.raises(InputError, match=r"postprocess.json: no postprocessing in it; delete it"):
        report.build(fake.run, fake.workspace)


def caveats_of(run):
    return " ".join(caveats.caveats(run_summary.read(run)))


def test_caveats_of_a_run(fake):
    text = caveats_of(fake.run)
    assert "lowest loss on its own validation images" in text
    assert "0.003 to 0.006" in text
    assert "each fold is scored with the post-processing fitted on the other folds" in text
    assert "Neighboring tiles" in text
    assert "simulated" not in text
    assert "Only" not in text


def epoch_caveat(run):
    """The sentence about the selection of epochs."""
    (sentence,) = (sentence for sentence in caveats.caveats(run_summary.read(run)) if "epoch" in sentence)
    return sentence


def test_the_epoch_caveat_follows_the_settings(fake):
    assert "the epoch with the lowest loss on its own validation images" in epoch_caveat(fake.run)
    for settings, used in (
        (("train.schedule=cosine", "train.checkpoint=last"), "the last weights are used"),
        (("train.ema_decay=0.99",), "an exponential moving average over steps, decay 0.99"),
        (("train.ema_decay=0", "train.swa_start_epoch=26"), "averaged over epochs 26 to 50"),
        (
            ("train.swa_start_epoch=0", "train.checkpoint=snapshots", "train.schedule.num_cycles=5"),
            "the ends of the 5 cycles are used and their predictions averaged",
        ),
    ):
        reset(fake.run, *settings)
        sentence = epoch_caveat(fake.run)
        assert used in sentence
        assert "fixed length" in sentence
        assert "no epoch was selected" in sentence


def test_caveats_name_what_carries_over_from_earlier_runs(fake):
    before = fake.run.read_provenance()
    for selected, transduction in (([], False), (["teacher"], False), ([], True), (["teacher", "other"], True)):
        io.write_json(fake.run.provenance, before | {"epoch_chosen_in": selected, "transduction": transduction})
        text = caveats_of(fake.run)
        assert ("(transduction)" in text) == transduction
        assert ("may carry over" in text) == bool(selected)
        assert not selected or f"It learned from {', '.join(selected)}, where the epoch" in text


def test_caveats_of_a_blend_name_the_members_that_selected_their_epoch(fake, make_run):
    reset(make_run("fixed").run, "train.schedule=cosine", "train.checkpoint=last")
    assert "no epoch was selected" in epoch_caveat(make_blend(fake, "f", ["fixed"]))
    mixed = epoch_caveat(make_blend(fake, "m", ["fixed", "small"]))
    assert mixed.startswith("Of the 2 members, small use the weights of the epoch with the lowest loss")
    unknown = "It is unknown whether an epoch was selected for "
    assert epoch_caveat(make_blend(fake, "g", ["fixed", "gone"])).startswith(f"{unknown}gone, because")
    assert epoch_caveat(make_blend(fake, "n", [])).startswith(f"{unknown}any member, because")


def tune(run, selected="tuned"):
    """Have the run use tuned post-processing, or threshold 0.5."""
    io.write_json(run.postprocess, io.read_json(run.postprocess) | {"selected": selected})


def test_post_processing_is_fitted_on_fewer_networks_than_are_submitted(fake, make_run):
    fitted = "The post-processing was fitted on predictions of {} per image, and the submission averages {}."
    tune(fake.run)
    assert fitted.format("1 network", 2) in caveats_of(fake.run)  # of two folds
    make_run("other")
    assert fitted.format("2 networks", 4) in caveats_of(make_blend(fake, "both", ["small", "other"]))
    tune(fake.run, "half")
    assert "submission averages" not in caveats_of(fake.run)
    tune(fake.run)
    rescored(fake.run, [0])
    assert "submission averages" not in caveats_of(fake.run)  # one fold: the same network


def rescored(run, folds):
    """Have the scores be of these folds."""
    io.write_json(run.postprocess, io.read_json(run.postprocess) | {"folds": folds})


def test_scores_of_fewer_folds_than_are_finished_are_named(fake, undrawn):
    """After a run of fold 0, scored, and a training of fold 1."""
    stale = "The scores, the post-processing and the test predictions are of fold 0, while folds 0, 1 are finished."
    assert "test predictions are of" not in caveats_of(fake.run)
    rescored(fake.run, [0])
    text = text_of(report.build(fake.run, fake.workspace))
    assert f"{stale} To take in all that are finished: saltseg predict small, then saltseg tune small." in text
    assert "2 of 2 folds finished, scores of 1" in text
    assert run_summary.read(fake.run).networks == 1
    fake.run.fold(1).metrics.unlink()
    assert "test predictions are of" not in caveats_of(fake.run)


def test_another_runs_post_processing_is_shown_and_named(fake, undrawn, monkeypatch):
    applied = []
    monkeypatch.setattr(report.gallery, "score", lambda found, labeled, used: applied.append(used))
    tune(fake.run)
    own = run_summary.read(fake.run).postprocessing
    assert "the submission averages 2" in caveats_of(fake.run)
    used = {"postprocessing_from": "other", "postprocessing": {"threshold": 60, "min_area": 9}}
    io.write_json(fake.run.postprocessing_source, used)
    text = text_of(report.build(fake.run, fake.workspace))
    assert applied == [Postprocessing(threshold=60, min_area=9)] * 2  # training and validation tiles
    shown = caveats.describe_postprocessing(Postprocessing(threshold=60, min_area=9))
    assert f"Post-processing in use, that of the run other: {shown}." in text
    assert "Masks use the post-processing of other, which was tuned on that run's predictions" in text
    assert "Scores are of the run's own post-processing" in text
    assert "submission averages" not in text  # networks of another run
    card = " ".join(caveats.of_fold(run_summary.read(fake.run), 0))
    assert "other, which" not in card  # a model is released with the run's own
    tune(fake.run, "half")
    text = text_of(report.build(fake.run, fake.workspace))
    assert "masks use threshold 0.5" not in text
    assert "None of them is in use" not in text
    fake.run.postprocess.unlink()
    text = caveats_of(fake.run)
    assert "Masks use the post-processing of other" in text
    assert "threshold 0.5" not in text
    assert "cross-fitted" not in text
    fake.run.postprocessing_source.unlink()
    assert "masks use threshold 0.5" in caveats_of(fake.run)
    io.write_json(fake.run.postprocess, scores())
    assert run_summary.read(fake.run).postprocessing == own


def test_means_over_folds_are_of_the_scored_ones(fake, undrawn):
    rescored(fake.run, [1])
    text = text_of(report.build(fake.run, fake.workspace))
    assert "mean over scored folds training validation gap" in text
    assert "score at 0.5 (mAP) 0.7500 0.1750 −0.5750" in text  # of fold 1


def test_a_card_of_one_fold_says_nothing_about_others_and_no_mean(fake):
    tune(fake.run)
    record(fake.run.fold(1), diverged_at_epoch=4)
    assert "the submission averages 2" in caveats_of(fake.run)
    assert "fold 1 diverged" in caveats_of(fake.run)
    cards = [" ".join(caveats.of_fold(run_summary.read(fake.run), fold)) for fold in (0, 1)]
    assert ["fold 1 diverged" in card for card in cards] == [False, True]
    for card in cards:
        assert "averages" not in card
        assert "95 % interval" not in card  # of the images of both folds
        assert "Tuning changed the score" not in card
        assert "vary with the random seed" in card
        assert "lowest loss on its own validation images" in card


EVIDENCE = {
    "groups": "folds",
    "equal": 0.85,
    "fitted": 0.8523,
    "difference": 0.0023,
    "interval": [-0.001, 0.0051],
    "selected": True,
}


def test_a_blend_shows_its_weights_and_the_gain_of_fitting_them(fake, undrawn):
    blend = make_blend(fake, "b", ["small", "other"], weights=[3, 1], evidence=EVIDENCE)
    text = text_of(report.build(blend, fake.workspace))
    assert "mean of 3/4 small + 1/4 other" in text
    measured = (
        "The weights were fitted out of fold: on folds not used to fit them they score 0.8523, equal weights 0.8500; "
        "the difference is +0.0023 (95 % interval −0.0010 to +0.0051)"
    )
    assert f"{measured}. Test images use the weights fitted on all images" in text
    assert "A small leak remains" in text
    refused = EVIDENCE | {"selected": False}
    blend = make_blend(fake, "c", ["small", "other"], weights=[1, 1], evidence=refused)
    text = text_of(report.build(blend, fake.workspace))
    assert "mean of 1/2 small + 1/2 other" in text
    assert f"{measured}. The members have equal weights" in text
    assert "leak" not in text
    text = text_of(report.build(make_blend(fake, "d", ["small", "other"], evidence=None), fake.workspace))
    assert "weights were fitted" not in text


def test_losses_are_compared_only_where_they_are_the_same(fake, undrawn):
    apart = "The dotted line is another loss"
    text = text_of(report.build(fake.run, fake.workspace))
    assert "loss (binary cross-entropy)" in text
    assert apart not in text
    original = fake.run.config.read_bytes()
    for other in (
        "train.loss=dice",
        "train.loss=bce + dice",
        "train.second_loss_start_epoch=3",
        "model.deep_supervision=true",
        "model.presence_head=true",
        "train.loss_region=tile",
    ):
        fake.run.config.write_bytes(original)
        assert run_summary.read(fake.run).same_loss
        smp = ["model.architecture=smp.Unet"] if other.startswith("model.") else []
        reset(fake.run, *smp, other)
        assert not run_summary.read(fake.run).same_loss, other
    text = text_of(report.build(fake.run, fake.workspace))
    assert "loss (binary cross-entropy)" not in text
    assert "The training loss is the average" not in text
    assert "score at 0.5 (mAP) 0.7500 0.5375" in text
    assert apart in text


def test_the_hint_of_the_learning_curves_follows_the_schedule(fake):
    original = fake.run.config.read_bytes()
    for settings, text in (
        ((), "Each step in the lower panel reduces the learning rate after the validation loss stopped falling."),
        (("train.schedule=constant",), "The learning rate is constant."),
        (("train.schedule=one_cycle",), "The learning rate rises and falls once."),
        (("train.schedule=cosine",), "The learning rate falls along a cosine."),
        (
            ("train.schedule=cosine", "train.schedule.warmup_epochs=2", "train.schedule.num_cycles=3"),
            "The learning rate rises, then falls along a cosine 3 times.",
        ),
        (
            (
                "train.second_loss_start_epoch=3",
                "train.schedule=constant",
                "train.checkpoint=last",
                "train.val_every_n_epochs=10",
            ),
            "The training loss changes at epoch 3, hence a jump there. Validation was measured every 10 epochs.",
        ),
    ):
        fake.run.config.write_bytes(original)
        reset(fake.run, *settings)
        hint = caveats.learning_curve_hint(run_summary.read(fake.run))
        assert text in hint
        assert ("Each step in the lower panel" in hint) == (settings == ())


def record(fold, **metrics):
    io.write_json(fold.metrics, io.read_json(fold.metrics) | metrics)


def test_the_network_is_shown_with_the_source_of_its_weights_and_every_changed_setting(fake, undrawn):
    text = text_of(report.build(fake.run, fake.workspace))
    assert "network unet; tiles pad to 112, augmentation light" in text
    reset(
        fake.run,
        "model.architecture=smp.FPN",
        "model.encoder=resnet18",
        "model.weights=imagenet",
        "train.ema_decay=0.9",
    )
    text = text_of(report.build(fake.run, fake.workspace))
    assert "network smp.FPN, encoder resnet18, its weights: imagenet; tiles pad" in text  # nothing was recorded
    changed = "model.architecture: unet → smp.FPN , model.encoder: resnet34 → resnet18 , model.weights: none → imagenet"
    assert f"(default → here): {changed} , data.resize_mode: resize → pad" in text
    assert "train.ema_decay: 0.0 → 0.9" in text
    assert "name: unet_spec" not in text
    for fold in fake.run.folds():
        record(fold, weights_source="file:a.pth, 120 of 122 keys")
    text = text_of(report.build(fake.run, fake.workspace))
    assert "encoder resnet18, its weights: file:a.pth, 120 of 122 keys; tiles" in text
    record(fake.run.fold(1), weights_source="random")
    text = text_of(report.build(fake.run, fake.workspace))
    assert "its weights: file:a.pth, 120 of 122 keys or random; tiles" in text


def test_metrics_that_no_fold_recorded_have_no_row(fake, undrawn):
    for fold in fake.run.folds():
        record(fold, peak_gpu_memory_mb=None)
    text = text_of(report.build(fake.run, fake.workspace))
    assert (
        "epoch used 3 3 training loss of that epoch 0.3000 0.3000 validation loss of that epoch 0.4000 0.4100" in text
    )
    assert "log-loss, one view" not in text
    assert "GPU" not in text
    record(fake.run.fold(1), peak_gpu_memory_mb=2345, log_loss=0.123)
    reset(fake.run, "train.schedule=cosine", "train.checkpoint=snapshots")
    text = text_of(report.build(fake.run, fake.workspace))
    assert "last epoch used 3 3" in text
    assert "log-loss, one view – 0.1230" in text
    assert "peak GPU memory, MiB – 2,345" in text


def test_post_processing_steps_are_shown_with_their_gains(fake, undrawn):
    content = io.read_json(fake.run.postprocess)
    assert [row["step"] for row in content["steps"]] == ["threshold", "minimum area", "hole filling", "hysteresis"]
    steps = [
        {"step": "threshold", "selected": True, "score": 0.6, "gain": {"mean": 0.0625, "interval": [0.05, 0.08]}},
        {"step": "hysteresis", "selected": False, "score": 0.59, "gain": {"mean": -0.01, "interval": [-0.03, 0]}},
    ]
    io.write_json(fake.run.postprocess, content | {"steps": steps, "selected": "tuned"})
    text = text_of(report.build(fake.run, fake.workspace))
    assert "threshold 0.6000 +0.0625 +0.0500 to +0.0800 yes hysteresis 0.5900 −0.0100 −0.0300 to +0.0000 no" in text
    assert "has none of them" not in text
    assert "the cross-fitted score above selects the steps anew without each fold" in text
    flat = "Which of the 2 post-processing steps are used was selected by the cross-fitted score itself"
    assert flat not in text
    older = content["cross_fitted"] | {"nested": False}
    io.write_json(fake.run.postprocess, content | {"steps": steps, "selected": "tuned", "cross_fitted": older})
    assert flat in text_of(report.build(fake.run, fake.workspace))
    io.write_json(fake.run.postprocess, content | {"steps": steps, "selected": "half", "why": "the experiment says so"})
    text = text_of(report.build(fake.run, fake.workspace))
    assert "The run's own post-processing has none of them: the experiment says so." in text
    assert "Which of the" not in text


def test_results_without_steps_are_shown_without_them(fake, undrawn):
    content = io.read_json(fake.run.postprocess)
    del content["steps"]
    used = {"threshold": 100, "min_area": 7}
    io.write_json(fake.run.postprocess, content | {"selected": "tuned", "postprocessing": used})
    text = text_of(report.build(fake.run, fake.workspace))
    assert "Post-processing steps" not in text
    assert "Which of the" not in text
    assert "Post-processing in use: threshold 0.392 (100/255); masks of fewer than 7 pixels emptied." in text


def test_a_post_processing_in_words():
    describe = caveats.describe_postprocessing
    assert describe(THRESHOLD_HALF) == "threshold 0.5"
    assert describe(Postprocessing(hysteresis_high=128)) == describe(THRESHOLD_HALF)  # at the threshold: no effect
    assert describe(Postprocessing(100, 50, True, 204, 26)) == (
        "threshold 0.392 (100/255); holes filled; bodies that nowhere reach 0.80 removed; masks of fewer than 50 "
        "pixels emptied; masks emptied where the presence probability is below 0.10"
    )


def test_caveats_of_a_partial_simulated_run_cross_fitted_on_random_parts(fake):
    content = io.read_json(fake.run.postprocess)
    gain = {"mean": 0.01, "interval": [0.002, 0.02]}
    io.write_json(fake.run.postprocess, content | {"cross_fit_groups": "random parts", "tuning_gain": gain})
    io.write_json(fake.run.provenance, fake.run.read_provenance() | {"synthetic": True})
    fake.run.fold(1).metrics.unlink()
    rescored(fake.run, [0])
    sentences = caveats.caveats(run_summary.read(fake.run))
    assert sentences[0].startswith("Only 1 of 2 folds are finished")
    assert sentences[1].startswith("The data is simulated")
    assert caveats.of_fold(run_summary.read(fake.run), 0) == sentences[1:]
    text = " ".join(sentences)
    assert "divided at random" in text
    assert "by +0.0100 (95 % interval +0.0020 to +0.0200): a gain." in text


def test_the_verb_writes_the_page_and_names_the_next_command(fake, undrawn, capsys):
    next_command = analyze.report("small", input_dir=fake.input, output_dir=fake.output)
    assert next_command == ["saltseg", "leaderboard"]
    assert capsys.readouterr().out.splitlines() == [str(fake.run.report)]
    assert fake.run.report.read_text(encoding="utf-8").count("<img") == 10
    with pytest.raises(InputError, match=r"unknown run 'smal'; did you mean small\?"):
        analyze.report("smal", input_dir=fake.input, output_dir=fake.output)

"""From a run to a released model and back: files, numbers worked out by hand, licenses, refusals."""

import json
import shlex
from pathlib import Path

import cv2
import in_process
import numpy as np
import pytest
import torch
from tiny_run import Trained, checkpoint, postprocess, salt, write_faint_oof, write_table

import saltseg
from saltseg import config, io, predictions, provenance, releases
from saltseg.cli import app
from saltseg.errors import InputError
from saltseg.metrics import rle
from saltseg.models import half_precision, zoo
from saltseg.models.salt_network import SaltNetwork
from saltseg.pipeline import collate, evaluate, release, trained
from saltseg.releases import ModelDir
from saltseg.reporting import model_card

TERMS = "for the tests of this project"


@pytest.fixture
def scored(trained: Trained) -> Trained:
    """Out of fold all tiles are right at 0.5; the networks have learned to predict 0.6 for every pixel."""
    collate.collate_run(trained.run, trained.workspace)
    io.write_json(trained.run.postprocess, postprocess(threshold=100))
    for fold in trained.run.trained_folds():
        checkpoint(trained, fold.number, 0.6)
    return trained


def make(scored: Trained, name: str = "model", **options: object) -> ModelDir:
    model = ModelDir(scored.output.parent / "models" / name)
    options = {"terms": TERMS} | options
    release.release(scored.run, scored.workspace, model.path, model_card.render, **options)  # type: ignore[arg-type]
    return model


def recorded(scored: Trained, **entries: object) -> None:
    io.write_json(scored.run.provenance, scored.run.read_provenance() | entries)


def test_what_was_measured(scored: Trained) -> None:
    """Of tiles with 0, 20, 40 and 101 rows of salt, masks full of salt score on the last alone: 0.25, before 1."""
    model = make(scored, fold=1)
    manifest = model.read_manifest()
    assert (manifest["name"], manifest["run"], manifest["fold"]) == ("model", "tiny-run", 1)
    assert manifest["score"] | {"interval": None} == {
        "n": 4, "at_half": 1.0, "postprocessed": 1.0, "interval": None, "by": "image", "fitted_on": "folds"
    }  # fmt: skip
    changed = manifest["half_precision"]
    for kind in ("at_half", "postprocessed"):
        assert changed["difference"][kind]["mean"] == -0.75
        assert changed["difference"][kind]["interval"] == [-1.0, -0.25]
    assert changed["largest_change"] == 153 - 20
    assert changed["changed_pixels"] == pytest.approx((101 + 81 + 61) / 404)
    assert manifest["reversed_polarity"]["postprocessed"] == 0.25
    assert manifest["reversed_polarity"]["difference"]["mean"] == 0
    assert manifest["postprocessing"]["threshold"] == 100
    assert manifest["data"]["n_train"] == 8
    assert manifest["elsewhere"] == []
    assert sorted(path.name for path in model.path.iterdir()) == [
        *("README.md", "config.yaml", "model.json", "provenance.json", "weights.safetensors"),
    ]
    card = model.card.read_text()
    for line in (
        "| 1.0000 | 1.0000 [1.0000, 1.0000] |",
        "−0.7500 [−1.0000, −0.2500]",
        f"{TERMS[:1].upper()}{TERMS[1:]}.",
    ):
        assert line in card
    for command in ("predict model my_sections", "evaluate model --data mine"):
        assert f"saltseg {command}" in card


def test_a_card_says_of_gray_values_what_holds_for_its_kind_of_data(scored: Trained) -> None:
    """Tiles of `saltseg lines` have one scale for their survey."""
    assert "stretched to 0" not in make(scored).card.read_text()
    recorded(scored, synthetic=True)
    assert "Every training tile was stretched to 0 … 255 by itself" in make(scored, "own", terms=None).card.read_text()


def test_the_score_is_that_of_the_post_processing_that_is_released(scored: Trained) -> None:
    """The tiles of a fold have 0, 20, 40 and 101 rows: at 0.5 no salt is found, at 60/255 all of it."""
    write_faint_oof(scored)
    for selected, score in (("tuned", 1.0), ("half", 0.25)):
        io.write_json(scored.run.postprocess, postprocess() | {"selected": selected})
        found = release._score(scored.run, scored.workspace, fold=1)
        assert (found["at_half"], found["postprocessed"]) == (0.25, score)
        low, high = found["interval"]
        assert low <= score <= high


def test_commands_of_a_card_parse(scored: Trained) -> None:
    lines = [line for line in make(scored).card.read_text().splitlines() if line.startswith("saltseg ")]
    assert len(lines) == 5
    for verb, *words in (shlex.split(line)[1:] for line in lines):
        app.command_line().commands[verb].make_context(verb, words)


def test_a_model_predicts_as_its_fold_and_nothing_of_the_run_is_needed(scored: Trained) -> None:
    checkpoint(scored, 2, 0.9)
    model = make(scored, fold=2)
    io.remove(scored.output)
    settings, networks, postprocessing = trained.load(model)
    assert len(networks) == 1
    assert settings.train.precision == "32"
    assert settings.predict.tta == ("identity",)
    assert postprocessing.threshold == 100
    loaded = saltseg.load(model.path)
    image = np.zeros((120, 150), np.uint8)
    np.testing.assert_array_equal(loaded.predict(image), np.full((120, 150), np.float32(230) / 255))
    assert loaded.mask(image).dtype == np.uint8
    assert loaded.mask(image).all()


def test_a_fold_that_was_finished_after_the_others_were_collected_is_refused(scored: Trained) -> None:
    oof = predictions.load_predictions(scored.run.oof)
    predictions.save_predictions(scored.run.oof, predictions.reorder(oof, oof.ids[np.asarray(oof.fold) != 1]))
    with pytest.raises(InputError, match=r"fold 1 is not in .*oof.npz; first saltseg predict tiny-run, then"):
        make(scored, fold=1)
    assert not (scored.output.parent / "models" / "model").exists()


def test_elsewhere_are_the_scores_of_evaluate(scored: Trained) -> None:
    found = {"run": "tiny-run", "dataset": "mine", "n": 9, "score_at_half": 0.3, "score_postprocessed": 0.4}
    io.write_json(scored.run.path / "on_mine.json", found | {"interval": [0.35, 0.45]})
    card = make(scored).card.read_text()
    assert "with the mean of the run's 3 networks" in card  # an older record does not say: all that are finished
    assert "| mine | 9 | 0.4000 [0.3500, 0.4500] |" in card
    io.write_json(scored.run.path / "on_mine.json", found | {"interval": [0.35, 0.45], "networks": 2})
    assert "with the mean of the run's 2 networks" in make(scored, "other").card.read_text()


# ---------------------------------------------------------------- licenses


@pytest.mark.parametrize(
    ("entries", "terms", "expected"),
    [
        ({"synthetic": True}, None, "MIT"),
        ({"dataset": "tgs"}, None, release.TGS_LICENSE),
        ({"dataset": "tgs-3000"}, None, release.TGS_LICENSE),
        ({}, TERMS, TERMS),
    ],
)
def test_the_license_follows_from_the_data(
    scored: Trained, entries: dict[str, object], terms: str | None, expected: str
) -> None:
    recorded(scored, **entries)
    assert release.license_of(scored.run, scored.output, terms) == expected


@pytest.mark.parametrize(
    ("entries", "settings", "terms", "message"),
    [
        ({}, {}, None, r"tiny-run learned from data whose license is not known; .* --license TEXT"),
        ({"synthetic": True}, {}, TERMS, r"--license is for other data .*; leave it out"),
        ({"dataset": "tgs"}, {}, TERMS, r"--license is for other data"),
        ({"synthetic": True}, {"train.init_from": "file:/elsewhere/w.pth"}, None, r"--license TEXT"),
        ({"synthetic": True}, {"train.ema_decay": 0.9, "pseudo.images": "photos"}, None, r"--license TEXT"),
    ],
)
def test_a_license_that_is_not_known_must_be_said_and_one_that_is_cannot(
    scored: Trained, entries: dict[str, object], settings: dict[str, object], terms: str | None, message: str
) -> None:
    recorded(scored, **entries)
    scored.write_settings(config.change(scored.settings, settings))
    with pytest.raises(InputError, match=message):
        release.license_of(scored.run, scored.output, terms)


def test_images_without_labels_add_their_terms_to_the_competitions(scored: Trained) -> None:
    """A student on Kaggle's own tiles has nothing to add; one on other images adds what its releaser says."""
    both = f"{release.TGS_LICENSE}; for the other data that it learned from: {TERMS}"
    recorded(scored, dataset="tgs")
    for changes in ({"pseudo.teacher": "older"}, {"pseudo.images": "photos", "train.ema_decay": 0.9}):
        scored.write_settings(config.change(scored.settings, changes))
        assert release.license_of(scored.run, scored.output, None) == release.TGS_LICENSE
        assert release.license_of(scored.run, scored.output, TERMS) == both


def test_a_masked_pretraining_learned_from_images_without_labels(scored: Trained) -> None:
    """Its record names the dataset whose images it left out, not one that it learned from."""
    pretrained = scored.output / "pretrained" / "masked"
    pretrained.mkdir(parents=True)
    io.write_json(pretrained / "provenance.json", {"method": "masked", "dataset": "tgs"})
    weights = f"file:{pretrained / 'weights.safetensors'}"
    scored.write_settings(config.change(scored.settings, {"train.init_from": weights}))
    recorded(scored, synthetic=True)
    with pytest.raises(InputError, match="--license TEXT"):
        release.license_of(scored.run, scored.output, None)
    assert release.license_of(scored.run, scored.output, TERMS) == TERMS
    recorded(scored, dataset="tgs", synthetic=False)
    assert release.license_of(scored.run, scored.output, None) == release.TGS_LICENSE
    assert release.license_of(scored.run, scored.output, TERMS).endswith(TERMS)


def test_other_data_do_not_lift_the_competitions_terms(scored: Trained) -> None:
    scored.write_settings(config.change(scored.settings, {"train.init_from": "older"}))
    older = scored.output / "runs" / "older"
    older.mkdir()
    io.write_json(older / "provenance.json", scored.run.read_provenance() | {"dataset": "tgs"})
    with pytest.raises(InputError, match="--license TEXT"):
        release.license_of(scored.run, scored.output, None)
    both = release.license_of(scored.run, scored.output, TERMS)
    assert both.startswith(f"{release.TGS_LICENSE}; ")
    assert both.endswith(TERMS)


def test_what_an_ancestor_learned_from_counts(scored: Trained) -> None:
    recorded(scored, synthetic=True)
    scored.write_settings(config.change(scored.settings, {"train.init_from": "older"}))
    older = scored.output / "runs" / "older"
    older.mkdir()
    io.write_json(older / "provenance.json", scored.run.read_provenance() | {"synthetic": False, "dataset": "tgs"})
    assert release.license_of(scored.run, scored.output, None) == release.TGS_LICENSE


def test_weights_of_a_model_are_traced(scored: Trained) -> None:
    """They are no start for a training on the same tiles, and a run that began with them has their license, too."""
    recorded(scored, dataset="tgs")
    scored.root.rename(scored.input / "tgs")
    weights = make(scored, terms=None).path / "weights.safetensors"
    settings = config.change(scored.settings, {"train.init_from": f"file:{weights}"})
    with pytest.raises(InputError, match=r"weights.safetensors learned from images that validate other .*; use others"):
        provenance.check_no_leakage(settings, scored.input / "tgs")
    recorded(scored, dataset="simulated", synthetic=True)
    scored.write_settings(settings)
    assert release.license_of(scored.run, scored.output, None) == release.TGS_LICENSE


@pytest.mark.parametrize("dataset", ["tgs", "ours"])
def test_the_terms_of_a_model_go_on_with_what_begins_with_it(scored: Trained, dataset: str) -> None:
    recorded(scored, dataset=dataset)
    scored.root.rename(scored.input / dataset)
    if dataset == "tgs":
        scored.write_settings(config.change(scored.settings, {"pseudo.teacher": "older"}))
    weights = make(scored, terms=TERMS).path / "weights.safetensors"
    recorded(scored, dataset="simulated", synthetic=True)
    scored.write_settings(config.change(scored.settings, {"train.init_from": f"file:{weights}"}))
    if dataset == "tgs":
        both = f"{release.TGS_LICENSE}; for what model learned from: for the other data that it learned from: {TERMS}"
        assert release.license_of(scored.run, scored.output, None) == both
        return
    with pytest.raises(InputError, match="--license TEXT"):
        release.license_of(scored.run, scored.output, None)
    assert release.license_of(scored.run, scored.output, TERMS) == TERMS
    assert release.license_of(scored.run, scored.output, "Mine.") == f"Mine.; for what model learned from: {TERMS}"


def test_a_restricted_license_is_shown_and_the_projects_own_is_not(scored: Trained) -> None:
    with pytest.warns(UserWarning, match=f"model: {TERMS}"):
        saltseg.load(make(scored).path)
    recorded(scored, synthetic=True)
    free = make(scored, "free", terms=None)
    assert "MIT, as this project." in free.card.read_text()
    assert "nothing else was learned from" in free.card.read_text()
    assert releases.notice(free.read_manifest()) == ""


# ---------------------------------------------------------------- refusals


def test_a_model_that_exists_is_replaced_only_when_asked(scored: Trained) -> None:
    model = make(scored)
    with pytest.raises(InputError, match=r"model exists; choose another --name, or replace a model with --overwrite"):
        make(scored)
    make(scored, overwrite=True, fold=2)
    assert model.read_manifest()["fold"] == 2
    (scored.output.parent / "models" / "mine").mkdir()
    with pytest.raises(InputError, match=r"mine exists"):
        make(scored, "mine", overwrite=True)


def test_a_fold_that_is_not_there_and_weights_that_are_too_large(
    scored: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"--fold 7: tiny-run has finished 0, 1, 2; choose one of these"):
        make(scored, fold=7)
    monkeypatch.setattr(releases, "MAX_WEIGHTS_BYTES", 9000)
    with pytest.raises(InputError, match=r"the weights take 0.0 MB, at most 0; release a network with a smaller"):
        make(scored)
    assert not (scored.output.parent / "models" / "model").exists()


@pytest.mark.parametrize("name", ["weights.safetensors", "config.yaml", "provenance.json"])
def test_a_changed_file_is_refused(scored: Trained, name: str) -> None:
    path = make(scored).path / name
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"{name} has the sha256 \w{{12}}…, and .*model.json says .*fetch the model"):
        saltseg.load(path.parent)
    path.unlink()
    with pytest.raises(InputError, match=rf"{name} cannot be read .*; fetch the model again"):
        saltseg.load(path.parent)


def test_a_manifest_names_no_file_elsewhere(scored: Trained) -> None:
    model = make(scored)
    manifest = json.loads(model.manifest.read_text())
    io.write_json(model.manifest, manifest | {"files": {"../x": "0" * 64}})
    with pytest.raises(InputError, match=r"model.json: files"):
        saltseg.load(model.path)
    io.write_json(model.manifest, manifest | {"weights": ["other.safetensors"]})
    with pytest.raises(InputError, match=r"weights or configuration without a hash: \['other.safetensors'\]; fetch"):
        saltseg.load(model.path)


# ---------------------------------------------------------------- by name


def test_names_are_runs_models_and_paths(scored: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(scored)
    monkeypatch.setattr(releases, "models_dir", lambda: model.path.parent)
    assert releases.find("model", scored.output) == model
    assert releases.find("tiny-run", scored.output) == scored.run
    assert releases.find(str(scored.run.path), scored.output) == scored.run
    monkeypatch.chdir(model.path.parent)
    assert releases.find("./model", scored.output).path.resolve() == model.path
    for name, message in (
        ("modle", r"unknown run or model 'modle'; did you mean model\?"),
        ("./other", r"other holds neither a model.json nor the files of a run; check the path"),
    ):
        with pytest.raises(InputError, match=message):
            releases.find(name, scored.output)
    scored.run.path.rename(scored.run.path.with_name("model"))
    with pytest.raises(InputError, match=r"model is a run and a model; give a path"):
        releases.find("model", scored.output)
    monkeypatch.setattr(releases, "models_dir", lambda: None)
    with pytest.raises(InputError, match=r"no run or model called 'x'; train one .*, or give the path of a model's"):
        releases.find("x", scored.output / "empty")


def test_the_verbs(scored: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    folder = scored.output.parent / "models"
    where = ["--input", str(scored.input), "--output", str(scored.output)]
    words = ["release", "tiny-run", "--name", "m", "--license", TERMS, "--to", str(folder), *where]
    assert in_process.call(*words) == 0
    out = capsys.readouterr().out
    assert "half precision changes the score by -0.7500 (-1.0000 to -0.2500, paired)" in out
    assert out.endswith(f"next: git add {folder / 'm'}\n")
    model, images = str(folder / "m"), scored.input / "mine" / "train" / "images"
    assert in_process.call("predict", model, *where) == 2
    assert "is a model, which has no folds to collate; name images or a survey" in capsys.readouterr().err
    images.mkdir(parents=True)
    for name, rows in (("e0", 0), ("e1", 101)):
        tile = np.random.default_rng(rows).integers(0, 256, (101, 101), dtype=np.uint8)
        (images / f"{name}.png").write_bytes(cv2.imencode(".png", tile)[1].tobytes())
    assert in_process.call("predict", model, str(images), *where) == 0
    assert f"note: m: {TERMS}" in capsys.readouterr().out
    assert (scored.output / "predictions" / "m" / "images" / "masks.csv").is_file()
    write_table(images.parents[1] / "train.csv", [["id", "rle_mask"], ["e0", ""], ["e1", rle.encode(salt(101))]])
    assert in_process.call("evaluate", model, "--data", "mine", *where) == 0
    scores = json.loads((scored.output / "predictions" / "m" / "on_mine.json").read_text())
    assert (scores["run"], scores["score_postprocessed"], scores["compared_with_training"]) == ("m", 0.5, True)


def test_a_model_is_not_scored_on_what_it_was_trained_on(scored: Trained) -> None:
    model = make(scored)
    with pytest.raises(InputError, match=r"model was trained on tiny; its score there is in .*README.md"):
        evaluate.evaluate(model, scored.workspace, "tiny")
    (scored.input / "copy").symlink_to(scored.root)
    with pytest.raises(InputError, match=r"model was trained on copy"):
        evaluate.evaluate(model, scored.workspace, "copy")


# ---------------------------------------------------------------- half precision


def test_convolutions_are_halved_and_all_else_stays(tmp_path: Path) -> None:
    settings = config.change(config.Config(), {"model.architecture": "unet", "model.filters": 2})
    settings = config.change(settings, {"model.extra_channels": ["row"]})
    network = zoo.build(settings.model)
    assert isinstance(network, SaltNetwork)
    network.number_rows(torch.linspace(-1.1, 1.1, 128))
    half_precision.write(tmp_path / "w.safetensors", network)
    before, after = network.state_dict(), half_precision.read(settings, tmp_path / "w.safetensors").state_dict()
    assert before.keys() == after.keys()
    assert "row" in after
    for name, tensor in before.items():
        expected = tensor.half().float() if tensor.ndim == 4 else tensor
        assert after[name].dtype == tensor.dtype
        assert torch.equal(after[name], expected), name
    with pytest.raises(InputError, match=r"does not fit the network of its config.yaml .*; fetch it again"):
        half_precision.read(config.change(settings, {"model.filters": 4}), tmp_path / "w.safetensors")
    with torch.no_grad():
        next(tensor for tensor in network.parameters() if tensor.ndim == 4).fill_(1e6)
    with pytest.raises(InputError, match=r"holds a weight that float16 cannot"):
        half_precision.write(tmp_path / "w.safetensors", network)

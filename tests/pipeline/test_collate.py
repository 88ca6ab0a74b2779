"""Folds are collated by id and one to one; what is missing is predicted from the fold's own checkpoint."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import FOLDS, ROWS, TEST, TRAIN, Trained, checkpoint, make_predictions, metrics, salt

from saltseg import io, predictions
from saltseg.data import competition
from saltseg.errors import InputError
from saltseg.inference import predict
from saltseg.models import checkpoints
from saltseg.pipeline import collate, submit, tune, workspace
from saltseg.pipeline import trained as released


def test_predict_collates_every_id_once_and_averages_the_test_images(trained: Trained) -> None:
    assert collate.collate_run(trained.run, trained.workspace) == (3, 3)
    oof, test = predictions.load_predictions(trained.run.oof), predictions.load_predictions(trained.run.test)
    assert oof.fold is not None
    assert sorted(oof.ids.tolist()) == sorted(TRAIN)
    for id_, fold, pixels in zip(oof.ids.tolist(), oof.fold.tolist(), oof.probabilities, strict=True):
        assert fold == int(id_[1])
        assert np.array_equal(pixels, 20 + 180 * salt(ROWS[id_]))
    assert sorted(test.ids.tolist()) == sorted(TEST)
    for id_, pixels in zip(test.ids.tolist(), test.probabilities, strict=True):
        assert np.array_equal(pixels, 150 * salt(int(id_[1]) + 1))  # (100 + 150 + 200) / 3


def test_predict_takes_what_is_finished(trained: Trained) -> None:
    trained.run.fold(2).metrics.unlink()
    assert collate.collate_run(trained.run, trained.workspace) == (2, 3)
    oof, test = predictions.load_predictions(trained.run.oof), predictions.load_predictions(trained.run.test)
    assert sorted(oof.ids.tolist()) == sorted(id_ for id_ in TRAIN if id_[1] != "2")
    assert test.select(("t0",)).max() == 125  # (100 + 150) / 2
    for number in (0, 1):
        trained.run.fold(number).metrics.unlink()
    with pytest.raises(InputError, match=r"run 'tiny-run' has no finished fold; continue it with saltseg train"):
        collate.collate_run(trained.run, trained.workspace)


FIRST = tuple(id_ for id_ in TRAIN if id_.endswith("0"))


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (FIRST[:-1], r"differ in 1 ids, the first 'd0'; delete the fold's oof.npz and predict again"),
        ((*FIRST, "foreign"), r"differ in 1 ids, the first 'foreign'"),
        ((*FIRST[:-1], "foreign"), r"differ in 2 ids, the first 'd0'"),
        ((*FIRST, "b1"), r"hold id .*b1.* more than once"),
    ],
    ids=["missing", "foreign", "exchanged", "in two folds"],
)
def test_out_of_fold_predictions_that_do_not_fit_are_refused(
    ids: tuple[str, ...], message: str, trained: Trained
) -> None:
    predictions.save_predictions(trained.run.fold(0).oof, make_predictions(ids, lambda _: salt(3)))
    with pytest.raises(InputError, match=message):
        collate.collate_run(trained.run, trained.workspace)
    assert not trained.run.oof.exists()


def test_predictions_of_another_folds_images_are_refused(trained: Trained) -> None:
    """Swapped, they are no longer out of fold: each network has trained on the other's images."""
    zero, one = trained.run.fold(0).oof, trained.run.fold(1).oof
    content = zero.read_bytes()
    zero.write_bytes(one.read_bytes())
    one.write_bytes(content)
    with pytest.raises(InputError, match="fold"):
        collate.collate_run(trained.run, trained.workspace)


def test_folds_that_predicted_other_test_images_are_refused(trained: Trained) -> None:
    predictions.save_predictions(trained.run.fold(1).test, make_predictions(TEST[:-1], lambda _: salt(3)))
    with pytest.raises(InputError, match=r"predictions to average differ in 1 ids, the first 't3'"):
        collate.collate_run(trained.run, trained.workspace)


@pytest.mark.parametrize("step", [collate.collate_run, tune.tune_run, submit.write_submission])
def test_a_changed_dataset_is_refused_by_every_step(step: Callable[..., object], trained: Trained) -> None:
    collate.collate_run(trained.run, trained.workspace)
    tune.tune_run(trained.run, trained.workspace)
    image = trained.root / "train" / "images" / "a0.png"
    image.write_bytes(image.read_bytes() + b"\0")
    with pytest.raises(InputError, match=r"tiny has changed since tiny-run was trained on it; restore it or"):
        step(trained.run, trained.workspace)


def test_what_has_changed_in_the_dataset_is_named(trained: Trained) -> None:
    io.write_json_lines(trained.run.dataset, competition.manifest(trained.root))
    assert trained.workspace.root(trained.run) == trained.root
    (trained.root / ".DS_Store").touch()
    assert trained.workspace.root(trained.run) == trained.root  # nothing that is read
    image, table = trained.root / "train" / "images" / "b1.png", trained.root / "train.csv"
    pixels, text = image.read_bytes(), table.read_text()
    image.write_bytes(pixels + b"\0")
    size = len(pixels)
    message = (
        rf"tiny has changed since tiny-run was trained on it \(train/images/b1.png: {size} bytes, now {size + 1} b"
    )
    with pytest.raises(InputError, match=message):
        trained.workspace.root(trained.run)
    image.write_bytes(pixels)
    table.write_text(text.replace("10201", "10200"))  # the masks of the full tiles, d0 to d2
    with pytest.raises(InputError, match=r"\(train.csv, row d0: sha256 \w+, now sha256 \w+; train.csv, row d1: .*\)"):
        trained.workspace.root(trained.run)
    table.write_text(text.replace("\na", "\ne"))  # all ids and rows of section a, and their images
    for number in range(3):
        (trained.root / "train" / "images" / f"a{number}.png").rename(trained.root / f"train/images/e{number}.png")
    with pytest.raises(InputError, match=r" and \d+ more\); restore it or train a new run"):
        trained.workspace.root(trained.run)


def test_changed_folds_are_refused(trained: Trained) -> None:
    trained.table.write_text(trained.table.read_text().replace("a0,0", "a0,1"))
    with pytest.raises(InputError, match=r"the folds of tiny have changed since tiny-run was trained"):
        collate.collate_run(trained.run, trained.workspace)


def test_a_missing_dataset_is_named(trained: Trained) -> None:
    with pytest.raises(InputError, match=r"no dataset 'tiny' under .*nowhere"):
        collate.collate_run(trained.run, workspace.Workspace(trained.input / "nowhere", trained.output))


def test_a_missing_prediction_is_made_from_that_folds_checkpoint(trained: Trained) -> None:
    fold = trained.run.fold(1)
    fold.test.unlink()
    checkpoint(trained, 1, 0.6)
    untouched = trained.run.fold(0).oof.read_bytes()
    collate.collate_run(trained.run, trained.workspace)
    oof = predictions.load_predictions(fold.oof)
    assert sorted(oof.ids.tolist()) == ["a1", "b1", "c1", "d1"]
    assert (oof.probabilities == 153).all()  # 0.6 * 255
    test = predictions.load_predictions(trained.run.test)
    assert test.select(("t0",))[0, 0, 0] == 151  # (100 + 153 + 200) / 3
    assert test.select(("t0",))[0, -1, 0] == 51  # (0 + 153 + 0) / 3
    assert trained.run.fold(0).oof.read_bytes() == untouched


class Brightness(torch.nn.Module):
    """Salt probability of a pixel = its gray value, times a slope, plus an offset."""

    def __init__(self, slope: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        self.slope, self.offset = (torch.nn.Parameter(torch.tensor(value)) for value in (slope, offset))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return torch.logit(self.slope * image + self.offset, eps=1e-6)


def test_each_id_is_predicted_from_its_own_image(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: Brightness())
    trained.run.fold(1).oof.unlink()
    collate.collate_run(trained.run, trained.workspace)
    for ids, path in ((TRAIN, trained.run.fold(1).oof), (TEST, trained.run.fold(1).test)):
        found = predictions.load_predictions(path)
        wanted = [id_ for id_ in ids if path.stem == "test" or id_.endswith("1")]
        assert sorted(found.ids.tolist()) == wanted
        for id_ in wanted:
            assert (found.select((id_,)) == 10 * ids.index(id_)).all()  # tile number k is the constant 10 k


def test_other_views_predict_every_fold_anew(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    says = {"fold_0": 0.2, "fold_1": 0.4, "fold_2": 0.8}
    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: Brightness(0.0, says[path.parent.name]))
    collate.collate_run(trained.run, trained.workspace, ("identity", "hflip"))
    oof = predictions.load_predictions(trained.run.oof)
    assert {(id_[1], *np.unique(p)) for id_, p in zip(oof.ids.tolist(), oof.probabilities, strict=True)} == {
        ("0", 51), ("1", 102), ("2", 204),
    }  # fmt: skip
    assert (predictions.load_predictions(trained.run.test).probabilities == 119).all()
    figures = [io.read_json(trained.run.fold(number).metrics) for number in range(FOLDS)]
    assert [entry["tta"] for entry in figures] == [["identity", "hflip"]] * 3
    assert released.settings_of(trained.run, None).predict.tta == ("identity", "hflip")  # those that were scored
    # One tile of four is empty, one full: salt nowhere scores the first, salt everywhere the second.
    assert [entry["score_at_half"] for entry in figures] == [0.25, 0.25, 0.25]
    # 0, 20, 40 and 101 of 101 rows hold salt: 0.6015 of the pixels have none. The networks trained on the same rows.
    for entry in figures:
        salt_everywhere = entry["fold"] == 2
        wanted = 161 / 404 if salt_everywhere else 243 / 404
        assert entry["valid_pixel_accuracy"] == pytest.approx(wanted)
        assert entry["train_pixel_accuracy"] == pytest.approx(wanted)
        assert entry["train_score_at_half"] == 0.25
        sample = predictions.load_predictions(trained.run.fold(entry["fold"]).train)
        assert sorted(sample.ids.tolist()) == [id_ for id_ in TRAIN if int(id_[1]) != entry["fold"]]


def test_folds_of_different_views_are_not_mixed(trained: Trained) -> None:
    io.write_json(trained.run.fold(1).metrics, metrics(1, tta=["hflip"]))
    with pytest.raises(InputError, match=r"tiny-run were predicted with different views; .*--tta identity$"):
        released.settings_of(trained.run, None)
    with pytest.raises(InputError, match=r"tiny-run were predicted with different views; .*--tta identity$"):
        collate.collate_run(trained.run, trained.workspace)


@pytest.mark.parametrize("fatal", range(1, 11))
def test_a_prediction_that_is_killed_goes_on_with_its_views(
    fatal: int, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the ``fatal``-th file of ten is written: marks and metrics of three folds, four of the run."""
    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: Brightness())
    views, left = ("identity", "hflip"), fatal
    collate.collate_run(trained.run, trained.workspace)
    write, saved, predicted = io.write_json, predictions.save_predictions, []

    def killed(by: Callable[..., None]) -> Callable[..., None]:
        def write_or_die(path: Path, value: object) -> None:
            nonlocal left
            left -= path.suffix == ".json" or path.parent == trained.run.path
            if not left:
                raise KeyboardInterrupt
            by(path, value)

        return write_or_die

    with monkeypatch.context() as patch:
        patch.setattr(io, "write_json", killed(write))
        patch.setattr(predictions, "save_predictions", killed(saved))
        with pytest.raises(KeyboardInterrupt):  # of late kills in the second call, which has two more writes
            [collate.collate_run(trained.run, trained.workspace, asked) for asked in (views, None)]
    real = predict.predictions
    monkeypatch.setattr(predict, "predictions", lambda *a, **k: predicted.append(k["tta"]) or real(*a, **k))
    assert collate.collate_run(trained.run, trained.workspace) == (3, 3)
    numbers = [io.read_json(trained.run.fold(number).metrics) for number in range(FOLDS)]
    new = fatal > 1
    assert [entry["tta"] for entry in numbers] == [list(views) if new else ["identity"]] * 3
    assert not any("tta_begun" in entry for entry in numbers)
    folds_left = 3 - max(0, min(3, fatal - 4)) if new else 0
    assert predicted.count(views) == 3 * folds_left  # validation, training sample and test images
    oof = predictions.load_predictions(trained.run.oof)
    expected = 10 * np.array([TRAIN.index(id_) for id_ in oof.ids.tolist()])
    assert not new or np.array_equal(oof.probabilities[:, 0, 0], expected)


def test_a_prediction_marked_as_begun_by_an_older_version_goes_on(
    trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "load_network", lambda settings, path: Brightness())
    io.write_json(trained.run.fold(1).metrics, metrics(1, tta=[]))
    assert collate.collate_run(trained.run, trained.workspace) == (3, 3)
    assert io.read_json(trained.run.fold(1).metrics)["tta"] == ["identity"]


def test_without_its_checkpoints_a_run_keeps_its_predictions(trained: Trained) -> None:
    with pytest.raises(InputError, match=r"no checkpoint at .*fold_0/network.ckpt"):
        collate.collate_run(trained.run, trained.workspace, ("hflip",))
    assert collate.collate_run(trained.run, trained.workspace) == (3, 3)


def test_a_misspelt_view_is_refused_before_anything_happens(
    trained: Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint(trained, 0, 0.5)
    with pytest.raises(InputError, match=r"predict.tta is 'hflp'; choose one of identity, hflip"):
        collate.collate_run(trained.run, trained.workspace, ("hflp",))
    assert capsys.readouterr().err == ""  # one line on standard error: the script's own


def test_without_a_checkpoint_there_is_nothing_to_predict_with(trained: Trained) -> None:
    trained.run.fold(1).oof.unlink()
    with pytest.raises(InputError, match=r"no checkpoint at .*fold_1/network.ckpt; train the fold first"):
        collate.collate_run(trained.run, trained.workspace)

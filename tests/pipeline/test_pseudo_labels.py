"""Pseudo-labels: whose they are, which are used, and what is refused because it would leak."""

import shutil

import in_process
import numpy as np
import pytest
import tiny_run
from loose_tiles import folder, noise
from tiny_run import Trained

from saltseg import config, io, predictions, runs
from saltseg.config import PseudoLabels
from saltseg.data import unlabeled
from saltseg.errors import InputError
from saltseg.pipeline import pseudo_labeling
from saltseg.training import pseudo_labels

TEACH = PseudoLabels(teacher="tiny-run")
NONE = np.zeros((0, 101, 101), np.uint8)


def taught(trained: Trained, images: np.ndarray, probabilities: np.ndarray, number: int = 1) -> runs.RunDir:
    """The run with labels of these images for one fold, as `pseudo_labeling.label` leaves them."""
    path = folder(trained.output, images)
    read = unlabeled.read(path)
    record = {"folder": str(path), "n": len(images), "hash": unlabeled.fingerprint(read)}
    io.write_json(trained.run.pseudo, record)
    stored = predictions.Predictions(np.array([f"u{k}" for k in range(len(images))][::-1]), probabilities[::-1])
    predictions.save_predictions(trained.run.fold(number).pseudo, stored)
    sign(trained.run)
    return trained.run


def sign(run: runs.RunDir) -> None:
    """Have pseudo.json tell of the labels that are there."""
    record = io.read_json(run.pseudo)
    there = [fold for fold in run.finished_folds() if fold.pseudo.is_file()]
    record["checksums"] = {
        str(fold.number): pseudo_labels.checksum(fold.number, record["hash"], predictions.load_predictions(fold.pseudo))
        for fold in there
    }
    io.write_json(run.pseudo, record)


def test_every_fold_labels_with_its_own_network_alone(trained: Trained) -> None:
    for number, probability in enumerate((0.2, 0.6, 0.9)):
        tiny_run.checkpoint(trained, number, probability)
    path = folder(trained.output, noise(3))
    assert pseudo_labeling.label(trained.run, path) == 3
    for number, probability in enumerate((0.2, 0.6, 0.9)):
        found = predictions.load_predictions(trained.run.fold(number).pseudo)
        assert found.ids.tolist() == ["u0", "u1", "u2"]
        assert np.unique(found.probabilities).tolist() == [round(255 * probability)]
    tiny_run.checkpoint(trained, 1, 0.3)
    pseudo_labeling.label(trained.run, path)  # labeled already: nothing is done again
    assert predictions.load_predictions(trained.run.fold(1).pseudo).probabilities.max() == round(255 * 0.6)
    moved = path.rename(trained.output / "moved")
    pseudo_labeling.label(trained.run, moved)
    assert len(pseudo_labels.of_fold([trained.run], 1, TEACH, NONE, NONE).ids) == 3
    folder(trained.output, noise(3, seed=1))
    with pytest.raises(InputError, match=r"tiny-run has labeled other images; remove .*pseudo.json"):
        pseudo_labeling.label(trained.run, path)
    with trained.run.locked(), pytest.raises(InputError, match="tiny-run is being written by another process"):
        pseudo_labeling.label(trained.run, moved)


def test_one_fold_labels_where_others_have_no_weights(trained: Trained, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_run.checkpoint(trained, 1, 0.6)
    words = ("pseudo-label", "tiny-run", "--images", folder(trained.output, noise(3)), "--output", trained.output)
    assert in_process.call(*map(str, words), "--folds", "1") == 0
    printed = capsys.readouterr().out
    assert "3 tiles labeled by each of 1 folds" in printed
    assert "--folds 1 --set pseudo.teacher=tiny-run" in printed
    assert [fold.number for fold in pseudo_labeling.labeled_folds(trained.run)] == [1]
    assert in_process.call(*map(str, words), "--folds", "1,7") == 2
    assert "error: fold 7 of tiny-run is not finished" in capsys.readouterr().err
    assert in_process.call(*map(str, words)) == 2
    assert "error: no checkpoint at" in capsys.readouterr().err


def test_labels_are_joined_by_id_and_hard_or_soft(trained: Trained) -> None:
    images = noise(2)
    probabilities = np.stack([np.full((101, 101), 127), np.full((101, 101), 128)]).astype(np.uint8)
    run = taught(trained, images, probabilities)  # stored in the opposite order
    hard = pseudo_labels.of_fold([run], 1, TEACH, NONE, NONE)
    assert hard.ids == ("u0", "u1")
    assert np.array_equal(hard.images, images)
    assert [np.unique(mask).tolist() for mask in hard.masks] == [[0], [1]]
    soft = pseudo_labels.of_fold([run], 1, PseudoLabels(teacher="tiny-run", labels="soft"), NONE, NONE)
    assert [np.unique(mask).tolist() for mask in soft.masks] == [[127], [128]]


def test_labels_of_all_folds_are_their_mean_joined_by_id_and_no_fold_may_lack(trained: Trained) -> None:
    first, second = np.full((101, 101), 90), np.full((101, 101), 200)
    for number, (one, other) in enumerate(((first, second), (second, first), (second, first + 1))):
        run = taught(trained, noise(2), np.stack([one, other]).astype(np.uint8), number)
    in_order = predictions.load_predictions(run.fold(2).pseudo)
    predictions.save_predictions(
        run.fold(2).pseudo, predictions.Predictions(in_order.ids[::-1], in_order.probabilities[::-1])
    )
    sign(run)
    every = PseudoLabels(teacher="tiny-run", all_folds=True, labels="soft")
    for number in (0, 2):  # each fold learns the same: (90 + 200 + 200) / 3 and (200 + 90 + 91) / 3
        found = pseudo_labels.of_fold([run], number, every, NONE, NONE, [0, 1, 2])
        assert [(id_, *np.unique(mask)) for id_, mask in zip(found.ids, found.masks, strict=True)] == [
            ("u0", 163), ("u1", 127),
        ]  # fmt: skip
    alone = pseudo_labels.of_fold([run], 0, PseudoLabels(teacher="tiny-run", labels="soft"), NONE, NONE, [0, 1, 2])
    assert [np.unique(mask).tolist() for mask in alone.masks] == [[90], [200]]
    run.fold(2).pseudo.unlink()
    with pytest.raises(InputError, match=r"tiny-run has labeled no images for fold 2; run saltseg pseudo-label"):
        pseudo_labels.of_fold([run], 0, every, NONE, NONE, [0, 1, 2])
    with pytest.raises(InputError, match=r"tiny-run has not finished fold 3; train it first"):
        pseudo_labels.of_fold([run], 0, every, NONE, NONE, [0, 1, 3])


def test_only_the_first_images_by_name_are_labeled_and_trained_on(trained: Trained) -> None:
    for number in range(3):
        tiny_run.checkpoint(trained, number, 0.9)
    images = noise(4)
    path = folder(trained.output, images)
    assert pseudo_labeling.label(trained.run, path, limit=2) == 2
    assert predictions.load_predictions(trained.run.fold(1).pseudo).ids.tolist() == ["u0", "u1"]
    (path / "u3.png").unlink()  # beyond the limit, so of no concern
    found = pseudo_labels.of_fold([trained.run], 1, TEACH, NONE, NONE)
    assert found.ids == ("u0", "u1")
    assert np.array_equal(found.images, images[:2])
    with pytest.raises(InputError, match=r"tiny-run has labeled other images; remove .*pseudo.json"):
        pseudo_labeling.label(trained.run, path, limit=3)
    (path / "a.png").write_bytes((path / "u2.png").read_bytes())  # now among the first two
    with pytest.raises(InputError, match=r"unlabeled has changed since tiny-run labeled it"):
        pseudo_labels.of_fold([trained.run], 1, TEACH, NONE, NONE)


def test_the_most_confident_images_are_used_in_their_order(trained: Trained) -> None:
    values = (255, 0, 128, 230)  # mean |2p - 1|: 1, 1, 0.004, 0.804
    probabilities = np.stack([np.full((101, 101), value) for value in values]).astype(np.uint8)
    run = taught(trained, noise(4), probabilities)
    for share, kept in ((0.0, "0123"), (0.25, "013"), (0.5, "01"), (0.99, "0")):
        found = pseudo_labels.of_fold([run], 1, PseudoLabels(teacher="tiny-run", drop_fraction=share), NONE, NONE)
        assert found.ids == tuple(f"u{k}" for k in kept)


def test_a_validation_or_test_image_under_another_name_is_left_out(trained: Trained) -> None:
    images = noise(4)
    images[3] = 0  # a constant tile, as there are many
    run = taught(trained, images, np.zeros((4, 101, 101), np.uint8))
    labeled, test = np.stack([images[1], images[3]]), images[2:3]
    assert pseudo_labels.of_fold([run], 1, TEACH, labeled, test).ids == ("u0", "u3")
    allowed = PseudoLabels(teacher="tiny-run", transduction=True)
    assert pseudo_labels.of_fold([run], 1, allowed, labeled, test).ids == ("u0", "u2", "u3")


def test_labels_of_other_images_than_those_in_the_folder_are_refused(trained: Trained) -> None:
    run = taught(trained, noise(2), np.zeros((2, 101, 101), np.uint8))
    folder(trained.output, noise(2, seed=1))
    with pytest.raises(InputError, match=r"unlabeled has changed since tiny-run labeled it"):
        pseudo_labels.of_fold([run], 1, TEACH, NONE, NONE)


@pytest.mark.parametrize(("key", "what"), [("folds_hash", "folds"), ("dataset_hash", "data")])
def test_a_teacher_of_other_folds_or_data_would_leak_and_is_refused(trained: Trained, key: str, what: str) -> None:
    facts = trained.run.read_provenance()
    assert pseudo_labels.find_teachers(trained.output, "tiny-run", facts) == [trained.run]
    with pytest.raises(
        InputError, match=rf"tiny-run was trained on other {what}: its training images may hold this run's"
    ):
        pseudo_labels.find_teachers(trained.output, "tiny-run", facts | {key: "another"})
    with pytest.raises(InputError, match="did you mean tiny-run"):
        pseudo_labels.find_teachers(trained.output, "tiny-rum", facts)


def test_a_fold_that_has_labeled_nothing_or_is_not_finished_says_so(trained: Trained) -> None:
    with pytest.raises(InputError, match=r"labeled no images for fold 1; run saltseg pseudo-label tiny-run"):
        pseudo_labels.of_fold([trained.run], 1, TEACH, NONE, NONE)
    with pytest.raises(InputError, match=r"tiny-run has not finished fold 7; train it first"):
        pseudo_labels.of_fold([trained.run], 7, TEACH, NONE, NONE)


def test_labels_that_the_fold_did_not_give_are_refused_and_made_anew(trained: Trained) -> None:
    """Copied from another fold (whose network saw what validates here), edited, or of other images of the same name."""
    for number, probability in enumerate((0.2, 0.6, 0.9)):
        tiny_run.checkpoint(trained, number, probability)
    path, files = folder(trained.output, noise(3)), [trained.run.fold(k).pseudo for k in range(3)]
    pseudo_labeling.label(trained.run, path)
    own = pseudo_labels.of_fold([trained.run], 1, TEACH, NONE, NONE)
    assert own.checksums == (io.read_json(trained.run.pseudo)["checksums"]["1"],)
    files[1].write_bytes(files[0].read_bytes())
    message = r"fold_1/pseudo.npz is not what fold 1 of tiny-run predicted, .*; run saltseg pseudo-label tiny-run again"
    with pytest.raises(InputError, match=message):
        pseudo_labels.of_fold([trained.run], 1, TEACH, NONE, NONE)
    pseudo_labeling.label(trained.run, path)
    assert pseudo_labels.of_fold([trained.run], 1, TEACH, NONE, NONE).checksums == own.checksums
    found = predictions.load_predictions(files[1])
    found.probabilities[2, 50, 50] ^= 1
    predictions.save_predictions(files[1], found)
    with pytest.raises(InputError, match=message):
        pseudo_labels.of_fold([trained.run], 1, TEACH, NONE, NONE)
    assert pseudo_labels.of_fold([trained.run], 0, TEACH, NONE, NONE).ids == own.ids
    trained.run.pseudo.unlink()
    for number in range(3):
        tiny_run.checkpoint(trained, number, 0.4)
    pseudo_labeling.label(trained.run, folder(trained.output, noise(3, seed=1)))
    assert [predictions.load_predictions(file).probabilities.max() for file in files] == [round(255 * 0.4)] * 3


def test_the_same_fold_of_every_member_of_a_blend_teaches(trained: Trained) -> None:
    first, other = trained.run, runs.run_dir(trained.output, "other-run")
    blend = runs.RunDir(trained.output / "blends" / "both")
    shutil.copytree(first.path, other.path)
    io.write_json(blend.provenance, first.read_provenance() | {"members": ["tiny-run", "other-run"]})
    images, facts = noise(2), first.read_provenance()
    taught(trained, images, np.full((2, 101, 101), 100, np.uint8))
    shutil.copy(first.pseudo, other.pseudo)
    labels = predictions.Predictions(np.array(["u0", "u1"]), np.full((2, 101, 101), 221, np.uint8))
    predictions.save_predictions(other.fold(1).pseudo, labels)
    sign(other)
    members = pseudo_labels.find_teachers(trained.output, "both", facts)
    assert members == [first, other]
    found = pseudo_labels.of_fold(members, 1, PseudoLabels(teacher="both", labels="soft"), NONE, NONE)
    assert np.unique(found.masks).tolist() == [161]  # the mean, halves go up
    assert len(set(found.checksums)) == 2
    folder(trained.output, images[:1])
    with pytest.raises(InputError, match=r"unlabeled has changed since tiny-run labeled it, or that labeled another"):
        pseudo_labels.of_fold(members, 1, TEACH, NONE, NONE)
    io.write_json(other.provenance, facts | {"folds_hash": "another"})
    with pytest.raises(InputError, match="other-run was trained on other folds"):
        pseudo_labels.find_teachers(trained.output, "both", facts)


@pytest.mark.parametrize("loss", ["symmetric_lovasz", "bce + 0.5*lovasz", "focal"])
def test_no_lovasz_or_focal_loss_takes_soft_labels(loss: str) -> None:
    soft = {"pseudo.teacher": "t", "pseudo.labels": "soft"}
    with pytest.raises(InputError, match=r"pseudo.labels is 'soft'; it must be hard with a Lovász or the focal loss"):
        config.change(config.Config(), {"train.loss": loss, **soft})
    config.change(config.Config(), {"train.loss": "bce", "train.second_loss": "lovasz", **soft})  # which is never used
    config.change(config.Config(), {"train.loss": loss, "pseudo.teacher": "t"})


def test_the_share_without_salt_is_counted_in_all_tiles_and_in_the_most_confident_half(trained: Trained) -> None:
    values = np.array([[0, 60, 140, 200], [255, 200, 1, 30], [120, 0, 10, 130]])  # no salt: 2, 2 and 3 of 4
    for number, row in enumerate(values):
        run = taught(trained, noise(4), np.repeat(row, 101 * 101).reshape(4, 101, 101).astype(np.uint8), number)
    everything, half = pseudo_labeling.empty_shares(run)
    assert everything == pytest.approx(7 / 12)
    assert half == pytest.approx((1 / 2 + 1 / 2 + 2 / 2) / 3)  # of 0 and 200, of 255 and 1, of 0 and 10

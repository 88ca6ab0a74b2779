"""Training on what a teacher has labeled, and from its weights."""

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import tiny_fold
import torch
from torch import Tensor
from torch.optim.swa_utils import AveragedModel

from saltseg import config, experiments, io, runs
from saltseg.data import competition, unlabeled
from saltseg.data.dataset import UNLABELED
from saltseg.errors import InputError
from saltseg.models.salt_network import Outputs
from saltseg.pipeline import pseudo_labeling
from saltseg.synthetic.dataset import write_dataset
from saltseg.training import fold, pseudo_labels, run_training
from saltseg.training.callbacks import Averaging
from saltseg.training.module import SaltModule
from saltseg.training.pseudo_labels import PseudoLabeledImages
from saltseg.training.run_training import TrainingJob

SETTINGS = (
    "data.size=32", "data.resize_mode=resize", "model.filters=2", "folds.count=2", "train.epochs=2",
    "train.batch_size=8", "train.checkpoint=last", "train.schedule=cosine", "train.precision=32",
)  # fmt: skip


def labeled_by_a_teacher(count: int, value: int) -> PseudoLabeledImages:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (count, 101, 101), dtype=np.uint8)
    return PseudoLabeledImages(tuple(f"u{k}" for k in range(count)), images, np.full_like(images, value))


@pytest.mark.parametrize(
    ("share", "labels", "count", "shown"),
    [
        (0.5, "hard", 100, 20),
        (0.75, "hard", 100, 60),
        (0.75, "hard", 30, 30),  # no more than there are
        (1.0, "hard", 100, 20),
        (0.5, "soft", 50, 20),
    ],
)
def test_an_epoch_shows_every_labeled_image_and_its_share_of_others(
    share: float, labels: str, count: int, shown: int
) -> None:
    """20 labeled tiles; the teacher's masks are salt everywhere (hard) or 0.4 everywhere (soft)."""
    settings = tiny_fold.settings(f"pseudo.share={share}", f"pseudo.labels={labels}", "pseudo.teacher=t")
    data, teacher = tiny_fold.data().train, labeled_by_a_teacher(count, 1 if labels == "hard" else 102)
    masks = torch.cat([mask for _, mask in fold.batches(settings, data, 0, learning=True, pseudo=teacher)])
    others = ((masks - (1.0 if labels == "hard" else 0.4)).abs() < 1e-6).flatten(1).all(dim=1)
    assert (int(others.sum()), len(masks)) == (shown, shown + (0 if share == 1 else 20))
    own = masks[~others].mean(dim=(1, 2, 3)).sort().values
    if share < 1:
        alone = torch.cat([mask for _, mask in fold.batches(settings, data, 0, learning=False)])
        assert torch.allclose(own, alone.mean(dim=(1, 2, 3)).sort().values, atol=0.02)  # soft: no rounding to {0, 1}


def test_an_interrupted_student_ends_with_the_same_weights(tmp_path: Path) -> None:
    settings = tiny_fold.settings(
        "pseudo.teacher=t", "train.epochs=3", "train.checkpoint=last", "train.schedule=constant"
    )
    data = replace(tiny_fold.data(), pseudo=labeled_by_a_teacher(50, 1))
    unbroken, broken = runs.FoldDir(tmp_path / "fold_0"), runs.FoldDir(tmp_path / "fold_1")
    fold.run(settings, data, unbroken, "whole")
    with tiny_fold.breaking_off(stop_at=7), pytest.raises(tiny_fold.Interrupted):  # 40 tiles: five steps an epoch
        fold.run(settings, data, broken, "broken")
    with pytest.raises(InputError, match=r"^broken was begun with other labels than its teacher gives now; remove"):
        fold.run(settings, replace(data, pseudo=labeled_by_a_teacher(50, 0)), broken, "broken")
    fold.run(settings, data, broken, "broken")
    tiny_fold.assert_equal(tiny_fold.weights(unbroken.network), tiny_fold.weights(broken.network))
    assert io.read_json(broken.metrics)["n_pseudo"] == 50
    alone = runs.FoldDir(tmp_path / "fold_2")
    fold.run(settings, tiny_fold.data(), alone, "alone")
    assert not torch.equal(
        tiny_fold.weights(alone.network)["head.weight"], tiny_fold.weights(unbroken.network)["head.weight"]
    )


OWN = (
    "pseudo.images=u", "train.ema_decay=0.5", "train.epochs=3", "train.checkpoint=last",
    "train.schedule=constant",
)  # fmt: skip


def unknown(count: int) -> PseudoLabeledImages:
    return labeled_by_a_teacher(count, UNLABELED)


@pytest.mark.parametrize("fit", ["resize", "pad"])
def test_an_image_without_a_label_is_marked_as_such_and_no_other(fit: str) -> None:
    settings = tiny_fold.settings(
        *OWN, f"data.resize_mode={fit}", "data.size=112", "data.augment=light", "pseudo.share=0.75"
    )
    masks = torch.cat(
        [mask for _, mask in fold.batches(settings, tiny_fold.data().train, 0, learning=True, pseudo=unknown(90))]
    )
    marked = (masks == UNLABELED).flatten(1)
    assert (int(marked.all(dim=1).sum()), len(masks)) == (60, 80)
    assert torch.equal(marked.all(dim=1), marked.any(dim=1))
    assert set(masks[~marked.all(dim=1)].unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(("labels", "wanted"), [("hard", 1.0), ("soft", 0.75)])
def test_the_average_of_the_weights_labels_what_has_no_label(labels: str, wanted: float) -> None:
    """The average says 0.75 everywhere, whatever the network in training says; labeled masks stay as they are."""
    module = SaltModule(tiny_fold.settings(*OWN, f"pseudo.labels={labels}"), 0, (101, 101))
    averaging = Averaging(module.settings.train)
    module.trainer = SimpleNamespace(callbacks=[averaging])  # type: ignore[assignment]
    averaging._average_model = AveragedModel(copy.deepcopy(module))
    with torch.no_grad():
        averaging.network.head.weight.zero_()
        averaging.network.head.bias.fill_(float(np.log(3)))
    images, masks = torch.rand(3, 1, 32, 32), torch.zeros(3, 1, 32, 32)
    masks[0, :, :9], masks[1] = 1, UNLABELED
    found = module._label(images, masks)
    assert torch.equal(found[[0, 2]], masks[[0, 2]])
    assert torch.allclose(found[1], torch.tensor(wanted))
    assert (masks[1] == UNLABELED).all()  # the batch itself is not written to
    assert module.network.training


def test_the_average_labels_after_a_part_of_the_training_and_its_images_wait_until_then(tmp_path: Path) -> None:
    """Two of four epochs show 20 labeled tiles alone, two also as many others; the number of steps is the same."""
    settings = tiny_fold.settings(*OWN, "train.epochs=4", "pseudo.ramp_up_fraction=0.5")
    learned, loss = list[tuple[int, int, float]](), SaltModule.loss

    def recorded(module: SaltModule, found: Outputs, masks: Tensor) -> Tensor:
        assert len(found.logits) == len(masks)
        learned.append((module.current_epoch, len(masks), float(masks.max())))
        return loss(module, found, masks)

    data = replace(tiny_fold.data(), pseudo=unknown(50))
    with mock.patch.object(SaltModule, "loss", recorded):
        fold.run(settings, data, runs.FoldDir(tmp_path / "fold_0"), "late")
    assert [sum(count for epoch, count, _ in learned if epoch == k) for k in range(4)] == [20, 20, 40, 40]
    assert [sum(epoch == k for epoch, *_ in learned) for k in range(4)] == [5] * 4
    assert max(highest for *_, highest in learned) == 1  # none is UNLABELED


def test_a_batch_with_fewer_than_two_labeled_images_is_labeled_at_any_time() -> None:
    module = SaltModule(tiny_fold.settings(*OWN, "pseudo.ramp_up_fraction=0.5"), 0, (101, 101))
    module.trainer = SimpleNamespace(callbacks=[], current_epoch=0)  # type: ignore[assignment]
    images, masks = torch.rand(3, 1, 32, 32), torch.zeros(3, 1, 32, 32)
    masks[1] = UNLABELED
    shown, found = module._fill_in_pseudo_labels(images, masks)
    assert torch.equal(shown, images[[0, 2]])
    assert torch.equal(found, masks[[0, 2]])
    masks[2] = UNLABELED  # one image alone is too few for batch norm
    with pytest.raises(StopIteration):  # it asks for the average, which is not there
        module._fill_in_pseudo_labels(images, masks)


def test_a_network_that_teaches_itself_ends_with_the_same_weights_when_interrupted(tmp_path: Path) -> None:
    settings = tiny_fold.settings(*OWN)
    data = replace(tiny_fold.data(), pseudo=unknown(50))
    unbroken, broken = runs.FoldDir(tmp_path / "fold_0"), runs.FoldDir(tmp_path / "fold_1")
    learned, loss = list[Tensor](), SaltModule.loss

    def recorded(module: SaltModule, found: Outputs, masks: Tensor) -> Tensor:
        learned.append(masks)
        return loss(module, found, masks)

    with mock.patch.object(SaltModule, "loss", recorded):
        fold.run(settings, data, unbroken, "whole")
    assert sum(len(masks) for masks in learned) == 3 * 40  # epochs of 20 labeled tiles and as many others
    assert set(torch.cat(learned).unique().tolist()) == {0.0, 1.0}  # so none is UNLABELED
    with tiny_fold.breaking_off(stop_at=7), pytest.raises(tiny_fold.Interrupted):
        fold.run(settings, data, broken, "broken")
    fold.run(settings, data, broken, "broken")
    tiny_fold.assert_equal(tiny_fold.weights(unbroken.network), tiny_fold.weights(broken.network))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.ema_decay=0", r"train.ema_decay is 0.0; it must be above 0 with pseudo.images: the average teaches"),
        ("pseudo.drop_fraction=0.5", r"pseudo.images has no drop_fraction; it belongs to pseudo.teacher"),
        ("pseudo.teacher=other", r"pseudo.teacher and pseudo.images exclude each other"),
        ("pseudo.ramp_up_fraction=1", r"pseudo.ramp_up_fraction is 1; it must be below 1"),
        (
            "pseudo.ramp_up_fraction=0.9",
            r"pseudo.ramp_up_fraction is 0.9; it must be at most 1 - 1/3, to leave an epoch",
        ),
        ("pseudo.limit=-1", r"pseudo.limit is -1; it must be at least 0"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(change: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        tiny_fold.settings(*OWN, change)


@pytest.mark.slow
def test_a_run_that_teaches_itself_leaves_known_images_out_and_is_bound_to_its_folder(tmp_path: Path) -> None:
    write_dataset(tmp_path / "input" / "tiny", n_train=24, n_test=4, seed=3)
    extra = tmp_path / "extra"
    write_dataset(tmp_path / "other" / "tiny", n_train=6, n_test=2, seed=4)
    shutil.copytree(tmp_path / "other" / "tiny" / "train" / "images", extra)
    for part in ("train", "test"):
        for image in (tmp_path / "input" / "tiny" / part / "images").iterdir():
            shutil.copy(image, extra / f"again-{image.name}")
    changes = [*SETTINGS, f"pseudo.images={extra}", "train.ema_decay=0.5"]
    settings = config.override(experiments.named("unet"), changes)
    run = runs.run_dir(tmp_path / "output", "own")
    job = TrainingJob(settings, "tiny", run, tmp_path / "input", tmp_path / "output", [0])
    run_training.train_run(job)
    assert io.read_json(run.fold(0).metrics)["n_pseudo"] == 6
    assert (
        unlabeled.mean_teacher_images(replace(settings.pseudo, limit=3)).ids
        == unlabeled.mean_teacher_images(settings.pseudo).ids[:3]
    )
    next(extra.iterdir()).unlink()
    with pytest.raises(InputError, match=r"run 'own' exists and differs \(unlabeled_hash: changed\)"):
        run_training.train_run(replace(job, fold_numbers=[1]))


@pytest.mark.slow
def test_a_student_learns_from_its_teacher_fold_by_fold_and_a_planted_leak_is_refused(tmp_path: Path) -> None:
    write_dataset(tmp_path / "input" / "tiny", n_train=24, n_test=4, seed=3)
    output = tmp_path / "output"

    def train(name: str, *changes: str) -> runs.RunDir:
        settings = config.override(experiments.named("unet"), [*SETTINGS, *changes])
        run = runs.run_dir(output, name)
        run_training.train_run(TrainingJob(settings, "tiny", run, tmp_path / "input", output))
        return run

    teacher = train("teacher")
    with pytest.raises(InputError, match="teacher has labeled no images for folds 0, 1; run saltseg pseudo-label"):
        train("early", "pseudo.teacher=teacher")
    assert not runs.run_dir(output, "early").path.exists()
    pseudo_labeling.label(teacher, tmp_path / "input" / "tiny" / "test" / "images")
    with pytest.raises(InputError, match="all of the images are labeled or test images"):  # they are the test set's
        train("none", "pseudo.teacher=teacher")
    student = train("student", "pseudo.teacher=teacher", "pseudo.transduction=true", "train.init_from=teacher")
    assert [run.read_provenance()["transduction"] for run in (teacher, student)] == [False, True]
    root = tmp_path / "input" / "tiny"
    known = (competition.read_train(root).images, competition.read_test(root).images)
    for number in (0, 1):
        figures = io.read_json(student.fold(number).metrics)
        assert figures["n_pseudo"] == 4
        taught = pseudo_labels.of_fold(
            [teacher], number, config.PseudoLabels(teacher="teacher", transduction=True), *known
        )
        assert figures["pseudo_hash"] == taught.fingerprint()
        assert figures["pseudo_checksums"] == list(taught.checksums)
        others = {"masks": 1 - taught.masks, "images": taught.images[::-1], "ids": taught.ids[::-1]}
        for name, values in others.items():
            assert replace(taught, **{name: values}).fingerprint() != taught.fingerprint()
        assert figures["weights_source"] == f"all weights from teacher, fold {number}"
    # Stopped between two folds, it would learn from two teachers if the first had labeled anew meanwhile.
    finished = student.fold(1).metrics.read_text()
    student.fold(1).metrics.unlink()
    labels = io.read_json(teacher.pseudo)
    io.write_json(teacher.pseudo, labels | {"checksums": labels["checksums"] | {"0": "of labels made anew"}})
    with pytest.raises(
        InputError, match=r"fold 0 of student was trained on other labels than teacher has now; remove "
    ):
        train("student", "pseudo.teacher=teacher", "pseudo.transduction=true", "train.init_from=teacher")
    io.write_json(teacher.pseudo, labels)
    student.fold(1).metrics.write_text(finished)
    # Other folds: the teacher's networks have seen what this student is judged by.
    with pytest.raises(InputError, match="teacher was trained on other folds"):
        train("leak", "pseudo.teacher=teacher", "folds.seed=1")
    with pytest.raises(InputError, match="teacher was trained on other folds"):
        train("leak", "train.init_from=teacher", "folds.seed=1")
    assert not runs.run_dir(output, "leak").path.exists()
    with pytest.raises(InputError, match=r"train.init_from is teacher, whose network differs \(model.skip: add → con"):
        train("other", "train.init_from=teacher", "model.skip=add")
    # What is behind a run is told when it is made; to go on it needs what it learns from itself alone.
    train("chosen", "train.checkpoint=best", "train.schedule=constant")
    later = train("later", "train.init_from=chosen")
    assert later.read_provenance()["epoch_chosen_in"] == ["chosen"]
    last = train("last", "train.init_from=later")
    assert last.read_provenance()["epoch_chosen_in"] == ["chosen"]
    (output / "runs" / "chosen").rename(output / "runs" / "elsewhere")
    train("last", "train.init_from=later")
    assert train("again", "train.init_from=student").read_provenance()["transduction"]
    blend = runs.RunDir(output / "blends" / "both")
    io.write_json(blend.provenance, teacher.read_provenance() | {"members": ["teacher", "later"]})
    with pytest.raises(InputError, match=r"train.init_from is both, a blend of 2 runs; name one of its members"):
        train("of-a-blend", "train.init_from=both")
    assert not runs.run_dir(output, "of-a-blend").path.exists()


def test_weights_are_taken_over_before_the_first_step(tmp_path: Path) -> None:
    settings = tiny_fold.settings("train.epochs=1", "train.checkpoint=last", "train.schedule=constant")
    first = runs.RunDir(tmp_path / "first")
    io.write_atomic(first.config, config.dump(settings))
    fold.run(settings, tiny_fold.data(), first.fold(0), "first")
    still = config.override(settings, ["train.learning_rate=1e-30", "train.seed=5"])
    second = runs.FoldDir(tmp_path / "second" / "fold_0")
    fold.run(still, replace(tiny_fold.data(), start=first.fold(0)), second, "second")
    for name, tensor in tiny_fold.weights(first.fold(0).network).items():
        if "running" not in name and "num_batches" not in name:
            assert torch.allclose(tensor, tiny_fold.weights(second.network)[name], atol=1e-12)

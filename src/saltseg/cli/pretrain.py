"""Verbs that learn from more than a dataset's labels: pretrain, pseudo-label."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from saltseg.cli.command import (
    INPUT,
    OUTPUT,
    Changes,
    Experiment,
    Folds,
    InputDir,
    OutputDir,
    Result,
    Run,
    RuntimeChanges,
    configured,
    fold_numbers,
    runtime,
    verb,
)
from saltseg.errors import InputError

if TYPE_CHECKING:
    from saltseg.config import Config
    from saltseg.training.pretraining import PretrainedDir

Limit = Annotated[
    int | None, Option(min=1, max=10**9, metavar="N", help="only the first N tiles by file name", show_default=False)
]


@verb("pretrain")
def pretrain(
    experiment: Experiment,
    method: Annotated[Literal["synthetic", "masked"], Option(help="what to learn from")],
    name: Annotated[str, Option(help="folder under output/pretrained")],
    tiles: Annotated[
        int | None, Option(metavar="N", help="synthetic: tiles of an epoch (default: 4000)", show_default=False)
    ] = None,
    images: Annotated[
        Path | None, Option(metavar="DIR", help="masked: images; labels are not needed", show_default=False)
    ] = None,
    limit: Limit = None,
    data: Annotated[
        str | None,
        Option(metavar="DATASET", help="masked: leave out the images of this dataset", show_default=False),
    ] = None,
    transduction: Annotated[bool, Option("--transduction", help="masked: learn from test images, too")] = False,
    epochs: Annotated[
        int | None, Option(metavar="N", help="short for --set train.epochs=N", show_default=False)
    ] = None,
    changes: Changes = None,
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Pretrain a network where no ImageNet weights are available; fine-tune it with `saltseg train`.

      saltseg pretrain unet --method synthetic --epochs 5 --name unet-sim
      saltseg pretrain unet --method masked --images FOLDER --data tgs --name unet-masked
      saltseg pretrain unet_resnet34 --method synthetic --set model.weights=none --name resnet34-sim
      saltseg train unet --data tgs --set train.init_from=file:output/pretrained/unet-sim/weights.safetensors

    synthetic: segmentation of simulated tiles, others in every epoch, drawn while training goes on and never stored.
    The simulator makes about 150 tiles per second and core. Two cores train EfficientNet-Lite0 on 27, so there it is no
    bottleneck. For a GPU up to eight processes draw (runtime.workers; the tiles do not depend on their number).

    masked: self-supervised on images without labels. Most patches of a tile are covered and the network reconstructs
    them (SimMIM, Xie et al. 2022). Sections (a side of 202 pixels or more) are cut into tiles of 101x101. Tiles that
    are one of the dataset's labeled or test images are left out; --transduction keeps the test images.

    An interrupted pretraining goes on from its last epoch. Writes output/pretrained/NAME/weights.safetensors, for
    train.init_from=file:PATH (the whole network) or model.weights=file:PATH (its encoder, under any decoder of smp's).
    """
    from saltseg import runs, schemas

    changes = [*(changes or []), *([] if epochs is None else [f"train.epochs={epochs}"])]
    settings = configured(experiment, changes)
    _check_method(method, tiles, images, limit, data, transduction)
    runs.run_dir(output_dir, name)  # refuses a bad name before anything heavy is imported

    from saltseg.data import competition
    from saltseg.training import pretraining

    directory = pretraining.directory(output_dir, name)
    if method == "synthetic":
        trained = pretraining.synthetic(settings, directory, 4000 if tiles is None else tiles)
    else:
        assert images is not None
        assert data is not None
        trained = _pretrain_masked(settings, directory, images, limit, data, transduction, input_dir)
    if not trained:
        print(f"{name} is finished already; skipped")
    losses = [row["valid_loss"] for row in schemas.read(directory.log) if math.isfinite(row["valid_loss"])]
    print(f"validation loss {losses[0]:.6g} → {losses[-1]:.6g}; weights: {directory.weights}")
    datasets = [data] if data else competition.list_datasets(input_dir)
    if not datasets:
        return 0
    again = ["saltseg", "train", experiment, "--data", datasets[0], "--name", name]
    for change in [*changes, f"train.init_from=file:{directory.weights}"]:
        again += ["--set", change] if change.startswith(("model.", "data.", "train.init_from")) else []
    return again


def _check_method(
    method: str, tiles: int | None, images: Path | None, limit: int | None, data: str | None, transduction: bool
) -> None:
    if method == "synthetic" and (images or data or transduction):
        raise InputError("--images, --data and --transduction are for --method masked; leave them out")
    if method == "synthetic" and limit is not None:
        raise InputError("--limit is for --method masked; give --tiles N")
    if method == "masked" and (images is None or tiles is not None):
        raise InputError("--method masked learns from the tiles of a folder: give --images FOLDER, and no --tiles")
    if method == "masked" and data is None:
        raise InputError("--method masked leaves out the images that a dataset is scored on: give --data DATASET")


def _pretrain_masked(
    settings: "Config",
    directory: "PretrainedDir",
    folder: Path,
    limit: int | None,
    data: str,
    transduction: bool,
    input_dir: Path,
) -> bool:
    from saltseg.data import competition, unlabeled
    from saltseg.training import pretraining

    root = competition.dataset_root(input_dir, data)
    every = unlabeled.read(folder, limit)
    labeled, test = competition.read_train(root).images, competition.read_test(root).images
    images = unlabeled.exclude_known(every, labeled, test, transduction)
    left_out = len(every.ids) - len(images.ids)
    print(f"{left_out} of {len(every.ids)} tiles left out: among the labeled or test images of {data}")
    record = {"dataset": data, "left_out": left_out, "transduction": transduction}
    return pretraining.masked(settings, directory, images, **record)


@verb("pseudo-label")
def pseudo_label(
    run: Run,
    images: Annotated[Path, Option(metavar="DIR", help="images without labels")],
    folds: Folds = "all",
    limit: Limit = None,
    changes: RuntimeChanges = None,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Self-training, first half: each fold of a run labels images that have no labels.

      saltseg pseudo-label tgs-recipe_lite0 --images FOLDER
      saltseg pseudo-label tgs-recipe_lite0 --images FOLDER --folds 0      to try it on one fold
      saltseg train recipe_lite0 --data tgs --set pseudo.teacher=tgs-recipe_lite0 --name tgs-student
      saltseg run recipe_lite0 --data tgs --set pseudo.teacher=tgs-recipe_lite0 \\
          --set pseudo.all_folds=true --name tgs-final

    Fold k of the student learns from the labels of the teacher's fold k alone, whose network never saw the images that
    validate in fold k, so the student's out-of-fold score has no leak. With a blend as teacher the same fold of every
    member labels, and the student learns from their mean. More rounds are more students, each the next one's teacher.

    Sections (a side of 202 pixels or more) are cut into tiles of 101x101: give them at the scale of the labeled ones.
    Folds that have labeled the folder are skipped. Images of the test set are left out, unless the student has
    pseudo.transduction=true: with Kaggle's own data, --images input/tgs/test/images and that setting.

    With pseudo.all_folds=true every fold learns from the mean of the labels of all folds of the teacher. These include
    networks that saw the validation images, so that run has no out-of-fold score and cannot be a teacher: it is for a
    final submission only. Writes output/runs/RUN/fold_K/pseudo.npz.
    """
    from saltseg import runs
    from saltseg.config import MeanTeacher
    from saltseg.pipeline import pseudo_labeling

    teachers, machine = runs.leaf_runs(output_dir, run), runtime(changes)
    for teacher in teachers:
        count = pseudo_labeling.label(teacher, images, limit, machine, fold_numbers(folds))
        labeled = len(pseudo_labeling.labeled_folds(teacher))
        print(f"{count} tiles labeled by each of {labeled} folds: {teacher.path}/fold_*/pseudo.npz")
        every, half = pseudo_labeling.empty_shares(teacher)
        print(f"without salt: {every:.0%} of the tiles, {half:.0%} with pseudo.drop_fraction=0.5")
    words = ["saltseg", "train", str(teachers[0].config), "--data", teachers[0].read_provenance()["dataset"]]
    if isinstance(teachers[0].read_config().pseudo, MeanTeacher):
        words += ["--set", "pseudo=null"]  # pseudo.images and pseudo.teacher exclude each other
    if folds != "all":
        words += ["--folds", folds]
    return [*words, "--set", f"pseudo.teacher={run}", "--name", f"{run}-student"]

"""Verbs that train: train, run, pretrain, pseudo-label."""

import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Option

from saltseg.cli.command import (
    INPUT,
    OUTPUT,
    Changes,
    Dataset,
    Experiment,
    InputDir,
    OutputDir,
    Parallel,
    Result,
    Run,
    numbers,
    verb,
)
from saltseg.errors import InputError

if TYPE_CHECKING:
    from saltseg.config import Config
    from saltseg.runs import RunDir
    from saltseg.training.pretraining import PretrainedDir

Folds = Annotated[str, Option(metavar="0,1", help="all, or numbers")]
Holdout = Annotated[
    float | None,
    Option(metavar="SHARE", help="one random validation part instead of folds", show_default=False),
]
RunName = Annotated[str | None, Option(help="the run's name (default: DATASET-EXPERIMENT)", show_default=False)]
Devices = Annotated[int, Option(min=1, metavar="N", help="GPUs, or processes without any, that share each batch")]
Limit = Annotated[
    int | None, Option(min=1, metavar="N", help="only the first N tiles by file name", show_default=False)
]


FOLD_SCORES = {
    "score_at_half": "score {:.4f} at threshold 0.5",
    "log_loss": "log-loss {:.4f}",
    "valid_pixel_accuracy": "pixel accuracy {:.4f}",
}


@verb("train")
def train(
    experiment: Experiment,
    data: Dataset,
    folds: Folds = "all",
    holdout: Holdout = None,
    changes: Changes = None,
    name: RunName = None,
    parallel: Parallel = 1,
    devices: Devices = 1,
    overwrite: Annotated[
        bool, Option("--overwrite", help="train finished folds again, dropping their results")
    ] = False,
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Train an experiment on a dataset, fold by fold.

      saltseg train unet --data tgs                       all folds
      saltseg train unet --data tgs --folds 0,1           two of them
      saltseg train unet --data tgs --parallel 5          all at a time, on as many GPUs as there are
      saltseg train unet_spec --data tgs --holdout 0.1    the case study's random 10 % instead of folds
      saltseg train unet --data tgs --set train.epochs=3 --set data.size=128 --name quick
      saltseg train output/runs/quick/config.yaml --data tgs --name again

    --parallel is for small trainings: each fold is a process. --devices is for a network that takes long on one GPU:
    each batch is shared (Lightning's DDP; train.batch_size is that of all devices together).

    Finished folds are skipped; an interrupted fold goes on from its last finished epoch, with the same result as if it
    had never stopped. Writes output/runs/RUN/fold_K/.
    """
    from saltseg import runs
    from saltseg.training import processes

    settings = _settings(experiment, changes, holdout)
    wanted = None if folds == "all" else numbers("--folds", folds, also="all")
    run = runs.run_dir(output_dir, name or runs.default_name(data, settings.name, holdout))
    processes.check_devices(devices, settings.train.batch_size)
    if devices > 1 and parallel > 1:
        raise InputError("--parallel and --devices: folds side by side would share the devices; give one of the two")

    from saltseg.training import run_training

    job = (settings, data, run, input_dir, output_dir, wanted, overwrite, devices)
    failed = []
    # Each device repeats the command line of its process, so that must train one fold and do nothing else.
    if parallel > 1 or (devices > 1 and not processes.is_child()):
        missing, skipped = run_training.prepare_run(*job)
        options = ["--data", data, "--input", str(input_dir), "--output", str(output_dir), "--devices", str(devices)]
        options += ["--overwrite"] if overwrite else []
        for change in changes or []:  # not saved with the run
            options += ["--set", change] if change.startswith("runtime.") else []
        failed = _train_apart(run, missing, options, parallel)
    else:
        skipped = run_training.train_run(*job)
    for number in skipped:
        print(f"fold {number} of {run.name} is finished already; skipped")
    if not processes.is_child():
        _print_folds(run)
    if failed:
        print(f"not finished: {', '.join(failed)}; the same command tries them again", file=sys.stderr)
        return 1
    return ["saltseg", "predict", run.name]


def _settings(experiment: str, changes: list[str] | None, holdout: float | None) -> "Config":
    from saltseg import config, experiments

    settings = config.override(experiments.named(experiment), changes or [])
    if holdout is None:
        return settings
    return config.change(settings, {"folds.scheme": "holdout", "folds.holdout": holdout})


def _train_apart(run: "RunDir", folds: Sequence[int], options: Sequence[str], parallel: int) -> list[str]:
    """Train each fold in a process of its own from the run's saved configuration; returns those that failed."""
    from saltseg.training import processes

    again = ["-m", "saltseg", "train", str(run.config), "--name", run.name, *options]
    commands = {f"fold_{number}": [*again, "--folds", str(number)] for number in folds}
    return [fold for fold, code in processes.run(commands, parallel, run.path / "logs").items() if code]


def _print_folds(run: "RunDir") -> None:
    from saltseg import schemas

    teacher = run.pseudo_labels_from_all_folds()
    for fold in run.finished_folds():
        if teacher:
            print(f"fold {fold.number}: no score: its labels come from all folds of {teacher}")
            continue
        metrics = schemas.read(fold.metrics)
        known = [text.format(metrics[key]) for key, text in FOLD_SCORES.items() if metrics.get(key) is not None]
        print(
            f"fold {fold.number}: {', '.join(known)}, {metrics['seconds'] / 60:.1f} min; epoch {metrics['best_epoch']} "
            f"of {metrics['epochs']} ({metrics['best_epoch_chosen_by']})"
        )
        if epoch := metrics.get("diverged_at_epoch"):
            print(
                f"warning: fold {fold.number} diverged: the validation loss of epoch {epoch} is not finite, so the "
                "training stopped; lower train.learning_rate and use another --name"
            )


@verb("run")
def run_all(
    experiment: Experiment,
    data: Dataset,
    folds: Folds = "all",
    holdout: Holdout = None,
    changes: Changes = None,
    name: RunName = None,
    parallel: Parallel = 1,
    devices: Devices = 1,
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Train, predict, tune, submit, report, leaderboard: everything in order.

      saltseg run unet --data tgs
      saltseg run unet --data tgs --folds 0 --set train.epochs=12
      saltseg run unet --data tgs --parallel 5        all folds at a time, sharing the cores or the GPUs

    The same command goes on after an interruption. Finished folds are skipped; the steps after training take seconds
    and are repeated. Each step is a verb of its own. A run with pseudo.all_folds has no out-of-fold score, so its steps
    are train, predict, submit (with the post-processing of its teacher).
    """
    from saltseg import runs
    from saltseg.cli import analyze, predict

    settings = _settings(experiment, changes, holdout)
    run = runs.run_dir(output_dir, name or runs.default_name(data, settings.name, holdout))
    teacher = settings.pseudo_labels_from_all_folds
    where = (input_dir, output_dir)
    steps: dict[str, Callable[[], Result]] = {
        "train": lambda: train(experiment, data, folds, holdout, changes, run.name, parallel, devices, False, *where),
        "predict": lambda: predict.predict(run.name, None, None, None, *where),
        "tune": lambda: predict.tune(run.name, *where),
        "submit": lambda: predict.submit(run.name, teacher or None, *where),
        "report": lambda: analyze.report(run.name, None, *where),
        "leaderboard": lambda: analyze.leaderboard(output_dir),
    }
    wanted = ["train", "predict", "submit"] if teacher else list(steps)
    for number, step in enumerate(wanted, start=1):
        print(f"\n[{number}/{len(wanted)}] {step}", flush=True)
        result = steps[step]()
        if isinstance(result, int) and result:
            return result  # a training that failed
    if teacher:
        print(f"\n{run.name} has no out-of-fold score: its labels come from all folds of {teacher}")
    else:
        _print_scores(run)
        print(f"report:     {run.report}  (open it in a browser)")
    print(f"submission: {run.submission}")
    if run.solution_score.is_file():
        return ["saltseg", "predict", run.name, "--images", str(input_dir / data / "test" / "images")]
    return ["saltseg", "publish", run.name]


def _print_scores(run: "RunDir") -> None:
    from saltseg import schemas

    tuned = schemas.read(run.postprocess)
    low, high = tuned["cross_fitted"]["interval"]
    print(
        f"\n{run.name}, out of fold: {tuned['score_at_half']:.4f} at threshold 0.5; "
        f"{tuned['cross_fitted']['score']:.4f} ({low:.4f} to {high:.4f}) with tuned post-processing, cross-fitted"
    )
    print(f"the submission uses {'the tuned post-processing' if tuned['selected'] == 'tuned' else 'threshold 0.5'}")
    if run.solution_score.is_file():
        score = schemas.read(run.solution_score)
        parts = [f"{part} {score[part]:.4f}" for part in ("public", "private") if score[part] is not None]
        print(f"test score: {score['all']:.4f} ({', '.join(parts)})")


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
    are one of the dataset's labeled or test images are left out; --set pseudo.transduction=true keeps the test images.

    An interrupted pretraining goes on from its last epoch. Writes output/pretrained/NAME/weights.safetensors, for
    train.init_from=file:PATH (the whole network) or model.weights=file:PATH (its encoder, under any decoder of smp's).
    """
    from saltseg import runs, schemas

    changes = [*(changes or []), *([] if epochs is None else [f"train.epochs={epochs}"])]
    settings = _settings(experiment, changes, None)
    _check_method(method, tiles, images, limit, data)
    runs.run_dir(output_dir, name)  # refuses a bad name before anything heavy is imported

    from saltseg.training import pretraining

    directory = pretraining.directory(output_dir, name)
    if method == "synthetic":
        trained = pretraining.synthetic(settings, directory, 4000 if tiles is None else tiles)
    else:
        assert images is not None
        assert data is not None
        trained = _pretrain_masked(settings, directory, images, limit, data, input_dir)
    if not trained:
        print(f"{name} is finished already; skipped")
    losses = [row["valid_loss"] for row in schemas.read(directory.log) if math.isfinite(row["valid_loss"])]
    print(f"validation loss {losses[0]:.6g} → {losses[-1]:.6g}; weights: {directory.weights}")
    again = ["saltseg", "train", experiment, "--data", data or "tgs", "--name", name]
    for change in [*changes, f"train.init_from=file:{directory.weights}"]:
        again += ["--set", change] if change.startswith(("model.", "data.", "train.init_from")) else []
    return again


def _check_method(method: str, tiles: int | None, images: Path | None, limit: int | None, data: str | None) -> None:
    if method == "synthetic" and (images or data):
        raise InputError("--images and --data are for --method masked; leave them out")
    if method == "synthetic" and limit is not None:
        raise InputError("--limit is for --method masked; give --tiles N")
    if method == "masked" and (images is None or tiles is not None):
        raise InputError("--method masked learns from the tiles of a folder: give --images FOLDER, and no --tiles")
    if method == "masked" and data is None:
        raise InputError("--method masked leaves out the images that a dataset is scored on: give --data DATASET")


def _pretrain_masked(
    settings: "Config", directory: "PretrainedDir", folder: Path, limit: int | None, data: str, input_dir: Path
) -> bool:
    from saltseg.data import competition, unlabeled
    from saltseg.training import pretraining

    root = competition.dataset_root(input_dir, data)
    every = unlabeled.read(folder, limit)
    labeled, test = competition.read_train(root).images, competition.read_test(root).images
    images = unlabeled.exclude_known(every, labeled, test, settings.transduction)
    left_out = len(every.ids) - len(images.ids)
    print(f"{left_out} of {len(every.ids)} tiles left out: among the labeled or test images of {data}")
    return pretraining.masked(settings, directory, images, dataset=data, left_out=left_out)


@verb("pseudo-label")
def pseudo_label(
    run: Run,
    images: Annotated[Path, Option(metavar="DIR", help="images without labels")],
    limit: Limit = None,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Self-training, first half: each fold of a run labels images that have no labels.

      saltseg pseudo-label tgs-recipe_lite0 --images FOLDER
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
    from saltseg.pipeline import pseudo_labeling
    from saltseg.training import pseudo_labels

    teachers = pseudo_labels.members(output_dir, run)
    for teacher in teachers:
        count = pseudo_labeling.label(teacher, images, limit)
        folds = len(teacher.finished_folds())
        print(f"{count} tiles labeled by each of {folds} folds: {teacher.path}/fold_*/pseudo.npz")
        every, half = pseudo_labeling.empty_shares(teacher)
        print(f"without salt: {every:.0%} of the tiles, {half:.0%} with pseudo.drop_fraction=0.5")
    experiment, dataset = teachers[0].read_config().name, teachers[0].read_provenance()["dataset"]
    student = ["--set", f"pseudo.teacher={run}", "--name", f"{run}-student"]
    return ["saltseg", "train", experiment, "--data", dataset, *student]

"""Verbs that train: train, run."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Option

from saltseg.cli.command import (
    INPUT,
    OUTPUT,
    Changes,
    Cluster,
    Dataset,
    Experiment,
    Folds,
    InputDir,
    OutputDir,
    Parallel,
    Result,
    configured,
    fold_numbers,
    verb,
)
from saltseg.errors import InputError

if TYPE_CHECKING:
    from saltseg.runs import RunDir
    from saltseg.training.run_training import TrainingJob
    from saltseg.workers import Workers

Holdout = Annotated[
    float | None,
    Option(metavar="SHARE", help="one random validation part instead of folds", show_default=False),
]
RunName = Annotated[str | None, Option(help="the run's name (default: DATASET-EXPERIMENT)", show_default=False)]
Devices = Annotated[int, Option(min=1, metavar="N", help="GPUs, or processes without any, that share each batch")]


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
    cluster: Cluster = "",
    devices: Devices = 1,
    overwrite: Annotated[
        bool, Option("--overwrite", help="train finished folds again, dropping their results and the run's")
    ] = False,
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Train an experiment on a dataset, fold by fold.

      saltseg train unet --data tgs                       all folds
      saltseg train unet --data tgs --folds 0,1           two of them
      saltseg train unet --data tgs --parallel 5          all at a time, on as many GPUs as there are
      saltseg train unet --data tgs --cluster tcp://host:8786        a fold on each worker of a Dask cluster
      saltseg train unet_spec --data tgs --holdout 0.1    the case study's random 10 % instead of folds
      saltseg train unet --data tgs --set train.epochs=3 --set data.size=128 --name quick
      saltseg train output/runs/quick/config.yaml --data tgs --name again

    --parallel is for small trainings: each fold is a process. --devices is for a network that takes long on one GPU:
    each batch is shared (Lightning's DDP; train.batch_size is that of all devices together).

    Finished folds are skipped; an interrupted fold goes on from its last finished epoch, with the same result as if it
    had never stopped. Writes output/runs/RUN/fold_K/.
    """
    from saltseg import experiments, runs
    from saltseg.training import processes
    from saltseg.workers import Workers, is_child

    workers = Workers(parallel, cluster)
    settings = configured(experiment, changes, holdout)
    experiments.require_needs(experiment, settings)
    chosen = fold_numbers(folds)
    run = runs.run_dir(output_dir, name or runs.default_name(data, settings.name, holdout))
    processes.check_devices(devices, settings.train.batch_size)
    if devices > 1 and parallel > 1:
        raise InputError("--parallel and --devices: folds side by side would share the devices; give one of the two")

    workers.require()

    from saltseg.training import run_training

    job = run_training.TrainingJob(settings, data, run, input_dir, output_dir, chosen, overwrite, devices)
    failed = []
    # Each device repeats the command line of its process, so that must train one fold and do nothing else.
    if not workers.here or (devices > 1 and not is_child()):
        missing, skipped = run_training.prepare_run(job)
        failed = _train_apart(job, missing, _of_runtime(changes), workers)
    else:
        skipped = run_training.train_run(job)
    for number in skipped:
        print(f"fold {number} of {run.name} is finished already; skipped")
    if not is_child():
        _print_folds(run)
    if failed:
        print(f"not finished: {', '.join(failed)}; the same command tries them again", file=sys.stderr)
        return 1
    return ["saltseg", "predict", run.name]


def _of_runtime(changes: list[str] | None) -> list[str]:
    """Those of the changes that are not saved with a run."""
    return [change for change in changes or [] if change.strip().startswith("runtime.")]


def _train_apart(job: "TrainingJob", folds: Sequence[int], changes: Sequence[str], workers: "Workers") -> list[str]:
    """Train each fold in a process of its own from the run's saved configuration; returns those that failed."""
    from saltseg.training import processes

    run = job.run
    command = ["-m", "saltseg", "train", str(run.config), "--name", run.name, "--data", job.dataset]
    command += ["--input", str(job.input_dir), "--output", str(job.output_dir), "--devices", str(job.devices)]
    command += ["--overwrite"] if job.overwrite else []
    command += [part for change in changes for part in ("--set", change)]
    commands = {f"fold_{number}": [*command, "--folds", str(number)] for number in folds}
    return [fold for fold, code in processes.run(commands, workers, run.path / "logs").items() if code]


def _print_folds(run: "RunDir") -> None:
    from saltseg import schemas

    teacher = run.pseudo_labels_from_all_folds()
    for fold in run.finished_folds():
        if teacher:
            print(f"fold {fold.number}: no score: its labels come from all folds of {teacher}")
            continue
        metrics = schemas.read(fold.metrics)
        scores = [text.format(metrics[key]) for key, text in FOLD_SCORES.items() if metrics.get(key) is not None]
        print(
            f"fold {fold.number}: {', '.join(scores)}, {metrics['seconds'] / 60:.1f} min; "
            f"epoch {metrics['best_epoch']} of {metrics['epochs']} ({metrics['best_epoch_chosen_by']})"
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
    cluster: Cluster = "",
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
    from saltseg import experiments, runs
    from saltseg.cli import analyze, predict, submission

    settings = configured(experiment, changes, holdout)
    experiments.require_needs(experiment, settings)
    run = runs.run_dir(output_dir, name or runs.default_name(data, settings.name, holdout))
    teacher = settings.pseudo_labels_from_all_folds
    places: dict[str, Path] = {"input_dir": input_dir, "output_dir": output_dir}
    steps: dict[str, Callable[[], Result]] = {
        "train": lambda: train(
            experiment, data, folds=folds, holdout=holdout, changes=changes, name=run.name, parallel=parallel,
            cluster=cluster, devices=devices, **places,
        ),
        "predict": lambda: predict.predict(run.name, changes=_of_runtime(changes), **places),
        "tune": lambda: submission.tune(run.name, **places),
        "submit": lambda: submission.submit(run.name, postprocessing_from=teacher or None, **places),
        "report": lambda: analyze.report(run.name, **places),
        "leaderboard": lambda: analyze.leaderboard(output_dir=output_dir),
    }  # fmt: skip
    names = ["train", "predict", "submit"] if teacher else list(steps)
    for number, step in enumerate(names, start=1):
        print(f"\n[{number}/{len(names)}] {step}", flush=True)
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
        return ["saltseg", "predict", run.name, str(input_dir / data / "test" / "images")]
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

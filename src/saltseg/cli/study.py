"""Verbs about studies: study, case-study."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from saltseg.cli.command import INPUT, OUTPUT, Cluster, Dataset, InputDir, OutputDir, Parallel, Result, numbers, verb
from saltseg.workers import Workers, is_child

if TYPE_CHECKING:
    from saltseg.studies.sweep import Study, Sweep

Name = Literal["ablations", "benchmark", "label_efficiency", "self_training", "case_study"]
Budget = Annotated[str, Option(metavar="NAME", help="how much to train: cpu, cpu_full, gpu, gpu_offline or tiny")]


@verb("study")
def study(
    name: Annotated[Name, Argument(metavar="NAME", help="one of the studies above")],
    data: Dataset,
    budget: Budget = "cpu",
    only: Annotated[str, Option(metavar="A,B", help="some variants (default: all)", show_default=False)] = "",
    seeds: Annotated[
        str, Option(metavar="0,1", help="a training per variant and seed (default: the budget's)", show_default=False)
    ] = "",
    parallel: Parallel = 1,
    cluster: Cluster = "",
    table: Annotated[bool, Option("--table", help="train nothing")] = False,
    against: Annotated[
        str, Option(metavar="VARIANT", help="train nothing; print gains over this variant", show_default=False)
    ] = "",
    images: Annotated[
        Path | None, Option(metavar="DIR", help="images without labels, where a study needs them", show_default=False)
    ] = None,
    transduction: Annotated[bool, Option("--transduction", help="keep images of the test set among these")] = False,
    experiment: Annotated[str, Option(metavar="NAME", help="another base than the study's", show_default=False)] = "",
    folds: Annotated[str, Option(hidden=True)] = "",
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Train variants of an experiment, compare each with its reference, image by image.

      saltseg study ablations --data tgs                          every variant on the budget of two cores
      saltseg study ablations --data tgs --only base,lovasz_elu --seeds 0,1
      saltseg study ablations --data tgs --table                  only the table of what is finished
      saltseg study ablations --data tgs --against lovasz_elu     gains over another variant than base
      saltseg study benchmark --data tgs --images DIR --budget gpu --parallel 5
      saltseg study case_study --data tgs                         what `saltseg case-study` makes a page of

    NAME is one of

      ablations         what each setting of a recipe gains
      benchmark         from the handwritten U-Net to a blend of self-trained networks
      self_training     ways to learn from images without labels
      label_efficiency  what initial weights gain with 100, 300, 1,000 and all labels
      case_study        the questions of the case study about its U-Net

    Budgets: cpu takes hours on two cores; cpu_full (case_study) has the case study's own size and takes a day; gpu is
    full length, gpu_offline the same without a model hub; tiny is for tests.

    Each finished training leaves a record with the score of every image in output/published/studies/. Table and chart
    are made from the records. What has a record is not trained again, here or on another machine; an interrupted
    training goes on from its last epoch; one that fails stops no other.
    """
    from saltseg.studies import engine, results, tables

    sweep = _sweep(name, data, budget, input_dir, output_dir, images, transduction, experiment)
    names = sweep.select(only)
    wanted = numbers("--seeds", seeds) if seeds else list(sweep.budget.seeds)
    if folds:
        engine.train_folds(sweep, (names[0], wanted[0]), numbers("--folds", folds))
        return 0
    if against:
        records = results.read(sweep)
        found, noise = results.compare_all(sweep, records, against), results.seed_noise(records, against)
        print(tables.markdown(sweep, found, noise))
        return 0
    options = ["study", name, "--data", data, "--budget", budget, *(["--images", str(images)] if images else [])]
    options += [*(["--transduction"] if transduction else []), *(["--experiment", experiment] if experiment else [])]
    failed = {} if table else _train(sweep, names, wanted, Workers(parallel, cluster), options)
    for training, reason in failed.items():
        print(f"{training} is not finished{f': {reason}' if reason else ''}", file=sys.stderr)
    if failed:
        print("the same command tries them again", file=sys.stderr)
        return 1
    if is_child():
        return 0
    print(engine.write_table(sweep))
    print(f"records, table and chart: {sweep.folder}")
    if names != sweep.select(""):
        return [
            "saltseg",
            *options,
            *(["--parallel", str(parallel)] if parallel > 1 else []),
            *(["--cluster", cluster] if cluster else []),
        ]
    if name == "case_study" and not experiment:  # the page is of the study's own base
        return ["saltseg", "case-study", "--data", data, "--budget", budget]
    return ["git", "add", str(sweep.folder)]


def _sweep(
    name: Name,
    data: str,
    budget: str,
    input_dir: Path,
    output_dir: Path,
    images: Path | None = None,
    transduction: bool = False,
    experiment: str = "",
) -> "Sweep":
    from saltseg.data import competition
    from saltseg.studies.sweep import Sweep

    chosen = _study(name)
    chosen = chosen.with_base(experiment) if experiment else chosen
    sweep = Sweep(chosen, competition.check_name(data), budget, input_dir, output_dir, images, transduction)
    assert sweep.budget  # there is one of that name
    return sweep


def _study(name: Name) -> "Study":
    from saltseg.studies import ablations, benchmark, label_efficiency, self_training
    from saltseg.studies.case_study import variants

    modules = (ablations, benchmark, label_efficiency, self_training, variants)
    return next(module.STUDY for module in modules if module.STUDY.name == name)


def _train(sweep: "Sweep", names: list[str], seeds: list[int], where: Workers, options: list[str]) -> dict[str, str]:
    """Train what is missing; returns what is not finished, with the reason where it is known."""
    from saltseg.data import competition
    from saltseg.studies import engine

    pending = engine.missing(sweep, names, seeds)
    if not pending:
        return {}
    competition.dataset_root(sweep.input_dir, sweep.data)
    reasons = {} if is_child() else engine.left_out(sweep, list(dict.fromkeys(name for name, _ in pending)))
    for variant, reason in reasons.items():
        print(f"{variant} is left out: {reason}", file=sys.stderr)
    pending = [training for training in pending if training[0] not in reasons]
    where.require()
    places = ["--input", str(sweep.input_dir), "--output", str(sweep.output_dir)]
    return engine.run(sweep, pending, where, ["-m", "saltseg", *options, *places])


@verb("case-study")
def case_study(
    data: Dataset,
    budget: Budget = "cpu",
    to: Annotated[Path, Option(metavar="DIR", help="where to write")] = Path("docs/explanation"),
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Answer the case study's questions: tables, verdicts and pictures from the records, filled into its page.

      saltseg case-study --data tgs                                  docs/explanation/case_study.md and its pictures
      saltseg case-study --data tgs --budget gpu --to FOLDER         records of another budget, a page of its own
      saltseg case-study --data synthetic --budget tiny --to FOLDER

    Trains nothing: the records are those of `saltseg study case_study`. What has no record yet is left out and named.
    Histograms of the data are drawn if input/ holds the dataset of the records. Pictures of single tiles are simulated,
    predicted ones from the study of a simulated dataset with the same budget:

      saltseg study case_study --data synthetic-1000 --only base,images_eighth
    """
    from saltseg.studies.case_study import document

    sweep = _sweep("case_study", data, budget, input_dir, output_dir)
    page, pictures, lacking = document.write(sweep, to)
    print(f"{pictures} pictures: {page}")
    if lacking:
        print(f"without a record: {', '.join(lacking)}")
        return ["saltseg", "study", "case_study", "--data", data, "--budget", budget]
    return ["git", "add", str(page), str(to / "case_study")]

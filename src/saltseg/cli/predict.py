"""The verb predict: the tiles of a dataset, a folder of images, or a survey."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from saltseg.cli import survey
from saltseg.cli.command import (
    INPUT,
    OUTPUT,
    Cluster,
    InputDir,
    OutputDir,
    Parallel,
    Result,
    RunOrModel,
    RuntimeChanges,
    runtime,
    verb,
)
from saltseg.errors import InputError

if TYPE_CHECKING:
    from saltseg.config import Runtime
    from saltseg.releases import ModelDir
    from saltseg.runs import RunDir
    from saltseg.workers import Workers


@verb("predict")
def predict(
    run: RunOrModel,
    source: Annotated[
        Path | None,
        Argument(metavar="[IMAGES|SURVEY]", help="folder of images, or SEG-Y file (default: the dataset's tiles)"),
    ] = None,
    tta: Annotated[
        str | None, Option(metavar="A,B", help="other test-time augmentation than the run's own", show_default=False)
    ] = None,
    to: Annotated[
        Path | None,
        Option(
            metavar="PATH",
            help="new folder for images, new file.sgy for a survey (default: in output/predictions/RUN)",
            show_default=False,
        ),
    ] = None,
    clip: Annotated[
        float | None,
        Option(
            metavar="PERCENTILE",
            help=f"SEG-Y: {survey.CLIP_HELP} (default: as in the labeled lines of the training; else 99)",
            show_default=False,
        ),
    ] = None,
    polarity: Annotated[
        Literal["as-stored", "reversed"] | None,
        Option(
            help=f"SEG-Y: {survey.POLARITY_HELP} (default: as in the labeled lines of this survey; else as-stored)",
            show_default=False,
        ),
    ] = None,
    along: Annotated[Literal["both", "inline", "crossline"], Option(help="SEG-Y: direction of the sections")] = "both",
    depth: Annotated[bool, Option("--depth", help="SEG-Y: samples are meters, not milliseconds")] = False,
    inline_byte: survey.InlineByte = None,
    crossline_byte: survey.CrosslineByte = None,
    as_line: survey.AsLine = False,
    parallel: Parallel = 1,
    cluster: Cluster = "",
    changes: RuntimeChanges = None,
    input_dir: InputDir = INPUT,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Predict with a trained run or a released model.

      saltseg predict salt-simulated my_sections     a model of the checkout's folder models/; or give its path
      saltseg predict tgs-unet                       collate the folds: out-of-fold and mean test predictions
      saltseg predict tgs-unet --tta identity        predict again with other test-time augmentation
      saltseg predict tgs-unet my_sections           any folder of images: masks as PNG and CSV
      saltseg predict tgs-unet survey.sgy --to salt.sgy              a survey: probability and mask as SEG-Y
      saltseg predict tgs-unet survey.sgy --parallel 4               in four processes
      saltseg predict tgs-unet survey.sgy --cluster tcp://host:8786  on the workers of a Dask cluster
      saltseg predict tgs-unet --set runtime.predict_batch_size=8    with less memory

    Of the dataset, oof.npz and test.npz are written: probabilities at the tiles' own 101x101 pixels together with their
    ids.

    IMAGES are PNG, JPG, TIF and BMP files, gray, 8 or 16 bit. Gray values are not stretched.

    Of SURVEY (saltseg scan looks at it first) sections along inlines and crosslines are predicted and averaged.
    Amplitudes become gray values with one scale, clipped at a percentile. Beside salt.sgy, which has every header byte
    of the survey, salt_mask.sgy, salt_top.csv (the top of salt of each trace) and salt.html appear.

    The same command goes on after an interruption. It predicts only the images, or the slabs of a survey, that are
    missing.
    """
    from saltseg import releases
    from saltseg.workers import Workers

    where = Workers(parallel, cluster)
    trained, machine = releases.find(run, output_dir), runtime(changes)
    views = tuple(tta.split(",")) if tta else None
    surveys = (clip, polarity, along, depth, inline_byte, crossline_byte, as_line)
    if (source is None or source.is_dir()) and surveys != (None, None, "both", False, None, None, False):
        raise InputError(
            "--clip, --polarity, --along, --depth, --inline-byte, --crossline-byte and --as-line are for a SEG-Y file; "
            "leave them out, or name one"
        )
    if source is None:
        if not where.here:
            raise InputError("--parallel and --cluster are for images or a survey; leave them out, or name one")
        if to:
            raise InputError(f"--to {to} is for images or a survey; name them behind {run}, or leave --to out")
        if isinstance(trained, releases.ModelDir):
            raise InputError(f"{run} is a model, which has no folds to collate; name images or a survey behind it")
        return _predict_dataset(trained, views, machine, input_dir, output_dir)
    if not source.exists():
        raise InputError(f"no folder of images and no SEG-Y file {source}; check the path")
    if source.is_file():
        _refuse_image(run, source)
    if isinstance(trained, releases.ModelDir) and (line := releases.notice(trained.read_manifest())):
        print(f"note: {line}")
    predictions = output_dir / "predictions" / trained.name
    if source.is_dir():
        return _predict_images(trained, source, to or predictions / source.resolve().name, views, machine, where)

    from saltseg.pipeline.survey import Options

    options = Options(clip, survey.POLARITIES[polarity], along, depth, views)
    opened = survey.opened(source, inline_byte, crossline_byte, as_line)
    target = to or predictions / f"{source.stem}.sgy"
    return survey.predict_survey(trained, opened, target, options, input_dir, machine, where)


def _refuse_image(run: str, source: Path) -> None:
    """Raise InputError for a file with the name of an image or an array; a file that is predicted is SEG-Y."""
    from saltseg.data.image_files import FOLDER_SUFFIXES

    if source.suffix.lower() in FOLDER_SUFFIXES:
        raise InputError(f"{source} is a single image; give the folder that holds it")
    if source.suffix.lower() == ".npy":
        raise InputError(f"{source} is a numpy array; predict it in Python, with saltseg.load({run!r}).predict")


def _predict_dataset(
    run: "RunDir", views: tuple[str, ...] | None, machine: "Runtime", input_dir: Path, output_dir: Path
) -> Result:
    """Collate the folds."""
    from saltseg.pipeline import collate, workspace

    finished, total = collate.collate_run(run, workspace.Workspace(input_dir, output_dir), views, machine)
    teacher = run.pseudo_labels_from_all_folds()
    if teacher:
        print(f"{finished} of {total} folds: {run.test}")
        print(f"no out-of-fold predictions: the labels come from all folds of {teacher}")
        return ["saltseg", "submit", run.name, "--postprocessing-from", teacher]
    print(f"{finished} of {total} folds: {run.oof}, {run.test}")
    return ["saltseg", "tune", run.name]


def _predict_images(
    source: "RunDir | ModelDir",
    images: Path,
    target: Path,
    views: tuple[str, ...] | None,
    machine: "Runtime",
    where: "Workers",
) -> Result:
    """Predict a folder."""
    from saltseg.pipeline import folder

    rows, left_out = folder.predict_folder(source, images, target, tta=views, runtime=machine, where=where)
    if left_out:
        print(f"{len(left_out)} files are no images and left out: {', '.join(map(ascii, left_out[:9]))}")
    if emptied := [row["id"] for row in rows if row["emptied"]]:
        named = ", ".join(emptied[:9]) + ", …" * (len(emptied) > 9)
        print(f"warning: post-processing removed all salt that threshold 0.5 finds in {len(emptied)} images: {named}")
    print(f"{len(rows)} images predicted: {target}/masks.csv, *_mask.png, *_probability.png")
    return 0

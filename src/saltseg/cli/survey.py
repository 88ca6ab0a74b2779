"""Verbs about surveys in SEG-Y: scan, lines, simulate-survey, score-survey; and how `predict` does one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import Argument, Option

from saltseg.cli.command import (
    INPUT,
    OUTPUT,
    InputDir,
    OutputDir,
    Result,
    RuntimeChanges,
    numbers,
    runtime,
    verb,
)
from saltseg.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from saltseg.config import Runtime
    from saltseg.pipeline.survey import Options
    from saltseg.releases import ModelDir
    from saltseg.runs import RunDir
    from saltseg.seismic.volume import Survey
    from saltseg.workers import Workers

SurveyFile = Annotated[Path, Argument(metavar="SURVEY", help="SEG-Y file")]
InlineByte = Annotated[
    int | None,
    Option(metavar="N", help="SEG-Y: trace header byte of the inline (default: found)", show_default=False),
]
CrosslineByte = Annotated[
    int | None,
    Option(metavar="N", help="SEG-Y: of the crossline, or CDP of a line", show_default=False),
]
AsLine = Annotated[bool, Option("--as-line", help="SEG-Y: one line, its traces in the order of the file")]
CLIP_HELP, POLARITY_HELP = "of |amplitude| that becomes black or white", "of the survey's amplitudes"
POLARITIES = {None: None, "as-stored": False, "reversed": True}


def opened(
    path: Path, inline_byte: int | None = None, crossline_byte: int | None = None, as_line: bool = False
) -> "Survey":
    """A survey whose headers are read, with a progress bar."""
    from tqdm import tqdm

    from saltseg.seismic.volume import Survey

    with tqdm(desc="reading headers", unit="trace", unit_scale=True, delay=2, leave=False) as bar:
        return Survey.open(path, inline_byte, crossline_byte, as_line, bar.update)


@verb("scan")
def scan(
    survey: SurveyFile,
    inline_byte: InlineByte = None,
    crossline_byte: CrosslineByte = None,
    as_line: AsLine = False,
    run: Annotated[
        str | None, Option(metavar="RUN|MODEL", help="measure how long a prediction with it takes", show_default=False)
    ] = None,
    changes: RuntimeChanges = None,
    output_dir: OutputDir = OUTPUT,
) -> Result:
    """Look at a SEG-Y file before anything is done with it.

      saltseg scan survey.sgy
      saltseg scan survey.sgy --run tgs-recipe_lite0                    with the time that a prediction takes
      saltseg scan survey.sgy --inline-byte 9 --crossline-byte 21       where the bytes are not found
      saltseg scan line.sgy --as-line

    Prints byte order (both are tried), sample format, samples, interval, the candidates for the bytes of the line
    numbers with the evidence for each, line or volume or prestack, missing bins, duplicates, dead traces, NaN,
    amplitudes, and the memory of a prediction. Exit code 2, with the reason, for a file that cannot be predicted.
    """
    from tqdm import tqdm

    from saltseg import releases
    from saltseg.seismic import scan

    speed = None
    if run is not None:
        from saltseg.pipeline import survey as pipeline

        speed = pipeline.pixels_per_second(releases.find(run, output_dir), runtime=runtime(changes))
    elif changes:
        raise InputError(f"--set {changes[0]} is for --run; give both")
    with tqdm(desc="reading headers", unit="trace", unit_scale=True, delay=2, leave=False) as bar:
        report = scan.scan(
            survey,
            inline_byte=inline_byte,
            crossline_byte=crossline_byte,
            as_line=as_line,
            pixels_per_second=speed,
            progress=bar.update,
        )
    print(report)
    if report.problems:
        return 2
    bytes_ = [("--inline-byte", inline_byte), ("--crossline-byte", crossline_byte)]
    words = [word for name, value in bytes_ if value is not None for word in (name, str(value))]
    words += ["--as-line"] if as_line else []
    if run is not None:
        return ["saltseg", "predict", run, str(survey), *words]
    if report.geometry.kind == "volume":
        print("with a trained run: saltseg predict RUN SURVEY; with labels of some lines: saltseg lines SURVEY")
    else:
        print("with a trained run: saltseg predict RUN SURVEY")
    return 0


def predict_survey(
    source: "RunDir | ModelDir",
    survey: "Survey",
    target: Path,
    options: "Options",
    input_dir: Path,
    machine: "Runtime",
    where: "Workers",
) -> Result:
    """Predict a survey with a page, and print what was found."""
    from saltseg.pipeline import survey as pipeline
    from saltseg.pipeline.survey_files import Outputs
    from saltseg.reporting import survey_page

    def warn(record: "Mapping[str, Any]") -> None:
        for warning in survey_page.warnings(record):
            print(f"warning: {warning}", flush=True)

    record = pipeline.predict_survey(
        source,
        survey,
        target,
        survey_page.render,
        options,
        input_dir=input_dir,
        warn=warn,
        runtime=machine,
        where=where,
    )
    print(
        f"{record['traces_with_salt']:,} of {record['traces']:,} traces meet salt, {record['salt_share']:.2%} of all "
        "samples"
    )
    outputs = Outputs(target)
    for name in ("probability", "mask", "top", "page"):
        print(f"{name + ':':<13}{getattr(outputs, name)}")
    return 0


@verb("lines")
def lines(
    survey: SurveyFile,
    labels: Annotated[
        Path, Option(metavar="MASKS", help="SEG-Y file of masks, or folder of INLINE.png, (samples, traces) each")
    ],
    inlines: Annotated[str, Option(metavar="120,160", help="numbers of the labeled inlines")],
    name: Annotated[
        str | None, Option(help="of the dataset under input/ (default: the survey's)", show_default=False)
    ] = None,
    step: Annotated[int, Option(metavar="N", help="pixels between tiles, 1 to 101")] = 50,
    clip: Annotated[float, Option(metavar="PERCENTILE", help=CLIP_HELP)] = 99.0,
    polarity: Annotated[Literal["as-stored", "reversed"], Option(help=POLARITY_HELP)] = "as-stored",
    inline_byte: InlineByte = None,
    crossline_byte: CrosslineByte = None,
    overwrite: Annotated[bool, Option("--overwrite", help="replace the dataset of that name")] = False,
    input_dir: InputDir = INPUT,
) -> Result:
    """Make a dataset of labeled lines of a survey: tiles of 101x101 pixels with masks, in folds by line.

      saltseg lines survey.sgy --labels mask.sgy --inlines 120,160,200
      saltseg lines survey.sgy --labels masks --inlines 120,160,200       masks/120.png and so on

    In a SEG-Y file of masks 0 is rock and one other value is salt; it may hold the labeled inlines alone. In a PNG 255
    is salt; rows are samples, and columns are the traces from the first to the last of the inline, gaps included.

    The usual steps follow. Train with folds.scheme=grouped, and a network is scored on lines that it did not see.
    Fine-tune from another run with --set train.init_from=file:output/runs/RUN/fold_0/network.ckpt. The prediction of
    the survey takes --clip and --polarity from here.
    """
    from saltseg.pipeline import survey_lines

    options = survey_lines.Options(clip, polarity == "reversed", step)
    dataset = name or _dataset_name(survey)
    image = opened(survey, inline_byte, crossline_byte)
    masks: survey_lines.Labels
    if labels.is_dir():
        masks = survey_lines.PngLabels(labels)
    else:
        masks = survey_lines.SegyLabels(opened(labels, inline_byte, crossline_byte), image)
    chosen = numbers("--inlines", inlines, signed=True)
    made = survey_lines.make_dataset(image, masks, chosen, input_dir, dataset, options, overwrite)
    for warning in made.warnings:
        print(f"warning: {warning}")
    print(f"{made.root}: {made.state}, {made.tiles} tiles of {len(set(chosen))} inlines")
    words = ["saltseg", "run", "recipe_lite0", "--data", made.root.name]
    if len(set(chosen)) == 1:
        return [*words, "--holdout", "0.2"]
    return [*words, "--set", "folds.scheme=grouped", "--set", f"folds.count={min(5, len(set(chosen)))}"]


def _dataset_name(survey: Path) -> str:
    """The survey's name; raises InputError where a dataset cannot have it."""
    from saltseg.data import competition

    try:
        return competition.check_name(survey.stem)
    except InputError as error:
        raise InputError(f"{error}; give another name with --name") from None


@verb("simulate-survey")
def simulate_survey(
    target: Annotated[Path, Argument(metavar="SURVEY", help="new SEG-Y file; the mask is NAME_mask beside it")],
    inlines: Annotated[int, Option(min=32, max=10_000, metavar="N", help="lines")] = 120,
    crosslines: Annotated[int, Option(min=32, max=10_000, metavar="N", help="traces of a line")] = 180,
    samples: Annotated[int, Option(min=32, max=65535, metavar="N", help="of a trace")] = 240,
    dead_share: Annotated[float, Option(metavar="SHARE", help="of the traces that are all 0")] = 0.0,
    seed: Annotated[int, Option(min=0, metavar="SEED", help="the same seed gives the same bytes")] = 0,
) -> Result:
    """Simulate a 3-D survey with a salt dome, as SEG-Y, together with its true mask.

      saltseg simulate-survey survey.sgy
      saltseg simulate-survey large.sgy --inlines 400 --crosslines 500 --samples 600 --seed 1

    The dome has an overhang, the layers have faults, the edge is ragged. Inlines are numbered from 100.
    """
    from tqdm import tqdm

    from saltseg.synthetic import survey

    size = survey.SurveySize(inlines, crosslines, samples, dead_share=dead_share)
    with tqdm(desc="simulating", total=inlines, unit="line", delay=1) as bar:
        mask = survey.simulate_survey(target, size, seed, progress=bar.update)
    print(f"{target}, its true mask {mask}")
    return ["saltseg", "scan", str(target)]


@verb("score-survey")
def score_survey(
    predicted: Annotated[Path, Argument(metavar="PREDICTED", help="SEG-Y file of a mask")],
    true: Annotated[Path, Argument(metavar="TRUE", help="SEG-Y file of the true mask")],
    without: Annotated[
        str, Option(metavar="120,160", help="inlines to leave out: those trained on", show_default=False)
    ] = "",
    inline_byte: InlineByte = None,
    crossline_byte: CrosslineByte = None,
    as_line: AsLine = False,
) -> Result:
    """Score a predicted mask of a survey against the true one.

      saltseg score-survey salt_mask.sgy mask.sgy --without 120,160,200
      saltseg score-survey salt_mask.sgy mask.sgy --as-line                as the survey was predicted

    IoU, precision and recall over all samples of all lines but those that were trained on, and by distance from them:
    neighboring lines look alike, so a line beside a labeled one is easy. A mask has 0 and one other value, which is
    salt.
    """
    from saltseg.pipeline import survey_score

    left_out = numbers("--without", without, signed=True) if without else []
    found, truth = (opened(path, inline_byte, crossline_byte, as_line) for path in (predicted, true))
    total, by_distance = survey_score.score_survey(found, truth, left_out)
    rows: dict[str, Any] = {"all": total, **{f"{away} away": score for away, score in by_distance.items()}}
    width = max(map(len, rows))
    print(f"{'lines':<{width}}  count     IoU  precision  recall")
    for name, row in rows.items():
        scores = row.scores
        print(f"{name:<{width}}  {row.lines:>5}  {scores.iou:.4f}     {scores.precision:.4f}  {scores.recall:.4f}")
    return 0

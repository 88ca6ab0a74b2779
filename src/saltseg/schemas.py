"""What the files of a run must hold, and their one reader.

A key that is not listed may be there, too. Numbers are finite and in range, so that whoever uses them need not check.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from saltseg import io
from saltseg.errors import InputError

_JSON = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)  # nothing is bent: "3" is no number
_CSV = ConfigDict(extra="allow")  # cells are text
_STATE = ConfigDict(extra="allow", strict=True)

Whole = Annotated[int, Field(ge=0, le=2**53)]
Score = Annotated[float, Field(ge=0, le=1)]
Change = Annotated[float, Field(ge=-1, le=1)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
Name = Annotated[str, Field(pattern="^[A-Za-z0-9][A-Za-z0-9._+-]*$")]  # as `runs.run_dir` demands
Text = Annotated[str, Field(min_length=1)]
Interval = Annotated[list[Score], Field(min_length=2, max_length=2)]
ChangeInterval = Annotated[list[Change], Field(min_length=2, max_length=2)]
Curve = Annotated[list[Score], Field(min_length=255, max_length=255)]
By = Literal["image", "section"]  # what was resampled for the intervals


# ---------------------------------------------------------------- provenance.json


@with_config(_JSON)
class Evidence(TypedDict):
    """What `saltseg.pipeline.blend` measured when it fitted weights."""

    groups: Text
    equal: Score
    fitted: Score
    difference: Change
    interval: ChangeInterval
    selected: bool
    weights: NotRequired[list[Whole]]
    by: NotRequired[By]


@with_config(_JSON)
class Origin(TypedDict, total=False):
    """Of any result, see `saltseg.provenance.record`."""

    created: str
    command: str
    machine: str
    git_commit: str | None
    precision: Literal["32", "bf16", "fp16"] | None
    transduction: bool


@with_config(_JSON)
class RunProvenance(Origin):
    """Of a run or a blend."""

    dataset: Text
    dataset_hash: Text
    folds_hash: Text
    synthetic: bool
    devices: NotRequired[Annotated[int, Field(ge=1)]]
    unlabeled_hash: NotRequired[Text]
    epoch_chosen_in: NotRequired[list[Text]]
    members: NotRequired[list[Name]]
    weights: NotRequired[list[Whole]]
    evidence: NotRequired[Evidence | None]


@with_config(_JSON)
class PretrainingProvenance(Origin):
    """Of a pretraining, which has no folds."""

    method: Literal["synthetic", "masked"]
    dataset: NotRequired[Text | None]


def _one_weight_each(value: dict[str, Any]) -> dict[str, Any]:
    weights, members = value.get("weights"), value.get("members", [])
    if weights is not None and (len(weights) != len(members) or (weights and not any(weights))):
        raise ValueError(f"there are {len(members)} members and the weights {weights[:9]}, which must not all be 0")
    return value


# ---------------------------------------------------------------- metrics.json, log.csv, image_scores.csv


@with_config(_JSON)
class Metrics(TypedDict):
    """Of a fold. None: not measured, as scores of a run whose labels come from all folds."""

    fold: Whole
    tta: list[Text]
    tta_begun: NotRequired[list[Text]]  # while the fold is predicted again, with these views
    n_train: Whole
    n_valid: Whole
    n_pseudo: NotRequired[Whole]
    epochs: Whole
    best_epoch: Whole
    best_epoch_chosen_by: Text
    diverged_at_epoch: NotRequired[Whole | None]
    train_loss: float
    valid_loss: float | None
    log_loss: NotRequired[float | None]
    valid_pixel_accuracy: Score | None
    score_at_half: Score | None
    score_at_half_no_tta: Score | None
    train_pixel_accuracy: Score | None
    train_score_at_half: Score | None
    seconds: Seconds
    images_per_second: Annotated[float, Field(ge=0)]
    peak_memory_mb: Whole | None
    peak_gpu_memory_mb: NotRequired[Whole | None]
    pseudo_checksums: NotRequired[list[str]]
    weights_source: NotRequired[str]
    git_commit: NotRequired[str | None]
    finished: Text


@with_config(_CSV)
class LogRow(TypedDict):
    """Of an epoch. NaN: not validated, or diverged."""

    epoch: Annotated[int, Field(ge=1, le=10**6)]
    train_loss: float
    valid_loss: float
    learning_rate: float


@with_config(_CSV)
class ImageScore(TypedDict):
    """Of an out-of-fold image, see `saltseg.pipeline.compare.image_scores`."""

    id: Text
    fold: Whole
    section: NotRequired[Text]
    score_at_half: Score
    score_tuned_cv: Score
    score_postprocessed_cv: Score


# ---------------------------------------------------------------- postprocess.json and what follows from it


@with_config(ConfigDict(extra="forbid", strict=True))
class Postprocessing(TypedDict):
    """The parameters of `saltseg.postprocessing.parameters.Postprocessing`."""

    threshold: Annotated[int, Field(ge=1, le=255)]
    min_area: Whole
    fill_holes: NotRequired[bool]
    hysteresis_high: NotRequired[Annotated[int, Field(ge=0, le=255)]]
    presence_threshold: NotRequired[Annotated[int, Field(ge=0, le=255)]]


@with_config(_JSON)
class Tuned(TypedDict):
    """Parameters with their score."""

    score: Score
    postprocessing: Postprocessing


@with_config(_JSON)
class CrossFitted(TypedDict):
    """A cross-fitted score."""

    score: Score
    interval: Interval


@with_config(_JSON)
class Gain(TypedDict):
    """A paired difference."""

    mean: Change
    interval: ChangeInterval


@with_config(_JSON)
class Step(TypedDict):
    """A step of post-processing that was tried."""

    step: Text
    selected: bool
    score: Score
    gain: Gain


@with_config(_JSON)
class Curves(TypedDict):
    """Scores by threshold."""

    threshold: Annotated[list[int], Field(min_length=255, max_length=255)]
    score: Curve
    score_no_min_area: Curve


@with_config(_JSON)
class CoverageScore(TypedDict):
    """The score of the images of a coverage class."""

    coverage_class: Annotated[int, Field(ge=0, le=10)]
    n: Whole
    score: Score


@with_config(_JSON)
class Pixel(TypedDict):
    """Pixel scores at threshold 0.5."""

    accuracy: Score


@with_config(_JSON)
class Postprocess(TypedDict):
    """See `saltseg.postprocessing.summary.summarize`."""

    postprocessing: Postprocessing
    selected: Literal["tuned", "half"]
    why: NotRequired[str]
    n: Whole
    by: NotRequired[By]
    folds: list[Whole]
    cross_fit_groups: Text
    score_at_half: Score
    argmax: Tuned
    smoothed_argmax: Tuned
    cross_fitted: CrossFitted
    curve: Curves
    tuning_gain: Gain
    steps: NotRequired[list[Step]]
    log_loss: float
    pixel: Pixel
    per_coverage: list[CoverageScore]
    oof_hash: NotRequired[Text]


@with_config(_JSON)
class PostprocessingSource(TypedDict):
    """Whose post-processing a submission has."""

    postprocessing_from: Name
    postprocessing: Postprocessing


@with_config(_JSON)
class SolutionScore(TypedDict):
    """See `saltseg.data.submission.SubmissionScore`."""

    all: Score
    public: Score | None
    private: Score | None
    n: NotRequired[Whole]


@with_config(_JSON)
class Evaluation(TypedDict):
    """Of on_DATASET.json, see `saltseg.pipeline.evaluate`."""

    run: Text
    dataset: Text
    n: Whole
    score_at_half: Score
    score_postprocessed: Score
    interval: Interval
    by: NotRequired[By]


@with_config(_JSON)
class PseudoLabelsRecord(TypedDict):
    """Which images without labels the folds of a run have labeled."""

    folder: Text
    limit: NotRequired[Annotated[int, Field(ge=1)] | None]
    n: Whole
    hash: Text
    checksums: NotRequired[dict[str, str]]


# ---------------------------------------------------------------- last.ckpt


@with_config(_STATE)
class EpochRow(TypedDict):
    """Of an epoch, see `saltseg.training.callbacks.EpochLog`."""

    epoch: int
    train_loss: float
    valid_loss: float
    valid_frame_accuracy: float
    learning_rate: float
    seconds: float
    images_per_second: float


@with_config(_STATE)
class LogState(TypedDict):
    """Of the log."""

    rows: list[EpochRow]
    pseudo_labels_hash: NotRequired[str]


@with_config(_STATE)
class StoppingState(TypedDict):
    """Of Lightning's early stopping."""

    wait_count: int
    stopped_epoch: int


@with_config(_STATE)
class Callbacks(TypedDict):
    """Under the names that `saltseg.training.trainer` reads them by."""

    EpochLog: LogState
    EarlyStopping: StoppingState


@with_config(_STATE)
class LastCheckpoint(TypedDict):
    """What a training goes on from; the rest is Lightning's."""

    callbacks: Callbacks
    state_dict: dict[str, Any]
    optimizer_states: list[Any]
    lr_schedulers: list[Any]
    loops: dict[str, Any]
    epoch: int
    global_step: int


# ---------------------------------------------------------------- the reader

SCHEMAS: dict[str, Any] = {
    "provenance.json": Annotated[RunProvenance, AfterValidator(_one_weight_each)],
    "dataset.json": dict[str, str],
    "metrics.json": Metrics,
    "postprocess.json": Postprocess,
    "postprocessing_source.json": PostprocessingSource,
    "solution_score.json": SolutionScore,
    "pseudo.json": PseudoLabelsRecord,
    "log.csv": Annotated[list[LogRow], Field(min_length=1)],
    "image_scores.csv": Annotated[list[ImageScore], Field(min_length=1)],
}
_WAYS_OUT = {
    "provenance.json": "restore it, or train the run again under another name",
    "metrics.json": "restore it, or remove the fold's folder and train it again",
}


def read(path: Path) -> Any:
    """Read a file of a run by its name: JSON as plain values, CSV as a list of rows whose numbers are numbers.

    Raises:
        InputError: in one line with the key, the value and the way out: the file is missing, damaged, too large, or
            lacks a key, or a value has another type or is out of range.
    """
    schema = Evaluation if path.name.startswith("on_") else SCHEMAS[path.name]
    value = io.read_csv(path) if path.suffix == ".csv" else io.read_json(path)
    run = path.parent.parent.name in ("runs", "blends", "published")
    if path.name == "provenance.json" and not run and isinstance(value, dict) and "method" in value:
        schema = PretrainingProvenance
    return check(path, value, schema, _WAYS_OUT.get(path.name, "delete it and run the step that writes it again"))


def check(path: Path, value: Any, schema: Any, way_out: str) -> Any:
    """``value``, read from ``path``, if it is what ``schema`` (any type that pydantic knows) describes.

    Raises:
        InputError: it is not; ``way_out`` ends the message.
    """
    try:
        return _adapter(schema).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{path}: {_problem(error)}; {way_out}") from None


@cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


def _problem(error: ValidationError) -> str:
    """The first problem that pydantic found: where and what."""
    problem = error.errors(include_url=False, include_context=False)[0]
    row = [f"row {part + 2}" for part in problem["loc"][:1] if isinstance(part, int)]  # row 1 is the header
    key = ".".join(str(part) for part in problem["loc"][len(row) :])
    where = ", ".join([*row, *([key] if key else [])])
    if problem["type"] == "missing":
        return f"no {where} in it" if not row else f"{row[0]} has no {key}"
    value = repr(problem["input"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"{where or 'its content'} is {value if len(value) <= 60 else f'{value[:60]}…'}: {message}"

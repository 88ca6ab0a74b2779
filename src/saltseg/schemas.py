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

# mypy: disable-error-code="misc, operator, valid-type"
# Mappings are types that are made when this module is imported.
_JSON = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)  # nothing is bent: "3" is no number
_CSV = ConfigDict(extra="allow")  # cells are text
_STATE = ConfigDict(extra="allow", strict=True)

Whole = Annotated[int, Field(ge=0, le=2**53)]
Byte = Annotated[int, Field(ge=0, le=255)]
Score = Annotated[float, Field(ge=0, le=1)]
Change = Annotated[float, Field(ge=-1, le=1)]
Seconds = Annotated[float, Field(ge=0, le=1e9)]
NAME = "[A-Za-z0-9][A-Za-z0-9._+-]*"  # of a run or a model
Name = Annotated[str, Field(pattern=f"^{NAME}$")]
Text = Annotated[str, Field(min_length=1)]
Interval = Annotated[list[Score], Field(min_length=2, max_length=2)]
ChangeInterval = Annotated[list[Change], Field(min_length=2, max_length=2)]
Curve = Annotated[list[Score], Field(min_length=255, max_length=255)]
By = Literal["image", "section"]  # what was resampled for the intervals


def _keys(config: ConfigDict = _JSON, /, **types: Any) -> Any:
    """A mapping with a value of its type for each key."""
    return with_config(config)(TypedDict("Keys", types))


# ---------------------------------------------------------------- provenance.json

# What `saltseg.pipeline.blend` measured when it fitted weights.
EVIDENCE = _keys(
    groups=Text,
    equal=Score,
    fitted=Score,
    difference=Change,
    interval=ChangeInterval,
    selected=bool,
    weights=NotRequired[list[Whole]],
    by=NotRequired[By],
)
# Of any result, see `saltseg.provenance.record`.
ORIGIN: dict[str, Any] = {
    "created": NotRequired[str],
    "command": NotRequired[str],
    "machine": NotRequired[str],
    "git_commit": NotRequired[str | None],
    "precision": NotRequired[Literal["32", "bf16", "fp16"] | None],
    "transduction": NotRequired[bool],
}
RUN_PROVENANCE = _keys(
    **ORIGIN,
    dataset=Text,
    dataset_hash=Text,
    folds_hash=Text,
    synthetic=bool,
    devices=NotRequired[Annotated[int, Field(ge=1)]],
    unlabeled_hash=NotRequired[Text],
    epoch_chosen_in=NotRequired[list[Text]],
    members=NotRequired[list[Name]],
    weights=NotRequired[list[Whole]],
    evidence=NotRequired[EVIDENCE | None],
)
PRETRAINING_PROVENANCE = _keys(**ORIGIN, method=Literal["synthetic", "masked"], dataset=NotRequired[Text | None])


def _one_weight_each(value: dict[str, Any]) -> dict[str, Any]:
    weights, members = value.get("weights"), value.get("members", [])
    if weights is not None and (len(weights) != len(members) or (weights and not any(weights))):
        raise ValueError(f"there are {len(members)} members and the weights {weights[:9]}, which must not all be 0")
    return value


# ---------------------------------------------------------------- of a fold

# None: not measured, as scores of a run whose labels come from all folds; or a training loss that is not finite.
METRICS = _keys(
    fold=Whole,
    tta=list[Text],
    tta_begun=NotRequired[list[Text]],  # while the fold is predicted again, with these views
    predicted_with=NotRequired[Text],
    n_train=Whole,
    n_valid=Whole,
    n_pseudo=NotRequired[Whole],
    epochs=Whole,
    best_epoch=Whole,
    best_epoch_chosen_by=Text,
    diverged_at_epoch=NotRequired[Whole | None],
    train_loss=float | None,
    valid_loss=float | None,
    log_loss=NotRequired[float | None],
    valid_pixel_accuracy=Score | None,
    score_at_half=Score | None,
    score_at_half_no_tta=Score | None,
    train_pixel_accuracy=Score | None,
    train_score_at_half=Score | None,
    seconds=Seconds,
    images_per_second=Annotated[float, Field(ge=0)],
    peak_memory_mb=Whole | None,
    peak_gpu_memory_mb=NotRequired[Whole | None],
    pseudo_checksums=NotRequired[list[str]],
    weights_source=NotRequired[str],
    git_commit=NotRequired[str | None],
    finished=Text,
)
# NaN: not validated, or diverged.
LOG_ROW = _keys(
    _CSV, epoch=Annotated[int, Field(ge=1, le=10**6)], train_loss=float, valid_loss=float, learning_rate=float
)
# Of an out-of-fold image, see `saltseg.pipeline.compare.image_scores`.
IMAGE_SCORE = _keys(
    _CSV,
    id=Text,
    fold=Whole,
    section=NotRequired[Text],
    score_at_half=Score,
    score_tuned_cv=Score,
    score_postprocessed_cv=Score,
)

# ---------------------------------------------------------------- postprocess.json and what follows from it

# The parameters of `saltseg.postprocessing.parameters.Postprocessing`.
POSTPROCESSING = _keys(
    ConfigDict(extra="forbid", strict=True),
    threshold=Annotated[int, Field(ge=1, le=255)],
    min_area=Whole,
    fill_holes=NotRequired[bool],
    hysteresis_high=NotRequired[Byte],
    presence_threshold=NotRequired[Byte],
)
TUNED = _keys(score=Score, postprocessing=POSTPROCESSING)
GAIN = _keys(mean=Change, interval=ChangeInterval)
# See `saltseg.postprocessing.summary.summarize`.
POSTPROCESS = _keys(
    postprocessing=POSTPROCESSING,
    selected=Literal["tuned", "half"],
    why=NotRequired[str],
    n=Whole,
    by=NotRequired[By],
    folds=list[Whole],
    cross_fit_groups=Text,
    score_at_half=Score,
    argmax=TUNED,
    smoothed_argmax=TUNED,
    cross_fitted=_keys(score=Score, interval=Interval, nested=NotRequired[bool]),
    curve=_keys(
        threshold=Annotated[list[int], Field(min_length=255, max_length=255)], score=Curve, score_no_min_area=Curve
    ),
    tuning_gain=GAIN,
    steps=NotRequired[list[_keys(step=Text, selected=bool, score=Score, gain=GAIN)]],
    log_loss=float,
    pixel=_keys(accuracy=Score),
    per_coverage=list[_keys(coverage_class=Annotated[int, Field(ge=0, le=10)], n=Whole, score=Score)],
    oof_hash=NotRequired[Text],
)
# Whose post-processing a submission has.
POSTPROCESSING_SOURCE = _keys(postprocessing_from=Name, postprocessing=POSTPROCESSING)
# See `saltseg.data.submission.SubmissionScore`.
SOLUTION_SCORE = _keys(all=Score, public=Score | None, private=Score | None, n=NotRequired[Whole])
# Of on_DATASET.json, see `saltseg.pipeline.evaluate`.
EVALUATION = _keys(
    run=Text,
    dataset=Text,
    n=Whole,
    score_at_half=Score,
    score_postprocessed=Score,
    interval=Interval,
    by=NotRequired[By],
    networks=NotRequired[Whole],
)
# Which images without labels the folds of a run have labeled.
PSEUDO_LABELS = _keys(
    folder=Text,
    limit=NotRequired[Annotated[int, Field(ge=1)] | None],
    n=Whole,
    hash=Text,
    checksums=NotRequired[dict[str, str]],
)

# ---------------------------------------------------------------- model.json

FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.]*$")]
# Of a released model, see `saltseg.pipeline.release`.
MODEL = _keys(
    format=Literal[1],
    name=Name,
    license=Text,
    files=dict[FileName, Annotated[str, Field(pattern="^[0-9a-f]{64}$")]],
    weights=Annotated[list[FileName], Field(min_length=1)],
    tta=Annotated[list[Text], Field(min_length=1)],
    postprocessing=POSTPROCESSING,
    run=Name,
    fold=Whole,
    start=Text,
    data=_keys(
        dataset=Text,
        kind=Literal["simulated", "tgs", "other"],
        source=dict[str, Any],
        n_train=Whole,
        n_pseudo=Whole,
        epochs=Whole,
        epoch=Whole,
        epoch_chosen_by=Text,
    ),
    score=_keys(n=Whole, at_half=Score, postprocessed=Score, interval=Interval, by=By, fitted_on=Text),
    half_precision=_keys(difference=_keys(at_half=GAIN, postprocessed=GAIN), largest_change=Byte, changed_pixels=Score),
    reversed_polarity=_keys(postprocessed=Score, difference=GAIN),
    speed=_keys(tiles_per_second=Annotated[float, Field(ge=0)], machine=Text),
    elsewhere=list[_keys(dataset=Text, n=Whole, score_postprocessed=Score, interval=Interval, networks=Whole)],
)


def _hash_of_all_weights(value: dict[str, Any]) -> dict[str, Any]:
    if unknown := [name for name in (*value["weights"], "config.yaml") if name not in value["files"]]:
        raise ValueError(f"weights or configuration without a hash: {unknown[:3]}")
    return value


# ---------------------------------------------------------------- last.ckpt

# Of an epoch, see `saltseg.training.callbacks.EpochLog`.
_EPOCH = _keys(
    _STATE,
    epoch=int,
    train_loss=float,
    valid_loss=float,
    valid_frame_accuracy=float,
    learning_rate=float,
    seconds=float,
    images_per_second=float,
)
_LOG = _keys(_STATE, rows=list[_EPOCH], pseudo_labels_hash=NotRequired[str])
# What a training goes on from; the rest is Lightning's. Callbacks: under the names that the trainer reads them by.
LAST_CHECKPOINT = _keys(
    _STATE,
    callbacks=_keys(_STATE, EpochLog=_LOG, EarlyStopping=_keys(_STATE, wait_count=int, stopped_epoch=int)),
    state_dict=dict[str, Any],
    optimizer_states=list[Any],
    lr_schedulers=list[Any],
    loops=dict[str, Any],
    epoch=int,
    global_step=int,
)

# ---------------------------------------------------------------- the reader

SCHEMAS: dict[str, Any] = {
    "provenance.json": Annotated[RUN_PROVENANCE, AfterValidator(_one_weight_each)],
    "dataset.json": dict[str, str],
    "metrics.json": METRICS,
    "postprocess.json": POSTPROCESS,
    "postprocessing_source.json": POSTPROCESSING_SOURCE,
    "solution_score.json": SOLUTION_SCORE,
    "pseudo.json": PSEUDO_LABELS,
    "model.json": Annotated[MODEL, AfterValidator(_hash_of_all_weights)],
    "log.csv": Annotated[list[LOG_ROW], Field(min_length=1)],
    "image_scores.csv": Annotated[list[IMAGE_SCORE], Field(min_length=1)],
}
_WAYS_OUT = {
    "provenance.json": "restore it, or train the run again under another name",
    "metrics.json": "restore it, or remove the fold's folder and train it again",
    "model.json": "fetch the model again, or release it again with saltseg release",
}


def read(path: Path) -> Any:
    """Read a file of a run by its name: JSON as plain values, CSV as a list of rows whose numbers are numbers.

    Raises:
        InputError: in one line with the key, the value and the way out: the file is missing, damaged, too large, or
            lacks a key, or a value has another type or is out of range.
    """
    schema = EVALUATION if path.name.startswith("on_") else SCHEMAS[path.name]
    value = io.read_csv(path) if path.suffix == ".csv" else io.read_json(path)
    is_run = path.parent.parent.name in ("runs", "blends", "published")
    if path.name == "provenance.json" and not is_run and isinstance(value, dict) and "method" in value:
        schema = PRETRAINING_PROVENANCE
    return check(path, value, schema, _WAYS_OUT.get(path.name, "delete it and run the step that writes it again"))


# ---------------------------------------------------------------- details of a record of the case study


def _counts(each: Any) -> Any:
    return _keys(intersection=each, predicted=each, missed=each, invented=each)


_THRESHOLDS = Annotated[list[Whole], Field(min_length=256, max_length=256)]
_TOTALS = _keys(thresholds=_counts(_THRESHOLDS), n=Whole, images_with_salt=Whole, pixels=Whole, true_pixels=Whole)
_SIDE = _keys(pixel_accuracy=Score, score_at_half=Score)
_MEAN_OVER_ONE = _keys(alone=Score, together=Score, gain=Change, interval=ChangeInterval)
_EPOCHS = Annotated[
    list[_keys(epoch=float, train_loss=float, valid_loss=float, learning_rate=float)], Field(min_length=1)
]
CASE_DETAILS = _keys(  # see `saltseg.studies.case_study.measure.details`
    folds=Annotated[list[Whole], Field(min_length=1)],
    image_folds=Annotated[str, Field(pattern="^[0-9]+$")],
    pixel_accuracy=Score,
    totals=_TOTALS,
    tuned=_counts(Whole),
    boundary=_keys(distance=list[int], pixels=list[Whole], errors=list[Whole]),
    curves=list[_EPOCHS],
    train=_SIDE,
    valid=_SIDE,
    parameters=Whole,
    operations=Whole,
    ensemble=NotRequired[
        _keys(
            folds=list[Whole],
            n=Whole,
            trained=Whole,
            score_at_half=_MEAN_OVER_ONE,
            score_tuned_cv=_MEAN_OVER_ONE,
            alone=_TOTALS,
            together=_TOTALS,
        )
        | None
    ],
)


def check(path: Path, value: Any, schema: Any, way_out: str) -> Any:
    """``value``, read from ``path``, if it is what ``schema`` (any type that pydantic knows) describes.

    Raises:
        InputError: it is not; ``way_out`` ends the message.
    """
    try:
        return _adapter(schema).validate_python(value)
    except ValidationError as error:
        raise InputError(f"{path}: {first_problem(error)}; {way_out}") from None


@cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    return TypeAdapter(schema)


PROBLEMS = {  # pydantic's kind of problem → in our words
    "greater_than": "it must be above {gt:g}",
    "greater_than_equal": "it must be at least {ge:g}",
    "less_than": "it must be below {lt:g}",
    "less_than_equal": "it must be at most {le:g}",
    "literal_error": "choose one of {expected}",
    "union_tag_invalid": "choose one of {expected_tags}",
    "int_type": "expected int",
    "float_type": "expected float",
    "bool_type": "expected bool",
    "string_type": "expected str",
    "too_short": "give at least {min_length}",
    "dataclass_type": "expected key: value pairs",
    "dataclass_exact_type": "expected key: value pairs",
}


def first_problem(error: ValidationError, key: str = "") -> str:
    """The first problem that pydantic found, in one line: where, the value and what is wrong with it.

    A number that begins the place is the row of a table; row 1 is its header. key: the place, if it has another name.
    """
    problem = error.errors(include_url=False)[0]
    row = [f"row {part + 2}" for part in problem["loc"][:1] if isinstance(part, int)]
    key = key or ".".join(str(part) for part in problem["loc"][len(row) :])
    if problem["type"] == "missing":
        return f"{row[0]} has no {key}" if row else f"no {key} in it"
    message = PROBLEMS.get(problem["type"], "").format_map(problem.get("ctx", {}))
    if message.startswith("choose"):
        message = message.replace("'", "").replace(" or ", ", ")
    other = problem["msg"].removeprefix("Value error, ")
    where = ", ".join(filter(None, [*row, key])) or "its content"
    return f"{where} is {shortened(problem['input'])}; {message or other[:1].lower() + other[1:]}"


def shortened(value: Any, most: int = 100) -> str:
    """A value as Python writes it, cut after ``most`` characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}…"

"""One frozen configuration: read, changed by ``--set``, compared and saved beside every result.

`Config` is everything that decides a run's numbers, apart from the data. `Runtime` is how a machine computes them: it
is not part of a run's identity and is not saved. `saltseg.config_schema` holds all defaults and constraints, and
``saltseg settings`` prints them.

``override(config, ["train.epochs=3"])`` is what ``--set`` does. `to_mapping` and `from_mapping` are inverse to each
other, so a saved ``config.yaml`` can be trained from again.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from saltseg import yaml12
from saltseg.config_schema import (
    UNIONS,
    Config,
    ConstantSchedule,
    CosineSchedule,
    DataConfig,
    FCNConfig,
    FoldsConfig,
    MeanTeacher,
    ModelConfig,
    OneCycleSchedule,
    PlateauSchedule,
    PredictConfig,
    PseudoConfig,
    PseudoLabels,
    Runtime,
    SmpConfig,
    TrainConfig,
    UNetConfig,
    as_kind,
    has_presence_head,
)  # fmt: skip
from saltseg.errors import InputError, unknown_name
from saltseg.schemas import first_problem, shortened

__all__ = [
    "Config", "ConstantSchedule", "CosineSchedule", "DataConfig", "FCNConfig", "FoldsConfig", "MeanTeacher",
    "ModelConfig", "OneCycleSchedule", "PlateauSchedule", "PredictConfig", "PseudoConfig", "PseudoLabels", "Runtime",
    "SmpConfig", "TrainConfig", "UNetConfig", "change", "differences", "dump", "flat", "from_mapping",
    "has_presence_head", "load", "override", "settings", "to_mapping", "weights_file",
]  # fmt: skip

FILE = "file:"  # begins a source of weights that is a file
_ADAPTER = TypeAdapter(Config)


def to_mapping(config: Config) -> dict[str, Any]:
    """Nested plain mapping without ``runtime`` (tuples become lists), ready for YAML."""
    return _ADAPTER.dump_python(config, mode="json", exclude={"runtime"})


def from_mapping(mapping: Any) -> Config:
    """Build a configuration; raise InputError for an unknown key (naming the nearest) or a value that does not fit."""
    if not isinstance(mapping, Mapping):
        raise InputError(f"configuration is {shortened(mapping)}; expected key: value pairs")
    try:
        return _ADAPTER.validate_python({str(key): value for key, value in mapping.items()})
    except ValidationError as error:
        raise InputError(_line(error)) from None


def _line(error: ValidationError) -> str:
    """The first problem that pydantic found, in one line in our words."""
    problem = error.errors(include_url=False)[0]
    known, parts = set(setting_names()), [part for part in problem["loc"] if isinstance(part, str)]
    chosen: tuple[str, str] | None = None  # a union around the setting, and its kind
    for path, (_, kinds) in UNIONS.items():  # pydantic names the kind between a union and its settings
        depth = path.count(".") + 1
        if ".".join(parts[:depth]) == path and parts[depth : depth + 1] and parts[depth] in kinds:
            chosen = path, parts[depth]
            del parts[depth]
    key, kind = ".".join(parts), problem["type"]
    if isinstance(refused := problem.get("ctx", {}).get("error"), InputError):
        return str(refused)
    if kind in ("unexpected_keyword_argument", "extra_forbidden"):
        if key in known and chosen is not None:
            return _foreign(key, *chosen)
        return unknown_name("configuration key", key, sorted(known))
    if key == "model.architecture" and kind == "string_pattern_mismatch":
        return f"{key} is {shortened(problem['input'])}; choose unet, fcn or one of smp's, such as smp.Unet or smp.FPN"
    if kind == "missing" and key == "pseudo.teacher":
        return "pseudo has no labels to learn from; set pseudo.teacher=RUN or pseudo.images=FOLDER"
    return first_problem(error, key)


def _foreign(key: str, path: str, chosen: str) -> str:
    """The message for a setting of another kind of a union than the chosen one."""
    if key == "pseudo.teacher":
        return "pseudo.teacher and pseudo.images exclude each other; set one of the two"
    names = {
        "smp": "smp.…", "teacher": "pseudo.teacher", "mean_teacher": "pseudo.images",
    }  # fmt: skip
    own = key.rpartition(".")[2]
    owners = [
        names.get(kind, kind)
        for kind, cls in UNIONS[path][1].items()
        if own in {field.name for field in dataclasses.fields(cls)}
    ]
    setting = {"model": "model.architecture=", "train.schedule": "train.schedule=", "pseudo": ""}[path]
    return f"{setting}{names.get(chosen, chosen)} has no {own}; it belongs to {', '.join(owners)}"


def override(config: Config, assignments: Iterable[str]) -> Config:
    """``config`` with ``section.key=value`` assignments applied: what ``--set`` does, a section before its settings.

    Values are read as YAML 1.2: ``3``, ``1e-3``, ``true``, ``[identity, hflip]``; JSON is YAML.

    Raises:
        InputError: no "=", a value that cannot be read, an unknown key, a value that does not fit.
    """
    changes = {}
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise InputError(f"--set {shortened(assignment)}: no '='; write for example --set train.epochs=3")
        try:
            changes[key.strip()] = yaml12.parse(text)
        except ValueError as error:
            raise InputError(f"--set {shortened(assignment)}: {error}; write a number, a word or [a, b]") from None
    whole = {path: changes[path] for path in UNIONS if changes.get(path) is not None}
    return change(config, whole | changes)


def change(config: Config, changes: Mapping[str, Any]) -> Config:
    """``config`` with settings changed, ``{"train.epochs": 3}``, in order.

    Where a change chooses another kind of model, schedule or pseudo-labels, settings that this kind does not have are
    left out. Raises InputError for an unknown key (naming the nearest) or a value that does not fit.
    """
    mapping: dict[str, Any] = _ADAPTER.dump_python(config, mode="json")
    known = set(setting_names())
    for key, value in changes.items():
        if key not in known and key not in UNIONS:
            raise InputError(unknown_name("configuration key", key, sorted(known)))
        *sections, last = key.split(".")
        target = mapping
        for section in sections:
            if not isinstance(target.get(section), dict):
                target[section] = {}
            target = target[section]
        target[last] = _section(key, value) if key in UNIONS and value is not None else value
    for path in UNIONS:
        _drop_foreign(mapping, path, set(changes))
    return from_mapping(mapping)


def _section(path: str, value: Any) -> dict[str, Any]:
    """What is assigned to a whole union: settings, or the word that names a schedule."""
    value = as_kind(value) if path == "train.schedule" else value
    if isinstance(value, Mapping):
        return dict(value)
    example = {"model": "model.architecture=fcn", "train.schedule": "train.schedule=cosine"}
    raise InputError(
        f"{path} is {shortened(value)}; expected key: value pairs; write for example "
        f"{example.get(path, 'pseudo.teacher=RUN')}"
    )


def _drop_foreign(mapping: dict[str, Any], path: str, assigned: set[str]) -> None:
    """Leave out inherited settings that the chosen kind of a union does not have."""
    (kind_of, kinds), (*sections, last) = UNIONS[path], path.split(".")
    parent = mapping
    for section in sections:
        parent = parent[section]
    value = parent.get(last)
    if not isinstance(value, dict):
        return
    chosen = kinds.get(kind_of(value))
    if chosen is not None:
        own = {field.name for field in dataclasses.fields(chosen)}
        parent[last] = {k: v for k, v in value.items() if k in own or f"{path}.{k}" in assigned}


def setting_names() -> list[str]:
    """Every setting as ``--set`` calls it, of every kind of model, schedule and pseudo-labels, in order."""
    return list(dict.fromkeys(name for name, _, _ in settings()))


def settings() -> Iterable[tuple[str, dataclasses.Field, type]]:
    """Every setting: its name, its field and the class that it stands in."""
    for section in dataclasses.fields(Config):
        if section.name == "name":
            yield "name", section, Config
            continue
        kinds = UNIONS[section.name][1].values() if section.name in UNIONS else (type(getattr(Config(), section.name)),)
        for cls in kinds:
            for field in dataclasses.fields(cls):
                path = f"{section.name}.{field.name}"
                yield path, field, cls
                for kind in UNIONS[path][1].values() if path in UNIONS else ():
                    yield from ((f"{path}.{inner.name}", inner, kind) for inner in dataclasses.fields(kind))


def flat(config: Config) -> dict[str, Any]:
    """Every setting of a configuration as ``--set`` calls it, without ``runtime``; tuples become lists."""

    def walk(prefix: str, value: Any) -> Iterable[tuple[str, Any]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from walk(f"{prefix}.{key}" if prefix else key, inner)
        else:
            yield prefix, value

    return dict(walk("", to_mapping(config)))


def differences(one: Config, other: Config) -> list[str]:
    """Settings whose values differ between two configurations, ``key: a → b``; "-" for one that a side lacks."""
    first, second = flat(one), flat(other)
    keys = dict.fromkeys([*first, *second])
    return [
        f"{key}: {first.get(key, '-')} → {second.get(key, '-')}"
        for key in keys
        if first.get(key, "-") != second.get(key, "-")
    ]


def weights_file(source: str) -> Path | None:
    """The file that ``file:PATH`` names as a source of weights, "~" expanded; None for any other source."""
    return Path(source.removeprefix(FILE)).expanduser() if source.startswith(FILE) else None


def dump(config: Config) -> str:
    """YAML text of the configuration, without ``runtime``."""
    return yaml12.dump(to_mapping(config))


def load(path: Path) -> Config:
    """Read a file of what `dump` gives; every InputError names it."""
    mapping = yaml12.read(path)
    if mapping is None:  # not the defaults: a run's settings are lost
        raise InputError(f"{path} is empty; restore it, or write {{}} for the default settings")
    try:
        return from_mapping(mapping)
    except InputError as error:
        of_run = path.name == "config.yaml" and (path.parent / "provenance.json").is_file()
        older = f"; if an older version trained this run: python scripts/migrate.py {path.parent}" if of_run else ""
        raise InputError(f"{path}: {error}{older}") from None

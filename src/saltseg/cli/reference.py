"""Verbs that list what there is to choose from: experiments, settings."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from typer import Argument, Option

from saltseg.cli.command import Result, verb
from saltseg.errors import InputError, unknown_name

INTRODUCTION = """# Settings

Written by `saltseg settings --markdown`. `--set KEY=VALUE` changes a setting of an experiment; `saltseg experiments`
lists the experiments. Settings under a kind belong to that kind alone: `--set train.schedule=cosine` chooses it.
Combinations that do not fit are refused with a message that names the setting. `runtime` says how a machine computes:
it is not part of a run's identity and is not saved with it.
"""


@dataclass(frozen=True)
class Setting:
    """A setting as text: what `--set` calls it, its default ("" where it must be given), its values, its meaning."""

    name: str
    default: str
    values: str
    meaning: str


@verb("experiments")
def experiments() -> Result:
    """List the named experiments: why each exists, its base, and what it changes there.

      saltseg experiments
      saltseg train unet --data tgs --set train.epochs=3      one of them, with a setting changed

    Bases are case_study, the defaults, and pretrained, what experiments with an ImageNet encoder share.
    """
    from saltseg.experiments import BASE_CHANGES, EXPERIMENTS

    for name, changes in BASE_CHANGES.items():
        print(f"base {name}: {'what it changes in the defaults' if changes else 'the defaults (saltseg settings)'}")
        for key, value in changes.items():
            print(f"  {key}={_text(value)}")
    print()
    for name, experiment in EXPERIMENTS.items():
        print(f"{name}: {experiment.why}")
        print(f"  base: {experiment.base}")
        for key in experiment.needs:
            print(f"  needs {key}=RUN")
        for key, value in experiment.changes.items():
            print(f"  {key}={_text(value)}")
    return 0


@verb("settings")
def settings(
    section: Annotated[str, Argument(metavar="SECTION", help="train, train.schedule, …", show_default=False)] = "",
    markdown: Annotated[bool, Option("--markdown", help="print the text of docs/reference/settings.md")] = False,
) -> Result:
    """List every setting: its default, its values and its meaning.

      saltseg settings
      saltseg settings train.schedule
      saltseg settings --markdown > docs/reference/settings.md

    Change one with --set KEY=VALUE, as in --set train.epochs=3.
    """
    if markdown:
        print(markdown_page(), end="")
        return 0
    known = {name: None for _, rows in groups() for row in rows for name in (row.name.rpartition(".")[0], row.name)}
    if section and not any(f"{name}.".startswith(f"{section}.") for name in known):
        raise InputError(unknown_name("setting", section, filter(None, known)))
    for title, rows in groups():
        chosen = [row for row in rows if f"{row.name}.".startswith(f"{section}." if section else "")]
        if chosen:
            print(f"\n{title}")
        for row in chosen:
            print(f"  {row.name}={row.default}  ({row.values})\n      {row.meaning}")
    return 0


def markdown_page() -> str:
    """The page about the settings, docs/reference/settings.md."""
    lines = [INTRODUCTION]
    for title, rows in groups():
        lines += [f"## {title}\n", "| setting | default | values | meaning |", "|---|---|---|---|"]
        for row in rows:
            default = f"`{row.default}`" if row.default else "must be given"
            cells = (f"`{row.name}`", default, row.values, row.meaning)
            lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        lines.append("")
    return "\n".join(lines)


def groups() -> Iterator[tuple[str, list[Setting]]]:
    """The settings section by section, with a title; each kind of model, schedule and pseudo-labels is a section."""
    from pydantic import TypeAdapter

    from saltseg import config

    names_of: dict[type, list[str]] = {}
    for name, _, cls in config.settings():
        names_of.setdefault(cls, []).append(name)
    for cls, names in names_of.items():
        schemas = TypeAdapter(cls).json_schema()["properties"]
        rows = [_setting(name, schemas[name.rpartition(".")[2]]) for name in names]
        section = names[0].rpartition(".")[0]
        yield f"{section}: {(cls.__doc__ or '').splitlines()[0]}" if section else "name", rows


def _setting(name: str, schema: dict[str, Any]) -> Setting:
    default = _text(schema["default"]) if "default" in schema else ""
    return Setting(name, default, _values(schema), schema.get("description", ""))


def _text(value: Any) -> str:
    """A value as ``--set`` takes it."""
    if isinstance(value, dict):  # a kind of schedule with its defaults
        return str(value["kind"]) if len(value) == 1 or "kind" in value else json.dumps(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return value if isinstance(value, str) and value else json.dumps(value)


def _values(schema: dict[str, Any]) -> str:
    """The values that a JSON schema allows, in words."""
    if "enum" in schema or "const" in schema:
        return ", ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_values(schema['items'])}"
    if "type" not in schema:
        return "one of the kinds below"
    bounds = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    kind = {"string": "text", "boolean": "true, false"}.get(schema["type"], schema["type"])
    return ", ".join([kind, *(f"{word} {schema[bound]}" for bound, word in bounds.items() if bound in schema)])

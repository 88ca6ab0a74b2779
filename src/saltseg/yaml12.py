"""YAML 1.2 in and out: scalars, lists and mappings, nothing else.

PyYAML reads YAML 1.1, where 010 is eight, 1:04 is 64, yes is true and 1e-3 is text.
"""

import re
from pathlib import Path
from typing import Any, ClassVar

import yaml

from saltseg.errors import InputError, reason

MAX_LENGTH = 100_000  # characters; a configuration has some 2,000
_BLANK = " \t\r\n"  # what YAML takes for nothing; other blanks of Unicode are text
MAX_DEPTH = 20  # of lists and mappings inside each other; a configuration has 3


class _Loader(yaml.SafeLoader):
    """The core schema of YAML 1.2 without octal and hexadecimal numbers, infinity, NaN, anchors, aliases and tags."""

    yaml_implicit_resolvers: ClassVar[dict] = {}  # type: ignore[misc]
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Refuse what makes a small text a large value (aliases), any other type (tags), or deep nesting."""
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
            raise yaml.YAMLError("anchors, aliases and tags are not read")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError("too many brackets inside each other")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes text that PyYAML, or `_Loader`, would read as something else."""


def _text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Double quotes where PyYAML would write a line end of Unicode as it is, and read it as a blank."""
    style = '"' if re.search("[\x85\u2028\u2029]", text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _text)
_INT, _FLOAT = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float"
for _tag, _pattern, _first in (
    ("tag:yaml.org,2002:null", r"null|Null|NULL|~|", ["n", "N", "~", ""]),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    (_INT, r"[-+]?[0-9]+", list("-+0123456789")),
    (_FLOAT, r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_tag, re.compile(rf"(?:{_pattern})\Z"), _first)
_Loader.add_constructor(_INT, lambda loader, node: int(loader.construct_scalar(node)))  # type: ignore[arg-type]
_Loader.add_constructor(_FLOAT, lambda loader, node: float(loader.construct_scalar(node)))  # type: ignore[arg-type]


def parse(text: str) -> Any:
    """The value of a YAML 1.2 text: scalars, lists and mappings, nothing else; "" for an empty text.

    Raises:
        ValueError: in one line, for a text that is not that, too long or nested too deep.
    """
    if not text.strip(_BLANK):
        return ""
    if len(text) > MAX_LENGTH:
        raise ValueError(f"{len(text):,} characters are too long")
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"cannot be read ({reason(error)})") from None


def read(path: Path) -> Any:
    """Read a YAML file, see `parse`; None for an empty one. Raises InputError for a damaged file."""
    try:
        text = path.read_text(encoding="utf-8")
        return parse(text) if text.strip(_BLANK) else None
    except ValueError as error:  # UnicodeDecodeError is one, too
        raise InputError(f"{path} is not YAML ({reason(error)}); fix it or remove it") from None


def dump(value: Any) -> str:
    """YAML text of plain values, keys in their order; `parse` reads it."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)

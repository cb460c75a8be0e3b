"""YAML text -> plain values and the line of each key: a small, safe part of YAML, without its surprises.

Refused: duplicate keys, anchors and aliases, tags, tabs as indent, a second document, more than 1 MB, deep nesting.
Read as a person means it: `1e-3` is a number, `no`, `off` and `12:30` are text, only true and false are booleans.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from orchestrator.errors import ConfigError

KeyPath = tuple[str | int, ...]
"""Where a value stands: ("search", "forbid", 0)."""

MAX_BYTES = 1_000_000
MAX_DEPTH = 20

_EXPONENT = r"[eE][-+]?\d+"
_PLAIN = (
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    (
        "float",
        rf"[-+]?(\d[\d_]*\.[\d_]*({_EXPONENT})?|\.\d[\d_]*({_EXPONENT})?|\d[\d_]*{_EXPONENT}|\.(inf|nan))",
        list("-+.0123456789"),
    ),
    ("int", r"[-+]?\d[\d_]*", list("-+0123456789")),
)
"""kind, what a plain word of that kind looks like, its first characters."""


class _Loader(yaml.SafeLoader):
    """PyYAML's parser with resolvers of our own."""

    yaml_implicit_resolvers: dict[Any, Any] = {}


for _kind, _pattern, _first in _PLAIN:
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})\Z"), _first)


@dataclass
class Document:
    """What a file (and the overrides put over it) says, and where each of it stands."""

    source: str
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[KeyPath, str] = field(default_factory=dict)
    """path -> "file:line", or the override it came from."""

    def where(self, path: KeyPath) -> str:
        """Return the place of a path, or of the nearest thing that holds it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.source


def read_text(path: Path) -> str:
    """Return a UTF-8 text file; raises ConfigError when it is none or cannot be read."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{path}: not a UTF-8 text file (byte {error.start}); save it as UTF-8"]) from error
    except OSError as error:
        raise ConfigError(
            [f"{path}: cannot be read ({error.strerror}); name a run folder or an experiment file (`orchestrate init DATA`)"]
        ) from error


def parse(text: str, source: str) -> Document:
    """Return the document of a YAML text; raises ConfigError with every problem of form, each with its line."""
    value, places = parse_value(text, source)
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise ConfigError([f"{source}:1: expected `key: value` lines, got {type(value).__name__} {value!r:.60}"])
    return Document(source, value, places)


def parse_value(text: str, source: str) -> tuple[Any, dict[KeyPath, str]]:
    """Return any YAML value of a text (a mapping, a list, one scalar) and the places of its keys; raises ConfigError."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise ConfigError([f"{source}: larger than {MAX_BYTES:,} bytes; an experiment file is a page or two"])
    problems: list[str] = []
    try:
        problems += _forbidden_marks(text, source)
        node = None if problems else yaml.compose(text, Loader=_Loader)
    except yaml.YAMLError as error:
        problems.append(_syntax(error, text, source))
    places: dict[KeyPath, str] = {}
    value = None if problems or node is None else _build(node, (), source, places, problems)
    if problems:
        raise ConfigError(problems)
    return value, places


def _forbidden_marks(text: str, source: str) -> list[str]:
    """Return a problem for each anchor, alias, tag or too deep nesting, read as events (nothing is expanded)."""
    problems, depth = [], 0
    for event in yaml.parse(text, Loader=_Loader):
        line = f"{source}:{event.start_mark.line + 1 if event.start_mark else 1}"
        tag = getattr(event, "tag", None)
        if isinstance(event, yaml.AliasEvent):
            problems.append(f"{line}: alias *{event.anchor} is not read here; write the value out")
        elif isinstance(event, yaml.NodeEvent) and event.anchor:
            problems.append(f"{line}: anchor &{event.anchor} is not read here; write the value out")
        if tag:
            short = tag.replace("tag:yaml.org,2002:", "!!")
            problems.append(f"{line}: tag {short} is not read here; write plain values")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH:
            return [*problems, f"{line}: nested deeper than {MAX_DEPTH} levels"]
    return problems


def _syntax(error: yaml.YAMLError, text: str, source: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"{source}: not a text file of YAML ({str(error).splitlines()[0]})"
    line = mark.line + 1
    lines = text.splitlines()
    if mark.line < len(lines) and "\t" in lines[mark.line][: mark.column + 1]:
        return f"{source}:{line}: a tab; use spaces"
    if "single document" in str(error.context if isinstance(error, yaml.MarkedYAMLError) else ""):
        return f"{source}:{line}: a second document (---); one file holds one experiment"
    return f"{source}:{line}: {getattr(error, 'problem', None) or error} (column {mark.column + 1})"


def _build(node: yaml.Node, path: KeyPath, source: str, places: dict[KeyPath, str], problems: list[str]) -> Any:
    places.setdefault(path, f"{source}:{node.start_mark.line + 1}")
    if isinstance(node, yaml.SequenceNode):
        return [_build(child, (*path, i), source, places, problems) for i, child in enumerate(node.value)]
    if isinstance(node, yaml.MappingNode):
        return _build_mapping(node, path, source, places, problems)
    try:
        return _scalar(node.tag.rsplit(":", 1)[-1], str(node.value))
    except ValueError:
        problems.append(f"{places[path]}: {'.'.join(map(str, path))}: {node.value[:20]}... is too long for a number")
        return None


def _build_mapping(
    node: yaml.MappingNode, path: KeyPath, source: str, places: dict[KeyPath, str], problems: list[str]
) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, child in node.value:
        place = f"{source}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            problems.append(f"{place}: a key must be one word")
            continue
        key = str(key_node.value)
        here = (*path, key)
        if key in values:
            problems.append(f"{place}: {'.'.join(map(str, here))}: written twice (first at {places[here]}); keep one")
            continue
        places[here] = place
        values[key] = _build(child, here, source, places, problems)
    return values


def _scalar(kind: str, text: str) -> Any:
    match kind:
        case "bool":
            return text.lower() == "true"
        case "null":
            return None
        case "int":
            return int(text.replace("_", ""))
        case "float":
            return float(text.replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
        case _:
            return text

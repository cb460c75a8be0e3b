"""The door: an experiment file and its overrides -> a checked Experiment, or every problem at once with file, line and key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel, ValidationError

from orchestrator.config import Experiment
from orchestrator.errors import ConfigError
from orchestrator.experiment_file.document import Document, parse, parse_value, read_text
from orchestrator.experiment_file.meaning import meaning_problems
from orchestrator.experiment_file.problems import model_problems, train_problems
from orchestrator.experiment_file.space_file import read_space

__all__ = ["DEFAULT", "load", "override", "read_space"]

DEFAULT = Path(__file__).with_name("digits.yaml")
"""What runs where no file is given."""


def load(path: Path | str | None, overrides: Sequence[str] = (), *, check_paths: bool = True) -> Experiment:
    """Return the experiment of a YAML file (None: the built-in digits) with `KEY=VALUE` overrides; raises ConfigError.

    `check_paths=False` accepts folders and files that are not there (on another machine, not yet).
    """
    document = parse(read_text(DEFAULT), "built-in digits") if path is None else parse(read_text(Path(path)), str(path))
    if not document.values:
        raise ConfigError([f"{path}: no key in it; `orchestrate init DATA` writes an experiment file, none at all is the demo"])
    return _checked(document, overrides, check_paths)


def override(experiment: Experiment, overrides: Sequence[str], *, check_paths: bool = True) -> Experiment:
    """Return a stored experiment with overrides put over it, checked like a file; raises ConfigError."""
    if not overrides:
        return experiment
    return _checked(Document("stored experiment", experiment.model_dump(mode="json")), overrides, check_paths)


def _checked(document: Document, overrides: Sequence[str], check_paths: bool) -> Experiment:
    problems = [problem for text in overrides for problem in _put_over(document, text)]
    _normalise(document.values, Experiment)
    problems += [p for section in ("train", "baseline") for p in train_problems(document, section)]
    try:
        experiment = Experiment.model_validate(document.values)
    except ValidationError as error:
        raise ConfigError(_in_order([*problems, *model_problems(document, error)])) from error
    if not problems:
        problems += meaning_problems(document, experiment, check_paths=check_paths)
    if problems:
        raise ConfigError(_in_order(problems))
    return experiment


def _in_order(problems: list[str]) -> list[str]:
    """Return the problems from the first line to the last, overrides at the end."""
    lines = [re.match(r".*?:(\d+): ", problem) for problem in problems]
    order = sorted(range(len(problems)), key=lambda i: int(found[1]) if (found := lines[i]) else 10**9)
    return [problems[i] for i in order]


def _put_over(document: Document, text: str) -> list[str]:
    """Put `a.b=value` into the document; return what is wrong with it."""
    place = f"override {text!r}"
    key, equals, value_text = text.partition("=")
    parts = tuple(key.strip().split("."))
    if not equals or not all(parts):
        return [f"{place}: expected KEY=VALUE, e.g. search.trials=20"]
    try:
        value, _ = parse_value(value_text, place)
    except ConfigError as error:
        return error.problems
    target: Any = document.values
    for depth, part in enumerate(parts[:-1], start=1):
        if not isinstance(target.get(part), dict):
            target[part] = {}
            document.places[parts[:depth]] = place
        target = target[part]
    target[parts[-1]] = value
    document.places = {p: at for p, at in document.places.items() if p[: len(parts)] != parts} | {parts: place}
    return []


def _normalise(values: dict[str, Any], model: type[BaseModel]) -> None:
    """Read a section whose every line is commented out (`search:` alone) as an empty one, and lists as the tuples of fields."""
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            values |= {name: {}} if name in values and values[name] is None else {}
            if isinstance(values.get(name), dict):
                _normalise(values[name], kind)
        elif get_origin(kind) is dict and name in values and values[name] is None:
            values[name] = {}
        elif get_origin(kind) is tuple and isinstance(values.get(name), list):
            values[name] = tuple(values[name])

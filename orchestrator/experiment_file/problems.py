"""What is wrong with the values of an experiment: every problem at once, each with place, key, what came, what is allowed."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from orchestrator.config import Experiment
from orchestrator.experiment_file.document import Document, KeyPath
from search_spaces.augmentation import ops_of
from trainables.config import RENAMED, TrainConfig

_KINDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text"}
_BOUNDS = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))


def line_of(document: Document, path: KeyPath, message: str) -> str:
    """Return one problem as a line: place, key, message."""
    key = ".".join(map(str, path))
    return f"{document.where(path)}: {key}: {message}" if key else f"{document.where(path)}: {message}"


def nearest(word: str, known: Iterable[str]) -> str:
    """Return "did you mean ...?" or the words allowed."""
    allowed = list(known)
    near = difflib.get_close_matches(str(word), allowed, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(allowed)}"


def shown(value: Any) -> str:
    """Return what came, short."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def model_problems(document: Document, error: ValidationError) -> Iterator[str]:
    """Yield pydantic's complaints in the words of an experiment file."""
    for item in error.errors(include_url=False):
        path = item["loc"]
        if item["type"] == "value_error":  # a rule of the whole experiment: "search.metric: got ..."
            key, _, message = str(item["ctx"]["error"]).partition(": ")
            yield line_of(document, tuple(key.split(".")), message)
        else:
            yield line_of(document, path, _complaint(path, item))


def _complaint(path: KeyPath, item: Mapping[str, Any]) -> str:
    parent, info = field_of(path)
    if item["type"] == "extra_forbidden":
        return f"unknown key (got {shown(item['input'])}); {nearest(str(path[-1]), parent.model_fields)}"
    if item["type"] == "literal_error":
        options = [text.strip("' ") for text in str(item["ctx"]["expected"]).replace(" or ", ", ").split(",")]
        return f"got {shown(item['input'])}, {_options(item['input'], options)}"
    if item["type"] == "model_type":
        section = field_of((*path, ""))[0]
        return f"got {shown(item['input'])}, allowed: a section with the keys {', '.join(section.model_fields)}"
    if item["type"] == "dict_type":
        return f"got {shown(item['input'])}, allowed: `key: value` lines"
    allowed = _allowed(info) if info is not None and len(path) == _depth(path) else ""
    return f"got {shown(item['input'])}, allowed: {allowed or str(item['msg']).removeprefix('Input should be ')}"


def _options(got: Any, options: list[str]) -> str:
    near = difflib.get_close_matches(str(got), options, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"allowed: {', '.join(options)}{hint}"


def field_of(path: KeyPath) -> tuple[type[BaseModel], FieldInfo | None]:
    """Return the section a path ends in, and the field it names (None: the section knows no such key)."""
    model: type[BaseModel] = Experiment
    info: FieldInfo | None = None
    for part in path:
        info = model.model_fields.get(str(part))
        inner = info.annotation if info is not None else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)) or part == path[-1]:
            break
        model = inner
    return model, info


def _depth(path: KeyPath) -> int:
    """Return how many parts of a path are keys of sections: what follows are places inside one value."""
    return next((i for i, part in enumerate(path) if isinstance(part, int)), len(path))


def _allowed(info: FieldInfo) -> str:
    """Return what a field takes, from its type and bounds: "a number above 0 and below 0.9"."""
    kind = getattr(info.annotation, "__name__", "")
    bounds = [
        f"{word} {getattr(mark, name)}"
        for name, word in _BOUNDS
        for mark in info.metadata
        if getattr(mark, name, None) is not None
    ]
    pattern = next((f"text that matches {mark.pattern}" for mark in info.metadata if getattr(mark, "pattern", None)), "")
    return pattern or f"{_KINDS[kind]} {' and '.join(bounds)}".strip() if kind in _KINDS else ""


def train_problems(document: Document, section: str) -> Iterator[str]:
    """Yield what is wrong with a `train:` or `baseline:` mapping of TrainConfig fields."""
    values = document.values.get(section)
    if not isinstance(values, Mapping):
        return
    known = [field.name for field in dataclasses.fields(TrainConfig)]
    for key, value in values.items():
        path = (section, key)
        if key not in known:
            hint = f"it is called {RENAMED[key]} now" if key in RENAMED else nearest(key, known)
            yield line_of(document, path, f"unknown key (got {shown(value)}); {hint}")
            continue
        message = knob_problem(key, value)
        if message:
            yield line_of(document, path, message)


def knob_problem(key: str, value: Any) -> str:
    """Return what is wrong with one value of a TrainConfig field, or "" where nothing is."""
    try:
        config = TrainConfig.from_dict({key: value})
        if key == "augmentation":
            ops_of(config.augmentation)
    except ValueError as error:
        return str(error).removeprefix("train.").removeprefix(f"{key}: ")
    return ""

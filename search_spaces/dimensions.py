"""One thing a search may vary: a real number, a whole number or a choice, and the condition under which it exists."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Value = bool | int | float | str


@dataclass(frozen=True)
class When:
    """A condition: the dimension exists only where an earlier one, `key`, was drawn with one of `values`."""

    key: str
    values: tuple[Value, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", tuple(self.values))
        if not self.values:
            raise ValueError(f"when {self.key!r}: got no values, allowed: at least one")

    def holds(self, drawn: Mapping[str, Any]) -> bool:
        """Return whether the values drawn so far meet the condition."""
        return self.key in drawn and drawn[self.key] in self.values


@dataclass(frozen=True)
class Float:
    """A real number in [low, high]: even in its logarithm if `log`, on the lattice low + k * step if `step`."""

    name: str
    low: float
    high: float
    log: bool = False
    step: float | None = None
    when: When | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        for key in ("low", "high", "step"):
            value = getattr(self, key)
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
            ):
                raise ValueError(f"{self.name}: {key} must be a finite number, got {value!r}")
        _check_range(self)


@dataclass(frozen=True)
class Int:
    """A whole number in [low, high]: even in its logarithm if `log`, on the lattice low + k * step."""

    name: str
    low: int
    high: int
    log: bool = False
    step: int = 1
    when: When | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        for key in ("low", "high", "step"):
            if type(getattr(self, key)) is not int:
                raise ValueError(f"{self.name}: {key} must be a whole number, got {getattr(self, key)!r}")
        _check_range(self)


@dataclass(frozen=True)
class Choice:
    """One of some options, given in their natural order where they have one (head < last_1 < all)."""

    name: str
    options: tuple[Value, ...]
    when: When | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        object.__setattr__(self, "options", tuple(self.options))
        if not self.options:
            raise ValueError(f"{self.name}: got no options, allowed: at least one")
        for option in self.options:
            if not isinstance(option, bool | int | float | str):
                raise ValueError(f"{self.name}: option {option!r} is a {type(option).__name__}, allowed: bool, int, float, str")
        if len({(type(o), o) for o in self.options}) < len(self.options):
            raise ValueError(f"{self.name}: got the same option twice in {list(self.options)}")


Dimension = Float | Int | Choice


def levels(dimension: Dimension, points: int) -> tuple[Value, ...]:
    """Return the values a grid takes of one dimension: all options, or at most `points` numbers from low to high."""
    if isinstance(dimension, Choice):
        return dimension.options
    low, high, step = dimension.low, dimension.high, dimension.step
    fractions = [i / max(points - 1, 1) for i in range(points)]
    if step is not None and not dimension.log:
        count = steps_between(low, high, step)
        rungs = range(count + 1) if count < points else dict.fromkeys(round(f * count) for f in fractions)
        return tuple(low + step * i for i in rungs)
    spread = [low * (high / low) ** f if dimension.log else low + (high - low) * f for f in fractions]
    values = [round(v) for v in spread] if isinstance(dimension, Int) else [min(high, max(low, v)) for v in spread]
    return tuple(dict.fromkeys(values))


def steps_between(low: float, high: float, step: float) -> int:
    """Return how many steps fit between low and high, forgiving rounding (0.1 + 0.1 + 0.1 reaches 0.3)."""
    return int((high - low) / step + 1e-9)


def from_form(name: str, form: Any) -> Dimension:
    """Read a dimension's plain form ({float: [low, high], log: true, when: {key: [values]}}); raises ValueError naming it."""
    kinds = [kind for kind in ("float", "int", "choice") if isinstance(form, Mapping) and kind in form]
    if len(kinds) != 1 or not isinstance(form[kinds[0]], list | tuple):
        raise ValueError(f"{name}: got {form!r}, allowed: {{float: [low, high]}}, {{int: [low, high]}} or {{choice: [...]}}")
    kind, rest = kinds[0], {key: value for key, value in form.items() if key != kinds[0]}
    allowed = ("when",) if kind == "choice" else ("log", "step", "when")
    for key in rest:
        if key not in allowed:
            raise ValueError(f"{name}: unknown key {key!r}, allowed beside {kind}: {', '.join(allowed)}")
    when = _condition(name, rest.pop("when", None))
    if kind == "choice":
        return Choice(name, tuple(form[kind]), when)
    if len(form[kind]) != 2:
        raise ValueError(f"{name}: {kind} got {form[kind]!r}, allowed: [low, high]")
    low, high = form[kind]
    return Float(name, low, high, when=when, **rest) if kind == "float" else Int(name, low, high, when=when, **rest)


def _condition(name: str, form: Any) -> When | None:
    if form is None:
        return None
    if not isinstance(form, Mapping) or len(form) != 1:
        raise ValueError(f"{name}: when got {form!r}, allowed: {{earlier dimension: [values]}}")
    key, values = next(iter(form.items()))
    return When(str(key), tuple(values) if isinstance(values, list | tuple) else (values,))


def to_form(dimension: Dimension) -> dict[str, Any]:
    """Return the plain (JSON, YAML) form that `from_form` reads."""
    form: dict[str, Any]
    match dimension:
        case Choice():
            form = {"choice": list(dimension.options)}
        case Float():
            form = {"float": [dimension.low, dimension.high], "step": dimension.step}
        case Int():
            form = {"int": [dimension.low, dimension.high], "step": None if dimension.step == 1 else dimension.step}
    if not isinstance(dimension, Choice):
        form["log"] = dimension.log or None
    form["when"] = {dimension.when.key: list(dimension.when.values)} if dimension.when else None
    return {key: value for key, value in form.items() if value is not None}


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not name.isidentifier():
        raise ValueError(
            f"dimension {name!r}: a name is a TrainConfig field, without '/' or other marks (searchers unflatten them)"
        )


def _check_range(dimension: Float | Int) -> None:
    name, low, high = dimension.name, dimension.low, dimension.high
    if low > high:
        raise ValueError(f"{name}: low {low!r} is above high {high!r}; swap them")
    if dimension.log and low <= 0:
        raise ValueError(f"{name}: low {low!r} of a log range must be above 0")
    if dimension.step is not None and dimension.step <= 0:
        raise ValueError(f"{name}: step {dimension.step!r} must be above 0")
    if dimension.log and dimension.step not in (None, 1):
        raise ValueError(f"{name}: log and step {dimension.step!r} exclude each other; drop one")

"""A search space as data: dimensions and constants, one way to draw from them, and how it is narrowed, listed and read.

A space holds no functions, so it pickles, prints and travels to any searcher; whoever proposes values (Optuna's trial, Ray's
OptunaSearch, a seeded random trial) is handed to `draw`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from search_spaces.augmentation import check_ops, forbidden_ops, sets_for
from search_spaces.dimensions import (
    Choice,
    Dimension,
    Float,
    Int,
    Value,
    When,
    from_form,
    levels,
    steps_between,
    to_form,
)

__all__ = [
    "Choice", "Dimension", "Float", "Int", "RandomTrial", "Space", "When", "draw", "from_dict", "grid", "narrow", "size",
    "to_dict", "validate",
]  # fmt: skip


@dataclass(frozen=True)
class Space:
    """A named tuple of dimensions in the order they are drawn, and what stays constant; checked when made.

    A number may appear twice where the conditions exclude each other: `gamma` of "step" is not `gamma` of "exponential".
    """

    name: str
    dimensions: tuple[Dimension, ...]
    constants: Mapping[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "dimensions", tuple(self.dimensions))
        object.__setattr__(self, "constants", dict(self.constants))
        validate(self)

    @property
    def keys(self) -> tuple[str, ...]:
        """Return every key a draw may hold: constants first, then dimensions in order."""
        return tuple(dict.fromkeys([*self.constants, *(d.name for d in self.dimensions)]))


class Trial(Protocol):
    """Whoever proposes values, with Optuna's signatures."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:
        """Propose a real number."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Propose a whole number."""

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Propose one of `choices`."""


class RandomTrial:
    """A trial that proposes seeded random values: the same seed and space give the same configuration."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:  # noqa: ARG002
        """Return a real number, uniform (or log-uniform), on the step's lattice if there is one."""
        if step is not None:
            return low + step * self._random.randint(0, steps_between(low, high, step))
        u = self._random.random()
        return min(high, max(low, low * (high / low) ** u if log else low + (high - low) * u))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number, uniform (or log-uniform)."""
        if log:
            return min(high, max(low, round(self.suggest_float(name, low - 0.5, high + 0.5, log=True))))
        return low + step * self._random.randint(0, (high - low) // step)

    def suggest_categorical(self, name: str, choices: Any) -> Any:  # noqa: ARG002
        """Return one of `choices`."""
        return self._random.choice(list(choices))


def draw(space: Space, trial: Trial) -> dict[str, Any]:
    """Return one configuration: the constants, and a proposal for each dimension whose condition holds."""
    drawn: dict[str, Any] = dict(space.constants)
    for dimension in space.dimensions:
        if dimension.when is None or dimension.when.holds(drawn):
            drawn[dimension.name] = _suggest(dimension, trial)
    return drawn


def _suggest(dimension: Dimension, trial: Trial) -> Any:
    match dimension:
        case Float(name, low, high, log, step):
            return trial.suggest_float(name, low, high, step=step, log=log)
        case Int(name, low, high, log, step):
            return trial.suggest_int(name, low, high, step=step, log=log)
        case Choice(name, options):
            return trial.suggest_categorical(name, list(options))


def validate(space: Space) -> None:
    """Raise ValueError naming the first dimension that clashes, or whose condition cannot hold."""
    seen: dict[str, list[Dimension]] = {}
    for dimension in space.dimensions:
        name, when = dimension.name, dimension.when
        if name in space.constants:
            raise ValueError(f"space {space.name!r}: {name!r} is both a constant and a dimension; drop one")
        if when is not None:
            _check_condition(space, name, when, seen)
        for other in seen.get(name, []):
            _check_twice(space, dimension, other)
        seen.setdefault(name, []).append(dimension)


def _check_condition(space: Space, name: str, when: When, seen: Mapping[str, list[Dimension]]) -> None:
    if when.key not in seen:
        raise ValueError(
            f"space {space.name!r}: {name!r} exists when {when.key!r} is ..., but no earlier dimension has that name; "
            f"earlier ones: {', '.join(seen) or 'none'}"
        )
    for earlier in seen[when.key]:
        unknown = [v for v in when.values if not isinstance(earlier, Choice) or v not in earlier.options]
        if unknown:
            allowed = earlier.options if isinstance(earlier, Choice) else "a Choice, not a number"
            raise ValueError(f"space {space.name!r}: {name!r} waits for {when.key} = {unknown}, allowed: {allowed}")


def _check_twice(space: Space, one: Dimension, other: Dimension) -> None:
    exclusive = (
        one.when is not None
        and other.when is not None
        and one.when.key == other.when.key
        and not set(one.when.values) & set(other.when.values)
    )
    alike = type(one) is type(other) and not isinstance(one, Choice) and not isinstance(other, Choice) and one.log == other.log
    if not (exclusive and alike):
        raise ValueError(
            f"space {space.name!r}: {one.name!r} appears twice; allowed only for numbers of one kind whose conditions exclude "
            "each other"
        )


def size(space: Space, points: int = 3) -> int:
    """Return the number of configurations of the grid with `points` levels a number, counted without listing them."""
    asked = {d.when.key for d in space.dimensions if d.when is not None}
    counts: dict[tuple[tuple[str, Value], ...], int] = {(): 1}
    for dimension in space.dimensions:
        values = levels(dimension, points)
        grown: dict[tuple[tuple[str, Value], ...], int] = {}
        for state, count in counts.items():
            if dimension.when is not None and not dimension.when.holds(dict(state)):
                grown[state] = count
            elif dimension.name in asked:
                grown.update({(*state, (dimension.name, value)): count for value in values})
            else:
                grown[state] = count * len(values)
        counts = grown
    return sum(counts.values())


def grid(space: Space, limit: int, points: int = 3) -> list[dict[str, Any]]:
    """Return every configuration of the grid (`points` levels a number); raises ValueError when they are more than `limit`."""
    total = size(space, points)
    if total > limit:
        raise ValueError(
            f"space {space.name!r}: its grid has {total} configurations, allowed: {limit}; "
            "vary less, raise search.trials, or choose another search.algorithm"
        )
    return list(_walk(space.dimensions, dict(space.constants), points))


def _walk(dimensions: tuple[Dimension, ...], drawn: dict[str, Any], points: int) -> Iterator[dict[str, Any]]:
    if not dimensions:
        yield drawn
        return
    first, rest = dimensions[0], dimensions[1:]
    if first.when is not None and not first.when.holds(drawn):
        yield from _walk(rest, drawn, points)
        return
    for value in levels(first, points):
        yield from _walk(rest, {**drawn, first.name: value}, points)


def narrow(space: Space, forbid: Iterable[str], recommend: Iterable[str] = ()) -> Space:
    """Return the space without augmentation sets that hold a forbidden op, and with those that answer a recommendation.

    `recommend` names ops or sets; an op asks for the smallest set that holds it. Recommended sets come first and are added
    where they are missing; where nothing else is left, "none" is.
    """
    barred = set(check_ops(forbid))
    asked = sets_for(recommend)
    kept: list[Dimension] = []
    for dimension in space.dimensions:
        if isinstance(dimension, Choice) and dimension.name == "augmentation":
            options = [o for o in dict.fromkeys([*asked, *dimension.options]) if not forbidden_ops(str(o), barred)]
            dimension = dataclasses.replace(dimension, options=tuple(options) or ("none",))
        if dimension.when is not None and dimension.when.key == "augmentation":
            values = _still_met(dimension.when, kept)
            if not values:
                continue
            dimension = dataclasses.replace(dimension, when=When("augmentation", values))
        kept.append(dimension)
    return dataclasses.replace(space, dimensions=tuple(kept))


def _still_met(when: When, kept: list[Dimension]) -> tuple[Value, ...]:
    """Return the condition's values that are left; a condition that held for every set but "none" also takes the new ones."""
    options = next(d.options for d in kept if isinstance(d, Choice) and d.name == "augmentation")
    new = [o for o in options if o != "none"] if "none" not in when.values else []
    return tuple(o for o in options if o in when.values or o in new)


def from_dict(values: Mapping[str, Any]) -> Space:
    """Read a space from its plain form, the reverse of `to_dict`; raises ValueError naming the key that does not hold.

    >>> from_dict({"name": "mine", "constants": {"model": "cnn_b"}, "dimensions": {
    ...     "optimizer": {"choice": ["adamw", "sgd"]}, "lr": {"float": [1e-4, 1e-2], "log": True},
    ...     "momentum": {"float": [0.8, 0.99], "when": {"optimizer": ["sgd"]}}}}).keys
    ('model', 'optimizer', 'lr', 'momentum')
    """
    unknown = [key for key in values if key not in ("name", "constants", "dimensions")]
    if unknown:
        raise ValueError(f"space: unknown key {unknown[0]!r}, allowed: name, constants, dimensions")
    dimensions, constants = values.get("dimensions", {}), values.get("constants", {})
    if not isinstance(dimensions, Mapping) or not isinstance(constants, Mapping):
        raise ValueError("space: dimensions and constants are mappings from a name to its values")
    made = [from_form(str(name), form) for name, forms in dimensions.items() for form in _listed(forms)]
    return Space(str(values.get("name", "own")), tuple(made), constants)


def _listed(forms: Any) -> list[Any]:
    """Return the forms of one name: usually one, a list where conditions tell several apart."""
    return forms if isinstance(forms, list) else [forms]


def to_dict(space: Space) -> dict[str, Any]:
    """Return the plain (JSON, YAML) form that `from_dict` reads."""
    dimensions: dict[str, Any] = {}
    for dimension in space.dimensions:
        form = to_form(dimension)
        earlier = dimensions.get(dimension.name)
        dimensions[dimension.name] = form if earlier is None else [*_listed(earlier), form]
    return {"name": space.name, "constants": dict(space.constants), "dimensions": dimensions}

"""Families of learning-rate schedules, each with the arguments that exist only for it."""

from __future__ import annotations

import dataclasses

from search_spaces.dimensions import Choice, Dimension, Float, Int, When

FAMILIES: dict[str, tuple[Dimension, ...]] = {
    "constant": (),
    "linear": (Int("warmup_epochs", 0, 2), Float("min_lr_ratio", 0.0, 0.1, step=0.05)),
    "cosine": (Int("warmup_epochs", 0, 2), Float("min_lr_ratio", 0.0, 0.1, step=0.05)),
    "cosine_restarts": (Int("cycle_epochs", 3, 10), Int("cycle_mult", 1, 2)),
    "step": (Int("step_epochs", 4, 12), Float("gamma", 0.1, 0.5)),
    "multistep": (Int("step_epochs", 4, 12), Float("gamma", 0.1, 0.5)),
    "exponential": (Float("gamma", 0.75, 0.98),),
    "plateau": (Int("plateau_patience", 1, 4), Float("gamma", 0.1, 0.5)),
    "onecycle": (Float("pct_start", 0.1, 0.4), Float("max_lr_ratio", 10.0, 50.0)),
    "cyclic": (Int("cycle_epochs", 2, 8), Float("max_lr_ratio", 3.0, 10.0)),
}
"""family -> its own arguments, in the order they are drawn."""


def schedule_dimensions(*families: str) -> tuple[Dimension, ...]:
    """Return the choice among families, and each argument once, under the condition that a family which takes it is drawn."""
    arguments: dict[Dimension, list[str]] = {}
    for family in families:
        if family not in FAMILIES:
            raise ValueError(f"schedule {family!r}: not known, allowed: {', '.join(FAMILIES)}")
        for argument in FAMILIES[family]:
            arguments.setdefault(argument, []).append(family)
    conditioned = [dataclasses.replace(a, when=When("schedule", tuple(takers))) for a, takers in arguments.items()]
    return (Choice("schedule", families), *conditioned)

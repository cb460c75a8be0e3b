"""What the verbs of the command line share: their arguments, and the experiment that these name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from orchestrator.config import Experiment

Source = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE|RUN]", help="experiment file, or the folder of a run; none: the digits demo", show_default=False
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--override", "-o", metavar="KEY=VALUE", help="replace one value, e.g. -o search.trials=20")
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on standard output")]
Address = Annotated[
    str | None,
    typer.Option("--address", help="Ray cluster of this call: auto or HOST:PORT (default: search.address)"),
]


def print_json(value: Any) -> None:
    """Print one JSON object on standard output."""
    print(json.dumps(value, indent=1, sort_keys=True, default=str))


def experiment_of(source: Path | None, overrides: list[str] | None) -> Experiment:
    """Return the experiment of a file, of a run's folder, or (None) of the digits demo, with overrides; raises UserError."""
    from orchestrator.context import stored_experiment
    from orchestrator.experiment_file import load, override

    if source is not None and source.is_dir():
        return override(stored_experiment(source), overrides or [])
    return load(source, overrides or [])

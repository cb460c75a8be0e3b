"""The end of a run in a few lines: the table of ensemble and controls, and the next three commands to type."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.stages.controls import SEEDS
from orchestrator.store.workspace import Workspace, read_json

SHOWN = (
    "baseline", "best single", "bigger single", "best single + TTA", "uniform soup", "greedy soup", "bagged", "boosted",
    "seed ensemble", "uniform top-k", "greedy", "distilled", "three members", "cascade", "ensemble",
)  # fmt: skip
SMALL = ("baseline", "best single", "seed ensemble", "greedy", "ensemble")
"""Rows of the table at the end of a run; the report and `orchestrate ensemble` have the others."""
ENSEMBLE = "ensemble"


def summary(workspace: Workspace) -> dict[str, Any]:
    """Return verdict and table of a run as one JSON-ready object."""
    found = read_json(workspace.ensemble)
    return {
        "version": 1,
        "run": str(workspace.root),
        "bundle": str(workspace.bundle),
        "report": str(workspace.report_page),
        "judgement": found["judgement"],
        "members": found["ensemble"]["members"],
    }


def print_ensemble(workspace: Workspace, *, json_: bool = False) -> None:
    """Print what `ensemble.json` holds as JSON, or its table; for a run also the next commands."""
    if json_:
        print(workspace.ensemble.read_text(), end="")
        return
    print_table(workspace, SHOWN)
    if workspace.experiment.exists():
        print_next(workspace)


def print_summary(workspace: Workspace) -> None:
    """Print the small table and the next commands on standard output."""
    print_table(workspace, SMALL)
    print_next(workspace)


def print_next(workspace: Workspace) -> None:
    """Print the commands that one types after a run."""
    images = shown_path(workspace.samples) if workspace.samples.is_dir() else "IMAGE..."
    verbs = {
        f"ui {shown_path(workspace.root)}": "browse every score in MLflow",
        f"predict {shown_path(workspace.bundle)} {images}": "classify images",
        "init folder:PATH": "an experiment file for your own images",
    }
    recommended = read_json(workspace.ensemble)["judgement"]["verdict"]["recommended"]
    if recommended != ENSEMBLE:
        verbs = {
            f"export {shown_path(workspace.root)} --single": f"the recommended {recommended} model as the bundle",
            **verbs,
        }
    width = max(map(len, verbs))
    print("\nnext:", *(f"  {command()} {verb:<{width}}   {what}" for verb, what in verbs.items()), sep="\n")


def command() -> str:
    """Return how this command is called from here: its name where the shell finds it, else its path."""
    own = Path(sys.argv[0])
    if own.name == "__main__.py":
        return f"{shown_path(Path(sys.executable))} -m orchestrator"
    return own.name if shutil.which(own.name) == str(own.absolute()) else shown_path(own)


def shown_path(path: Path) -> str:
    """Return a path as one would type it: relative where it lies below the working directory, quoted where it must be."""
    absolute = path.absolute()
    return shlex.quote(str(absolute.relative_to(Path.cwd()) if absolute.is_relative_to(Path.cwd()) else absolute))


def print_table(workspace: Workspace, names: Sequence[str]) -> None:
    """Print the ensemble beside the named controls, those that there are, and the verdict."""
    from rich.console import Console
    from rich.table import Table

    found = read_json(workspace.ensemble)
    judged, method = found["judgement"], found["ensemble"]["method"]
    regression = "rmse" in judged["rows"][0]
    columns = ("rmse", "mae", "r2") if regression else ("accuracy", "log_loss", "ece")
    table = Table(title=f"{judged['split']} split, n = {judged['n']}", title_justify="left")
    for name in ("", "members", *columns, f"{judged['verdict']['metric']} - best single"):
        table.add_column(name, justify="left" if not name else "right")
    rows = {row["name"]: row for row in judged["rows"]}
    for name in (name for name in names if name in rows):
        row = rows[name]
        shown = f"{method if name == 'ensemble' else name} ensemble" if name in ("ensemble", "greedy") else name
        table.add_row(
            shown, _members(row, rows["ensemble"]["members"]), *(_cell(row, column) for column in columns), _difference(row)
        )
    console = Console(width=110, highlight=False)
    console.print(table)
    console.print(judged["verdict"]["text"])


def _members(row: dict[str, Any], size: int) -> str:
    """Return how many members a row has; of a seed ensemble that should be as large as the ensemble also how many it lacks."""
    short = row["name"] == SEEDS and row["members"] < size
    return f"{row['members']} of {size}" if short else str(row["members"])


def _cell(row: dict[str, Any], column: str) -> str:
    value = f"{row[column]:.4f}"
    return f"{value} [{row['accuracy_low']:.4f}, {row['accuracy_high']:.4f}]" if column == "accuracy" else value


def _difference(row: dict[str, Any]) -> str:
    if row.get("delta") is None:
        return ""
    return f"{row['delta']:+.4f} [{row['delta_low']:+.4f}, {row['delta_high']:+.4f}]"

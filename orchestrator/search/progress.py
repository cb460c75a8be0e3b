"""What the person watching sees of a search: a live table on a terminal, plain lines otherwise, or nothing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol, TextIO

from orchestrator.search.board import Board

if TYPE_CHECKING:
    from rich.table import Table

EVERY_S = 30.0
"""Seconds between plain lines when no trial ends."""
SHOWN = 16
"""Rows of the live table: running trials and the best of the others."""


class Progress(Protocol):
    """Hears of every change; `event` is a sentence worth a line, or empty."""

    def show(self, board: Board, event: str = "") -> None:
        """Show the board as it is now."""

    def close(self, board: Board) -> None:
        """Show the last state and let go of the terminal."""


class Silent:
    """Shows nothing."""

    def show(self, board: Board, event: str = "") -> None:
        """Do nothing."""

    def close(self, board: Board) -> None:
        """Do nothing."""


class Lines:
    """One line an event, and a summary at most every half minute."""

    def __init__(
        self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic, *, name: str = "search"
    ) -> None:
        self._stream, self._clock, self._name = stream or sys.stderr, clock, name
        self._last = clock()

    def show(self, board: Board, event: str = "") -> None:
        """Print the event, or a summary when it is time for one."""
        if event:
            self._print(event)
        elif self._clock() - self._last >= EVERY_S:
            self._last = self._clock()
            self._print(board.summary())

    def close(self, board: Board) -> None:
        """Print the summary."""
        self._print(board.summary())

    def _print(self, line: str) -> None:
        try:
            print(f"{self._name}: {line}", file=self._stream, flush=True)
        except (OSError, ValueError):  # a closed stream must not end a search
            self._stream = open(os.devnull, "w")  # noqa: SIM115, PTH123


class LiveTable:
    """A live table on a terminal."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._live = Live(console=Console(stderr=True), refresh_per_second=2, auto_refresh=True)
        self._live.start()

    def show(self, board: Board, event: str = "") -> None:
        """Redraw the table; events that are worth a line scroll above it."""
        if event:
            self._live.console.print(event, style="dim", highlight=False, markup=False)
        self._live.update(table_of(board))

    def close(self, board: Board) -> None:
        """Leave the last table on the screen."""
        self._live.update(table_of(board))
        self._live.stop()


def table_of(board: Board) -> Table:
    """Return the running trials and the best of the others as a rich table, the summary as its caption."""
    from rich.table import Table

    best = board.best
    sign = -1.0 if board.mode == "max" else 1.0
    rows = sorted(
        board.rows.values(), key=lambda r: (r.status != "running", sign * r.best if r.best == r.best else float("inf"))
    )
    table = Table(caption=board.summary(), caption_justify="left", expand=False)
    for name in ("trial", "status", "epoch", f"best {board.metric}"):
        table.add_column(name, justify="left" if name in ("trial", "status") else "right")
    for row in rows[:SHOWN]:
        score = f"{row.best:.4f}" if row.best == row.best else "-"
        style = "bold" if row is best else "red" if row.status == "failed" else "dim" if row.status == "stopped" else ""
        table.add_row(row.trial_id, row.status, f"{row.epoch}/{row.epochs}", score, style=style)
    if len(rows) > SHOWN:
        table.add_row(f"+{len(rows) - SHOWN} more", "", "", "", style="dim")
    return table


def open_progress(name: str) -> Progress:
    """Return the live table where standard error is a terminal that can draw it, else plain lines that begin with `name`."""
    if sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb") and "NO_COLOR" not in os.environ:
        return LiveTable()
    return Lines(name=name)

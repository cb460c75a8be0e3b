"""What is shown: counts, best, time to go; a line an event without a terminal; a closed stream costs nothing."""

from __future__ import annotations

import io

import pytest

from orchestrator.search.board import Board, Row, duration
from orchestrator.search.progress import EVERY_S, Lines, Silent, open_progress, table_of


@pytest.fixture
def board() -> Board:
    board = Board("accuracy", "max", total=10, trained=20, epoch_s=40.0)
    board.rows = {
        "t0": Row("t0", 8, "finished", 8, 0.7),
        "t1": Row("t1", 8, "stopped", 2, 0.9),
        "t2": Row("t2", 8, "running", 3, 0.8),
        "t3": Row("t3", 8, "failed", 2, 0.99),
    }
    return board


def test_time_to_go_is_epochs_left_at_the_pace_so_far(board: Board) -> None:
    typical = (8 + 2 + 2) / 3
    assert board.eta_s == pytest.approx((6 * typical + (typical - 3)) * 2.0)
    assert Board("accuracy", "max", total=3).eta_s != Board("accuracy", "max", total=3).eta_s
    over = Board("accuracy", "max", total=1, rows={"t0": Row("t0", 8, "finished", 8, 0.7)})
    assert over.eta_s == 0.0, "also where this driver trained nothing of it"


def test_the_best_is_the_best_epoch_of_any_trial_that_did_not_fail(board: Board) -> None:
    assert board.best is board.rows["t1"]
    board.mode = "min"
    assert board.best is board.rows["t0"]
    assert board.summary() == "3/10 trials, 1 running, 1 stopped, 1 failed; best t0 accuracy 0.7000; 50 s to go"


def test_lines_come_with_events_and_otherwise_every_half_minute(board: Board) -> None:
    now, stream = [0.0], io.StringIO()
    lines = Lines(stream, clock=lambda: now[0])
    lines.show(board)
    lines.show(board, "t3 failed: no memory")
    now[0] = EVERY_S
    lines.show(board)
    lines.show(board)
    lines.close(board)
    summary = f"search: {board.summary()}"
    assert stream.getvalue().splitlines() == ["search: t3 failed: no memory", summary, summary]
    other = io.StringIO()
    Lines(other, name="training").close(board)
    assert other.getvalue() == f"training: {board.summary()}\n"


def test_a_closed_stream_does_not_end_a_search(board: Board) -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    stream.close()
    lines.show(board, "an event")
    lines.close(board)


def test_the_table_shows_running_trials_first_and_counts_the_rest(board: Board) -> None:
    from rich.console import Console

    for i in range(20):
        board.rows[f"x{i}"] = Row(f"x{i}", 8, "finished", 8, i / 100)
    console = Console(file=io.StringIO(), width=100)
    console.print(table_of(board))
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert shown.index("t2") < shown.index("t3") and "+8 more" in shown and "23/10 trials" in shown


def test_without_a_terminal_lines_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(open_progress("search"), Lines)
    Silent().show(Board("accuracy", "max"))


@pytest.mark.parametrize(("seconds", "words"), [(5, "5 s"), (600, "10 min"), (7500, "2 h 05 min"), (float("nan"), "?")])
def test_durations_are_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words

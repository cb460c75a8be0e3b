"""The front door: whatever nobody thought of is one line and exit code 1, with its traceback where one can find it."""

from __future__ import annotations

import pytest

from orchestrator import __main__, cli


def fail() -> None:
    error = ZeroDivisionError("division by zero")
    error.add_note("traceback in /runs/digits/crash.log")
    raise error


def test_an_unexpected_error_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(__main__.DEBUG, raising=False)
    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 1
    assert capsys.readouterr().err == (
        "orchestrate: unexpected error: ZeroDivisionError: division by zero; please report it "
        "(traceback in /runs/digits/crash.log)\n"
    )


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(__main__.DEBUG, "1")
    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ZeroDivisionError):
        __main__.main()

"""The tools' verbs: exit codes, JSON, and where the figure lies."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.errors import RunFailed, UserError


def test_the_doctor_ends_with_1_where_a_check_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestrator.tools import doctor
    from trainables.guards import GuardResult

    monkeypatch.setattr(doctor, "examine", lambda _: [GuardResult("a", True, "fine"), GuardResult("b", False, "broken")])
    done = CliRunner().invoke(app, ["doctor"])
    assert isinstance(done.exception, RunFailed)
    assert "1 of 2 checks failed: b" in str(done.exception)
    assert done.stdout == "ok    a: fine\nFAIL  b: broken\n"


def test_verbs_print_their_figures_path_and_json(tmp_path: Path) -> None:
    options = ["-o", f"run_dir={tmp_path}", "-o", "data.limit=300", "-o", "train.device=cpu"]
    done = CliRunner().invoke(app, ["lr-find", *options, "--steps", "6"])
    figure = tmp_path / "digits" / "figures" / "lr_find.png"
    assert done.exit_code == 0, done.output
    assert f"figure: {figure}" in done.stdout
    assert figure.read_bytes().startswith(b"\x89PNG")
    out = tmp_path / "elsewhere.png"
    done = CliRunner().invoke(app, ["benchmark", "stages", *options, "--seconds", "0", "--json", "--out", str(out)])
    assert json.loads(done.stdout)["figure"] == str(out)
    assert out.exists()


def test_advise_says_what_to_set_first() -> None:
    done = CliRunner().invoke(app, ["advise"])
    assert isinstance(done.exception, UserError)
    assert "train.weights" in str(done.exception)

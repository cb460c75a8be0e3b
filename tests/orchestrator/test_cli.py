"""The command line: help loads no vendor, mistakes exit with 2 and one clear message, Ctrl-C with 130."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from orchestrator.__main__ import main
from orchestrator.cli import app
from orchestrator.store.workspace import Workspace

ROOT = Path(__file__).parents[2]
VENDORS = ("torch", "torchvision", "ray", "mlflow", "optuna", "sklearn", "matplotlib", "numpy")
VERBS = [command.callback.__name__ for command in app.registered_commands if command.callback]


def orchestrate(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        capture_output=True, text=True, timeout=250, cwd=cwd, stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip


def test_help_of_every_verb_loads_no_vendor() -> None:
    script = (
        "import sys\n"
        "from orchestrator.cli import app\n"
        f"for verb in [[], *[[v.replace('_', '-')] for v in {VERBS!r}]]:\n"
        "    try:\n        app([*verb, '--help'])\n"
        "    except SystemExit as end:\n        assert end.code == 0, verb\n"
        f"print('LOADED', [v for v in {VENDORS!r} if v in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("LOADED []")
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["search", "--nonsense"], "No such option"),
        (["check", "-o", "search.trails=3"], "search.trails"),
        (["check", "-o", "search.trials=many"], "search.trials"),
        (["check", "missing.yaml"], "missing.yaml"),
        (["predict", "missing-bundle", "x.png"], "missing-bundle"),
        (["report", "."], "no run here"),
    ],
)
def test_mistakes_exit_with_2_and_no_traceback(arguments: list[str], said: str, tmp_path: Path) -> None:
    done = orchestrate(*arguments, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_version_names_the_vendors() -> None:
    done = orchestrate("--version")
    assert done.returncode == 0
    assert "ray 2." in done.stdout


def test_ctrl_c_between_trainings_is_one_line_and_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def open_run(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace()

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("orchestrator.context.open_run", open_run)
    monkeypatch.setattr("orchestrator.stages.report.run_report", interrupted)
    monkeypatch.setattr(sys, "argv", ["orchestrate", "report"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 130
    said = f"everything finished is kept: the same command goes on, or `orchestrate run {Path.cwd() / 'runs' / 'digits'}`"
    assert capsys.readouterr().err == f"orchestrate: interrupted; {said}\n"


@pytest.mark.parametrize(
    ("arguments", "patched", "given", "printed"),
    [
        (
            ["report"],
            "stages.report.run_report",
            Path("/r/report.html"),
            {"html": "/r/report.html", "markdown": "/r/report.md"},
        ),
        (["export", "--single"], "stages.export.run_export", Path("r/bundle"), {"bundle": "r/bundle"}),
        (["extend", "3"], "stages.search.run_search_stage", [], []),
        (["init", "digits"], "setup.init.write_experiment", Path("e.yaml"), {"experiment": "e.yaml"}),
    ],
)
def test_what_a_verb_made_is_one_json_object_where_asked(
    arguments: list[str], patched: str, given: object, printed: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def open_run(*_: object, **__: object) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(workspace=Workspace(Path("/r")))

    monkeypatch.setattr("orchestrator.context.open_run", open_run)
    monkeypatch.setattr(f"orchestrator.{patched}", lambda *_, **__: given)
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == printed

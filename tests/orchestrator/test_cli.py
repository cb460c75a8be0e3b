"""The command line: help loads no vendor, mistakes exit with 2 and one clear message, Ctrl-C with 130."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.cli import app

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

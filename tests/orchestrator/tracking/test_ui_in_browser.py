"""What a user sees: MLflow's pages in a real headless Chromium show the parent, its nested trials, curves and figures."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from orchestrator.config import Experiment
from orchestrator.report.plots import best_so_far, confusion_matrix, learning_curves, save_figure
from orchestrator.store.records import MemberRecord
from orchestrator.store.workspace import Workspace
from orchestrator.tracking import open_tracker
from orchestrator.tracking.server import check_port
from orchestrator.tracking.ui import run_page
from trainables.config import TrainConfig

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
ROOT = Path(__file__).parents[3]
WAIT_S = 90.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no chromium and chromedriver here; Debian: apt-get install chromium-driver"
    ),
]


class Browser:
    """As much of the WebDriver protocol as looking at a page needs."""

    def __init__(self, base: str) -> None:
        self.base = base
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1700,2000"]
        options = {"binary": CHROMIUM, "args": arguments}
        made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})
        self.session = f"/session/{made['sessionId']}"

    def open(self, url: str) -> None:
        self._call("POST", f"{self.session}/url", {"url": "about:blank"})
        self._call("POST", f"{self.session}/url", {"url": url})

    def run(self, script: str) -> Any:
        return self._call("POST", f"{self.session}/execute/sync", {"script": script, "args": []})

    def until(self, script: str) -> Any:
        """Return the script's first value that is true."""
        waiting = threading.Event()
        for _ in range(int(WAIT_S / 0.25)):
            if found := self.run(script):
                return found
            waiting.wait(0.25)
        raise AssertionError(f"never came true: {script}\n{self.run('return document.body.innerText')}")

    def picture(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self._call("GET", f"{self.session}/screenshot")))
        return path

    def close(self) -> None:
        self._call("DELETE", self.session)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"}, method=method)
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return json.load(answer)["value"]


@contextmanager
def browser() -> Iterator[Browser]:
    port = check_port("127.0.0.1", 0)
    driver = subprocess.Popen(
        [str(DRIVER), f"--port={port}"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    try:
        assert driver.stdout is not None
        assert any("started successfully" in line for line in driver.stdout)
        opened = Browser(f"http://127.0.0.1:{port}")
        yield opened
        opened.close()
    finally:
        driver.terminate()
        driver.wait()


def track_a_search(experiment: Experiment, folder: Path) -> None:
    tracker = open_tracker(experiment, Workspace(experiment.run_path))
    tracker.search_started({"search.trials": 4}, {"data_fingerprint": "f00d"})
    for number in range(4):
        config = TrainConfig(lr=10.0 ** -(number + 1)).to_dict()
        tracker.trial_started(f"trial_{number}", config, {"kind": "trial", "model": "cnn_c"})
        history = [{"val/accuracy": 1 - 0.5 ** (epoch / (number + 1)), "train/loss": 2.0 / epoch} for epoch in range(1, 9)]
        for epoch, metrics in enumerate(history, start=1):
            tracker.trial_epoch(f"trial_{number}", metrics, epoch)
        curves = save_figure(learning_curves(history, best_epoch=8), folder / f"{number}" / "learning_curves.png")
        table = save_figure(confusion_matrix(_diagonal(), list("abc")), folder / f"{number}" / "confusion_matrix.png")
        record = MemberRecord(
            f"trial_{number}", "trial", "image", config, 0, "h", "f00d", "finished", "budget", "", 8, 8, history[-1]
        )
        tracker.trial_ended(record, [curves, table])
    figure = save_figure(best_so_far([0.9, 0.8, 0.95, 0.7]), folder / "best_so_far.png")
    tracker.search_ended("finished", {"best/val/accuracy": 0.99}, [figure])
    tracker.stage("ensemble", params={"method": "greedy"}, metrics={"test/accuracy": 0.97})
    tracker.close()


def _diagonal() -> Any:
    import numpy as np

    return np.diag([5, 6, 7])


@contextmanager
def pages(experiment: Experiment, port: int) -> Iterator[dict[str, str]]:
    """Run `serve` in a process whose SIGINT was ignored, yield its links by name, and end it with SIGINT."""
    code = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from orchestrator.config import Experiment; from orchestrator.tracking.ui import serve\n"
        f"serve(Experiment(name={experiment.name!r}, run_dir={experiment.run_dir!r}), port={port},"
        " say=lambda text: print(text, flush=True))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        found = {}
        for line in process.stdout:
            if line.startswith("Ctrl-C"):
                break
            name, _, link = line.partition(":")
            found[name] = link.strip()
        yield found
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.terminate()  # never killed: it has a server to stop
        process.wait()


def test_the_parent_its_trials_their_curves_and_figures(
    experiment: Experiment, tmp_path: Path, search_runs: Callable[..., list[Any]]
) -> None:
    track_a_search(experiment, tmp_path / "figures")
    (best,) = search_runs("tags.trial_id = 'trial_0'")
    port = check_port("127.0.0.1", 0)

    def figure_page(run: Any, name: str) -> str:
        return run_page(f"http://127.0.0.1:{port}", run.info.experiment_id, run.info.run_id, f"artifacts/figures/{name}.png")

    pictures = Path(os.environ.get("ORCHESTRATE_SCREENSHOTS", tmp_path))
    with pages(experiment, port) as links, browser() as seen:
        assert sorted(links) == ["curves", "runs", "search"]

        seen.open(links["runs"])
        unfold = "button[aria-label*='xpand'], .ag-cell button, [data-testid*='expander']"
        seen.until(f'const b = document.querySelector("{unfold}"); if (b) b.click(); return !!b;')
        seen.until("return [0, 1, 2, 3].every(i => document.body.innerText.includes('trial_' + i))")
        assert "digits: ensemble" in seen.run("return document.body.innerText")
        seen.picture(pictures / "runs.png")

        seen.open(links["curves"])
        seen.until("return document.body.innerText.includes('trial_3')")
        lines = "[...document.querySelectorAll('.main-svg path.js-line')]"
        seen.until(f"return {lines}.filter(p => p.getAttribute('d').split('L').length >= 5).length >= 8")
        seen.picture(pictures / "curves.png")

        seen.open(links["search"])
        seen.until("return document.body.innerText.includes('Hyperparameter search of the run folder')")
        seen.until("return [0, 1, 2, 3].every(i => document.body.innerText.includes('trial_' + i))")
        seen.picture(pictures / "parent.png")

        drawn = "return [...document.images].some(i => i.complete && i.naturalWidth > 300)"
        (parent,) = search_runs("tags.kind = 'search'")
        seen.open(figure_page(parent, "best_so_far"))
        seen.until(drawn)
        seen.picture(pictures / "parent_figure.png")
        seen.open(figure_page(best, "learning_curves"))
        seen.until(drawn)
        seen.picture(pictures / "trial_figure.png")
    assert check_port("127.0.0.1", port) == port
    assert all((pictures / f"{name}.png").stat().st_size > 10_000 for name in ("runs", "curves", "parent", "parent_figure"))

"""The whole way on one screen, and the only file that knows its order."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.context import Context
from orchestrator.stages.baseline import run_baseline
from orchestrator.stages.diagnose import run_diagnosis
from orchestrator.stages.ensemble import run_ensemble
from orchestrator.stages.export import run_export
from orchestrator.stages.light import run_light
from orchestrator.stages.predict import run_predict
from orchestrator.stages.report import run_report
from orchestrator.stages.search import run_or_resume_search

STAGES: tuple[tuple[str, Callable[[Context], object]], ...] = (
    ("baseline", run_baseline),  # a plain model: the score to beat
    ("light", run_light),  # linear classifiers on frozen features, where there are pretrained ones
    ("diagnose", run_diagnosis),  # where it fails, and what that asks of the search
    ("search", run_or_resume_search),  # many trials, each with its predictions kept
    ("ensemble", run_ensemble),  # which of them together, judged once on the test split
    ("export", run_export),  # one portable folder, and MLflow's registry
    ("predict", run_predict),  # a few images with that folder alone, as its user would
    ("report", run_report),  # what made each improvement, on one page
)


def run_all(context: Context) -> None:
    """Run every stage in order; a stage that is already done is quick to pass again."""
    for number, (name, stage) in enumerate(STAGES, start=1):
        context.say(f"[{number}/{len(STAGES)}] {name}")
        stage(context)

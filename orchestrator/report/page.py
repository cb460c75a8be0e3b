"""The report of a run folder: what was run, what came of it, what made each improvement, how sure that is, how to go on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from orchestrator.report.as_html import to_html
from orchestrator.report.as_markdown import to_markdown
from orchestrator.report.blocks import Page, Section
from orchestrator.report.cost_sections import bags, family
from orchestrator.report.facts import Facts, read_facts
from orchestrator.report.result_sections import diversity, ledgers, members, result
from orchestrator.report.run_sections import data, diagnosis, failures, figures, next_steps, search, settings, troubles
from orchestrator.store.workspace import Workspace, write_atomic

SECTIONS: Sequence[Callable[[Facts], Section | None]] = (
    result, ledgers, members, family, bags, diversity, search, failures, data, diagnosis, figures, next_steps, troubles,
    settings,
)  # fmt: skip
"""In the order of the page; one that has nothing to say returns None."""


def write_report(workspace: Workspace) -> tuple[Path, Path]:
    """Write the report as one self-contained HTML file and as Markdown beside the figures; returns both paths.

    Reads only the run folder, and copes with any part of it missing or unreadable.
    """
    facts = read_facts(workspace)
    page = build_page(facts)
    write_atomic(workspace.report_page, to_html(page).encode())
    write_atomic(workspace.report_text, to_markdown(page, workspace.root).encode())
    return workspace.report_page, workspace.report_text


def build_page(facts: Facts) -> Page:
    """Return the report's sections, printed as nothing yet."""
    found = [section(facts) for section in SECTIONS]
    return Page(f"Report: {facts.name}", [section for section in found if section is not None])

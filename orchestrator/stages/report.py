"""Report: everything the run folder holds, on one page."""

from __future__ import annotations

from pathlib import Path

from orchestrator.context import Context


def run_report(context: Context) -> Path:
    """Write the report, log it to the tracker, and return the HTML file."""
    from orchestrator.report.page import write_report

    html, markdown = write_report(context.workspace)
    context.tracker.stage("report", params={}, metrics={}, artifacts=[html, markdown])
    context.say(f"report: {html}")
    return html

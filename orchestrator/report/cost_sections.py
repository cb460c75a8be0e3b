"""The sections about what ensembles cost and what their bags say: the measured family, and the out-of-bag estimates."""

from __future__ import annotations

from orchestrator.report.blocks import Bullets, Cell, Section, Table, Text
from orchestrator.report.facts import Facts


def family(facts: Facts) -> Section | None:
    """Best single, soup, three members, cascade and the ensemble by measured latency; the front stands out."""
    found = facts.ensemble.get("family") or ()
    if not found:
        return None
    lines: list[list[Cell]] = [
        [
            str(row.get("name")), row.get("latency_ms_batch_1"), row.get("latency_ms_batch_64"), row.get("size_mb"),
            row.get("score"), "yes" if row.get("pareto") else "no",
        ]
        for row in found
    ]  # fmt: skip
    columns = ["", "ms, batch of 1", "ms, batch of 64", "MB", f"validation {found[0].get('metric', 'score')}", "on the front"]
    words = (
        "Medians of repeated forward passes on the CPU of the machine that built the ensemble. `orchestrate export "
        "--max-latency 5ms` exports the best validation score within a limit; the cascade asks the best single model first."
    )
    return Section("What it costs", [Text(words), Table(columns, lines)])


def bags(facts: Facts) -> Section | None:
    """Out-of-bag estimates beside validation and test, and why bagging and boosting ended."""
    found = facts.ensemble.get("bagging") or {}
    boosting = facts.ensemble.get("boosting") or {}
    blocks: list[Text | Table | Bullets] = []
    if found:
        metrics = [m for m in ("accuracy", "log_loss", "rmse") if any(m in one.get("out_of_bag", {}) for one in found.values())]
        parts = ("out_of_bag", "validation", "test")
        columns = ["", "members", *(f"{part.replace('_', '-')} {metric}" for metric in metrics for part in parts)]
        lines: list[list[Cell]] = [
            [name, len(one.get("members", ())), *(one.get(part, {}).get(metric) for metric in metrics for part in parts)]
            for name, one in found.items()
        ]
        blocks += [Table(columns, lines), Bullets([_bag_words(name, one) for name, one in found.items()])]
    if boosting:
        count = len(boosting.get("members", ()))
        blocks.append(Text(f"Boosting kept {count} stage(s); it ended because: {boosting.get('stopped', 'unknown')}."))
    return Section("Bags and boosting", blocks) if blocks else None


def _bag_words(name: str, one: dict[str, object]) -> str:
    return (
        f"{name} of {one.get('parent')}: {one.get('stopped') or 'trained earlier'}; {one.get('rows_without_estimate')} of "
        f"{one.get('rows')} training rows were in every bag and have no estimate."
    )

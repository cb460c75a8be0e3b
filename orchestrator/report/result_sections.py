"""The sections about the result: the verdict and its table, the ledgers, the members, their diversity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestrator.report.blocks import Block, Bullets, Cell, Section, Table, Text
from orchestrator.report.facts import Facts
from orchestrator.report.ledger import changed_knobs, ensemble_in_words

LOSSES = {"accuracy": "accuracy", "log_loss": "log-loss", "ece": "ECE", "brier": "Brier"}
VALUES = {"rmse": "RMSE", "mae": "MAE", "r2": "R2"}


def result(facts: Facts) -> Section:
    """The verdict in words, and the ensemble beside its controls."""
    judged = facts.ensemble.get("judgement") or {}
    rows: Sequence[Mapping[str, Any]] = judged.get("rows") or ()
    if not rows:
        return Section("Result", [Text("No ensemble has been judged yet.", "careful"), *_best_so_far(facts)])
    verdict = judged.get("verdict") or {}
    blocks: list[Block] = [
        Text(str(verdict.get("text", "")), "good" if verdict.get("gain") else "careful"),
        Text(f"Recommended: {verdict.get('recommended', 'unknown')}. Judged once, on {judged.get('n', '?')} images of the "
             f"{judged.get('split', '?')} split, which chose nothing."),
        judgement_table(rows, str(verdict.get("metric", ""))),
    ]  # fmt: skip
    notices = [str(notice) for notice in (facts.ensemble.get("ensemble") or {}).get("notices", ())]
    return Section("Result", [*blocks, *([Bullets(notices)] if notices else [])])


def _best_so_far(facts: Facts) -> list[Block]:
    if not facts.best_first:
        return []
    best = facts.best_first[0]
    score = best.score(facts.metric)
    return [Text(f"Best so far: {best.trial_id}, validation {facts.metric} {score:.4f} at epoch {best.best_epoch}.")]


def judgement_table(rows: Sequence[Mapping[str, Any]], metric: str) -> Table:
    """Return candidates against each other, the ensemble standing out."""
    names = VALUES if "rmse" in rows[0] else LOSSES
    kept = [key for key in names if any(row.get(key) is not None for row in rows)]
    columns = ["", "members", *(names[key] for key in kept), f"{metric or 'difference'} against best single (95 %)"]
    lines: list[list[Cell]] = []
    for row in rows:
        scores = [_with_ends(row, key) for key in kept]
        difference = interval(row.get("delta"), row.get("delta_low"), row.get("delta_high"), signed=True)
        lines.append([str(row.get("name", "")), row.get("members"), *scores, difference])
    strong = next((place for place, row in enumerate(rows) if row.get("name") == "ensemble"), -1)
    return Table(columns, lines, strong)


def _with_ends(row: Mapping[str, Any], key: str) -> Cell:
    if row.get(f"{key}_low") is None:
        return row.get(key)
    return interval(row.get(key), row[f"{key}_low"], row[f"{key}_high"])


def interval(value: float | None, low: float | None, high: float | None, *, signed: bool = False) -> str:
    """Return "0.9123 [0.9010, 0.9230]", with signs for a difference; less where less is known."""
    if value is None:
        return ""
    style = "+.4f" if signed else ".4f"
    ends = "" if low is None or high is None else f" [{low:{style}}, {high:{style}}]"
    return f"{value:{style}}{ends}"


def ledgers(facts: Facts) -> Section | None:
    """What each step changed and what it was worth: on the judged split, and during the search on validation."""
    blocks: list[Block] = []
    if facts.ledger:
        blocks += [
            Text("Each step against the one before it, on the same images (95 %)."),
            ledger_table(facts.ledger),
        ]
    if len(facts.search_ledger) > 1:
        blocks += [
            Text("How the search found its best model: each trial that beat all before it, on validation, which chose them; "
                 "differences here flatter."),
            ledger_table(facts.search_ledger),
        ]  # fmt: skip
    return Section("Ledger of improvement", blocks) if blocks else None


def ledger_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Return a ledger as a table: a score and a difference for each metric."""
    metrics = list(rows[-1].get("scores", {}))
    columns = ["step", "what changed"]
    for metric in metrics:
        columns += [f"{rows[-1].get('split', '')} {metric}".strip(), "difference"]
    lines: list[list[Cell]] = []
    for row in rows:
        line: list[Cell] = [str(row.get("step", "")), str(row.get("changed", ""))]
        for metric in metrics:
            nothing = [None, None, None]
            line.append(interval(*row.get("scores", {}).get(metric, nothing)))
            line.append(interval(*row.get("deltas", {}).get(metric, nothing), signed=True))
        lines.append(line)
    return Table(columns, lines, len(lines) - 1)


def members(facts: Facts) -> Section | None:
    """The chosen members: weight, temperature, their own score, and what sets them apart from the baseline."""
    ensemble = facts.ensemble.get("ensemble") or {}
    chosen = ensemble.get("members") or ()
    if not chosen:
        return None
    baseline = next((record for record in facts.records if record.kind == "baseline"), None)
    lines: list[list[Cell]] = []
    for entry in sorted(chosen, key=lambda one: -float(one.get("weight", 0))):
        record = facts.record(str(entry.get("trial_id")))
        line: list[Cell] = [str(entry.get("trial_id")), entry.get("weight"), entry.get("temperature")]
        if record is None:
            line += ["", None, None, None, ""]
        else:
            origin = changed_knobs(baseline.config, record.config) if baseline and record.kind != "baseline" else ""
            line += [record.kind, record.score(facts.metric), record.best_epoch, f"{record.seconds:.1f}", origin]
        lines.append(line)
    columns = ["member", "weight", "temperature", "kind", f"val {facts.metric}", "epoch", "seconds", "against the baseline"]
    words = f"{ensemble_in_words(ensemble)}; temperature after the vote {float(ensemble.get('temperature', 1.0)):.3f}."
    return Section("Members", [Text(words + _calibrated(facts)), Table(columns, lines)])


def _calibrated(facts: Facts) -> str:
    """Return what the calibration changed, in a sentence."""
    found = facts.ensemble.get("calibration") or {}
    if not found:
        return ""
    steps = [found[when] for when in ("before", "temperature", "after") if when in found]
    changed = ", ".join(f"{key} " + " -> ".join(f"{step[key]:.4f}" for step in steps) for key in steps[0])
    return f" Calibration ({found['method']}) on the {found['split']} split: {changed}."


def diversity(facts: Facts) -> Section | None:
    """How differently the members err, as means over pairs."""
    found = facts.ensemble.get("diversity") or {}
    rows: list[list[Cell]] = [
        [key.removeprefix("mean_").replace("_", " "), float(value)]
        for key, value in found.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    if not rows:
        return None
    words = "On validation; pairwise measures are means over pairs. Ensemble loss is the mean loss of members less ambiguity."
    return Section("Diversity", [Text(words), Table(["measure", "value"], rows)])

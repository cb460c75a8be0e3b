"""The sections about the run: search, failures, data, diagnosis, figures, what to do next, settings."""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from typing import Any

from orchestrator.report.blocks import Block, Bullets, Cell, Commands, Details, Picture, Section, Table, Text
from orchestrator.report.facts import Facts
from orchestrator.report.ledger import changed_knobs

TOP = 10
_LOGIN = re.compile(r"(?<=://)[^/@\s\"]+(?=@)")
_SECRET = re.compile(r"token|password|secret|credential|api_?key", re.IGNORECASE)


def search(facts: Facts) -> Section | None:
    """How many trials ran and how they ended, what they cost, and the best of them."""
    if not facts.records:
        return None
    states = Counter(record.status for record in facts.records)
    epochs, seconds = sum(r.epochs_run for r in facts.records), sum(r.seconds for r in facts.records)
    devices = sorted({record.device for record in facts.records if record.device})
    section = facts.section("search")
    words = [
        f"{len(facts.records)} trainings: " + ", ".join(f"{n} {state}" for state, n in sorted(states.items())),
        f"{epochs} epochs, {seconds:.0f} training seconds" + (f" on {', '.join(devices)}" if devices else ""),
    ]
    if section:
        words.append(
            f"space {section.get('space')}, {section.get('algorithm')} with {section.get('scheduler')}, metric {facts.metric}"
        )
    baseline = next((record for record in facts.records if record.kind == "baseline"), None)
    lines: list[list[Cell]] = []
    for record in facts.best_first[:TOP]:
        knobs = changed_knobs(baseline.config, record.config) if baseline and record.kind != "baseline" else ""
        ended = f"{record.status} {record.stop_reason}".strip()
        score = record.score(facts.metric)
        lines.append([record.trial_id, record.kind, score, record.best_epoch, record.epochs_run, ended, knobs])
    columns = ["trial", "kind", f"val {facts.metric}", "best epoch", "epochs", "ended", "against the baseline"]
    return Section("Search", [Bullets(words), *([Table(columns, lines, 0)] if lines else [])])


def failures(facts: Facts) -> Section | None:
    """Trials that failed, each with its reason."""
    failed = [record for record in facts.records if record.status == "failed"]
    if not failed:
        return None
    rows: list[list[Cell]] = [[r.trial_id, (r.error or r.stop_reason or "no reason kept")[:300], r.epochs_run] for r in failed]
    return Section("Failed trials", [Table(["trial", "reason", "epochs"], rows)])


def data(facts: Facts) -> Section | None:
    """Where the images come from, how many there are, what was left out."""
    known = facts.diagnosis.get("data") or {}
    sizes = known.get("sizes") or facts.sizes
    source = facts.section("data").get("source") or known.get("source")
    lines = [f"source: {source}"] if source else []
    if sizes:
        lines.append("images: " + ", ".join(f"{name} {sizes[name]}" for name in ("train", "val", "test") if name in sizes))
    if known.get("image_shape"):
        lines.append("height x width x channels: " + " x ".join(str(side) for side in known["image_shape"]))
    if known.get("classes"):
        classes = known["classes"]
        lines.append(f"{len(classes)} classes: {', '.join(classes[:30])}{', ...' if len(classes) > 30 else ''}")
    if fingerprint := known.get("fingerprint") or facts.fingerprint:
        lines.append(f"fingerprint: {fingerprint}")
    lines += [str(notice) for notice in known.get("notices", ())]
    blocks: list[Block] = [Bullets(lines)] if lines else []
    if known.get("skipped"):
        named = known.get("skipped_files", ())
        blocks.append(Text(f"Files left out: {known['skipped']}", "careful"))
        blocks.append(Table(["file", "reason"], [[str(file), str(reason)] for file, reason in named]))
    return Section("Data", blocks) if blocks else None


def diagnosis(facts: Facts) -> Section | None:
    """Where the baseline was wrong, what it could not bear, and what that asked of the search."""
    found = facts.diagnosis
    blocks: list[Block] = []
    if found.get("reasons"):
        blocks += [Text("What the baseline's errors ask of the search:"), Bullets([str(reason) for reason in found["reasons"]])]
    if found.get("probe"):
        rows: list[list[Cell]] = [
            [drop["name"], drop["accuracy"], f"{drop['drop']:+.3f} [{drop['low']:+.3f}, {drop['high']:+.3f}]"]
            for drop in found["probe"]
        ]
        blocks.append(Table(["validation images made", "accuracy", "accuracy lost (95 %)"], rows))
    if found.get("classes"):
        worst: list[list[Cell]] = [
            [row["class"], row["images"], row["error"], f"{row['taken_for']} ({row['times']})" if row["times"] else ""]
            for row in found["classes"][:TOP]
        ]
        blocks.append(Table(["class", "images", "error", "most often taken for"], worst))
    return Section("Error analysis of the baseline", blocks) if blocks else None


def figures(facts: Facts) -> Section | None:
    """Every picture of the run's folder of figures."""
    pictures = [Picture(path, f"{stage} {path.stem}".strip().replace("_", " ")) for stage, path in facts.pictures]
    return Section("Figures", pictures) if pictures else None


def next_steps(facts: Facts) -> Section:
    """Commands to go on with."""
    run, bundle = shlex.quote(str(facts.root)), shlex.quote(str(facts.bundle))
    lines = [f"orchestrate ui {run}"]
    if not facts.ensemble:
        lines.append(f"orchestrate ensemble {run}")
    elif not facts.exported:
        lines.append(f"orchestrate export {run}")
    else:
        lines += [
            f"orchestrate predict {bundle} IMAGE...",
            f"orchestrate evaluate {bundle} FOLDER",
            f"orchestrate serve {bundle}",
            f"python {shlex.quote(str(facts.bundle / 'runtime.py'))} IMAGE...   # needs numpy, pillow, onnxruntime alone",
        ]
    return Section("Next", [Commands(lines)])


def troubles(facts: Facts) -> Section | None:
    """What of the run folder could not be read."""
    return Section("Could not be read", [Bullets(facts.troubles)]) if facts.troubles else None


def settings(facts: Facts) -> Section | None:
    """The resolved experiment, without logins and secrets."""
    if not facts.experiment:
        return None
    text = _LOGIN.sub("***", json.dumps(starred(facts.experiment), indent=1))
    return Section("Settings", [Details("The resolved experiment", text)])


def starred(value: Any) -> Any:
    """Return a nested value in which everything under a key that speaks of a secret is stars."""
    if isinstance(value, dict):
        return {k: "***" if _SECRET.search(str(k)) and v else starred(v) for k, v in value.items()}
    return [starred(item) for item in value] if isinstance(value, list) else value

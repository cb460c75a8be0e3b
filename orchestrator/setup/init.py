"""Write a commented experiment file for a folder of images: what was seen, what is proposed, and why."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from orchestrator.errors import UserError
from orchestrator.experiment_file import load
from orchestrator.setup.look import look_at
from orchestrator.setup.propose import Proposal, propose, run_name


def write_experiment(
    data: str, out: Path, *, force: bool = False, weights: str | None = None, model: str | None = None
) -> Path:
    """Look at `data`, write the proposed experiment to `out`, return it; raises UserError (also where `out` exists)."""
    if out.exists() and not force:
        raise UserError(f"{out}: exists already; choose another name with --out, or overwrite it with --force")
    look = look_at(data)
    text = render(propose(look, name=run_name(look.source), weights=weights, model=model))
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        load(draft)
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return out


def render(proposal: Proposal) -> str:
    """Return a proposal as commented YAML."""
    lines = ["# An experiment of orchestrate. Check it:  orchestrate check FILE    Run it:  orchestrate run FILE"]
    for section, values in proposal.sections.items():
        if section:
            lines += ["", *_comment(proposal.comments.get(section, ""), ""), f"{section}:"]
        indent = "  " if section else ""
        for key, value in values.items():
            lines += _comment(proposal.comments.get(f"{section}.{key}", ""), indent)
            lines.append(f"{indent}{key}: {_value(value)}")
    return "\n".join(lines) + "\n"


def _comment(text: str, indent: str) -> list[str]:
    clean = " ".join(text.split())
    return [f"{indent}# {line}" for line in textwrap.wrap(clean, 110, break_long_words=False)]


def _value(value: Any) -> str:
    """Return a value as YAML: JSON, with the quotes left off plain words."""
    if (
        isinstance(value, str)
        and value.replace("_", "a").replace("/", "a").replace(".", "a").isalnum()
        and not value[0].isdigit()
    ):
        return value
    if isinstance(value, list):
        return f"[{', '.join(_value(item) for item in value)}]"
    return json.dumps(value, ensure_ascii=False)

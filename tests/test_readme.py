"""What the README says exists: verbs, make targets, files of the map, examples and links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.cli import app

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text()


def verbs() -> set[str]:
    named = {
        command.name or command.callback.__name__.replace("_", "-") for command in app.registered_commands if command.callback
    }
    return named | {group.typer_instance.info.name for group in app.registered_groups if group.typer_instance}  # type: ignore[misc]


def test_every_verb_named_is_one() -> None:
    named = set(re.findall(r"^(?:\S+/)?orchestrate ([a-z-]+)", TEXT, flags=re.MULTILINE))
    named |= set(re.findall(r"`orchestrate ([a-z-]+)[^`]*`", TEXT))
    assert named, "the README shows no command"
    assert named <= verbs()


def test_every_make_target_named_is_one() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)\b", TEXT)) - {"it"} <= targets


def test_every_file_of_the_map_is_there() -> None:
    block = TEXT.split("## Map of the files")[1].split("```")[1]
    package = ""
    missing = []
    for line in block.strip().splitlines():
        if not line.startswith(" "):
            package = line.split()[0]
        for name in re.findall(r"(?<!\S)[a-z_]+(?:\.py|/)(?!\S)", line):
            if not (ROOT / package / name).exists() and not (ROOT / name).exists():
                missing.append(f"{package}{name}")
    assert not missing


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (path.parent / target).exists(), target


def test_examples_named_are_there() -> None:
    for name in re.findall(r"examples/[\w.-]+", TEXT):
        assert (ROOT / name).exists(), name

"""The import table of the house, held by reading every file with `ast`: who may import whom, and no circles."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("search_spaces", "trainables", "orchestrator")
FILES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))

# Which of our own places a place may import (besides itself). The longest matching prefix on the left counts.
OWN: dict[str, set[str]] = {
    "search_spaces": set(),
    "trainables": set(),
    "orchestrator.errors": set(),
    "orchestrator.config": set(),
    "orchestrator.experiment_file": {"orchestrator.config", "orchestrator.errors", "trainables.config", "search_spaces"},
    "orchestrator.resolve": {
        "orchestrator.config", "orchestrator.errors", "orchestrator.experiment_file", "trainables", "search_spaces",
    },
    "orchestrator.store": {"trainables.config", "trainables.data.dataset"},
    "orchestrator.tracking": {"orchestrator.config", "orchestrator.errors", "orchestrator.store"},
    "orchestrator.search": {
        "orchestrator.config", "orchestrator.errors", "orchestrator.experiment_file", "orchestrator.store",
        "orchestrator.tracking.tracker", "orchestrator.resolve", "trainables", "search_spaces",
    },
    "orchestrator.ensemble": {"orchestrator.store.records", "orchestrator.errors"},
    "orchestrator.diagnosis": {"orchestrator.store", "orchestrator.errors", "trainables"},
    "orchestrator.deliver": {"orchestrator.store", "orchestrator.errors", "orchestrator.config", "trainables"},
    "orchestrator.report": {"orchestrator.store", "orchestrator.errors", "orchestrator.config", "search_spaces"},
    "orchestrator.setup": {
        "orchestrator.config", "orchestrator.errors", "orchestrator.experiment_file", "orchestrator.resolve", "trainables",
        "search_spaces",
    },
    "orchestrator.tools": {
        "orchestrator.config", "orchestrator.errors", "orchestrator.resolve", "orchestrator.setup",
        "orchestrator.report.canvas", "orchestrator.tracking.journal", "trainables",
    },
    "orchestrator.context": {"orchestrator", "trainables"},
    "orchestrator.stages": {"orchestrator", "trainables", "search_spaces"},
    "orchestrator.pipeline": {"orchestrator.stages", "orchestrator.context", "orchestrator.config", "orchestrator.errors"},
    "orchestrator.cli": {"orchestrator", "trainables"},
    "orchestrator.cli_bundle": {"orchestrator.cli_options", "orchestrator.deliver", "orchestrator.errors"},
    "orchestrator.cli_options": {"orchestrator.config", "orchestrator.context", "orchestrator.experiment_file"},
    "orchestrator.cli_tools": {
        "orchestrator.cli_options", "orchestrator.config", "orchestrator.errors", "orchestrator.report.canvas",
        "orchestrator.setup", "orchestrator.store", "orchestrator.tools",
    },
    "orchestrator.__main__": {"orchestrator.cli", "orchestrator.errors"},
    "orchestrator": set(),
}  # fmt: skip
UPWARD = {
    "orchestrator.cli", "orchestrator.cli_bundle", "orchestrator.cli_options", "orchestrator.cli_tools",
    "orchestrator.pipeline", "orchestrator.stages", "orchestrator.context", "orchestrator.__main__",
}  # fmt: skip
"""Nothing below imports these."""

# Each vendor's doors: the only places that may import it.
DOORS: dict[str, tuple[str, ...]] = {
    "ray": tuple(f"orchestrator.search.{name}" for name in ("ray_", "schedulers", "engine", "preflight")),
    "optuna": ("orchestrator.search.algorithms", "orchestrator.report.importance"),
    "mlflow": ("orchestrator.tracking.", "orchestrator.deliver."),
    "timm": ("trainables.models.timm_models",),
    "albumentations": (),
    "onnxruntime": ("orchestrator.deliver.",),
}  # fmt: skip
SLOW_TO_IMPORT = {"torch", "torchvision", "ray", "mlflow", "optuna", "sklearn", "matplotlib", "pandas", "onnxruntime", "scipy"}
STANDARD_ONLY = "search_spaces"


def module_name(path: Path) -> str:
    """Return the dotted name of a file."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


NAMES = {module_name(path) for path in FILES}


def imports_of(path: Path) -> list[tuple[str, bool]]:
    """Return (module imported, at module level and not under TYPE_CHECKING) of a file."""
    tree = ast.parse(path.read_text())
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, top: bool) -> None:
        for child in ast.iter_child_nodes(node):
            inner = top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                inner = False
            if isinstance(child, ast.Import):
                found.extend((alias.name, top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}: relative import"
                package = child.module or ""
                found.extend(
                    (submodule if (submodule := f"{package}.{a.name}") in NAMES else package, top) for a in child.names
                )
            visit(child, inner)

    visit(tree, True)
    return found


def allowed_for(module: str) -> set[str]:
    """Return the row of the table with the longest prefix of a module."""
    best = max((key for key in OWN if module == key or module.startswith(key + ".")), key=len)
    return OWN[best] | ({best} if best != "orchestrator" else set())


def under(module: str, places: set[str]) -> bool:
    """Return whether a module is one of the places or inside one."""
    return any(module == place or module.startswith(place + ".") for place in places)


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_follow_the_table(path: Path) -> None:
    module = module_name(path)
    for name, top in imports_of(path):
        head = name.split(".")[0]
        if head in PACKAGES:
            assert under(name, allowed_for(module)), f"{module} may not import {name}"
            assert under(module, UPWARD) or not under(name, UPWARD), f"{module} imports upward: {name}"
        if head in DOORS:
            assert module.startswith(DOORS[head]), f"{module} imports {name}: not through its door {DOORS[head]}"
        if module.startswith("orchestrator") and top and head in SLOW_TO_IMPORT:
            assert not under(module, UPWARD | {"orchestrator.config", "orchestrator.experiment_file", "orchestrator.store"}), (
                f"{module} imports {name} at the top: `--help` would pay for it"
            )


@pytest.mark.parametrize("path", [p for p in FILES if p.is_relative_to(ROOT / STANDARD_ONLY)], ids=module_name)
def test_search_spaces_use_the_standard_library_only(path: Path) -> None:
    import sys

    for name, _ in imports_of(path):
        head = name.split(".")[0]
        assert head == STANDARD_ONLY or head in sys.stdlib_module_names, f"{module_name(path)} imports {name}"


def test_no_import_circles() -> None:
    graph = {
        module_name(path): {name for name, top in imports_of(path) if top and name in NAMES and name != module_name(path)}
        for path in FILES
    }
    done: set[str] = set()

    def walk(node: str, trail: tuple[str, ...]) -> None:
        assert node not in trail, f"import circle: {' -> '.join((*trail, node))}"
        if node not in done:
            for following in sorted(graph[node]):
                walk(following, (*trail, node))
            done.add(node)

    for name in sorted(graph):
        walk(name, ())


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_files_open_with_one_sentence_and_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    assert path.stem not in {"utils", "helpers", "manager", "misc", "common"}
    assert ast.get_docstring(ast.parse(text)), f"{path} has no opening sentence"


def test_nothing_names_a_package_index_or_a_machine_path() -> None:
    shown = [p for pattern in ("*.md", "*.toml", "*.yaml", "*.yml", "*.lock", "Makefile") for p in ROOT.glob(pattern)]
    for path in [*shown, *FILES, *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*")]:
        if path.is_file():
            text = path.read_text()
            assert not re.search(r"pypi\.org|pythonhosted|--(extra-)?index-url|(?<![\w.])/(?:work|root|opt/pypi)/", text), path

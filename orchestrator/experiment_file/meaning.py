"""What is wrong with an experiment whose values are right one by one: missing files, and keys that contradict each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from orchestrator.config import Experiment
from orchestrator.experiment_file.document import Document
from orchestrator.experiment_file.problems import line_of, nearest
from search_spaces import SPACES
from search_spaces.augmentation import OP_WORDS, forbidden_ops

_FLIPPING_VIEWS = ("flip", "full")


def meaning_problems(document: Document, experiment: Experiment, *, check_paths: bool) -> Iterator[str]:
    """Yield every contradiction, and (where asked) every folder or file that is named but not there."""
    yield from _forbid_problems(document, experiment)
    yield from _space_problems(document, experiment)
    data = experiment.data
    if data.val_fraction + data.test_fraction >= 0.95:
        total = data.val_fraction + data.test_fraction
        yield line_of(document, ("data", "val_fraction"), f"with test_fraction {total:g} of the images, allowed: below 0.95")
    if "task" in experiment.train and experiment.train["task"] != data.task:
        yield line_of(
            document, ("train", "task"), f"got {experiment.train['task']!r}, data.task is {data.task!r}; drop it here"
        )
    if check_paths:
        yield from _path_problems(document, experiment)


def _forbid_problems(document: Document, experiment: Experiment) -> Iterator[str]:
    forbid = experiment.search.forbid
    for number, word in enumerate(forbid):
        if word not in OP_WORDS:
            yield line_of(document, ("search", "forbid", number), f"got {word!r}, {nearest(word, OP_WORDS)}")
    for section in ("train", "baseline"):
        name = getattr(experiment, section).get("augmentation", "none")
        clash = forbidden_ops(str(name), forbid)
        if clash:
            yield line_of(
                document, (section, "augmentation"), f"{name!r} applies {', '.join(clash)}, which search.forbid rules out"
            )
    views = [(("ensemble", "tta"), experiment.ensemble.tta)]
    views += [((section, "tta"), getattr(experiment, section).get("tta", "none")) for section in ("train", "baseline")]
    for path, view in views:
        if view in _FLIPPING_VIEWS and "hflip" in forbid:
            yield line_of(document, path, f"{view!r} flips images, which search.forbid rules out; allowed: none, crops, scales")


def _space_problems(document: Document, experiment: Experiment) -> Iterator[str]:
    space = experiment.search.space
    if space not in SPACES and not space.endswith((".py", ".yaml", ".yml")):
        yield line_of(document, ("search", "space"), f"got {space!r}, {nearest(space, [*SPACES, 'PATH.py', 'PATH.yaml'])}")
    if space == "finetune" and experiment.train.get("weights", "none") == "none":
        yield line_of(
            document, ("search", "space"),
            "'finetune' needs pretrained weights; set train.model (mobilenet_v2) and train.weights (default, or a file), or "
            "train from scratch: space scratch, train.model cnn_b",
        )  # fmt: skip


def _path_problems(document: Document, experiment: Experiment) -> Iterator[str]:
    kind, _, path = experiment.data.source.partition(":")
    if kind == "folder" and not Path(path).expanduser().is_dir():
        yield line_of(document, ("data", "source"), f"no folder at {path!r} (relative to {Path.cwd()}); correct the path")
    if kind == "csv" and not Path(path).expanduser().is_file():
        yield line_of(document, ("data", "source"), f"no file at {path!r} (relative to {Path.cwd()}); correct the path")
    root = experiment.data.root
    if root and not experiment.data.download and not Path(root).expanduser().is_dir():
        yield line_of(
            document,
            ("data", "root"),
            f"no folder at {root!r} (relative to {Path.cwd()}); correct it, or set data.download: true",
        )
    space = experiment.search.space
    if space.endswith((".py", ".yaml", ".yml")) and not Path(space).expanduser().is_file():
        yield line_of(document, ("search", "space"), f"no file at {space!r} (relative to {Path.cwd()}); correct the path")
    for section in ("train", "baseline"):
        weights = str(getattr(experiment, section).get("weights", ""))
        if is_file_name(weights) and not Path(weights).expanduser().is_file():
            yield line_of(
                document, (section, "weights"), f"no file at {weights!r} (relative to {Path.cwd()}); correct the path"
            )


def is_file_name(weights: str) -> bool:
    """Return whether `weights` names a file rather than torchvision's weights."""
    return weights.endswith((".pth", ".pt", ".safetensors")) or "/" in weights

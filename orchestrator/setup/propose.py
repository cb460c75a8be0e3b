"""From what the data look like to a proposed experiment: model, image size, split and budget, each with its reason."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import UserError
from orchestrator.setup.advise import MANY, decide
from orchestrator.setup.label_guard import guard_for
from orchestrator.setup.look import Look

PHOTO_SIDE = 64
"""Colour images at least this large are photos, for which pretrained backbones pay."""
IMBALANCED = 3.0
_BACKBONES = (
    "mobilenet_v2",
    "squeezenet1_0",
    "squeezenet1_1",
    "resnet18",
    "resnet34",
    "resnet50",
    "efficientnet_b0",
    "vit_b_16",
)


@dataclass(frozen=True)
class Proposal:
    """The sections of an experiment file, and a comment for a key ("search.trials") or a section ("train")."""

    sections: dict[str, dict[str, Any]]
    comments: dict[str, str] = field(default_factory=dict)


def propose(look: Look, *, name: str, weights: str | None = None, model: str | None = None) -> Proposal:
    """Return the proposed experiment for what `look` saw; `weights` "none" forbids a pretrained start."""
    draft = Proposal({"": {"name": name, "seed": 0}, "data": {}, "train": {}, "baseline": {}, "search": {}, "ensemble": {}})
    _data(draft, look)
    if _pretrained(look, weights):
        _finetune(draft, look, weights or "default", model or _backbone(weights))
    else:
        _scratch(draft, look, model)
    draft.sections["train"]["precision"] = "auto"
    draft.comments["train.precision"] = "bf16 where this net is faster in it on the device that trains it, else fp32"
    if sees_cuda():
        draft.sections["train"]["compile"] = "auto"
        draft.comments["train.compile"] = "torch.compile where a long trial gains more than that costs"
    _search(draft, look)
    return draft


def run_name(source: str) -> str:
    """Return a run's name made of the source's last part: `folder:~/my photos` -> my-photos."""
    stem = Path(source.partition(":")[2] or source).expanduser().resolve().stem if ":" in source else source
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", stem).strip("-._")[:60] or "images"


def sees_cuda() -> bool:
    """Return whether torch sees a CUDA device; it is imported (seconds) only where the driver's own tool is installed."""
    if shutil.which("nvidia-smi") is None:
        return False
    import torch

    return torch.cuda.is_available()


def _pretrained(look: Look, weights: str | None) -> bool:
    if weights is not None:
        return weights != "none"
    return look.channels == 3 and look.side >= PHOTO_SIDE


def _backbone(weights: str | None) -> str:
    stem = Path(weights or "").stem.lower()
    found = [name for name in _BACKBONES if stem.startswith(name)]
    if weights not in (None, "default") and not found:
        raise UserError(f"weights: {weights!r} does not say of which model; add --model, e.g. {', '.join(_BACKBONES[:4])}")
    return found[0] if found else "mobilenet_v2"


def _data(draft: Proposal, look: Look) -> None:
    data, said = draft.sections["data"], draft.comments
    data["source"] = look.source
    if look.source.isidentifier() and look.source != "digits":
        data |= {"root": "data", "download": True}
        said["data.download"] = "torchvision fetches it once into root; false when it is there already"
    if look.regression:
        data["task"] = "regression"
    classes = f"{len(look.counts)} classes" if look.counts else "numbers as targets"
    said["data"] = f"{look.images:,} images, {classes}, about {look.per_class:,.0f} a class; short side {look.side} px (median)"
    if look.skipped:
        said["data"] += f"; {len(look.skipped)} files left out ({look.skipped[0][0]}: {look.skipped[0][1]})"
    given = [split for split in ("train", "val", "test") if look.given.get(split)]
    for split in ("val", "test"):
        if split not in given:
            data[f"{split}_fraction"] = 0.1 if look.images >= 20_000 else 0.2
    if given:
        said["data"] += f"; the source has its own {', '.join(given)}"
    few = sorted((n, c) for c, n in look.counts.items() if n < 5)
    if few:
        said["data"] += f"; FEWER THAN 5 IMAGES: {', '.join(f'{c} ({n})' for n, c in few[:3])}: add some or drop the class"


def _finetune(draft: Proposal, look: Look, weights: str, model: str) -> None:
    train, said = draft.sections["train"], draft.comments
    advice = decide(max(1.0, look.per_class))
    draft.sections["search"]["space"] = "finetune"
    said["search.space"] = "how deep to fine-tune, and how fast at which depth"
    side = min(224, max(96, 32 * round(look.side / 32)))
    draft.sections["data"]["image_size"] = side
    said["data.image_size"] = "decoded once to this side; smaller is faster, the weights know 224 best"
    train |= {"model": model, "weights": weights, "epochs": 6 if look.per_class >= MANY else 10}
    said["train"] = "fixed in every trial"
    said["train.weights"] = (
        "default: torchvision's, fetched once; or a .pth / .safetensors file" if weights == "default" else ""
    )
    draft.sections["baseline"] |= {"finetune_depth": advice.depth, "bn": "frozen", "batch_size": 32}
    said["baseline.finetune_depth"] = f"{advice.reason} (`orchestrate advise` measures it)"


def _scratch(draft: Proposal, look: Look, model: str | None) -> None:
    train, said = draft.sections["train"], draft.comments
    draft.sections["search"]["space"] = "scratch"
    said["search.space"] = "small nets from nothing: their kind and size, augmentation, optimiser, schedule"
    if not look.one_size or look.side > 96:
        draft.sections["data"]["image_size"] = min(96, max(32, 32 * round(look.side / 32)))
        said["data.image_size"] = "nets trained from nothing need no more; raise it for fine detail"
    train["epochs"] = 30 if look.images < 2_000 else 20 if look.images < 20_000 else 12
    said["train"] = "fixed in every trial"
    draft.sections["baseline"]["model"] = model or "cnn_b"
    if look.images >= 20_000:
        said["train.epochs"] = "on a CPU, add `limit: 10000` under data for a first look"


def _search(draft: Proposal, look: Look) -> None:
    search, train, said = draft.sections["search"], draft.sections["train"], draft.comments
    search["trials"] = 12
    said["search.trials"] = "more is better: 12 for a first look, 50 and up for a result"
    search["grace_epochs"] = max(2, train["epochs"] // 4)
    said["search.grace_epochs"] = "no trial is stopped before"
    if look.regression:
        search["metric"] = "rmse"
        draft.sections["ensemble"]["metric"] = "rmse"
    elif look.imbalance >= IMBALANCED:
        search["metric"] = "balanced_accuracy"
        train["class_weights"] = "balanced"
        said["search.metric"] = f"the largest class has {look.imbalance:.1f} times the images of the smallest"
    draft.sections["ensemble"]["method"] = "convex"
    said["ensemble"] = "chosen on the validation split, judged once on the test split beside its controls"
    guard = guard_for(look.counts)
    if guard is not None:
        search["forbid"] = list(guard.forbid)
        said["search.forbid"] = guard.reason
    else:
        said["search"] = "forbid: [hflip, vflip, rotate180] where a flip or a turn changes the label (digits, text, signs)"

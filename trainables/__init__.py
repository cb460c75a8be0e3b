"""How one model is trained: torch and torchvision only, never the search, the tracker or the orchestrator."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from trainables.allocator import collector_at_rest

if TYPE_CHECKING:
    from trainables.contract import Trainable

TRAINABLES: dict[str, str] = {
    "image": "trainables.image_model:ImageModel",
    "slot": "trainables.slots.slot_model:SlotModel",
    "light": "trainables.light_classifier:LightClassifier",
}
"""name -> "module:Class", imported only when asked for."""


def load_trainable(name: str) -> type[Trainable]:
    """Return the Trainable class of that name; raises ValueError listing the known names."""
    if name not in TRAINABLES:
        raise ValueError(f"trainable: got {name!r}, allowed: {', '.join(TRAINABLES)}")
    module, _, attribute = TRAINABLES[name].partition(":")
    with collector_at_rest():
        loaded: type[Trainable] = getattr(importlib.import_module(module), attribute)
    return loaded

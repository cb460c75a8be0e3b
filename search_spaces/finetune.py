"""The default space of pretrained backbones: how deep to fine-tune, and how fast at which depth.

The backbone and its weights come from the experiment's `train:` (model, weights); `lr` is the head's rate, and a stage below it
learns at `lr * layer_decay ** (stages above it)`.
"""

from __future__ import annotations

from search_spaces.dimensions import Choice, Float, Int, When
from search_spaces.schedules import schedule_dimensions
from search_spaces.space import Space

_DEEP = ("last_1", "last_2", "last_3", "all")
_SETS = ("none", "flip", "crop_flip", "crop_flip_colour", "scale", "trivialaugment")

FINETUNE = Space(
    "finetune",
    (
        Choice("finetune_depth", ("head", *_DEEP)),
        Float("layer_decay", 0.4, 1.0, when=When("finetune_depth", _DEEP)),
        Choice("bn", ("frozen", "train"), when=When("finetune_depth", _DEEP)),
        Int("gradual_epochs", 0, 2, when=When("finetune_depth", ("all",))),
        Float("dropout", 0.0, 0.5),
        Choice("augmentation", _SETS),
        Float("magnitude", 0.5, 1.5, when=When("augmentation", _SETS[1:])),
        Choice("mixup", (0.0, 0.2)),
        Float("label_smoothing", 0.0, 0.1, step=0.05),
        Choice("optimizer", ("adamw", "sgd")),
        Float("lr", 2e-4, 1e-2, log=True),
        Float("momentum", 0.85, 0.97, when=When("optimizer", ("sgd",))),
        Float("weight_decay", 1e-5, 1e-2, log=True),
        Choice("batch_size", (16, 32, 64)),
        *schedule_dimensions("cosine", "onecycle", "constant"),
    ),
)

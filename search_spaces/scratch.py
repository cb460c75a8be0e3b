"""The default space of small nets trained from nothing: priors tight enough that a dozen trials hold strong models."""

from __future__ import annotations

from search_spaces.dimensions import Choice, Float, Int, When
from search_spaces.schedules import schedule_dimensions
from search_spaces.space import Space

_CNNS = ("cnn_a", "cnn_b", "cnn_c")
_SETS = ("none", "crop_flip", "crop_flip_erase", "crop_flip_colour", "translate", "geometric", "trivialaugment")

SCRATCH = Space(
    "scratch",
    (
        Choice("model", (*_CNNS, "cifar_resnet")),
        Int("width", 16, 48, step=16, when=When("model", _CNNS)),
        Int("width", 16, 32, step=16, when=When("model", ("cifar_resnet",))),
        Int("depth", 8, 20, step=6, when=When("model", ("cifar_resnet",))),
        Float("drop_path", 0.0, 0.2, step=0.1, when=When("model", ("cifar_resnet",))),
        Float("dropout", 0.1, 0.6, when=When("model", ("cnn_c",))),
        Float("dropout", 0.0, 0.3, when=When("model", ("cifar_resnet",))),
        Choice("augmentation", _SETS),
        Float("magnitude", 0.5, 1.5, when=When("augmentation", _SETS[1:])),
        Choice("mixup", (0.0, 0.2)),
        Float("label_smoothing", 0.0, 0.1, step=0.05),
        Choice("optimizer", ("adamw", "adam", "sgd")),
        Float("lr", 8e-4, 2e-2, log=True),
        Float("momentum", 0.85, 0.97, when=When("optimizer", ("sgd",))),
        Choice("nesterov", (True, False), when=When("optimizer", ("sgd",))),
        Float("weight_decay", 1e-5, 1e-2, log=True),
        Choice("batch_size", (32, 64, 128)),
        *schedule_dimensions("cosine", "onecycle", "linear", "step"),
    ),
)

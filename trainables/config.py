"""Every knob of one training run, on one page, as a frozen dataclass that refuses unknown keys by name.

A field is either part of the *fusion key* (it changes tensor shapes or the graph, see `FUSION_KEYS`) or a number that may
differ from slot to slot of one packed array; nothing else decides which trials can train together.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

CHOICES: dict[str, tuple[str, ...]] = {
    "task": ("classification", "regression"),
    "norm": ("batch", "group", "none"),
    "finetune_depth": ("head", "last_1", "last_2", "last_3", "all"),
    "bn": ("train", "frozen", "recalibrate"),
    "optimizer": ("sgd", "adam", "adamw"),
    "schedule": (
        "constant", "step", "multistep", "cosine", "cosine_restarts", "onecycle", "cyclic", "exponential", "plateau", "linear",
    ),
    "loss": ("auto", "cross_entropy", "focal", "mse", "mae", "huber"),
    "class_weights": ("none", "balanced"),
    "sampler": ("shuffle", "balanced"),
    "average": ("none", "ema", "swa"),
    "precision": ("auto", "fp32", "bf16", "fp16", "fp64"),
    "memory_format": ("auto", "contiguous", "channels_last"),
    "compile": ("off", "on", "auto"),
    "device": ("auto", "cpu", "cuda", "mps"),
    "rows": ("all", "bootstrap", "subsample", "fold"),
    "tta": ("none", "flip", "crops", "scales", "full"),
}  # fmt: skip
"""The words each text field accepts; `model`, `weights` and `augmentation` are looked up in their own tables."""

RANGES: dict[str, tuple[float, float]] = {
    "dropout": (0.0, 0.95), "dropout2d": (0.0, 0.95), "drop_path": (0.0, 0.95), "lr": (0.0, 100.0),
    "weight_decay": (0.0, 10.0), "momentum": (0.0, 0.9999), "beta2": (0.0, 0.99999), "layer_decay": (0.01, 1.0),
    "label_smoothing": (0.0, 0.9), "gamma": (0.0, 1.0), "min_lr_ratio": (0.0, 1.0), "pct_start": (0.01, 0.99),
    "magnitude": (0.0, 2.0), "mixup": (0.0, 10.0), "cutmix": (0.0, 10.0), "ema_decay": (0.0, 0.99999),
    "swa_start": (0.0, 1.0), "row_fraction": (0.01, 1.0), "width": (1, 4096), "depth": (1, 1000), "epochs": (1, 100_000),
    "batch_size": (1, 65_536), "eval_batch_size": (0, 65_536), "warmup_epochs": (0, 10_000), "step_epochs": (0, 100_000),
    "cycle_epochs": (1, 100_000), "cycle_mult": (1, 10), "plateau_patience": (0, 10_000), "patience": (0, 100_000),
    "clip_norm": (0.0, 1e6), "gradual_epochs": (0, 10_000), "focal_gamma": (0.0, 10.0), "image_size": (0, 4096),
    "folds": (2, 100), "fold": (0, 99), "workers": (-1, 256), "max_lr_ratio": (1.0, 1000.0),
}  # fmt: skip
"""Inclusive bounds of each number."""

FUSION_KEYS: tuple[str, ...] = (
    "task", "model", "width", "depth", "norm", "weights", "image_size", "finetune_depth", "bn", "batch_size", "optimizer",
    "precision", "memory_format", "loss",
)  # fmt: skip
"""Fields that change tensor shapes or the graph: trials train as one array only when all of these agree."""


OPEN: dict[str, Any] = {"precision": "auto", "memory_format": "auto", "eval_batch_size": 0}
"""Values that leave a field to the device, until `trainables.numerics` settles it."""
RENAMED = {"channels_last": "memory_format"}
"""Fields of older records and files, and what they are called now."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run: architecture, transfer, regularisation, optimiser, schedule, loss, budget, device and seed."""

    # what is learnt
    task: str = "classification"
    # architecture: a name of `trainables.models.MODELS`, a torchvision classification model, or "timm:NAME"
    model: str = "cnn_c"
    width: int = 16
    """Channels of the first stage (own CNNs and CIFAR ResNets); other families ignore it."""
    depth: int = 20
    """Layers of a CIFAR ResNet (6n + 2); other families ignore it."""
    norm: str = "batch"
    dropout: float = 0.5
    """Dropout p in the classifier, never after the logits."""
    dropout2d: float = 0.0
    drop_path: float = 0.0
    """Stochastic depth where the family has residual branches."""
    image_size: int = 0
    """Side in pixels; 0 takes the data's own size, or the weights' size for pretrained backbones."""
    # transfer learning
    weights: str = "none"
    """"none", "default", a torchvision weights enum name, or a .pth / .safetensors file."""
    finetune_depth: str = "all"
    gradual_epochs: int = 0
    """Gradual unfreezing: one more stage every this many epochs (0: off)."""
    bn: str = "train"
    """Of trainable BatchNorm layers; frozen stages always keep frozen statistics."""
    layer_decay: float = 1.0
    """Learning rate of a stage = lr * layer_decay ** (stages above it)."""
    # optimiser
    optimizer: str = "adamw"
    lr: float = 1e-3
    weight_decay: float = 0.0
    """Never applied to norms and biases."""
    momentum: float = 0.9
    """SGD momentum, or Adam's beta1."""
    nesterov: bool = True
    beta2: float = 0.999
    clip_norm: float = 0.0
    """Gradient norm clip (0: off)."""
    # schedule: the multiplier of lr as a function of the step
    schedule: str = "cosine"
    warmup_epochs: int = 0
    step_epochs: int = 10
    """Epochs to the first drop of `step` and `multistep` (0: half the run)."""
    gamma: float = 0.1
    min_lr_ratio: float = 0.0
    cycle_epochs: int = 10
    cycle_mult: int = 1
    pct_start: float = 0.3
    max_lr_ratio: float = 25.0
    """One-cycle / cyclic: peak lr over starting lr."""
    plateau_patience: int = 3
    # augmentation: the name of a set, its strength, and batch mixing
    augmentation: str = "none"
    magnitude: float = 1.0
    mixup: float = 0.0
    cutmix: float = 0.0
    # loss
    loss: str = "auto"
    label_smoothing: float = 0.0
    focal_gamma: float = 2.0
    class_weights: str = "none"
    sampler: str = "shuffle"
    # averaging of weights
    average: str = "none"
    ema_decay: float = 0.99
    swa_start: float = 0.75
    """Fraction of the run after which SWA averages."""
    # budget
    epochs: int = 10
    batch_size: int = 64
    eval_batch_size: int = 0
    """0: 64 on a CPU, 512 on a GPU."""
    patience: int = 0
    """Early stopping: epochs without a better validation score (0: off)."""
    # device and numerics
    device: str = "auto"
    """"auto" picks CUDA or the CPU; "mps" predicts only (the counter-based draws need float64)."""
    precision: str = "fp32"
    """"auto" times fp32 against bf16 where the device multiplies bf16, and takes what is faster for this net and batch."""
    memory_format: str = "auto"
    """Layout of images and weights: "auto" takes channels_last on a CPU, and on a GPU in 16 bits."""
    compile: str = "off"
    """torch.compile of the network in training; "auto" does it where a long trial gains more than it costs, by a timing."""
    workers: int = 0
    """DataLoader workers of the DataLoader path; the memory-mapped path needs none; -1 measures and picks."""
    tta: str = "none"
    # rows: bootstrap / subsample / fold of the training split
    rows: str = "all"
    row_fraction: float = 1.0
    folds: int = 5
    fold: int = 0
    row_seed: int = 0
    stratified: bool = True
    """Drawn rows keep the share of each class."""
    rows_file: str = ""
    """A .npy of int64 rows, repeats allowed, in place of a drawn subset (boosting's weighted samples)."""
    teacher_file: str = ""
    """A .npy of probabilities [N, C] (regression: values [N]) of all training rows, trained towards in the labels' place."""
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_field(field.name, getattr(self, field.name), str(field.type))

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Build a config from a flat mapping; raises ValueError naming any unknown key and the nearest known one."""
        known = {field.name: str(field.type) for field in dataclasses.fields(cls)}
        if "channels_last" in values:
            layout = "channels_last" if values["channels_last"] else "contiguous"
            values = {"memory_format": layout, **{key: value for key, value in values.items() if key != "channels_last"}}
        if isinstance(values.get("compile"), bool):  # as older records have it, and YAML reads on and off
            values = {**values, "compile": "on" if values["compile"] else "off"}
        for key in values:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(known))}"
                raise ValueError(f"train.{key}: unknown key (got {values[key]!r}){hint}")
        return cls(**{key: _coerce(value, known[key]) for key, value in values.items()})

    def to_dict(self) -> dict[str, Any]:
        """Return the flat, JSON-ready mapping of all fields."""
        return dict(vars(self))

    def replace(self, **changes: Any) -> TrainConfig:
        """Return a copy with some fields changed, checked like a new one."""
        return dataclasses.replace(self, **changes)


def fusion_key(config: TrainConfig) -> tuple[Any, ...]:
    """Return the values two trials must share to train as one array."""
    return tuple(getattr(config, key) for key in FUSION_KEYS)


def config_hash(config: TrainConfig) -> str:
    """Return 12 hex digits that name the configuration, whatever its seed or rows (seeds of one config share it)."""
    values = config.to_dict() | {"channels_last": False, "compile": False}  # as nearly all first hashes: both only round
    for key in ("seed", "row_seed", "fold", "device", "workers", "eval_batch_size", "memory_format"):
        values.pop(key)
    for key, plain in (("rows_file", ""), ("teacher_file", ""), ("stratified", True)):  # younger than the first hashes
        if values[key] == plain:
            values.pop(key)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def _coerce(value: Any, kind: str) -> Any:
    """Let whole floats stand for ints and ints for floats, as searchers and YAML produce them."""
    if kind == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _check_field(name: str, value: Any, kind: str) -> None:
    expected: Any = {"str": str, "int": int, "float": float, "bool": bool}[kind]
    if type(value) is not expected:
        raise ValueError(f"train.{name}: expected {kind}, got {value!r} ({type(value).__name__})")
    if name in CHOICES and value not in CHOICES[name]:
        raise ValueError(f"train.{name}: got {value!r}, allowed: {', '.join(CHOICES[name])}")
    if name in RANGES:
        low, high = RANGES[name]
        if not low <= value <= high:
            raise ValueError(f"train.{name}: got {value!r}, allowed: {low} to {high}")

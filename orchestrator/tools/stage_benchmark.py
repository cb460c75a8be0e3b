"""Images a second of every stage of training on this machine, which of them is the bottleneck, and what would lift it."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.resolve import baseline_config, data_config
from orchestrator.setup.check import load_data
from orchestrator.tools.loader_benchmark import bars
from trainables.config import TrainConfig
from trainables.saving import EVERY

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trainables.image_model import ImageModel
    from trainables.loop import Batch

LIFTS = {
    "decode": "decode once: data.cache auto or disk; or more workers (train.workers: -1 measures)",
    "cache": "a faster disk, data.cache: memory, or smaller images (data.image_size)",
    "augment": "a cheaper set (crop_flip costs little, elastic and augmix much), or a GPU",
    "frozen": "nothing needs to: each view is computed once, for all trials",
    "copy": "data that fit on the GPU stay there; else larger batches",
    "forward": "precision: auto (bf16 where it pays), fewer pixels (train.image_size), a smaller net, or a GPU",
    "backward": "precision: auto (bf16 where it pays), a smaller net, freezing (finetune_depth), or a GPU",
    "checkpoint": "nothing needs to: it is written beside the training, and seldom",
    "logging": "a faster disk for run_dir (the tracker itself is told from another thread)",
}
"""stage -> what would lift it."""
ONCE_A_NODE, ONCE_A_VIEW = "once a node", "once a view"
"""How often a stage is paid that is not paid every epoch: decoding into the cache, computing cached features."""
SELDOM = f"at most {1 / EVERY:.0%}"
"""What resumable states are given of a training's time."""


@dataclass(frozen=True)
class StageReport:
    """Seconds an image takes in each stage (absent: there is no such stage here), and what else was found."""

    seconds: dict[str, float]
    rare: dict[str, str]
    """stage -> how often it is paid, for those that are not paid every epoch."""
    notes: tuple[str, ...]
    device: str

    @property
    def bottleneck(self) -> str:
        """Return the stage in which an epoch spends most."""
        return max(self.paid, key=self.seconds.__getitem__)

    @property
    def paid(self) -> list[str]:
        """Return the stages that every epoch pays."""
        return [stage for stage in self.seconds if stage not in self.rare]

    def share(self, stage: str) -> float:
        """Return a stage's share of an epoch's time, stages one after another."""
        return self.seconds[stage] / sum(self.seconds[name] for name in self.paid)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form."""
        return {
            "images_per_second": {name: 1 / value for name, value in self.seconds.items()},
            "bottleneck": self.bottleneck,
            "lift": LIFTS[self.bottleneck],
            "notes": list(self.notes),
            "rare": self.rare,
            "device": self.device,
        }

    def __str__(self) -> str:
        """Return the table."""
        lines = [f"{'stage':12} {'images/s':>10} {'of an epoch':>12}   ({self.device})"]
        for name, value in self.seconds.items():
            share = self.rare.get(name) or f"{self.share(name):.1%}"
            lines.append(f"{name:12} {1 / value:10,.0f} {share:>12}")
        return "\n".join([*lines, *self.notes, f"bottleneck: {self.bottleneck}; what lifts it: {LIFTS[self.bottleneck]}"])


def benchmark_stages(experiment: Experiment, *, seconds: float = 1.0) -> StageReport:
    """Time every stage of the baseline's training, each for about so many seconds; raises UserError."""
    import numpy as np

    from trainables.image_model import ImageModel

    config, splits = TrainConfig.from_dict(baseline_config(experiment)), load_data(experiment)
    try:
        model = ImageModel(config.replace(average="none", compile="off"), splits)
    except ValueError as error:
        raise UserError(str(error)) from error
    model.begin_epoch()
    batch = next(model.batches())
    notes: list[str] = []
    found = {
        "decode": _decode(experiment, seconds, notes),
        **_input(model, seconds, notes),
        "frozen": _frozen(model, seconds),
        **_compute(model, batch, seconds),
        **_aftermath(model, experiment.run_path, seconds),
    }
    measured = {name: value for name, value in found.items() if value is not None}
    rare = {"checkpoint": SELDOM} | ({"decode": ONCE_A_NODE} if isinstance(splits.train.images, np.ndarray) else {})
    rare |= dict.fromkeys(("cache", "augment", "copy", "frozen"), ONCE_A_VIEW) if model.features else {}
    return StageReport(measured, rare, tuple(notes), str(model.device))


def stage_figure(report: StageReport) -> Figure:
    """Return bars of each stage's time an image."""
    return bars(
        list(report.seconds), [1e6 * value for value in report.seconds.values()],
        label=f"microseconds an image ({report.device})", log=True,
    )  # fmt: skip


def timed(work: Callable[[], object], *, images: int, seconds: float, device: Any = None) -> float:
    """Return the median seconds an image takes when `work` is repeated for about so long (at least 3 times)."""
    work()
    passes: list[float] = []
    started = time.perf_counter()
    while len(passes) < 3 or time.perf_counter() - started < seconds:
        before = time.perf_counter()
        work()
        _wait(device)
        passes.append(time.perf_counter() - before)
    return sorted(passes)[len(passes) // 2] / images


def _wait(device: Any) -> None:
    if device is not None and device.type == "cuda":
        import torch

        torch.cuda.synchronize(device)


def _decode(experiment: Experiment, seconds: float, notes: list[str]) -> float | None:
    """Time decoding of files; None where the source holds arrays."""
    import numpy as np

    from trainables.data import load_splits

    if experiment.data.source.partition(":")[0] not in ("folder", "csv"):
        notes.append("decode: this source holds arrays, there are no files to decode")
        return None
    part = load_splits(dataclasses.replace(data_config(experiment), cache="none")).train
    rows = np.linspace(0, len(part) - 1, min(16, len(part))).astype(np.int64)
    return timed(lambda: part.images[rows], images=len(rows), seconds=seconds)


def _input(model: ImageModel, seconds: float, notes: list[str]) -> dict[str, float | None]:
    """Time reading rows of decoded images, their augmentation with normalisation, and the copy to the device."""
    import torch

    from trainables.augment import augment_batch
    from trainables.data.loader import LoaderSettings, RowLoader

    config, device = model.config, model.device
    rows = torch.from_numpy(model.portion.rows[: config.batch_size])
    loader = RowLoader(model.splits.train, LoaderSettings())
    host = next(loader.batches([rows]))
    images = host.to(device)

    def augment() -> object:
        drawn = augment_batch(
            images, name=config.augmentation, magnitude=config.magnitude, seed=config.seed, epoch=0,
            sample_index=torch.arange(len(rows), device=device),
        )  # fmt: skip
        return model.ready(drawn)

    copy = None
    if device.type == "cuda":
        copy = timed(lambda: host.pin_memory().to(device), images=len(rows), seconds=seconds, device=device)
    else:
        notes.append("copy: training on the CPU, nothing is copied")
    return {
        "cache": timed(lambda: next(loader.batches([rows])), images=len(rows), seconds=seconds),
        "augment": timed(augment, images=len(rows), seconds=seconds, device=device),
        "copy": copy,
    }


def _frozen(model: ImageModel, seconds: float) -> float | None:
    """Time the frozen part, where its activations are cached; None where every epoch computes the whole network."""
    import torch

    from trainables.augment import to_float

    if not model.features:
        return None
    images = torch.from_numpy(model.splits.train.images[: min(32, len(model.splits.train))].copy()).to(model.device)
    ready, prefix = model.ready(to_float(images)), model.features.cut.prefix
    with torch.no_grad():
        return timed(lambda: prefix(ready), images=len(images), seconds=seconds, device=model.device)


def _compute(model: ImageModel, batch: Batch, seconds: float) -> dict[str, float | None]:
    """Time the forward pass, and what a training step takes beyond it."""
    from trainables.loop import forward, train_step

    network, rules = model.features.rest if model.features else model.network, model.rules

    def step() -> object:
        return train_step(network, model.optimizer, batch.images, batch.targets, rules=rules, scaler=model.scaler)

    count = len(batch.labels)
    ahead = timed(lambda: forward(network, batch.images, rules.precision), images=count, seconds=seconds, device=model.device)
    whole = timed(step, images=count, seconds=seconds, device=model.device)
    return {"forward": ahead, "backward": max(whole - ahead, 1e-12)}


def _aftermath(model: ImageModel, run_path: Path, seconds: float) -> dict[str, float | None]:
    """Time what follows an epoch, beside the run folder: the resumable state, and one line of the tracker's journal."""
    from orchestrator.tracking.journal import Journal
    from trainables.checkpoint import save

    parent = next(path for path in (run_path, *run_path.parents) if path.exists())
    with tempfile.TemporaryDirectory(dir=parent, prefix=".benchmark-") as folder:
        journal = Journal(Path(folder) / "journal.jsonl")
        metrics = {f"val/{number}": 0.5 for number in range(16)}

        def log() -> None:
            journal.append("trial_epoch", metrics)
            journal.sync()

        rows = len(model.portion.rows)
        checkpoint = timed(lambda: save(Path(folder) / "state", model.state(), epoch=1), images=rows, seconds=seconds)
        logging = timed(log, images=rows, seconds=seconds)
        journal.close()
    return {"checkpoint": checkpoint, "logging": logging}

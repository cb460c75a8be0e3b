"""Time one epoch of loading under each setting of workers, pinned memory and non-blocking copies, and draw the bars."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from orchestrator.config import Experiment
from orchestrator.resolve import baseline_config
from orchestrator.setup.check import load_data
from trainables.config import TrainConfig
from trainables.cores import usable_cpus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from trainables.data.loader import LoaderSettings, LoaderTiming

WORKERS = (0, 2, 4, 8)


@dataclass(frozen=True)
class LoaderReport:
    """Timings by name, in the order measured, with what they were measured on."""

    timings: dict[str, LoaderTiming]
    decoded: bool
    """Whether the images lie decoded in a memory map (else each is decoded when it is loaded)."""
    batch_size: int
    device: str

    @property
    def fastest(self) -> str:
        """Return the name of the fastest setting."""
        return min(self.timings, key=lambda name: self.timings[name].seconds)

    @property
    def verdict(self) -> str:
        """Return where the bottleneck is, in a sentence."""
        alone = self.timings[settings_name(0)].seconds
        gain = alone / self.timings[self.fastest].seconds
        cores = usable_cpus()
        what = "reading decoded images" if self.decoded else "decoding"
        if gain < 1.1:
            return f"workers gain nothing here: {what} takes less than handing images between processes ({cores} cores)"
        return f"{self.fastest} is {gain:.1f}x as fast as 0 workers: {what} is the bottleneck without them ({cores} cores)"

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form."""
        rows = {
            name: {**asdict(timing), "images_per_second": timing.images_per_second} for name, timing in self.timings.items()
        }
        facts = {"decoded": self.decoded, "batch_size": self.batch_size, "device": self.device}
        return {"timings": rows, "fastest": self.fastest, "verdict": self.verdict, **facts}

    def __str__(self) -> str:
        """Return the table."""
        lines = [f"{'setting':34} {'seconds':>8} {'images/s':>9} {'first batch':>12}"]
        for name, timing in self.timings.items():
            rate, first = timing.images_per_second, timing.first_batch_seconds
            lines.append(f"{name:34} {timing.seconds:8.2f} {rate:9.0f} {first:10.2f} s")
        if self.device == "cpu":
            lines.append("pinned memory and non-blocking copies change nothing without a CUDA device")
        return "\n".join([*lines, self.verdict])


def benchmark_loader(experiment: Experiment, *, batches: int = 0) -> LoaderReport:
    """Time one epoch of the training images (the first `batches` batches; 0: all) under each setting; raises UserError."""
    import numpy as np

    from trainables.data.loader import time_loader
    from trainables.runtime import choose_device

    config, splits = TrainConfig.from_dict(baseline_config(experiment)), load_data(experiment)
    device = choose_device(config.device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")  # more workers than cores is the question
        timings = {
            name: time_loader(splits.train, settings, batch_size=config.batch_size, device=device, limit=batches)
            for name, settings in all_settings(cuda=device.type == "cuda").items()
        }
    return LoaderReport(timings, isinstance(splits.train.images, np.ndarray), config.batch_size, device.type)


def all_settings(*, cuda: bool) -> dict[str, LoaderSettings]:
    """Return the settings by name: the classic four first; without CUDA, pinning is left to those."""
    from trainables.data.loader import CANON, LoaderSettings

    found = dict(CANON)
    for workers in WORKERS:
        for pinned, non_blocking in ((False, False), (True, False), (True, True)) if cuda else ((False, False),):
            name = settings_name(workers, pinned=pinned, non_blocking=non_blocking)
            found.setdefault(name, LoaderSettings(workers, pinned, non_blocking))
    return found


def settings_name(workers: int, *, pinned: bool = False, non_blocking: bool = False) -> str:
    """Return a setting's name, as the classic four are called."""
    return f"{workers} workers{', pinned' if pinned else ''}{', non-blocking' if non_blocking else ''}"


def loader_figure(report: LoaderReport) -> Figure:
    """Return bars of the seconds of an epoch."""
    names = list(report.timings)
    source = "images decoded once" if report.decoded else "images decoded as they are loaded"
    return bars(names, [report.timings[name].seconds for name in names], label=f"seconds an epoch ({source}, {report.device})")


def bars(names: Sequence[str], values: Sequence[float], *, label: str, log: bool = False) -> Figure:
    """Return horizontal bars in the order given, the first on top."""
    from orchestrator.report.canvas import BLUE, label_ticks, new_figure

    figure, (axes,) = new_figure(width=7.0, height=max(2.4, 0.36 * len(names) + 1.2))
    drawn = axes.barh(range(len(names)), list(values), color=BLUE)
    axes.bar_label(drawn, fmt="%.3g", padding=3, fontsize="small")
    label_ticks(axes, "y", [name.replace("non-blocking", "async") for name in names])
    if log:
        axes.set_xscale("log")
    axes.invert_yaxis()
    axes.set_xlabel(label)
    axes.margins(x=0.12)
    return figure

"""How far to fine-tune a pretrained backbone: decided from the images a class and from how well its frozen features already do.

Rules of thumb: small and similar data -> train the classifier alone; small and different -> freeze the early layers, or a
light classifier on frozen features; a few thousand images a class -> feature extraction is enough; tens of thousands ->
fine-tune everything.
"""

from __future__ import annotations

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import Any

from orchestrator.config import Experiment
from orchestrator.errors import UserError
from orchestrator.resolve import baseline_config
from trainables.config import TrainConfig

FEW, MANY = 1_000, 10_000
"""Images a class: below FEW augmentation and backbone matter more than depth; from MANY on fine-tuning everything wins."""
SIMILAR = 0.7
"""Share of the way from guessing to perfect that frozen features reach on data like the pretraining's."""


@dataclass(frozen=True)
class Advice:
    """A strategy, the `finetune_depth` values worth searching, the baseline's one, and the reason in words."""

    strategy: str
    depths: tuple[str, ...]
    depth: str
    reason: str

    def __str__(self) -> str:
        """Return the page."""
        return (
            f"{self.strategy}\n  because {self.reason}\n  baseline: {{finetune_depth: {self.depth}}}\n"
            f"  worth searching: finetune_depth in {', '.join(self.depths)}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form."""
        return {"strategy": self.strategy, "depths": list(self.depths), "depth": self.depth, "reason": self.reason}


def decide(images_per_class: float, similarity: float | None = None) -> Advice:
    """Return the strategy for so many images a class and a similarity in [0, 1] (None: not measured)."""
    if images_per_class <= 0 or (similarity is not None and not similarity <= 1):
        raise ValueError(
            f"advise: got {images_per_class} images a class and similarity {similarity}, allowed: above 0, at most 1"
        )
    count = f"about {images_per_class:,.0f} images a class"
    if similarity is None:
        likeness = "how similar they are to the pretraining data was not measured"
    else:
        word = "like" if similarity >= SIMILAR else "unlike"
        likeness = f"frozen features reach {similarity:.0%} of the way from guessing to perfect: {word} the pretraining data"
    if images_per_class >= MANY:
        return Advice("fine-tune everything", ("last_2", "last_3", "all"), "all", f"{count} are many; {likeness}")
    if similarity is not None and similarity < SIMILAR:
        return Advice(
            "freeze the early layers and train the later ones, or a light classifier on frozen features",
            ("head", "last_1", "last_2", "last_3"), "last_2", f"{count} are few; {likeness}",
        )  # fmt: skip
    matter = "; augmentation and the backbone matter more than depth" if images_per_class < FEW else ""
    return Advice(
        "freeze the feature extractor and train the classifier", ("head", "last_1", "last_2"), "head",
        f"{count} are enough for the classifier alone; {likeness}{matter}",
    )  # fmt: skip


def advise(experiment: Experiment) -> Advice:
    """Load the data, measure how similar they are to what the experiment's backbone knows, and decide; raises UserError."""
    from orchestrator.setup.check import load_data
    from orchestrator.setup.similarity import similarity

    config = TrainConfig.from_dict(baseline_config(experiment))
    if config.weights == "none":
        raise UserError("advise: needs a pretrained backbone; set train.model and train.weights (default, or a file)")
    splits = load_data(experiment)
    measured = similarity(config, splits)
    counts = Counter(splits.train.targets.tolist())
    return decide(statistics.median(counts.values()), measured)

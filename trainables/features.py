"""Activations of a frozen backbone, computed once a node: cut the model at the fine-tuning depth, cache what the cut gives.

The model is traced with its stages as opaque modules, so a cut falls exactly where the first trainable stage begins, after any
pooling or flattening before it. Both halves share the model's own modules and parameter names.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn

from trainables.config import TrainConfig
from trainables.models.freezing import trainable_stages
from trainables.models.stages import Stage, stages

DTYPES = ("float16", "float32")


@dataclass(frozen=True)
class Cut:
    """The frozen prefix (images -> features), the trainable rest (features -> logits), and the stage where the rest begins."""

    prefix: fx.GraphModule
    rest: fx.GraphModule
    stage: str


def cut_model(model: nn.Module, config: TrainConfig) -> Cut:
    """Cut at the deepest stage that ever trains under `config`; the prefix is put in eval mode.

    Raises:
        ValueError: Nothing is frozen, or the model's forward cannot be traced or cut at one tensor.
    """
    found = stages(model)
    first = len(found) - trainable_stages(config, len(found))
    if first == 0:
        raise ValueError(
            f"train.finetune_depth: {config.finetune_depth!r} freezes no stage of {config.model}: nothing to cache"
        )
    graph = _trace(model, found, config.model)
    nodes = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
    start = next(i for i, node in enumerate(nodes) if _trains(model, node, found[first:]))
    before = [next(n for n in graph.nodes if n.op == "placeholder"), *nodes[:start]]
    after = [*nodes[start:], next(n for n in graph.nodes if n.op == "output")]
    crossing = [node for node in before if any(user in after for user in node.users)]
    if len(crossing) != 1:
        raise ValueError(
            f"train.finetune_depth: {config.model} cannot be cut at {found[first].name}: {len(crossing)} tensors cross"
        )
    prefix = fx.GraphModule(model, _prefix_graph(before, crossing[0]))
    rest = fx.GraphModule(model, _rest_graph(after, crossing[0]))
    return Cut(prefix.eval(), rest, found[first].name)


def cached_features(
    cut: Cut,
    batches: Callable[[int], Iterable[Tensor]],
    *,
    images: int,
    data: str,
    folder: Path,
    views: int = 1,
    dtype: str = "float16",
) -> NDArray[np.float16] | NDArray[np.float32]:
    """Return features [views, images, ...] as a read-only memory map, computed only when no file of the same key is there.

    Args:
        cut: Of the model that will train on them.
        batches: view number -> batches of network-ready images [B, C, H, W], in dataset order.
        images: Rows of one view.
        data: What the batches depend on: data fingerprint, split, input pipeline, augmentation and its seed.
        folder: Shared by the trials of a node; a second builder of the same key waits for the first.
        views: Augmented views an image.
        dtype: "float16" or "float32".
    """
    if dtype not in DTYPES:
        raise ValueError(f"features: dtype {dtype!r}, allowed: {', '.join(DTYPES)}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"features-{feature_key(cut, data=data, views=views, dtype=dtype)}.npy"
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            _build(path, cut.prefix, batches, shape=(views, images), dtype=dtype)
    mapped: NDArray[np.float16] = np.load(path, mmap_mode="r")
    return mapped


def feature_key(cut: Cut, *, data: str, views: int, dtype: str) -> str:
    """Return 24 hex digits over the prefix's weights and graph, the cut, the data, the views and the dtype."""
    digest = hashlib.sha256(repr((cut.stage, cut.prefix.code, data, views, dtype)).encode())
    for name, tensor in sorted(cut.prefix.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:24]


class _StageTracer(fx.Tracer):
    """Traces through everything but the stages' modules, whose inside (and training mode) stays their own."""

    def __init__(self, opaque: set[nn.Module]) -> None:
        super().__init__()
        self._opaque = opaque

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return m in self._opaque or super().is_leaf_module(m, module_qualified_name)


def _trace(model: nn.Module, found: list[Stage], name: str) -> fx.Graph:
    try:
        return _StageTracer({module for stage in found for module in stage.modules}).trace(model)
    except (fx.proxy.TraceError, TypeError) as error:
        raise ValueError(
            f"train.model: the forward of {name} cannot be traced, so its features cannot be cached ({error})"
        ) from error


def _trains(model: nn.Module, node: fx.Node, trainable: list[Stage]) -> bool:
    """Tell whether the node calls a module of a trainable stage."""
    if node.op != "call_module":
        return False
    module = model.get_submodule(str(node.target))
    return any(module is inner for stage in trainable for outer in stage.modules for inner in outer.modules())


def _prefix_graph(before: list[fx.Node], result: fx.Node) -> fx.Graph:
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in before:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    graph.output(copies[result])
    return graph


def _rest_graph(after: list[fx.Node], source: fx.Node) -> fx.Graph:
    graph = fx.Graph()
    copies = {source: graph.placeholder("features")}
    for node in after:
        copies[node] = graph.node_copy(node, copies.__getitem__)
    return graph


@torch.no_grad()
def _build(
    path: Path, prefix: nn.Module, batches: Callable[[int], Iterable[Tensor]], *, shape: tuple[int, int], dtype: str
) -> None:
    """Write all views to a temporary name, then move it into place."""
    partial, out = path.with_suffix(f".{os.getpid()}.partial"), None
    prefix.eval()
    try:
        for view in range(shape[0]):
            row = 0
            for batch in batches(view):
                features = prefix(batch).to(getattr(torch, dtype))
                if not bool(torch.isfinite(features).all()):
                    raise ValueError(f"features: not finite in {dtype}; use float32, or look at the weights")
                if out is None:
                    full = (*shape, *features.shape[1:])
                    out = np.lib.format.open_memmap(partial, mode="w+", dtype=np.dtype(dtype), shape=full)
                out[view, row : row + len(features)] = features.cpu().numpy()
                row += len(features)
            if row != shape[1]:
                raise ValueError(f"features: view {view} gave {row} images, expected {shape[1]}")
        if out is None:
            raise ValueError("features: no images")
        out.flush()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)

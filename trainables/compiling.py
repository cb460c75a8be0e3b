"""The network as it trains: compiled where that is asked for or pays, in one folder for all processes of a node."""

from __future__ import annotations

import copy
import hashlib
import logging
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from trainables.allocator import out_of_memory
from trainables.config import TrainConfig
from trainables.data.cache import cache_folder
from trainables.loop import forward
from trainables.models.freezing import apply_depth
from trainables.numerics import PAYS
from trainables.runtime import memory_format, parameter_dtype, seeded
from trainables.timing import device_name, medians, now, remembered_gain

if TYPE_CHECKING:
    from trainables.models import InputPipeline
    from trainables.portion import Portion

LONG = 900.0
"""Seconds that a trial's steps must take uncompiled: the first of its kind on a node compiles cold, which took 40 to 60 s on a
CPU for nets of 4 to 20 layers."""
MARGIN = 10.0
"""Compiling must save so many times what it cost in the timing: a new process pays 3 to 4 times that (it imports the compiler
and reads the folder), and most trials of a search are stopped at a fraction of their epochs."""
KINDS = 256
"""Compiled nets that a process holds at most: beyond torch's own 8 it would silently compile no more."""
CLOSE = {"fp64": 1e-6, "fp32": 1e-3, "bf16": 0.1, "fp16": 0.1}
"""Share of the largest output by which compiled ones may differ from it; a wrong mask of a dropout moves them further."""
FOLDER, VARIABLE = "compiled", "TORCHINDUCTOR_CACHE_DIR"
_LOG = logging.getLogger(__name__)
Step = Callable[[], None]


def as_trained(config: TrainConfig, model: nn.Module, pipeline: InputPipeline, portion: Portion, *, cached: bool) -> nn.Module:
    """Return the network to train with: compiled, where `config.compile` and a trial's length say so, or the model itself.

    With `cached` features most of the network does not run, and is not compiled. A copy takes a first step here, whose code
    the model then uses: raises ValueError where compiling is asked for and not possible, or wrong.
    """
    if cached or config.compile == "off":
        return model
    device, size, steps = next(model.parameters()).device, pipeline.image_size, portion.steps
    with seeded(config.seed, "dropout", device=device):  # its draws change no one else's
        images = torch.randn(math.ceil(len(portion.rows) / steps), len(pipeline.mean), size, size, device=device)
        images = images.to(parameter_dtype(config.precision)).contiguous(memory_format=memory_format(config))
        net = copy.deepcopy(model).train()
        apply_depth(net, config)
        try:
            if config.compile == "on" or _gains(config, net, images, steps=steps * config.epochs):
                _check(net, images, config.precision)
                return Compiled(model)
        except Exception as error:  # whatever a compiler, a driver or a disk may raise
            _say_why(error, config)
    return model


class Compiled(nn.Module):
    """A network that is compiled at its first call, once for batches of any size (those of an epoch differ by one)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        share_compiled()
        self.network: nn.Module = torch.compile(network, recompile_limit=KINDS)  # type: ignore[call-overload]

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's outputs for images [B, C, H, W]."""
        torch._dynamo.maybe_mark_dynamic(images, 0)
        outputs: Tensor = self.network(images)
        return outputs


def share_compiled() -> None:
    """Let this process keep compiled code in the cache folder, where all of a node find it, unless the user says where.

    torch reads the variable whenever it compiles, and sets it to its own default when its compiler is imported.
    What is compiled holds a CPU's instructions and number of threads, so each kind of CPU has its own folder.
    """
    from torch._inductor.runtime.cache_dir_utils import default_cache_dir

    if os.environ.get(VARIABLE) in (None, default_cache_dir()):
        kind = hashlib.sha256(device_name(torch.device("cpu")).encode()).hexdigest()[:12]
        os.environ[VARIABLE] = str(cache_folder("") / FOLDER / kind)


def repaid_after(eager: float, compiled: float, warm: float) -> float:
    """Return the steps after which compiling has saved what it costs: `warm` seconds once, for faster steps (inf: never)."""
    return warm / (eager - compiled) if eager >= PAYS * compiled else math.inf


def _gains(config: TrainConfig, net: nn.Module, images: Tensor, *, steps: int) -> bool:
    """Return whether compiling pays in a trial of so many steps; measured only where the trial is long."""
    eager, device = _step(net, images, config.precision), images.device
    drops = [p > 0 for p in (config.dropout, config.dropout2d, config.drop_path)]
    kind = (config.model, config.width, config.depth, config.norm, config.finetune_depth, config.gradual_epochs, config.bn)
    words = (*kind, *drops, config.precision, config.memory_format, tuple(images.shape), device_name(device))
    seconds, _ = remembered_gain(("eager step", *words), lambda: medians(eager, device=device)[0])
    if seconds * steps < LONG:
        return False
    after, known = remembered_gain(("compiled step", *words), lambda: _measured(eager, net, images, config.precision))
    when = "measured before" if known else "measured now"
    _LOG.info("compile: repaid after %.0f steps, the trial has %d (%s)", after, steps, when)
    return steps >= MARGIN * after


def _measured(eager: Step, net: nn.Module, images: Tensor, precision: str) -> float:
    """Return the steps after which compiling is repaid, in a process that finds the compiled code in the folder."""
    step, device = _step(Compiled(net), images, precision), images.device
    step()  # fills the folder
    torch.compiler.reset()
    begun = now(device)
    step()
    warm = now(device) - begun
    plain, compiled = medians(eager, step, device=device)
    return repaid_after(plain, compiled, warm)


def _check(net: nn.Module, images: Tensor, precision: str) -> None:
    """Take a first compiled step; raises RuntimeError where its outputs are not the network's own.

    A network with draws of its own, which are others each time, answers otherwise anyhow: there is nothing to compare.
    """
    with torch.no_grad():
        one, other = (forward(net, images, precision) for _ in range(2))
    found = forward(Compiled(net), images, precision)
    found.sum().backward()  # type: ignore[no-untyped-call]
    near = CLOSE[precision] * float(one.abs().max())
    if float((one - other).abs().max()) <= near < float((found.detach() - one).abs().max()):
        raise RuntimeError("compiled, its outputs are others")


def _step(network: nn.Module, images: Tensor, precision: str) -> Step:
    """Return what takes the part of a training step that is compiled, forward and backward."""

    def step() -> None:
        forward(network, images, precision).sum().backward()  # type: ignore[no-untyped-call]

    return step


def _say_why(error: Exception, config: TrainConfig) -> None:
    """Log why a network stays as it is; raises where it was asked to be compiled."""
    said = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    if config.compile == "auto":
        _LOG.warning("compile: %s is not compiled (%s)", config.model, said)
        return
    if isinstance(error, RuntimeError) and out_of_memory(error):
        raise error
    raise ValueError(
        f"train.compile: got 'on', but torch cannot compile {config.model} here ({said}); it needs a C++ compiler (g++), "
        "on a GPU Triton too: install what is missing, or set train.compile to off"
    ) from error

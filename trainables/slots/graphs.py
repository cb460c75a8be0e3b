"""A training step recorded once as a CUDA graph a batch shape and replayed: the host launches one thing, not thousands.

Not run on a GPU: all but `capture_cuda` and the side stream runs in the tests, which record a step on the CPU instead. A
recorded step is used only after one replay has equalled one ordinary step from the same state; that replay is the first step.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from trainables.allocator import out_of_memory

_LOG = logging.getLogger(__name__)
TOLERANCE, FLOOR, NOISE, MOST = 1e-5, 1e-3, 4.0, 1e-2
"""Largest difference of a replayed step from an ordinary one, relative to a tensor's largest entry (or FLOOR); where two
ordinary steps differ as well (atomic additions, bf16), NOISE times their difference, but never more than MOST."""
LARGEST = 4
"""Batch shapes with a graph of their own; an epoch has two at most."""
Outputs = tuple[Tensor, ...]
Run = Callable[[], Outputs]
Capture = Callable[[Run], Run]
"""Takes a step on buffers that never move; returns what repeats its work on them and returns its (own) outputs."""


class Step(Protocol):
    """A training step of tensors alone."""

    def __call__(self, *inputs: Tensor) -> Outputs:
        """Take one step and return what it computed."""

    def state(self) -> list[Tensor]:
        """Return every tensor that a step changes in place."""


class NotCapturable(RuntimeError):
    """This step cannot be recorded, or does something else when replayed."""


class GraphedStep:
    """A step that is replayed; where that cannot be, `refused` says why and the step is taken as it is."""

    def __init__(self, step: Step, *, capture: Capture) -> None:
        self._step, self._capture = step, capture
        self._graphs: dict[tuple[object, ...], tuple[list[Tensor], Run]] = {}
        self.refused = ""

    def __call__(self, *inputs: Tensor) -> Outputs:
        """Take one step; what it returns is the caller's to keep."""
        shapes = tuple((tuple(tensor.shape), tensor.dtype) for tensor in inputs)
        known = self._graphs.get(shapes)
        if known is not None:
            held, replay = known
            _write_together(held, inputs)
            return tuple(output.clone() for output in replay())
        if self.refused or len(self._graphs) == LARGEST:
            return self._step(*inputs)
        try:
            held = [tensor.detach().clone() for tensor in inputs]
            replay, outputs = _record(self._step, held, self._capture)
        except RuntimeError as error:
            if not isinstance(error, NotCapturable) and not out_of_memory(error):
                raise
            self.refused = str(error)
            self._graphs.clear()
            _LOG.warning("steps are not replayed as graphs: %s", error)
            return self._step(*inputs)
        self._graphs[shapes] = held, replay
        return outputs


def capture_cuda(run: Run) -> Run:
    """Record a step as a CUDA graph; recording computes nothing. Not run on a GPU."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other trials' threads may use the device meanwhile
        outputs = run()

    def replay() -> Outputs:
        graph.replay()
        return outputs

    return replay


def _record(step: Step, held: list[Tensor], capture: Capture) -> tuple[Run, Outputs]:
    """Record a step on the buffers `held` and take it once by replaying; returns (replay, what that step computed).

    Raises:
        NotCapturable: with the state as it was before; so does what says that memory did not suffice.
    """
    state, before = step.state(), list[Tensor]()

    def run() -> Outputs:
        return step(*held)

    def taken(way: Run) -> list[Tensor]:
        _write(state, before)
        return [tensor.detach().clone() for tensor in (*way(), *state)]

    try:
        before = [tensor.detach().clone() for tensor in state]
        drawn = _generators(held[0].device)
        with _side_stream(held[0].device):  # also the warm-up that recording needs
            wanted, again = taken(run), taken(run)
        if any(not torch.equal(a, b) for a, b in zip(drawn, _generators(held[0].device), strict=True)):
            raise NotCapturable("it draws from torch's generator")
        _write(state, before)
        replay = capture(run)
        found = taken(replay)
        gap, allowed = difference(found, wanted), max(TOLERANCE, min(MOST, NOISE * difference(again, wanted)))
        if not gap <= allowed:
            raise NotCapturable(f"a replayed step differs from an ordinary one by {gap:.1e} (allowed {allowed:.1e})")
    except RuntimeError as error:
        _write(state, before)
        if isinstance(error, NotCapturable) or out_of_memory(error):
            raise
        raise NotCapturable(f"recording a step failed ({str(error).splitlines()[0]})") from error
    return replay, tuple(found[: len(found) - len(state)])


@torch.no_grad()
def difference(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Return the largest difference of two lists of tensors, each relative to its largest finite entry; NaN equals NaN."""
    worst = 0.0
    for a, b in zip(found, wanted, strict=True):
        if a.numel():
            a, b = a.double(), b.double()
            same = (a == b) | (a.isnan() & b.isnan())
            size = torch.where(b.isfinite(), b, 0.0).abs().max().clamp(min=FLOOR)
            gap = float((torch.where(same, 0.0, (a - b).abs()).max() / size).nan_to_num(nan=float("inf")))
            worst = max(worst, gap)
    return worst


@torch.no_grad()
def _write(tensors: list[Tensor], values: list[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=False):  # no values: nothing has moved yet
        tensor.copy_(value)


def _write_together(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Copy values into tensors, those of one dtype by one launch where the device has one."""
    for dtype in {tensor.dtype for tensor in tensors}:
        pairs = [(own, given) for own, given in zip(tensors, values, strict=True) if own.dtype == dtype]
        own, given = (list(part) for part in zip(*pairs, strict=True))
        torch._foreach_copy_(own, given)


def _generators(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


@contextlib.contextmanager
def _side_stream(device: torch.device) -> Iterator[None]:
    """Compute on another stream, which recording asks of the steps before it; nothing on a CPU."""
    if device.type != "cuda":
        yield
        return
    stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    current = torch.cuda.current_stream(device)
    stream.wait_stream(current)
    with torch.cuda.stream(stream):
        yield
    current.wait_stream(stream)

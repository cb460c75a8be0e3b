"""Recorded and replayed steps equal ordinary ones; on the CPU a recorder of tensor operations stands in for a CUDA graph.

As in a CUDA graph, no Python runs in its replay and every result goes to the memory it had when it was recorded, so a number
that a step took from the host would be seen to stay as it was. The tests marked gpu were not run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from trainables.config import TrainConfig
from trainables.keyed_dropout import set_keys, use_keyed_dropout
from trainables.losses import Loss
from trainables.models import build_model
from trainables.optim import build_optimizer
from trainables.slots.graphs import Capture, GraphedStep, Outputs, Run, capture_cuda, difference
from trainables.slots.optimiser import SlotOptimizer, rules_of
from trainables.slots.pack import pack
from trainables.slots.probe import Build
from trainables.slots.stacked import stack
from trainables.slots.step import ArrayStep
from trainables.slots.timing import graph_gain

Call = tuple[Any, tuple[Any, ...], Mapping[str, Any], list[Tensor]]


class Recorder(TorchDispatchMode):
    """Keeps every tensor operation with its arguments, and the new tensors it made."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[Call] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ARG002
        out = func(*args, **(kwargs or {}))
        found = [tensor for tensor in (out if isinstance(out, list | tuple) else [out]) if isinstance(tensor, Tensor)]
        own = all(result.alias_info is None for result in func._schema.returns)  # neither a view nor in place
        views = not own and not func._schema.is_mutable
        if not views:
            self.calls.append((func, args, kwargs or {}, found if own else []))
        return out


def record(run: Run) -> Run:
    """Record a step; unlike CUDA's recording this computes it once, which must not show either."""
    with Recorder() as recorder:
        outputs = run()

    @torch.no_grad()
    def replay() -> Outputs:
        for func, args, kwargs, places in recorder.calls:
            out = func(*args, **kwargs)
            made = [t for t in (out if isinstance(out, list | tuple) else [out]) if isinstance(t, Tensor)]
            for place, tensor in zip(places, made, strict=False):
                place.copy_(tensor)
        return outputs

    return replay


def again(run: Run) -> Run:
    """Record nothing: replaying is running the step on the buffers that never move."""
    return run


CPU = [pytest.param("cpu", again, id="run again"), pytest.param("cpu", record, id="recorded")]
EVERYWHERE = [*CPU, pytest.param("cuda", capture_cuda, id="cuda", marks=pytest.mark.gpu)]


class Bench:
    """An array of small nets with numbers of their own, whose step is taken as it is or replayed."""

    def __init__(self, build: Build, family: str, *, slots: int, device: str, capture: Capture | None = None) -> None:
        base = TrainConfig(model="cnn_c", width=4, optimizer=family, dropout=0.4, memory_format="channels_last")
        self.configs = [
            base.replace(seed=s, lr=0.01 * (s + 1), weight_decay=0.01 * s, clip_norm=float(s)) for s in range(slots)
        ]
        solos = []
        for config in self.configs:
            torch.manual_seed(config.seed)
            solos.append(use_keyed_dropout(build_model(config, outputs=5, channels=3, image_size=8)).to(device))
        rules = [
            rules_of(solo, build_optimizer(solo, config), config) for solo, config in zip(solos, self.configs, strict=True)
        ]
        net = build(solos).train()
        self.optimizer = SlotOptimizer(net, rules, family=family)
        for slot, config in enumerate(self.configs):
            self.optimizer.take(slot, config)
        clips = torch.tensor([config.clip_norm for config in self.configs], dtype=torch.float64, device=device)
        losses = [Loss("cross_entropy", 0.1 * slot) for slot in range(slots)]
        self.step = ArrayStep(net, self.optimizer, losses, clips=clips, config=base)
        self.graphed = GraphedStep(self.step, capture=capture) if capture else None

    def train(self, number: int) -> list[Tensor]:
        """Take a step at a rate of its own, on 6 or on 5 images a slot."""
        device, slots = self.step.clips.device, len(self.configs)
        set_keys(self.step.net, torch.arange(slots, device=device), torch.tensor([number] * slots, device=device))
        for slot, config in enumerate(self.configs):
            self.optimizer.hyper["lr"][slot] = config.lr / (number + 1)
        draws = torch.Generator().manual_seed(number)
        rows = 6 if number % 3 else 5
        images = [torch.randn(rows, 3, 8, 8, generator=draws).to(device) for _ in range(slots)]
        targets = [torch.randint(5, (rows,), generator=draws).to(device) for _ in range(slots)]
        return list((self.graphed or self.step)(*self.step.inputs(images, targets)))


@pytest.mark.parametrize(("device", "capture"), EVERYWHERE)
@pytest.mark.parametrize("family", ["sgd", "adamw"])
@pytest.mark.parametrize(("build", "slots"), [(pack, 3), (stack, 1), (stack, 2)])
def test_ten_replayed_steps_equal_ten_ordinary_ones(
    build: Build, slots: int, family: str, device: str, capture: Capture
) -> None:
    plain = Bench(build, family, slots=slots, device=device)
    replayed = Bench(build, family, slots=slots, device=device, capture=capture)
    allowed = 0.0 if device == "cpu" else 1e-4
    for number in range(10):
        wanted, found = plain.train(number), replayed.train(number)
        assert difference(found, wanted) <= allowed, number
        assert difference(replayed.step.state(), plain.step.state()) <= allowed, number
    assert replayed.graphed is not None and not replayed.graphed.refused
    assert len(replayed.graphed._graphs) == 2
    assert replayed.optimizer.steps.tolist() == [10.0] * slots


class Toy:
    """A step that adds its input to its state, by whatever rule a test gives."""

    def __init__(self, rule: Callable[[Tensor], Tensor]) -> None:
        self.total, self.rule = torch.zeros(3), rule

    def __call__(self, *inputs: Tensor) -> Outputs:
        self.total += self.rule(inputs[0])
        return (self.total.clone(),)

    def state(self) -> list[Tensor]:
        return [self.total]


def test_what_a_step_returns_is_the_callers_to_keep() -> None:
    step = GraphedStep(Toy(lambda x: x), capture=record)
    outputs = [step(torch.full((3,), float(k)))[0] for k in range(4)]
    assert [out[0].item() for out in outputs] == [0.0, 1.0, 3.0, 6.0]


def test_a_number_that_came_from_the_host_stays_as_it_was_recorded() -> None:
    """Show that the recorder would find a step that is no function of tensors."""
    rates = [1.0]
    step = GraphedStep(Toy(lambda x: x * rates[0]), capture=record)
    step(torch.ones(3))
    rates[0] = 10.0
    assert step(torch.ones(3))[0].tolist() == [2.0] * 3


def forgetful(run: Run) -> Run:
    """Record something else than the step."""

    def replay() -> Outputs:
        return tuple(torch.zeros_like(output) for output in run())

    return replay


def unable(run: Run) -> Run:
    run()  # a recording that had begun
    raise RuntimeError("operation not permitted when stream is capturing\nCUDA kernel errors might be reported later")


@pytest.mark.parametrize(
    ("capture", "rule", "said"),
    [
        (forgetful, lambda x: x, "a replayed step differs from an ordinary one by 1.0e+00"),
        (unable, lambda x: x, "recording a step failed (operation not permitted when stream is capturing)"),
        (again, lambda x: x * torch.rand(3), "it draws from torch's generator"),
    ],
)
def test_a_step_that_cannot_be_replayed_is_taken_as_it_is_from_where_it_was(
    capture: Capture, rule: Callable[[Tensor], Tensor], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    toy, given = Toy(rule), torch.tensor([1.0, 2.0, 3.0])
    step = GraphedStep(toy, capture=capture)
    state = torch.get_rng_state()
    first, second = step(given)[0], step(given)[0]
    assert step.refused.startswith(said) and said in caplog.text
    if said.startswith("it draws"):
        assert not torch.equal(torch.get_rng_state(), state)
    else:
        assert torch.equal(first, given) and torch.equal(second, 2 * given)
    assert graph_gain(toy, [given], capture=capture) == 0.0


def test_noise_of_the_device_is_no_difference_and_nan_equals_nan() -> None:
    nan, one = torch.tensor([float("nan"), 1.0]), torch.tensor([1.0, 1.0])
    assert difference([nan, nan], [nan, nan]) == 0.0
    assert difference([one], [nan]) == float("inf")
    assert difference([torch.tensor([100.0, 1.0])], [torch.tensor([100.0, 2.0])]) == pytest.approx(0.01)
    assert difference([torch.tensor([1e-9])], [torch.tensor([0.0])]) == pytest.approx(1e-6)
    wobble = iter((0.0, 1e-3, 2e-3))  # two ordinary steps, then the replayed one
    step = GraphedStep(Toy(lambda x: x + next(wobble)), capture=again)
    step(torch.ones(3))
    assert not step.refused


def test_no_more_graphs_are_kept_than_an_epoch_has_shapes() -> None:
    step = GraphedStep(Toy(lambda x: x.sum().expand(3)), capture=again)
    for rows in range(1, 8):
        step(torch.ones(rows))
    assert len(step._graphs) == 4 and not step.refused


def test_the_gain_of_replaying_is_a_ratio_of_times() -> None:
    bench = Bench(pack, "sgd", slots=2, device="cpu")
    inputs = bench.step.inputs([torch.randn(4, 3, 8, 8)] * 2, [torch.zeros(4, dtype=torch.int64)] * 2)
    assert graph_gain(bench.step, inputs, capture=again) > 0

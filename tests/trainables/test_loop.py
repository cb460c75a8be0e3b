"""One step against a step written by hand, the pass's scores against the metrics' own, and evaluation that leaves no trace."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from trainables.contract import NonFiniteLoss
from trainables.loop import Batch, StepRules, evaluate, evaluating, train_epoch, train_step
from trainables.losses import Loss
from trainables.metrics import evaluate_probabilities
from trainables.runtime import make_scaler, seeded

CPU = torch.device("cpu")
RULES = StepRules(Loss("cross_entropy"))


def net(seed: int = 0) -> nn.Sequential:
    with seeded(seed, "init"):
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))


def data(n: int = 16, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, 3, 2, 2, generator=generator), torch.randint(0, 3, (n,), generator=generator)


def sgd(model: nn.Module, lr: float = 0.1) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr=lr)


def same(first: nn.Module, second: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))


def test_a_step_is_forward_backward_update() -> None:
    model, (images, labels) = net(), data()
    twin = copy.deepcopy(model)
    with seeded(0, "dropout", 0):
        result = train_step(model, sgd(model), images, labels, rules=RULES)
    with seeded(0, "dropout", 0):
        loss = nn.functional.cross_entropy(twin(images), labels)
    gradients = torch.autograd.grad(loss, list(twin.parameters()))
    with torch.no_grad():
        for parameter, gradient in zip(twin.parameters(), gradients, strict=True):
            parameter -= 0.1 * gradient
    torch.testing.assert_close(model.state_dict(), twin.state_dict())
    assert result.losses.mean().item() == pytest.approx(loss.item())
    assert result.grad_norm.item() == pytest.approx(torch.stack([g.norm() for g in gradients]).norm().item(), rel=1e-5)


def test_clipping_bounds_the_step_and_reports_the_norm_before() -> None:
    model, (images, labels) = net(), data()
    before = copy.deepcopy(model)
    result = train_step(model, sgd(model, lr=1.0), images, labels, rules=StepRules(Loss("cross_entropy"), clip_norm=0.01))
    moved = torch.cat([(a - b).flatten() for a, b in zip(model.parameters(), before.parameters(), strict=True)])
    assert moved.norm().item() == pytest.approx(0.01, rel=1e-3)
    assert result.grad_norm.item() > 0.1


def test_without_clipping_the_norm_is_torchs_own_and_gradients_stay_whatever_it_is() -> None:
    model, (images, labels) = net(), data()
    twin = copy.deepcopy(model)
    with seeded(0, "dropout", 0):
        result = train_step(model, sgd(model), images, labels, rules=RULES)
    with seeded(0, "dropout", 0):
        nn.functional.cross_entropy(twin(images), labels, reduction="none").mean().backward()
    assert all(torch.equal(p.grad, q.grad) for p, q in zip(model.parameters(), twin.parameters(), strict=True))
    assert torch.equal(result.grad_norm, nn.utils.clip_grad_norm_(twin.parameters(), float("inf")))


def test_without_clipping_a_norm_that_overflows_spoils_no_gradient() -> None:
    linear = nn.Linear(2, 1, bias=False)  # its gradient is 1e30 twice, whose squares are none of float32's numbers
    result = train_step(linear, sgd(linear, lr=1e-30), torch.full((4, 2), 1e30), torch.zeros(4), rules=StepRules(Loss("mae")))
    assert result.grad_norm.item() == float("inf")
    assert linear.weight.grad is not None
    assert linear.weight.grad.abs().flatten().tolist() == pytest.approx([1e30, 1e30])
    assert linear.weight.isfinite().all()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_computes_in_it_and_keeps_float32_weights(precision: str) -> None:
    model, (images, labels) = net(), data()
    seen: list[torch.dtype] = []
    model[1].register_forward_hook(lambda *args: seen.append(args[2].dtype))
    rules = StepRules(Loss("cross_entropy"), precision=precision)
    before = copy.deepcopy(model)
    result = train_step(model, sgd(model), images, labels, rules=rules, scaler=make_scaler(precision, CPU))
    assert seen == [torch.bfloat16 if precision == "bf16" else torch.float16]
    assert result.outputs.dtype == torch.float32
    assert all(p.dtype == torch.float32 for p in model.parameters())
    assert not same(model, before)


def test_fp16_skips_a_step_that_overflows_and_lowers_its_scale() -> None:
    model, (images, labels) = net(), data()
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**80)
    before = [p.detach().clone() for p in model.parameters()]
    rules = StepRules(Loss("cross_entropy"), precision="fp16")
    train_step(model, sgd(model), images, labels, rules=rules, scaler=scaler)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), before, strict=True))
    assert scaler.get_scale() < 2.0**80


def test_parameters_without_gradient_stay() -> None:
    model, (images, labels) = net(), data()
    model[1].requires_grad_(False)
    before = copy.deepcopy(model)
    train_step(model, sgd(model), images, labels, rules=RULES)
    assert torch.equal(model[1].weight, before[1].weight)
    assert not torch.equal(model[5].weight, before[5].weight)


def test_the_passs_scores_are_those_of_its_outputs() -> None:
    model, (images, labels) = net(), data(64)
    outputs: list[torch.Tensor] = []
    model.register_forward_hook(lambda *args: outputs.append(args[2].detach()))
    batches = [Batch(images[i : i + 16], labels[i : i + 16], labels[i : i + 16]) for i in range(0, 64, 16)]
    steps: list[int] = []
    rules = StepRules(Loss("cross_entropy", label_smoothing=0.1))
    found = train_epoch(model, sgd(model), batches, rules=rules, before_step=steps.append)
    logits = torch.cat(outputs)
    expected = evaluate_probabilities(logits.softmax(1).numpy(), labels.numpy())
    for name in ("accuracy", "log_loss", "brier", "ece"):
        assert found[name] == pytest.approx(expected[name], rel=1e-4), name
    smoothed = nn.functional.cross_entropy(logits, labels, label_smoothing=0.1).item()
    assert found["loss"] == pytest.approx(smoothed, rel=1e-5)
    assert steps == [0, 1, 2, 3]


def test_regressions_pass_scores() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    images, _ = data(32)
    values = images.sum(dim=(1, 2, 3)).double()
    outputs: list[torch.Tensor] = []
    model.register_forward_hook(lambda *args: outputs.append(args[2].detach()))
    found = train_epoch(model, sgd(model), [Batch(images, values, values)], rules=StepRules(Loss("huber")), task="regression")
    expected = evaluate_probabilities(outputs[0].numpy(), values.numpy())
    for name in ("rmse", "mae", "r2"):
        assert found[name] == pytest.approx(expected[name], rel=1e-4), name
    assert found["loss"] == pytest.approx(nn.functional.huber_loss(outputs[0][:, 0].double(), values).item(), rel=1e-4)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_ends_the_epoch(bad: float) -> None:
    model, (images, labels) = net(), data()
    images[0, 0, 0, 0] = bad
    with pytest.raises(NonFiniteLoss, match="loss became nan"):
        train_epoch(model, sgd(model), [Batch(images, labels, labels)] * 3, rules=RULES)


def test_a_nan_is_noticed_long_before_the_end_of_a_long_epoch() -> None:
    model, (images, labels) = net(), data()
    images[0, 0, 0, 0] = float("nan")
    steps: list[int] = []
    with pytest.raises(NonFiniteLoss):
        train_epoch(model, sgd(model), [Batch(images, labels, labels)] * 500, rules=RULES, before_step=steps.append)
    assert len(steps) < 100


def test_no_batch_is_an_error() -> None:
    with pytest.raises(ValueError, match="no batch"):
        train_epoch(net(), sgd(net()), [], rules=RULES)


def test_evaluation_is_in_evaluation_mode_and_leaves_modes_buffers_and_gradients_alone() -> None:
    model, (images, _) = net(), data()
    model.train()
    model[2].eval()  # a frozen norm inside a training model
    before = copy.deepcopy(model.state_dict())
    found = evaluate(model, [images[:10], images[10:]])
    assert [m.training for m in model] == [True, True, False, True, True, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    again = evaluate(model, [images])
    np.testing.assert_allclose(found, again, rtol=1e-5)
    with torch.no_grad():
        np.testing.assert_allclose(found, copy.deepcopy(model).eval()(images).numpy(), rtol=1e-5)


def test_modes_come_back_after_an_error() -> None:
    model = net().train()
    with pytest.raises(RuntimeError, match="boom"), evaluating(model):
        assert not any(m.training for m in model.modules())
        raise RuntimeError("boom")
    assert all(m.training for m in model.modules())

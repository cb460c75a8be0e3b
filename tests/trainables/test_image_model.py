"""Whole trainings on the digits: they learn, resume bit for bit, keep to their seed, and every knob is felt."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from trainings import config, same, train

from trainables import feed
from trainables.batches import Request, make_batches
from trainables.config import TrainConfig
from trainables.contract import NonFiniteLoss
from trainables.data.dataset import ImageSet, Splits
from trainables.image_model import ImageModel
from trainables.metrics import evaluate_probabilities


@pytest.mark.parametrize("model", ["cnn_b", "cnn_c"])
def test_the_digits_are_learnt_in_a_few_epochs(digits: Splits, model: str) -> None:
    trained, outcomes = train(TrainConfig(model=model, epochs=4, lr=2e-3, dropout=0.3), digits)
    last = outcomes[-1]
    assert last.metrics["val/accuracy"] > 0.9
    assert [o.epoch for o in outcomes] == [1, 2, 3, 4]
    assert [o.done for o in outcomes] == [False, False, False, True]
    assert last.stop_reason == "budget"
    assert evaluate_probabilities(trained.predict("test"), digits.test.targets)["accuracy"] > 0.9
    names = {"loss", "accuracy", "log_loss", "brier", "ece"}
    wanted = {f"train/{n}" for n in names} | {f"val/{n}" for n in names | {"top5", "balanced_accuracy", "macro_f1"}}
    assert set(last.metrics) == wanted | {"lr", "grad_norm", "epoch_seconds", "images_per_second"}
    assert all(np.isfinite(value) for value in last.metrics.values())


EVERYTHING = {
    "dropout": 0.5,
    "dropout2d": 0.1,
    "augmentation": "crop_flip",
    "average": "ema",
    "optimizer": "sgd",
    "schedule": "cosine",
    "epochs": 4,
    "sampler": "balanced",
    "patience": 9,
    "mixup": 0.4,
}


@pytest.mark.parametrize(
    "values",
    [
        {},
        EVERYTHING,
        {"average": "swa", "swa_start": 0.25, "schedule": "plateau", "plateau_patience": 0, "epochs": 4},
        {"precision": "fp16", "bn": "recalibrate"},
        {"precision": "fp64", "model": "cifar_resnet", "depth": 8, "drop_path": 0.3, "epochs": 2},
        {"gradual_epochs": 1, "layer_decay": 0.5, "rows": "bootstrap"},
    ],
    ids=["plain", "much", "swa_plateau", "fp16_recalibrated", "fp64_resnet", "gradual_bootstrap"],
)
def test_stopped_and_resumed_is_uninterrupted_bit_for_bit(few: Splits, values: dict[str, Any]) -> None:
    settings = config(**values)
    whole, outcomes = train(settings, few)
    first = ImageModel(settings, few)
    halves = [first.step()]
    saved = io.BytesIO()
    torch.save(first.state(), saved)
    first.step()  # what happens after the checkpoint leaves no trace in it
    torch.rand(7)  # nor does the global generator's position
    saved.seek(0)
    second = ImageModel(settings, few)
    second.load_state(torch.load(saved, weights_only=True))
    assert np.array_equal(second.predict("val"), first_predictions(settings, few))
    halves += [second.step() for _ in range(settings.epochs - 1)]
    assert same(whole.weights(), second.weights())
    assert np.array_equal(whole.predict("test"), second.predict("test"))
    untimed = {"epoch_seconds", "images_per_second"}
    for one, other in zip(outcomes, halves, strict=True):
        assert {k: v for k, v in one.metrics.items() if k not in untimed} == {
            k: v for k, v in other.metrics.items() if k not in untimed
        }


def first_predictions(settings: TrainConfig, splits: Splits) -> np.ndarray:
    return train(settings, splits, epochs=1)[0].predict("val")


def test_a_run_is_its_seeds_alone_and_disturbs_no_generator(few: Splits) -> None:
    before = torch.get_rng_state()
    first, _ = train(config(), few, 1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    again, _ = train(config(), few, 1)
    other, _ = train(config(seed=1), few, 1)
    torch.set_rng_state(before)
    assert same(first.weights(), again.weights())
    assert not same(first.weights(), other.weights())


def test_two_runs_side_by_side_do_not_meet(few: Splits) -> None:
    alone, _ = train(config(), few, 2)
    first, second = ImageModel(config(), few), ImageModel(config(seed=5, dropout=0.1), few)
    for _ in range(2):
        first.step()
        second.step()
    assert same(alone.weights(), first.weights())


def test_layers_that_draw_from_torchs_generator_repeat_too(few: Splits) -> None:
    found = []
    for seed in (1, 2):
        model = ImageModel(config(), few)
        model.model.block1.register_forward_hook(lambda m, _, out: nn.functional.dropout(out, 0.5, m.training))
        torch.manual_seed(seed)
        model.step()
        found.append(model.weights())
    assert same(*found)


@pytest.mark.parametrize(
    "values",
    [
        {"dropout": 0.9},
        {"dropout2d": 0.4},
        {"width": 5},
        {"norm": "group"},
        {"norm": "none"},
        {"image_size": 12},
        {"optimizer": "sgd"},
        {"optimizer": "adam", "weight_decay": 0.1},
        {"lr": 1e-4},
        {"weight_decay": 0.5},
        {"momentum": 0.5},
        {"beta2": 0.9},
        {"clip_norm": 0.01, "optimizer": "sgd"},
        {"layer_decay": 0.5},
        {"finetune_depth": "head"},
        {"gradual_epochs": 2},
        {"bn": "frozen"},
        {"bn": "recalibrate"},
        {"schedule": "constant"},
        {"warmup_epochs": 1},
        {"augmentation": "flip"},
        {"mixup": 1.0},
        {"cutmix": 1.0},
        {"loss": "focal"},
        {"label_smoothing": 0.2},
        {"class_weights": "balanced"},
        {"sampler": "balanced"},
        {"average": "ema"},
        {"average": "swa", "swa_start": 0.0},
        {"batch_size": 32},
        {"precision": "bf16"},
        {"precision": "fp16"},
        {"precision": "fp64"},
        {"rows": "bootstrap"},
        {"rows": "subsample", "row_fraction": 0.5},
        {"rows": "fold"},
        {"seed": 3},
    ],
    ids=lambda values: "-".join(f"{k}={v}" for k, v in values.items()),
)
def test_a_knob_that_is_turned_is_felt(few: Splits, values: dict[str, Any]) -> None:
    base = {"optimizer": values["optimizer"]} if "clip_norm" in values else {}
    plain, _ = train(config(**base), few, 2)
    turned, outcomes = train(config(**values), few, 2)
    assert not np.array_equal(plain.predict("val"), turned.predict("val"))
    assert np.isfinite(outcomes[-1].metrics["val/loss"])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"optimizer": "sgd"}, {"optimizer": "sgd", "nesterov": False}),
        ({"augmentation": "crop_flip"}, {"augmentation": "crop_flip", "magnitude": 0.0}),
        ({"average": "ema"}, {"average": "ema", "ema_decay": 0.1}),
        ({"loss": "focal"}, {"loss": "focal", "focal_gamma": 0.5}),
        ({"rows": "fold"}, {"rows": "fold", "fold": 1}),
        ({"rows": "fold"}, {"rows": "fold", "folds": 3}),
        ({"rows": "bootstrap"}, {"rows": "bootstrap", "row_seed": 1}),
        ({"schedule": "step", "step_epochs": 1}, {"schedule": "step", "step_epochs": 1, "gamma": 0.9}),
    ],
    ids=lambda values: "-".join(f"{k}={v}" for k, v in values.items()),
)
def test_a_knob_of_a_knob_is_felt(few: Splits, first: dict[str, Any], second: dict[str, Any]) -> None:
    assert not same(train(config(**first), few, 2)[0].weights(), train(config(**second), few, 2)[0].weights())


def test_the_schedule_reaches_the_optimiser(few: Splits) -> None:
    _, outcomes = train(config(schedule="step", step_epochs=1, gamma=0.1, lr=1e-2), few)
    assert [o.metrics["lr"] for o in outcomes] == pytest.approx([1e-2, 1e-3, 1e-4])
    stuck = config(schedule="plateau", gamma=0.5, plateau_patience=0, lr=1e-12, bn="frozen")
    _, outcomes = train(stuck, few)
    assert [o.metrics["lr"] for o in outcomes] == pytest.approx([1e-12, 1e-12, 0.5e-12])


def test_a_frozen_stage_keeps_weights_and_statistics(few: Splits) -> None:
    model = ImageModel(config(finetune_depth="head", model="cnn_b"), few)
    before = model.weights()
    model.step()
    after = model.weights()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved
    assert all(name.startswith("head.") for name in moved)


def test_gradual_unfreezing_thaws_a_stage_at_a_time(few: Splits) -> None:
    model = ImageModel(config(gradual_epochs=1, model="cnn_b"), few)
    moved = []
    for _ in range(3):
        before = model.weights()
        model.step()
        moved.append({name.split(".")[0] for name, value in model.weights().items() if not torch.equal(value, before[name])})
    assert moved == [{"head"}, {"head", "block3"}, {"head", "block3", "block2"}]


def test_frozen_norms_keep_their_statistics_while_all_weights_train(few: Splits) -> None:
    model = ImageModel(config(bn="frozen", model="cnn_b"), few)
    before = model.weights()
    model.step()
    after = model.weights()
    assert all(torch.equal(after[n], before[n]) for n in after if "running" in n)
    assert not torch.equal(after["block1.0.weight"], before["block1.0.weight"])


def test_recalibrated_norms_describe_the_training_images(few: Splits) -> None:
    """After a step the first norm's mean is that of its inputs over the training split under the weights as they are."""
    model, _ = train(config(bn="recalibrate", model="cnn_b"), few, 1)
    net = model.model
    images = torch.cat([batch.images for [batch] in make_batches([Request(model.source, 0)])])
    with torch.no_grad():
        inputs = net.block1[0](images)
    torch.testing.assert_close(net.block1[1].running_mean, inputs.mean(dim=(0, 2, 3)), rtol=1e-2, atol=1e-3)


def test_averaged_weights_are_the_ones_served_and_saved(few: Splits) -> None:
    model, _ = train(config(average="ema"), few, 2)
    live = model.model.state_dict()
    served = model.weights()
    assert set(served) == set(live)
    assert not torch.equal(served["head.1.weight"], live["head.1.weight"])
    plain = ImageModel(config(), few)
    plain.model.load_state_dict(served)
    np.testing.assert_allclose(plain.predict("val"), model.predict("val"), rtol=1e-5, atol=1e-6)


def test_swa_serves_the_live_weights_until_it_starts(few: Splits) -> None:
    model = ImageModel(config(average="swa", swa_start=0.5, epochs=4), few)
    differs = []
    for _ in range(4):
        model.step()
        differs.append(not torch.equal(model.weights()["head.1.weight"], model.model.state_dict()["head.1.weight"]))
    assert differs == [False, False, False, True]  # the first average is of one set of weights


def test_patience_ends_the_run_early(few: Splits) -> None:
    model = ImageModel(config(patience=2, lr=0.0, bn="frozen", epochs=50), few)
    outcomes = [model.step() for _ in range(3)]
    assert [o.done for o in outcomes] == [False, False, True]
    assert outcomes[-1].stop_reason == "patience"


def test_a_step_past_the_budget_is_refused(few: Splits) -> None:
    model, _ = train(config(epochs=1), few)
    with pytest.raises(ValueError, match=r"train\.epochs"):
        model.step()


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_an_exploding_run_ends_with_its_reason(few: Splits, precision: str) -> None:
    model = ImageModel(config(optimizer="sgd", lr=100.0, norm="none", momentum=0.99, epochs=60, precision=precision), few)
    with torch.no_grad():
        model.model.head[1].weight.fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="loss became nan"):
        model.step()


def test_a_learning_rate_that_is_too_high_ends_in_it_too(few: Splits) -> None:
    model = ImageModel(config(optimizer="sgd", lr=100.0, norm="none", schedule="constant", epochs=60), few)
    with pytest.raises(NonFiniteLoss):
        for _ in range(60):
            model.step()


def test_channels_last_and_compile_reach_the_network(few: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []

    def fake(module: nn.Module, **_: object) -> nn.Module:
        compiled.append(module)
        return nn.Sequential(module)

    monkeypatch.setattr(torch, "compile", fake)
    model = ImageModel(config(compile="on", memory_format="channels_last", model="cnn_b", image_size=8), few)
    seen: list[bool] = []
    layer = model.model.block2[0]
    layer.register_forward_pre_hook(lambda _, args: seen.append(args[0].is_contiguous(memory_format=torch.channels_last)))
    model.step()
    assert compiled[-1] is model.model
    assert seen
    assert all(seen)
    assert layer.weight.is_contiguous(memory_format=torch.channels_last)
    plain, _ = train(config(model="cnn_b"), few, 1)
    np.testing.assert_allclose(model.predict("val"), plain.predict("val"), rtol=1e-2, atol=1e-3)
    assert set(model.weights()) == set(plain.weights())


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_workers_load_the_same_batches(few: Splits, monkeypatch: pytest.MonkeyPatch) -> None:
    loaders: list[int] = []
    real = feed.RowLoader

    def counted(part: ImageSet, settings: feed.LoaderSettings, **options: Any) -> feed.RowLoader:
        loaders.append(settings.workers)
        return real(part, settings, **options)

    monkeypatch.setattr(feed, "RowLoader", counted)
    monkeypatch.setattr(feed, "pick_settings", lambda *_, **__: (feed.LoaderSettings(workers=1), []))
    before = torch.get_rng_state()
    plain, _ = train(config(augmentation="crop_flip"), few, 2)
    assert loaders == []
    for workers in (1, -1):
        loaded, _ = train(config(augmentation="crop_flip", workers=workers, average="ema"), few, 2)
        assert same({k: v.cpu() for k, v in loaded.model.state_dict().items()}, plain.weights())
    assert loaders == [1, 1]
    assert torch.equal(torch.get_rng_state(), before)


def test_bootstrap_rows_are_the_row_seeds(few: Splits) -> None:
    first, second = ImageModel(config(rows="bootstrap"), few), ImageModel(config(rows="bootstrap", seed=4), few)
    third = ImageModel(config(rows="bootstrap", row_seed=1), few)
    assert np.array_equal(first.portion.rows, second.portion.rows)
    assert not np.array_equal(first.portion.rows, third.portion.rows)
    assert len(np.unique(first.portion.rows)) < len(first.portion.rows)


def test_a_state_of_one_run_goes_on_under_another_ones_rate(few: Splits) -> None:
    """What PBT does: weights and moments of the better run, hyperparameters of its own."""
    model, _ = train(config(lr=1e-2, schedule="constant"), few, 1)
    other = ImageModel(config(lr=1e-4, schedule="constant"), few)
    other.load_state(model.state())
    assert same(other.weights(), model.weights())
    assert other.step().metrics["lr"] == pytest.approx(1e-4)
    averaging = ImageModel(config(average="ema"), few)
    averaging.load_state(model.state())
    assert averaging.average is not None
    assert torch.equal(averaging.average.model.head[1].weight, model.model.head[1].weight)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"task": "regression"}, r"train\.task"),
        ({"loss": "mse"}, r"train\.loss"),
        ({"model": "cnn_z"}, r"train\.model"),
        ({"augmentation": "sparkle"}, r"train\.augmentation"),
    ],
)
def test_what_does_not_fit_is_refused_by_name_before_training(few: Splits, changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=key):
        ImageModel(config(**changes), few)

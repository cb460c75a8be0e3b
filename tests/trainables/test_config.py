"""TrainConfig refuses what it does not know, and its keys name what they should."""

from __future__ import annotations

import dataclasses

import pytest

from trainables.config import CHOICES, FUSION_KEYS, RANGES, TrainConfig, config_hash, fusion_key


def test_unknown_key_is_refused_with_the_nearest_known_one() -> None:
    with pytest.raises(ValueError, match=r"train\.droput: unknown key \(got 0\.3\); did you mean 'dropout'\?"):
        TrainConfig.from_dict({"droput": 0.3})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("dropout", 1.5, "allowed: 0.0 to 0.95"),
        ("epochs", 0, "allowed: 1 to"),
        ("optimizer", "lion", "allowed: sgd, adam, adamw"),
        ("epochs", 2.5, "expected int"),
        ("lr", "fast", "expected float"),
        ("nesterov", 1, "expected bool"),
        ("lr", float("nan"), "allowed"),
    ],
)
def test_wrong_value_says_what_came_and_what_is_allowed(key: str, value: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        TrainConfig.from_dict({key: value})


def test_whole_floats_stand_for_ints_and_ints_for_floats() -> None:
    config = TrainConfig.from_dict({"epochs": 3.0, "lr": 1})
    assert (config.epochs, config.lr) == (3, 1.0)
    assert type(config.epochs) is int
    assert type(config.lr) is float


def test_tables_name_only_fields() -> None:
    fields = {field.name for field in dataclasses.fields(TrainConfig)}
    assert set(CHOICES) | set(RANGES) | set(FUSION_KEYS) <= fields


def test_round_trip() -> None:
    config = TrainConfig(model="cifar_resnet", depth=32, lr=0.1)
    assert TrainConfig.from_dict(config.to_dict()) == config


def test_hash_names_the_configuration_not_its_seed() -> None:
    config = TrainConfig(lr=0.1)
    assert config_hash(config) == config_hash(config.replace(seed=9, row_seed=3, device="cpu"))
    assert config_hash(config) != config_hash(config.replace(lr=0.2))


def test_fusion_key_changes_with_shapes_and_not_with_numbers() -> None:
    config = TrainConfig()
    assert fusion_key(config) == fusion_key(config.replace(lr=0.3, dropout=0.1, augmentation="flip", seed=4, epochs=3))
    assert fusion_key(config) != fusion_key(config.replace(width=32))
    assert fusion_key(config) != fusion_key(config.replace(batch_size=32))


def test_records_of_before_the_memory_format_are_read() -> None:
    old = {key: value for key, value in TrainConfig().to_dict().items() if key != "memory_format"}
    for flag, layout in ((False, "contiguous"), (True, "channels_last")):
        read = TrainConfig.from_dict({**old, "channels_last": flag})
        assert read == TrainConfig(memory_format=layout)
        assert config_hash(read) == config_hash(TrainConfig())


def test_compile_is_read_as_a_word_and_as_the_boolean_of_before() -> None:
    for given, word in ((False, "off"), (True, "on"), ("off", "off"), ("on", "on"), ("auto", "auto")):
        read = TrainConfig.from_dict({"compile": given})
        assert read == TrainConfig(compile=word)
        assert config_hash(read) == config_hash(TrainConfig())  # it changes only rounding
    with pytest.raises(ValueError, match=r"train\.compile: got 'yes', allowed: off, on, auto"):
        TrainConfig.from_dict({"compile": "yes"})

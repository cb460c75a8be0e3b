"""The small, safe part of YAML that is read: what is refused, and what plain words mean."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestrator.errors import ConfigError
from orchestrator.experiment_file.document import MAX_BYTES, parse, parse_value, read_text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001), ("1E5", 1e5), ("-2.5e-1", -0.25), (".5", 0.5), ("1.", 1.0), ("1_000", 1000), ("010", 10), ("-3", -3),
        ("true", True), ("False", False), ("no", "no"), ("off", "off"), ("yes", "yes"), ("on", "on"), ("y", "y"),
        ("12:30", "12:30"), ("2020-01-01", "2020-01-01"), ("0x10", "0x10"), ("~", None), ("", None), ("null", None),
        ("'1e-3'", "1e-3"), ('"true"', "true"), ("1e", "1e"), ("e3", "e3"), ("1.2.3", "1.2.3"), ("[hflip, 2]", ["hflip", 2]),
        (".inf", float("inf")), ("<<", "<<"), ("=", "="),
    ],
)  # fmt: skip
def test_plain_words_mean_what_a_person_means(text: str, value: object) -> None:
    found, _ = parse_value(text, "here")
    assert found == value
    assert type(found) is type(value)


def test_numbers_and_text_agree_with_yaml_where_yaml_is_sane() -> None:
    text = "a: 1.5e+3\nb: -7\nc: hello world\nd: [1, 2.5, x]\ne: {f: true}\n'g h': \"q\\n\"\ni: |\n  two\n  lines\n"
    assert parse(text, "f").values == yaml.safe_load(text)


def test_places_are_lines() -> None:
    document = parse("a: 1\nb:\n  c: 2\n\n  d: [3,\n   4]\n", "f.yaml")
    assert document.where(("a",)) == "f.yaml:1"
    assert document.where(("b", "c")) == "f.yaml:3"
    assert document.where(("b", "d", 1)) == "f.yaml:6"
    assert document.where(("b", "new")) == "f.yaml:2"


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("a: 1\nb: 2\na: 3", ["f:3: a: written twice (first at f:1)"]),
        ("s:\n  t: 1\n  t: 2\ns: 4", ["f:3: s.t: written twice", "f:4: s: written twice"]),
        ("a: &x [1]\nb: *x", ["f:1: anchor &x", "f:2: alias *x"]),
        ("a: &x [*x]", ["f:1: anchor &x", "f:1: alias *x"]),
        ("a: !!python/object/apply:os.system [id]", ["f:1: tag !!python/object/apply:os.system"]),
        ("a: !mine 3\nb: !!str 3", ["f:1: tag !mine", "f:2: tag !!str"]),
        ("a:\n\tb: 1", ["f:2: a tab; use spaces"]),
        ("a: 1\n---\nb: 2", ["f:2: a second document"]),
        ("- 1", ["f:1: expected `key: value` lines, got list"]),
        ("just text", ["f:1: expected `key: value` lines, got str"]),
        ("a: [1, 2", ["f:1: expected ',' or ']'"]),
        ("a: 1\n b: 2", ["f:2: mapping values are not allowed here"]),
        ("a: " + "[" * 40 + "]" * 40, ["f:1: nested deeper than 20 levels"]),
        ("a: " + "9" * 5000, ["f:1: a: 99999999999999999999... is too long for a number"]),
        ("? [a, b]\n: 1", ["f:1: a key must be one word"]),
        ("a: \x00", ["f: not a text file of YAML"]),
        ("a: 1\n" + "#" * MAX_BYTES, ["f: larger than 1,000,000 bytes"]),
    ],
)
def test_what_is_refused(text: str, problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    assert len(caught.value.problems) == len(problems)
    for found, start in zip(caught.value.problems, problems, strict=True):
        assert found.startswith(start)


def test_an_alias_bomb_is_refused_before_it_opens() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="f:1: anchor &a0"):
        parse("\n".join(lines), "f")


@pytest.mark.parametrize("text", ["", "# a comment\n", "---\n", "a:\n"])
def test_nothing_is_an_empty_document(text: str) -> None:
    assert parse(text, "f").values in ({}, {"a": None})


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1")
    assert read_text(tmp_path / "bom.yaml") == "a: 1"
    (tmp_path / "latin.yaml").write_bytes("a: \u00e9".encode("latin-1"))
    with pytest.raises(ConfigError, match="not a UTF-8 text file"):
        read_text(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match="cannot be read .*orchestrate init"):
        read_text(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_text(tmp_path)

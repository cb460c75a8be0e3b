"""The named spaces, and how one's own is loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from search_spaces import SPACES, load_space
from search_spaces.space import Choice, RandomTrial, draw

OWN = """
from search_spaces.space import Float, Space
SPACE = Space("mine", (Float("lr", 1e-4, 1e-2, log=True),))
"""


def test_names_are_keys() -> None:
    assert {name: space.name for name, space in SPACES.items()} == {"scratch": "scratch", "finetune": "finetune"}
    assert load_space("scratch") is SPACES["scratch"]


@pytest.mark.parametrize("name", SPACES)
def test_every_option_is_reached_by_draws(name: str) -> None:
    drawn = [draw(SPACES[name], RandomTrial(seed)) for seed in range(600)]
    for dimension in SPACES[name].dimensions:
        if isinstance(dimension, Choice):
            assert {d[dimension.name] for d in drawn if dimension.name in d} == set(dimension.options)


def test_scratch_gives_dropout_to_the_nets_that_have_it() -> None:
    for seed in range(200):
        drawn = draw(SPACES["scratch"], RandomTrial(seed))
        assert ("dropout" in drawn) == (drawn["model"] in ("cnn_c", "cifar_resnet"))
        assert ("depth" in drawn) == (drawn["model"] == "cifar_resnet")
        assert "depth" not in drawn or (drawn["depth"] - 2) % 6 == 0


def test_finetune_orders_depth_and_leaves_the_backbone_to_the_experiment() -> None:
    space = SPACES["finetune"]
    depths = next(d.options for d in space.dimensions if isinstance(d, Choice) and d.name == "finetune_depth")
    assert depths == ("head", "last_1", "last_2", "last_3", "all")
    assert not {"model", "weights", "image_size"} & set(space.keys)


def test_a_python_file_gives_its_space(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    assert load_space(str(tmp_path / "mine.py")).keys == ("lr",)


@pytest.mark.parametrize(
    ("text", "said"),
    [("scrach", "did you mean 'scratch'"), ("nowhere.py", "no such file"), ("x.yaml", "not known")],
)
def test_unknown_spaces_are_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_space(text)


def test_a_python_file_without_a_space_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("SPACE = 3")
    with pytest.raises(ValueError, match="must set SPACE = .*got int"):
        load_space(str(tmp_path / "mine.py"))


def test_spaces_load_nothing_but_the_standard_library() -> None:
    code = "import sys, search_spaces; print([m for m in ('torch', 'numpy', 'yaml', 'pydantic') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
    assert done.stdout.strip() == "[]"

"""Our stochastic depth against torchvision's on the same generator, and what importing our nets leaves out."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torchvision.ops import StochasticDepth as Reference

from trainables.models.stochastic_depth import StochasticDepth


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_draws_and_scales_as_torchvisions(p: float) -> None:
    branch = torch.randn(64, 3, 4, 4)
    torch.manual_seed(1)
    expected = Reference(p, "row")(branch)
    torch.manual_seed(1)
    assert torch.equal(StochasticDepth(p)(branch), expected)


def test_passes_in_evaluation_mode() -> None:
    branch = torch.randn(8, 3)
    assert StochasticDepth(0.9).eval()(branch) is branch


def test_our_own_nets_are_built_without_importing_torchvision() -> None:
    program = (
        "import sys\nfrom trainables.config import TrainConfig\nfrom trainables.models import build_model\n"
        "for name in ('cnn_a', 'cnn_b', 'cnn_c', 'cifar_resnet'):\n"
        "    build_model(TrainConfig(model=name, depth=8, width=4), outputs=10, channels=1, image_size=32)\n"
        "print(sorted({'torchvision', 'torch._dynamo', 'sklearn', 'ray', 'mlflow'} & set(sys.modules)))\n"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

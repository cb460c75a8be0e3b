"""What "auto" stands for on a device: precision, memory format, images of an evaluation batch; settled before it is used."""

from __future__ import annotations

import copy
import logging
from typing import TYPE_CHECKING

import torch
from torch import nn

from trainables.allocator import out_of_memory
from trainables.config import TrainConfig
from trainables.loop import forward
from trainables.models.freezing import apply_depth
from trainables.runtime import memory_format, place, seeded
from trainables.timing import bf16_instructions, device_name, ratio, remembered_gain

if TYPE_CHECKING:
    from trainables.models import InputPipeline

MOST_VALUES = 256 * 3 * 224 * 224
"""Values of an evaluation batch at most."""
PAYS = 1.1
"""bf16 must be so many times faster to be taken: what lies nearer to 1 would come out differently on each node."""
_LOG = logging.getLogger(__name__)


def settled(
    config: TrainConfig, network: nn.Module, pipeline: InputPipeline, device: torch.device, *, trained: bool = True
) -> TrainConfig:
    """Return the config with what it leaves open replaced by what pays for this network on this device.

    `trained` False: the network only answers, whatever `finetune_depth` says.
    """
    if config.precision == "auto":
        pays = _bf16_pays(config, network, pipeline, device, trained=trained)
        config = config.replace(precision="bf16" if pays else "fp32")
    config = _laid_out(config, device)
    if config.eval_batch_size:
        return config
    return config.replace(eval_batch_size=evaluation_batch(device, len(pipeline.mean) * pipeline.image_size**2))


def evaluation_batch(device: torch.device, values: int) -> int:
    """Return how many images of so many values are evaluated at once.

    Measured on a CPU core (CNNs, ResNets and MobileNetV2 of 28 to 128 px, batches of 8 to 256): 64 is within 12 % of the best
    everywhere, and holds a quarter of the memory of 256. A GPU wants more work a launch. Large images take smaller batches.
    """
    return max(1, min(512 if device.type == "cuda" else 64, MOST_VALUES // values))


def _laid_out(config: TrainConfig, device: torch.device) -> TrainConfig:
    """Return a config whose precision is settled with its memory format settled too."""
    if config.memory_format != "auto":
        return config
    return config.replace(memory_format=natural_format(config.precision, device))


def natural_format(precision: str, device: torch.device) -> str:
    """Return the layout for which a device's convolutions are made.

    Measured on an AVX-512 CPU, images of 8 to 128 px: channels_last takes 0.6 to 1.0 of the time. A GPU's tensor cores read
    it in 16 bits. float64 is there to compare exactly, and stays as torch makes it.
    """
    if device.type == "cuda":
        return "channels_last" if precision in ("bf16", "fp16") else "contiguous"
    return "channels_last" if device.type == "cpu" and precision != "fp64" else "contiguous"


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether a device has instructions for bfloat16; others convert to float32 and back, which is slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(bf16_instructions())


def _bf16_pays(
    config: TrainConfig, network: nn.Module, pipeline: InputPipeline, device: torch.device, *, trained: bool
) -> bool:
    if not multiplies_bf16(device):
        return False
    shape = (config.batch_size, len(pipeline.mean), pipeline.image_size, pipeline.image_size)
    net = (config.model, config.width, config.depth, config.norm, config.finetune_depth, config.bn, trained)
    words = ("bf16", *net, config.memory_format, shape, device_name(device))
    try:
        gain, known = remembered_gain(words, lambda: _bf16_gain(config, network, shape, device, trained=trained))
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        _LOG.warning("bf16: memory does not suffice to time it beside fp32; taken, since it needs less")
        return True
    _LOG.info("bf16: %.2fx (%s)", gain, "measured before" if known else "measured now")
    return gain >= PAYS


def _bf16_gain(
    config: TrainConfig, network: nn.Module, shape: tuple[int, ...], device: torch.device, *, trained: bool
) -> float:
    """Return the time of forward and backward (of what is trained at first) in fp32 over that in bf16."""

    def step(precision: str) -> None:
        net, images = made[precision]
        with torch.set_grad_enabled(trained):
            answers = forward(net, images, precision)
        if trained:
            answers.sum().backward()  # type: ignore[no-untyped-call]

    made = {}
    with seeded(config.seed, "dropout", device=device):  # its draws change no one else's
        for precision in ("fp32", "bf16"):
            own = _laid_out(config.replace(precision=precision), device)
            images = torch.randn(shape, device=device).contiguous(memory_format=memory_format(own))
            net = place(copy.deepcopy(network).train(trained), own, device)
            if trained:
                apply_depth(net, own)
            made[precision] = net, images
        return ratio(lambda: step("fp32"), lambda: step("bf16"), device, asked=PAYS)

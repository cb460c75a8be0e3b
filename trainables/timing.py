"""Which of two ways is faster on this device, by a short timing of steps, remembered on the disk for the next process."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch

from trainables.allocator import give_back_freed_memory
from trainables.data.cache import cache_folder

STEPS, WARM, SECONDS, AGREE = 10, 2, 3.0, 3
"""Timed steps of each way (interleaved, medians compared), steps before them, the time after which fewer must do (where one
round takes longer than that, the first is all), and how many must agree to answer a question of yes or no."""


def device_name(device: torch.device) -> str:
    """Return what a timing on a device depends on: its name, and on a CPU its instructions and torch's threads."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    name = torch.cpu.get_capabilities().get("cpu_name") or platform.processor() or platform.machine()
    words = [name, torch.backends.cpu.get_cpu_capability(), *bf16_instructions()]
    return ", ".join([*words, f"{os.cpu_count()} cores", f"{torch.get_num_threads()} threads"])


def bf16_instructions() -> list[str]:
    """Return the kinds of instructions for bfloat16 that this CPU has, as torch names them."""
    able = torch.cpu.get_capabilities()
    return [kind for kind in ("avx512_bf16", "amx_bf16", "bf16") if able.get(kind)]


def remembered_gain(words: tuple[object, ...], measure: Callable[[], float]) -> tuple[float, bool]:
    """Return (gain, whether it was known): of an earlier process where all `words` agree, else measured and kept.

    Any other number that is not 0 is kept as well, be it of seconds or of steps.

    Of processes that measure at the same time the first to be done is believed by all. A cache that cannot be read or written
    costs the time of measuring again, nothing else.
    """
    text = json.dumps([torch.__version__, *words], default=str)
    path = cache_folder("") / "timings" / f"{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
    known = _known(path)
    if known:
        return known, True
    gain = measure()
    give_back_freed_memory()  # what was timed was made for it alone
    if not gain:
        return gain, False  # it could not be done this time: nothing to remember
    with contextlib.suppress(OSError):
        if not _published(path, json.dumps({"gain": gain, "of": json.loads(text)})):
            return _known(path) or gain, True
    return gain, False


def _known(path: Path) -> float:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        return float(json.loads(path.read_text())["gain"])
    return 0.0


def _published(path: Path, text: str) -> bool:
    """Write a file whole; returns False where a sound one has come to be there meanwhile."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(text)
    try:
        if path.exists() and not _known(path):
            draft.replace(path)
        else:
            os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink(missing_ok=True)
    return True


def ratio(first: Callable[[], object], second: Callable[[], object], device: torch.device, *, asked: float = 0.0) -> float:
    """Return the median time of one way over the other's, interleaved on the device.

    Where only it is `asked` whether the ratio reaches a number, no more steps are timed once AGREE pairs say the same.
    """

    def agree(times: list[list[float]]) -> bool:
        pairs = [one / other for one, other in zip(*(found[WARM:] for found in times), strict=True)]
        return asked > 0 and len(pairs) >= AGREE and (min(pairs) >= asked or max(pairs) < asked)

    one, other = medians(first, second, device=device, enough=agree)
    return one / other


def medians(
    *ways: Callable[[], object], device: torch.device, enough: Callable[[list[list[float]]], bool] = lambda _: False
) -> list[float]:
    """Return the median seconds of each way, interleaved on the device, until there are `enough`."""
    times: list[list[float]] = [[] for _ in ways]
    begun = time.perf_counter()
    for step in range(STEPS + WARM):
        for run, found in zip(ways, times, strict=True):
            started = now(device)
            run()
            found.append(now(device) - started)
        if (time.perf_counter() - begun > SECONDS and step != WARM) or enough(times):
            break
    kept = [sorted(found[WARM:] or found[-1:]) for found in times]
    return [found[len(found) // 2] for found in kept]


def now(device: torch.device) -> float:
    """Return the seconds of a clock once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()

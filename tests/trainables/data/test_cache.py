"""The node's cache: verified before use, rebuilt when damaged, one builder at a time, and no stale lock can block."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trainables.data.cache import build_entry, cache_folder, entry_key, load_entry
from trainables.data.prepare import Prepared

SHAPE = (4, 5, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (7, *SHAPE), dtype=np.uint8)
FACTS = Prepared(
    ids=tuple(f"row/{row}" for row in range(7)),
    targets=(0, 1, 0, 1, 0, 1, 0),
    sizes=(3, 2, 2),
    shape=SHAPE,
    image_size=0,
    classes=("a", "b"),
    files=(),
    fingerprint="0123456789ab",
    mean=(0.1, 0.2, 0.3),
    std=(0.4, 0.5, 0.6),
    skipped=(("x.png", "not an image file"),),
    notices=("a notice",),
)


def build(write: Callable[[Any], Any]) -> Prepared:
    write(IMAGES[:4])
    write(IMAGES[4:])
    return FACTS


def never(_: Callable[[Any], Any]) -> Prepared:
    raise AssertionError("built again")


def test_an_entry_comes_back_as_a_read_only_map(tmp_path: Path) -> None:
    facts, images = build_entry(tmp_path, "k", build, shape=SHAPE)
    assert facts == FACTS
    assert images is not None
    assert np.array_equal(images, IMAGES)
    assert not images.flags.writeable
    assert isinstance(images.base, np.memmap)
    assert np.array_equal(np.load(tmp_path / "k" / "images.npy"), IMAGES)
    again = build_entry(tmp_path, "k", never, shape=SHAPE)
    assert again[0] == FACTS
    assert sorted(path.name for path in tmp_path.iterdir()) == ["k", "k.lock"]


def test_facts_alone(tmp_path: Path) -> None:
    assert build_entry(tmp_path, "k", build, shape=None) == (FACTS, None)
    assert not (tmp_path / "k" / "images.npy").exists()


def test_checksum_is_the_files_own(tmp_path: Path) -> None:
    build_entry(tmp_path, "k", build, shape=SHAPE)
    sums = json.loads((tmp_path / "k" / "checksums.json").read_text())
    assert sums["images"] == hashlib.sha256((tmp_path / "k" / "images.npy").read_bytes()).hexdigest()


def flip_pixel(entry: Path) -> None:
    content = bytearray((entry / "images.npy").read_bytes())
    content[-3] ^= 1
    (entry / "images.npy").write_bytes(content)


def truncate(entry: Path) -> None:
    os.truncate(entry / "images.npy", 200)


def edit_facts(entry: Path) -> None:
    (entry / "facts.json").write_text((entry / "facts.json").read_text().replace("row/3", "row/4"))


def lose_checksums(entry: Path) -> None:
    (entry / "checksums.json").unlink()


def garble_checksums(entry: Path) -> None:
    (entry / "checksums.json").write_text("{")


@pytest.mark.parametrize("damage", [flip_pixel, truncate, edit_facts, lose_checksums, garble_checksums])
def test_a_damaged_entry_is_noticed_and_rebuilt(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    build_entry(tmp_path, "k", build, shape=SHAPE)
    damage(tmp_path / "k")
    assert load_entry(tmp_path, "k") is None
    facts, images = build_entry(tmp_path, "k", build, shape=SHAPE)
    assert facts == FACTS
    assert np.array_equal(images, IMAGES)


def test_a_touched_but_sound_entry_is_verified_once_and_kept(tmp_path: Path) -> None:
    build_entry(tmp_path, "k", build, shape=SHAPE)
    os.utime(tmp_path / "k" / "images.npy", ns=(1, 1))
    assert load_entry(tmp_path, "k") is not None
    stamp = json.loads((tmp_path / "k" / "checksums.json").read_text())["stamp"]
    assert stamp[1] == 1


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def fail(write: Callable[[Any], Any]) -> Prepared:
        write(IMAGES)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        build_entry(tmp_path, "k", fail, shape=SHAPE)
    assert [path.name for path in tmp_path.iterdir()] == ["k.lock"]


def test_two_builders_build_once(tmp_path: Path) -> None:
    built: list[int] = []
    begun, go_on = threading.Event(), threading.Event()

    def slow(write: Callable[[Any], Any]) -> Prepared:
        built.append(1)
        begun.set()
        assert go_on.wait(60)
        return build(write)

    results: list[Any] = []
    first = threading.Thread(target=lambda: results.append(build_entry(tmp_path, "k", slow, shape=SHAPE)))
    first.start()
    assert begun.wait(60)
    second = threading.Thread(target=lambda: results.append(build_entry(tmp_path, "k", slow, shape=SHAPE)))
    second.start()
    go_on.set()
    first.join(60)
    second.join(60)
    assert len(built) == 1
    assert [facts for facts, _ in results] == [FACTS, FACTS]


HOLD_THE_LOCK = """
import sys, time
from pathlib import Path
from trainables.data.cache import build_entry

def wait(write):
    print("building", flush=True)
    time.sleep(600)

build_entry(Path(sys.argv[1]), "k", wait, shape=(4, 5, 3))
"""


def test_the_lock_of_a_killed_builder_does_not_block(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True) as builder:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "building\n"
        builder.kill()
    facts, images = build_entry(tmp_path, "k", build, shape=SHAPE)
    assert facts == FACTS
    assert np.array_equal(images, IMAGES)


def test_where_and_under_which_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("") == tmp_path / "orchestrate"
    assert cache_folder(str(tmp_path / "mine")) == tmp_path / "mine"
    assert entry_key("a", "b") != entry_key("ab", "") != entry_key("a", "")

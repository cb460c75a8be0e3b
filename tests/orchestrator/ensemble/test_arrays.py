"""Members are read one at a time, from arrays, lists and memory maps alike."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from orchestrator.ensemble.arrays import Members


def test_arrays_lists_and_memory_maps_read_the_same(tmp_path):
    probs = np.random.default_rng(0).random((3, 5, 2)).astype(np.float16)
    np.save(tmp_path / "bank.npy", probs)
    mapped = np.load(tmp_path / "bank.npy", mmap_mode="r")
    rows = np.array([4, 0])
    for source in (probs, list(probs), mapped):
        members = Members.of(source)
        assert len(members) == 3
        assert members.read(1).dtype == np.float32
        assert np.array_equal(members.read(1), probs[1].astype(np.float32))
        assert np.array_equal(members.take_members([2, 0]).take_rows(rows).read(0), probs[2][rows].astype(np.float32))
        assert np.array_equal(members.take_rows(rows).take_rows(np.array([1])).read(0), probs[0][[0]].astype(np.float32))
    assert Members.of(members) is members


def test_a_copy_is_read_so_that_nobody_writes_into_the_bank():
    probs = np.ones((1, 2, 2), dtype=np.float32)
    Members.of(probs).read(0)[:] = 0.0
    assert probs.min() == 1.0


def test_writes_to_a_copy_on_write_map_survive_reading(tmp_path):
    np.save(tmp_path / "bank.npy", np.zeros((1, 2, 2), dtype=np.float32))
    mapped = np.load(tmp_path / "bank.npy", mmap_mode="c")
    mapped[:] = 1.0
    assert Members.of(mapped).read(0).min() == 1.0
    assert mapped.min() == 1.0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_one_pass_over_a_memory_map_does_not_hold_it(tmp_path):
    np.lib.format.open_memmap(tmp_path / "bank.npy", mode="w+", dtype=np.float16, shape=(200, 10_000, 50)).flush()
    script = """
        import sys
        import numpy as np
        from pathlib import Path
        from orchestrator.ensemble.arrays import Members

        def resident():
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024

        members = Members.of(np.load(sys.argv[1], mmap_mode="r"))
        before = resident()
        for m in range(len(members)):
            members.read(m).sum()
        print(resident() - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "bank.npy")],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert int(done.stdout) < 30e6  # the bank has 200 MB

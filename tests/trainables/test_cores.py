"""Affinity masks and control groups as they look on hosts and in containers."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainables import cores
from trainables.cores import quotas, usable_cpus


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a machine of 64 CPUs whose control groups lie in a folder."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(cores, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(cores, "MEMBERSHIP", tmp_path / "membership")
    (tmp_path / "groups").mkdir()
    return tmp_path


def write(machine: Path, membership: str, **files: str) -> None:
    (machine / "membership").write_text(membership)
    for name, text in files.items():
        path = machine / "groups" / name.replace("__", "/").replace("--", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_without_control_groups_the_mask_decides(machine: Path) -> None:
    assert usable_cpus() == 64 and machine.exists()


@pytest.mark.parametrize(
    ("limit", "expected"), [("200000 100000", 2), ("150000 100000", 2), ("10000 100000", 1), ("max 100000", 64)]
)
def test_a_container_of_version_2(machine: Path, limit: str, expected: int) -> None:
    write(machine, "0::/\n", **{"cpu--max": limit})
    assert usable_cpus() == expected


def test_the_tightest_of_a_group_and_those_around_it(machine: Path) -> None:
    write(
        machine, "0::/job/step\n",
        **{"job__cpu--max": "300000 100000", "job__step__cpu--max": "max 100000", "cpu--max": "800000 100000"},
    )  # fmt: skip
    assert sorted(quotas(cores.GROUPS, cores.MEMBERSHIP)) == [3.0, 8.0]
    assert usable_cpus() == 3


@pytest.mark.parametrize(("quota", "expected"), [("400000", 4), ("-1", 64)])
@pytest.mark.parametrize("folder", ["cpu", "cpu,cpuacct"])
def test_a_container_of_version_1_whose_group_has_another_name_outside(
    machine: Path, folder: str, quota: str, expected: int
) -> None:
    write(
        machine, "7:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/\n",
        **{f"{folder}__cpu--cfs_quota_us": quota, f"{folder}__cpu--cfs_period_us": "100000"},
    )  # fmt: skip
    assert usable_cpus() == expected


def test_a_mask_may_be_tighter_than_the_quota(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(machine, "0::/\n", **{"cpu--max": "800000 100000"})
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)
    assert usable_cpus() == 3

"""What every test needs: quiet vendors, one thread, no network, and a folder of real images drawn from the digits scans."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

for _name, _value in {
    "MPLBACKEND": "Agg",
    "OMP_NUM_THREADS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "NO_COLOR": "1",
}.items():
    os.environ[_name] = _value
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("RAY_ADDRESS", None)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoded images go to a folder of the test session, never to the user's cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """Return the folder of real data sets, or skip with the reason."""
    root = Path(os.environ.get("ORCHESTRATE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (root / "weights").is_dir():
        pytest.skip(f"no real data at {root}; set ORCHESTRATE_DATA to a folder with cifar10/, fashion-mnist/, weights/")
    return root

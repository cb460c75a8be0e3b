"""cluster.yaml holds what Ray's own launcher accepts, and keeps its promises of cost and safety."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = Path(__file__).parents[1] / "cluster.yaml"


@pytest.fixture
def cluster() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(FILE.read_text())
    return loaded


def validated(cluster: dict[str, Any]) -> dict[str, Any]:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared: dict[str, Any] = prepare_config(cluster)
    validate_config(prepared)
    return prepared


def test_rays_own_schema_accepts_it(cluster: dict[str, Any]) -> None:
    assert validated(cluster)["head_node_type"] == "head"


def test_rays_own_schema_refuses_a_typo(cluster: dict[str, Any]) -> None:
    import jsonschema

    cluster["head_node_typ"] = cluster.pop("head_node_type")
    with pytest.raises((jsonschema.ValidationError, ValueError, KeyError)):
        validated(cluster)


def test_head_runs_no_trial_and_workers_are_spot_gpus_between_bounds(cluster: dict[str, Any]) -> None:
    head, worker = cluster["available_node_types"]["head"], cluster["available_node_types"]["gpu_worker"]
    assert head["resources"] == {"CPU": 0}
    assert "GPU" not in head["resources"]
    assert worker["resources"]["GPU"] == 1
    assert worker["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert 0 <= worker["min_workers"] <= worker["max_workers"] <= cluster["max_workers"]


def test_token_authentication_and_no_public_port(cluster: dict[str, Any]) -> None:
    starts = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    assert all("RAY_AUTH_MODE=token" in line for line in starts if "ray start" in line)
    assert any("--dashboard-host=127.0.0.1" in line for line in cluster["head_start_ray_commands"])
    rules = cluster["provider"]["security_group"]["IpPermissions"]
    assert [(rule["FromPort"], rule["ToPort"]) for rule in rules] == [(22, 22)]
    assert all(block["CidrIp"] != "0.0.0.0/0" for rule in rules for block in rule["IpRanges"])


def test_mlflow_listens_where_the_workers_look_for_it_and_nowhere_else(cluster: dict[str, Any]) -> None:
    server, uri = cluster["head_setup_commands"]
    private = "$(hostname -I | cut -d' ' -f1)"
    assert f"--host {private} --port 5000" in server
    assert f"MLFLOW_TRACKING_URI=http://{private}:5000" in uri


def test_set_up_uses_the_locked_environment_and_a_shared_folder(cluster: dict[str, Any]) -> None:
    commands = " ".join(cluster["setup_commands"])
    assert "make install" in commands
    assert "/shared" in commands
    assert "mlflow server" in " ".join(cluster["head_setup_commands"])

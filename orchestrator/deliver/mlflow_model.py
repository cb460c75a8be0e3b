"""Registers a bundle in MLflow as a model from code: signature, input example, pinned requirements, alias."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.deliver.bundle import Bundle, open_bundle

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

ALIAS = "champion"
CODE = Path(__file__).with_name("pyfunc_code.py")
REQUIRED = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")
"""What the registered model runs on, at the versions it was tested with here."""


@dataclass(frozen=True)
class Registered:
    """A version in MLflow's registry and the address to load it by."""

    name: str
    version: str
    uri: str
    run_id: str


def register(
    bundle: Path | str | Bundle,
    *,
    uri: str,
    experiment: str,
    name: str,
    run_id: str = "",
    alias: str = ALIAS,
    tags: Mapping[str, str] | None = None,
) -> Registered:
    """Log the bundle as a pyfunc model, register it under `name` and point the alias at it.

    The model goes into `run_id`, or into a run of its own named "export". The same bundle is registered once: a second call
    finds its version by digest and only moves the alias.
    """
    import mlflow

    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    known = _find_version(client, name, opened.digest)
    if known is None:
        known = _log(opened, client, uri=uri, experiment=experiment, name=name, run_id=run_id, tags=tags or {})
    client.set_registered_model_alias(name, alias, known.version)
    return known


def _log(
    bundle: Bundle, client: Any, *, uri: str, experiment: str, name: str, run_id: str, tags: Mapping[str, str]
) -> Registered:
    """Write a new version and mark it with the bundle's digest."""
    import mlflow

    before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
    mlflow.set_tracking_uri(uri)
    mlflow.set_registry_uri(uri)
    try:
        experiment_id = mlflow.set_experiment(experiment).experiment_id if not run_id else None
        with mlflow.start_run(run_id=run_id or None, experiment_id=experiment_id, run_name=None if run_id else "export") as run:
            info = mlflow.pyfunc.log_model(
                name="ensemble",
                python_model=str(CODE),
                artifacts={"bundle": str(bundle.root)},
                signature=signature(bundle),
                input_example=input_example(bundle),
                pip_requirements=[f"{package}=={version(package)}" for package in REQUIRED],
                registered_model_name=name,
                metadata={"bundle_digest": bundle.digest},
                tags={**tags, "bundle_digest": bundle.digest},
            )
    finally:
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])
    number = str(info.registered_model_version)
    client.set_model_version_tag(name, number, "bundle_digest", bundle.digest)
    return Registered(name, number, f"models:/{name}/{number}", run.info.run_id)


def _find_version(client: Any, name: str, digest: str) -> Registered | None:
    """Return the version that already holds this bundle, if there is one."""
    for found in client.search_model_versions(f"name = '{name}'"):
        if found.tags.get("bundle_digest") == digest:
            return Registered(name, str(found.version), f"models:/{name}/{found.version}", str(found.run_id))
    return None


def signature(bundle: Bundle) -> ModelSignature:
    """Return the model's signature: a binary column "image" in; class, probability, probabilities (or value) out."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import Array

    answers = [
        ColSpec(DataType.string, "class"),
        ColSpec(DataType.double, "probability"),
        ColSpec(Array(DataType.double), "probabilities"),
    ]
    outputs = answers if bundle.classes else [ColSpec(DataType.double, "value")]
    return ModelSignature(inputs=Schema([ColSpec(DataType.binary, "image")]), outputs=Schema(outputs))


def input_example(bundle: Bundle) -> pd.DataFrame:
    """Return a table with one grey PNG of the bundle's size."""
    import pandas
    from PIL import Image

    shape = bundle.manifest["input"]
    buffer = io.BytesIO()
    Image.fromarray(np.full((shape["height"], shape["width"]), 128, np.uint8)).save(buffer, format="PNG")
    return pandas.DataFrame({"image": [buffer.getvalue()]})

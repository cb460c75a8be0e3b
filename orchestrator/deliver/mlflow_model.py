"""Registers a bundle in MLflow as a model from code: signature, input example, pinned requirements, alias."""

from __future__ import annotations

import contextlib
import io
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from orchestrator.config import Experiment
from orchestrator.deliver.bundle import Bundle, open_bundle

if TYPE_CHECKING:
    import pandas as pd
    from mlflow.models import ModelSignature

ALIAS = "champion"
DIGEST_TAG = "bundle_digest"
URI_VARIABLE = "MLFLOW_TRACKING_URI"
CODE = Path(__file__).with_name("pyfunc_code.py")
REQUIRED = ("mlflow", "numpy", "onnxruntime", "pandas", "pillow")
"""What the registered model runs on, at the versions it was tested with here."""

USE = """Input: a table with one column `image`, the bytes of an image file (PNG, JPEG, ...) a row; base64 text in JSON:
`{"dataframe_split": {"columns": ["image"], "data": [["<base64>"]]}}` to `/invocations` of `mlflow models serve`.
Output: `class`, `probability`, and `probabilities` in the order of the bundle's classes."""


@dataclass(frozen=True)
class Registered:
    """A version in MLflow's registry and the address to load it by."""

    name: str
    version: str
    uri: str
    run_id: str

    def __str__(self) -> str:
        return f"{self.name} version {self.version} ({self.uri})"


def register(
    bundle: Path | str | Bundle,
    experiment: Experiment,
    *,
    uri: str,
    scores: Mapping[str, Any] | None = None,
    run_id: str = "",
    alias: str = ALIAS,
) -> Registered:
    """Log the bundle as a pyfunc model, register it under the experiment's model name and point the alias at it.

    The model goes into `run_id`, or into a run of its own named "model", with `scores` beside it. The same bundle is registered
    once: a second call finds its version by digest and only moves the alias.
    """
    import mlflow

    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    name = experiment.model_name
    with speaking_to(uri):
        client = mlflow.MlflowClient(tracking_uri=uri)
        known = _find_version(client, name, opened.digest)
        if known is None:
            known = _log(opened, experiment, scores=scores or {}, run_id=run_id)
        client.update_model_version(name, known.version, description=USE)
        client.set_model_version_tag(name, known.version, DIGEST_TAG, opened.digest)
        client.set_registered_model_alias(name, alias, known.version)
    return known


@contextlib.contextmanager
def speaking_to(uri: str) -> Iterator[None]:
    """Point MLflow's global client at `uri` inside the block, and leave it as it was found."""
    import mlflow

    before = os.environ.get(URI_VARIABLE)
    mlflow.set_tracking_uri(uri)
    try:
        yield
    finally:
        mlflow.set_tracking_uri(None)
        if before is not None:
            os.environ[URI_VARIABLE] = before


def _log(bundle: Bundle, experiment: Experiment, *, scores: Mapping[str, Any], run_id: str) -> Registered:
    """Write a new version into the run given, or into one named "model"."""
    import mlflow

    place = {"run_id": run_id} if run_id else {"run_name": "model", "experiment_id": _experiment_id(experiment)}
    with mlflow.start_run(**place, tags={"stage": "model", "data_fingerprint": bundle.manifest["data"]["fingerprint"]}) as run:
        info = mlflow.pyfunc.log_model(
            name="ensemble",
            python_model=str(CODE),
            artifacts={"bundle": str(bundle.root)},
            signature=signature(bundle),
            input_example=input_example(bundle),
            pip_requirements=[f"{package}=={version(package)}" for package in REQUIRED],
            metadata={DIGEST_TAG: bundle.digest},
        )
        mlflow.log_metrics(flat_numbers(scores), model_id=info.model_id)
        with _silent():
            number = str(mlflow.register_model(info.model_uri, experiment.model_name).version)
    return Registered(experiment.model_name, number, f"models:/{experiment.model_name}/{number}", run.info.run_id)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Keep what MLflow prints of its own on standard error back: the caller says what was registered."""
    from mlflow.utils.logging_utils import MLFLOW_LOGGING_STREAM as STREAM

    STREAM.enabled, before = False, STREAM.enabled
    try:
        yield
    finally:
        STREAM.enabled = before


def _experiment_id(experiment: Experiment) -> str:
    import mlflow

    return str(mlflow.set_experiment(experiment.tracking_experiment).experiment_id)


def flat_numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """Return the finite numbers of a nested mapping under names joined by "/"."""
    found: dict[str, float] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            found |= flat_numbers(value, f"{prefix}{key}/")
        elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            found[f"{prefix}{key}"] = float(value)
    return found


def _find_version(client: Any, name: str, digest: str) -> Registered | None:
    """Return the version that already holds this bundle, if there is one."""
    for found in client.search_model_versions(f"name = '{name}'"):
        if found.tags.get(DIGEST_TAG) == digest:
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

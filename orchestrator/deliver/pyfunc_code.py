"""The code of the registered MLflow model: runs the bundle's own runtime, and imports nothing of this project.

MLflow stores this file beside the bundle ("models from code") and runs it on load; no pickle is involved.
"""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import mlflow.models
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc import PythonModel, PythonModelContext

COLUMN = "image"


class EnsembleModel(PythonModel):  # type: ignore[misc]
    """A table with a column "image" (the bytes of an image file, base64 in JSON) -> class, probability, probabilities."""

    def load_context(self, context: PythonModelContext) -> None:
        """Check the bundle and load its graph."""
        folder = Path(context.artifacts["bundle"])
        self.program = runpy.run_path(str(folder / "runtime.py"))
        self.runtime = self.program["Runtime"](folder)

    def predict(self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> Any:  # noqa: ARG002
        """Return one row an image; raises MlflowException (HTTP 400) naming the row that is no readable image."""
        answers = self.runtime.answers([self.content(value) for value in model_input[COLUMN]])
        for position, answer in enumerate(answers):
            if "error" in answer:
                raise MlflowException(f"row {position}: {answer['error']}", error_code=INVALID_PARAMETER_VALUE)
        return pd.DataFrame([self.flat(answer) for answer in answers])

    def content(self, value: Any) -> bytes:
        """Return an image's bytes, also from base64 text."""
        if isinstance(value, str):
            return bytes(self.program["from_base64"](value))
        return bytes(value)

    def flat(self, answer: dict[str, Any]) -> dict[str, Any]:
        """Return an answer with its probabilities as a list in the order of the bundle's classes."""
        if "probabilities" in answer:
            return {**answer, "probabilities": list(answer["probabilities"].values())}
        return answer


mlflow.models.set_model(EnsembleModel())

"""The bundle in a real SQLite MLflow: registered once, loaded without pickle, predicting what the live members do."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from PIL import Image

from orchestrator.config import Experiment, ExportSection
from orchestrator.deliver.mlflow_model import Registered, register, speaking_to
from orchestrator.deliver.runtime import Runtime

if TYPE_CHECKING:
    from tests.orchestrator.deliver.conftest import World

pytestmark = pytest.mark.filterwarnings("default")  # MLflow's and SQLAlchemy's own
NAME = "tiny-ensemble"
EXPERIMENT = Experiment(name="here", export=ExportSection(model_name=NAME))


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/mlflow.db"


@pytest.fixture(scope="module")
def registered(world: World, uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registered]:
    import mlflow

    root = tmp_path_factory.mktemp("artifacts")
    client = mlflow.MlflowClient(uri)
    client.create_experiment("here", artifact_location=root.as_uri())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
        yield register(world.bundle, EXPERIMENT, uri=uri, scores={"split": "test", "ensemble": {"accuracy": 0.5}})


@pytest.fixture(scope="module")
def model(registered: Registered, uri: str) -> Any:
    import mlflow

    with speaking_to(uri):
        return mlflow.pyfunc.load_model(f"models:/{registered.name}@champion")


def png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG")
    return buffer.getvalue()


def test_loaded_model_equals_the_live_members(model: Any, world: World) -> None:
    import pandas as pd

    images = world.splits.test.images[:5]
    tempered = [
        p ** (1 / m["temperature"]) for p, m in zip(world.member_probabilities(images), world.ensemble["members"], strict=True)
    ]
    pooled = sum(m["weight"] * t / t.sum(1, keepdims=True) for t, m in zip(tempered, world.ensemble["members"], strict=True))
    expected = pooled ** (1 / world.ensemble["temperature"])
    expected /= expected.sum(1, keepdims=True)
    table = model.predict(pd.DataFrame({"image": [png(image) for image in images]}))
    np.testing.assert_allclose(np.array(table["probabilities"].tolist()), expected, atol=1e-4)
    assert list(table["class"]) == [world.splits.classes[i] for i in expected.argmax(1)]
    np.testing.assert_allclose(table["probability"], expected.max(1), atol=1e-4)


def test_registering_prints_nothing_of_its_own(
    world: World, uri: str, registered: Registered, capfd: pytest.CaptureFixture[str]
) -> None:
    other = Experiment(name="here", export=ExportSection(model_name="quiet"))
    found = register(world.bundle, other, uri=uri)
    assert (found.name, found.version, registered.version) == ("quiet", "1", "1")
    printed = capfd.readouterr()
    assert "registered model" not in printed.err + printed.out and "Created version" not in printed.err + printed.out


def test_base64_as_a_scoring_server_sends_it(model: Any, world: World) -> None:
    import pandas as pd

    content = png(world.splits.test.images[0])
    plain = model.predict(pd.DataFrame({"image": [content]}))
    inner = model.unwrap_python_model()
    coded = inner.predict(None, pd.DataFrame({"image": [base64.b64encode(content).decode()]}))
    assert plain.equals(coded)


def test_answers_the_scoring_servers_json(model: Any, world: World) -> None:
    from mlflow.pyfunc.scoring_server import invocations

    coded = base64.b64encode(png(world.splits.test.images[0])).decode()
    schema = model.metadata.get_input_schema()

    def ask(value: object) -> Any:
        body = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[value]]}})
        return invocations(body, "application/json", model, schema)

    answer = ask(coded)
    (row,) = json.loads(answer.response)["predictions"]
    expected = Runtime(world.bundle).probabilities(world.splits.test.images[:1])[0]
    assert answer.status == 200 and row["probabilities"] == pytest.approx(expected.tolist(), abs=1e-5)
    for bad in ("anVuaw==", "not*base64", None, 3):
        with pytest.raises(MlflowException) as caught:
            ask(bad)
        assert caught.value.get_http_status_code() == 400, bad


def test_a_bad_image_is_the_callers_error(model: Any) -> None:
    import pandas as pd

    with pytest.raises(MlflowException, match="row 1: not a readable image") as caught:
        model.predict(pd.DataFrame({"image": [png(np.zeros((8, 8, 3), np.uint8)), b"junk"]}))
    assert caught.value.get_http_status_code() == 400


def test_stored_with_signature_example_pins_and_no_pickle(model: Any, registered: Registered, world: World) -> None:
    folder = Path(model._model_impl.context.artifacts["bundle"]).parents[1]
    assert not list(folder.rglob("*.pkl"))
    assert Runtime(folder / "artifacts" / "bundle").manifest["digest"] == Runtime(world.bundle).manifest["digest"]
    assert model.metadata.get_input_schema().input_names() == ["image"]
    assert model.metadata.get_output_schema().input_names() == ["class", "probability", "probabilities"]
    example = json.loads((folder / "input_example.json").read_text())
    assert example["columns"] == ["image"]
    pins = (folder / "requirements.txt").read_text()
    assert "onnxruntime==" in pins and "torch" not in pins
    assert registered.version == "1" and registered.uri == f"models:/{NAME}/1"


def test_the_same_bundle_is_registered_once(registered: Registered, world: World, uri: str) -> None:
    import mlflow

    assert register(world.bundle, EXPERIMENT, uri=uri, alias="again") == registered
    client = mlflow.MlflowClient(uri)
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 1
    found = client.get_model_version_by_alias(NAME, "again")
    assert client.get_run(registered.run_id).data.metrics == {"ensemble/accuracy": 0.5}
    assert str(registered) == "tiny-ensemble version 1 (models:/tiny-ensemble/1)"
    assert str(found.version) == registered.version and "base64" in found.description


def test_leaves_the_tracking_uri_as_it_was(registered: Registered, uri: str) -> None:
    import mlflow

    assert registered.name == NAME
    assert mlflow.get_tracking_uri() != uri and mlflow.active_run() is None

"""Calibrators in torch and in an ONNX graph against numpy's interpolation and the ensemble room's own arithmetic."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator.deliver.calibrators import IsotonicCurves, calibrator_module
from orchestrator.ensemble.calibration import CALIBRATIONS


def pool(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.full(5, 0.5), rows).astype(np.float32)
    return probs, np.array([rng.choice(5, p=row / row.sum()) for row in probs.astype(np.float64) ** 0.6])


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_equals_the_ensemble_room_on_rows_it_was_not_fitted_on(name: str) -> None:
    fitted = CALIBRATIONS[name](*pool(2000, 0))
    probs, _ = pool(500, 1)
    ours = calibrator_module(asdict(fitted))(torch.from_numpy(probs)).numpy()
    np.testing.assert_allclose(ours, fitted.apply(probs), atol=2e-5)
    np.testing.assert_allclose(ours.sum(1), 1.0, atol=1e-6)


def test_a_curve_is_numpys_interpolation_flat_beyond_its_ends() -> None:
    inputs, outputs = [[0.2, 0.4, 0.4000001, 0.9], [0.3]], [[0.1, 0.2, 0.7, 0.8], [0.5]]
    p = np.linspace(0, 1, 101)
    curve = np.interp(p, inputs[0], outputs[0])
    found = IsotonicCurves(inputs, outputs)(torch.tensor(np.stack([p, 1 - p], 1), dtype=torch.float32)).numpy()
    np.testing.assert_allclose(found[:, 0], curve / (curve + 0.5), atol=1e-5)


@pytest.mark.parametrize("name", CALIBRATIONS)
def test_the_onnx_graph_of_an_ensemble_holds_it(name: str, tmp_path: Path) -> None:
    from orchestrator.deliver.graph import EnsembleModule, Vote, write_onnx
    from orchestrator.deliver.runtime import Graph

    class Brightness(torch.nn.Module):
        """Say the classes by the image's mean value."""

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            mean = images.float().mean(dim=(1, 2, 3)) / 255
            return torch.softmax(torch.stack([mean * k for k in (-3.0, 0.0, 1.0, 2.0, 5.0)], dim=1), dim=1)

    fitted = CALIBRATIONS[name](*pool(2000, 2))
    member = {"trial_id": "a", "weight": 1.0, "temperature": 0.8}
    vote = Vote.from_dict({"voting": "soft", "members": [member], "temperature": 1.2, "calibrator": asdict(fitted)})
    module = EnsembleModule([Brightness()], vote)
    write_onnx(module, tmp_path / "model.onnx", image_shape=(4, 4, 1))
    images = np.random.default_rng(3).integers(0, 256, (37, 4, 4, 1)).astype(np.uint8)
    live = module(torch.from_numpy(images)).numpy()
    plain = EnsembleModule([Brightness()], Vote.from_dict({"voting": "soft", "members": [member], "temperature": 1.2}))
    np.testing.assert_allclose(live, fitted.apply(plain(torch.from_numpy(images)).numpy()), atol=2e-5)
    np.testing.assert_allclose(Graph(tmp_path / "model.onnx", threads=1).probabilities(images), live, atol=1e-5)

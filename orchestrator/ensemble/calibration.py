"""Calibration: temperatures for single members and for the pool, vector scaling, isotonic, and the reliability curve.

Everything starts from probabilities: log p equals the logits up to a constant of the row, which a softmax forgets.
Calibrated members do not give a calibrated pool (it comes out under-confident), hence one temperature after pooling.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from orchestrator.ensemble.arrays import Floats, Labels
from orchestrator.ensemble.metrics import PROB_FLOOR, row_correct

INVERSE_RANGE = (0.02, 50.0)
"""Bounds of 1 / temperature: one-hot or constant members would run away without them."""


def log_probs(probs_NC: Floats) -> NDArray[np.float32]:
    """Logits [N, C] with the greatest of each row at zero."""
    logits: NDArray[np.float32] = np.log(np.maximum(probs_NC, PROB_FLOOR), dtype=np.float32)
    logits -= logits.max(axis=1, keepdims=True)
    return logits


def softmax(logits_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities of each row of logits, [N, C]."""
    powers: NDArray[np.float64] = np.exp(logits_NC - logits_NC.max(axis=1, keepdims=True))
    powers /= powers.sum(axis=1, keepdims=True)
    return powers


def apply_temperature(probs_NC: Floats, temperature: float) -> NDArray[np.float32]:
    """softmax(log p / T), [N, C]; at T = 1 the rows are only made to sum to one."""
    if temperature == 1.0:
        scaled_NC = probs_NC.astype(np.float32)
        scaled_NC /= scaled_NC.sum(axis=1, keepdims=True)
        return scaled_NC
    powers_NC = log_probs(probs_NC)
    powers_NC *= np.float32(1.0 / temperature)
    np.exp(powers_NC, out=powers_NC)
    powers_NC /= powers_NC.sum(axis=1, keepdims=True)
    return powers_NC


def fit_temperature(probs_NC: Floats, labels_N: Labels, *, iterations: int = 30) -> float:
    """The temperature with the least log-loss: Newton's method on 1 / T, where the loss is convex, inside a bracket.

    Labels count as sure up to 1 / (n + 2) (Platt 1999): n rows without a mistake do not prove that there will be none, and
    would ask for no doubt at all. Classes lie along the first axis here, so that every reduction runs over contiguous rows.
    """
    z_CN = np.ascontiguousarray(log_probs(probs_NC).T)
    doubt = 1.0 / (len(labels_N) + 2)
    true_mean = float(z_CN[labels_N, np.arange(len(labels_N))].mean(dtype=np.float64))
    true_mean += doubt * (float(z_CN.mean(dtype=np.float64)) - true_mean)
    low, high = INVERSE_RANGE
    inverse = 1.0
    for _ in range(iterations):
        slope, curvature = _slope_and_curvature(z_CN, inverse, true_mean)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        step = inverse - slope / curvature if curvature > 0 else low
        following = step if low < step < high else (low * high) ** 0.5
        if abs(following - inverse) <= 1e-5 * inverse:
            inverse = following
            break
        inverse = following
    return 1.0 / inverse


def _slope_and_curvature(z_CN: NDArray[np.float32], inverse: float, true_mean: float) -> tuple[float, float]:
    """First and second derivative of the mean log-loss with respect to 1 / T."""
    weights_CN = np.exp(z_CN * np.float32(inverse))
    total_N = weights_CN.sum(axis=0)
    weights_CN *= z_CN
    mean_N = weights_CN.sum(axis=0) / total_N
    weights_CN *= z_CN
    square_N = weights_CN.sum(axis=0) / total_N
    slope = float(mean_N.mean(dtype=np.float64)) - true_mean
    return slope, float((square_N - mean_N * mean_N).mean(dtype=np.float64))


@dataclass(frozen=True)
class VectorScaling:
    """softmax(scale * log p + bias): one scale and one bias a class."""

    scale_C: tuple[float, ...]
    bias_C: tuple[float, ...]

    def apply(self, probs_NC: Floats) -> NDArray[np.float32]:
        """Calibrated probabilities, [N, C]."""
        logits_NC = np.log(np.maximum(probs_NC, PROB_FLOOR)) * np.array(self.scale_C) + np.array(self.bias_C)
        return softmax(logits_NC).astype(np.float32)


def fit_vector_scaling(probs_NC: Floats, labels_N: Labels, *, l2: float = 1e-3) -> VectorScaling:
    """Least log-loss plus a little L2 toward the identity, which keeps classes without rows where they were."""
    from scipy.optimize import minimize

    z_NC = np.log(np.maximum(probs_NC, PROB_FLOOR)).astype(np.float64)
    n_rows, n_classes = z_NC.shape
    rows_N = np.arange(n_rows)
    identity = np.concatenate([np.ones(n_classes), np.zeros(n_classes)])

    def objective(params: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        q_NC = softmax(z_NC * params[:n_classes] + params[n_classes:])
        loss = -np.log(np.maximum(q_NC[rows_N, labels_N], 1e-300)).mean() + l2 * np.sum((params - identity) ** 2)
        q_NC[rows_N, labels_N] -= 1.0
        gradient = np.concatenate([(q_NC * z_NC).mean(axis=0), q_NC.mean(axis=0)]) + 2 * l2 * (params - identity)
        return float(loss), gradient

    best = minimize(objective, identity, jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    return VectorScaling(tuple(best[:n_classes].tolist()), tuple(best[n_classes:].tolist()))


@dataclass(frozen=True)
class Isotonic:
    """A monotone curve a class (one against the rest), each given by its knots; rows are normalised after."""

    inputs: tuple[tuple[float, ...], ...]
    outputs: tuple[tuple[float, ...], ...]

    def apply(self, probs_NC: Floats) -> NDArray[np.float32]:
        """Calibrated probabilities, [N, C]."""
        columns = [np.interp(probs_NC[:, c], x, y) for c, (x, y) in enumerate(zip(self.inputs, self.outputs, strict=True))]
        curve_NC = np.maximum(np.stack(columns, axis=1), PROB_FLOOR)
        curve_NC /= curve_NC.sum(axis=1, keepdims=True)
        return curve_NC.astype(np.float32)


STEEPEST = 50.0
"""Slope that no segment of a curve exceeds: a jump would turn the last bits of a probability into another answer."""


def fit_isotonic(probs_NC: Floats, labels_N: Labels) -> Isotonic:
    """Isotonic regression of "is this class" on each class's probability; needs many rows, over-fits few.

    No curve reaches 0 or 1: of n rows none speaks for less than 1 / (n + 2). A class without rows stays as it was.
    """
    from sklearn.isotonic import IsotonicRegression

    inputs, outputs, least = [], [], 1.0 / (len(labels_N) + 2)
    for c in range(probs_NC.shape[1]):
        if not (labels_N == c).any():
            inputs.append((0.0, 1.0))
            outputs.append((0.0, 1.0))
            continue
        curve = IsotonicRegression(y_min=least, y_max=1.0 - least, out_of_bounds="clip")
        curve.fit(probs_NC[:, c].astype(np.float64), (labels_N == c).astype(np.float64))
        y = curve.y_thresholds_
        inputs.append(tuple(_spread(curve.X_thresholds_, y).tolist()))
        outputs.append(tuple(y.tolist()))
    return Isotonic(tuple(inputs), tuple(outputs))


def _spread(x_K: NDArray[np.float64], y_K: NDArray[np.float64]) -> NDArray[np.float64]:
    """Knots moved to the right where a segment between them would be steeper than `STEEPEST`."""
    moved_K = x_K.astype(np.float64)
    for k in range(1, len(moved_K)):
        moved_K[k] = max(moved_K[k], moved_K[k - 1] + (y_K[k] - y_K[k - 1]) / STEEPEST)
    return moved_K


Calibrator = VectorScaling | Isotonic
CALIBRATIONS: dict[str, Callable[[Floats, Labels], Calibrator]] = {"vector": fit_vector_scaling, "isotonic": fit_isotonic}
"""What can follow the pooled temperature, by the word that asks for it."""


def calibrator_from(stored: Mapping[str, Any] | None) -> Calibrator | None:
    """The calibrator of the fields that `dataclasses.asdict` gave, also after a round trip through JSON."""
    if not stored:
        return None
    if "scale_C" in stored:
        return VectorScaling(tuple(stored["scale_C"]), tuple(stored["bias_C"]))
    return Isotonic(tuple(map(tuple, stored["inputs"])), tuple(map(tuple, stored["outputs"])))


class ReliabilityCurve(NamedTuple):
    """Mean confidence, accuracy and number of rows of each bin of a reliability diagram."""

    confidence_B: NDArray[np.float64]
    accuracy_B: NDArray[np.float64]
    count_B: NDArray[np.int64]


def reliability_curve(probs_NC: Floats, labels_N: Labels, *, bins: int = 15) -> ReliabilityCurve:
    """Points of the reliability diagram over bins of equal mass, from the least to the most confident."""
    confidence_N = probs_NC.max(axis=1).astype(np.float64)
    correct_N = row_correct(probs_NC, labels_N)
    parts = [part for part in np.array_split(np.argsort(confidence_N, kind="stable"), bins) if len(part)]
    return ReliabilityCurve(
        np.array([confidence_N[part].mean() for part in parts]),
        np.array([correct_N[part].mean() for part in parts]),
        np.array([len(part) for part in parts]),
    )

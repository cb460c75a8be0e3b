"""The vote in torch against numpy written out by hand, and against the ensemble room's own arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from orchestrator.deliver.graph import EnsembleModule, Vote, live_probabilities


class Fixed(nn.Module):
    """A member that always says the same [N, K]."""

    def __init__(self, values: np.ndarray) -> None:
        super().__init__()
        self.values = torch.from_numpy(values.astype(np.float32))

    def forward(self, images: Tensor) -> Tensor:
        return self.values[: len(images)]


def ensemble_of(probabilities: np.ndarray, vote: Vote, *, regression: bool = False) -> np.ndarray:
    module = EnsembleModule([Fixed(p) for p in probabilities], vote, regression=regression)
    return live_probabilities(module, np.zeros((probabilities.shape[1], 2, 2, 3), np.uint8))


def random_pool(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(4, 0.4), size=(3, 50))


def temper(p: np.ndarray, temperature: float) -> np.ndarray:
    powered = np.maximum(p, 2.0**-24) ** (1 / temperature)
    return powered / powered.sum(-1, keepdims=True)


WEIGHTS, TEMPERATURES = (0.5, 0.3, 0.2), (0.7, 2.0, 1.0)


def test_soft_vote_is_the_weighted_mean_of_tempered_members() -> None:
    pool = random_pool(0)
    tempered = np.stack([temper(p, t) for p, t in zip(pool, TEMPERATURES, strict=True)])
    expected = temper(np.tensordot(WEIGHTS, tempered, 1), 1.3)
    np.testing.assert_allclose(ensemble_of(pool, Vote("soft", WEIGHTS, TEMPERATURES, 1.3)), expected, atol=1e-6)


def test_log_pool_is_the_normalised_geometric_mean() -> None:
    pool = random_pool(1)
    product = np.prod([np.maximum(p, 2.0**-24) ** w for p, w in zip(pool, WEIGHTS, strict=True)], axis=0)
    expected = product / product.sum(-1, keepdims=True)
    np.testing.assert_allclose(ensemble_of(pool, Vote("log", WEIGHTS, (1.0,) * 3, 1.0)), expected, atol=1e-6)


def test_hard_vote_counts_and_breaks_ties_by_the_mean_probability() -> None:
    pool = np.array([[[0.6, 0.4, 0.0]], [[0.1, 0.9, 0.0]], [[0.0, 0.45, 0.55]], [[0.1, 0.2, 0.7]]])
    even = (0.25,) * 4
    votes = ensemble_of(pool, Vote("hard", even, (1.0,) * 4, 1.0))
    np.testing.assert_allclose(votes[0], [0.25, 0.25, 0.5], atol=1e-3)
    tied = ensemble_of(pool[:3], Vote("hard", (1 / 3,) * 3, (1.0,) * 3, 1.0))
    assert tied[0].argmax() == 1  # one vote each; the means are .233, .583, .183


def test_regression_is_the_weighted_mean_untempered() -> None:
    pool = np.array([[[10.0]], [[-20.0]]])
    vote = Vote("soft", (0.75, 0.25), (3.0, 3.0), 3.0)
    assert ensemble_of(pool, vote, regression=True)[0, 0] == pytest.approx(2.5)


@pytest.mark.parametrize("voting", ["soft", "hard", "log"])
def test_equals_the_ensemble_room(voting: str) -> None:
    from orchestrator.ensemble.calibration import apply_temperature
    from orchestrator.ensemble.voting import VOTINGS

    pool = random_pool(2).astype(np.float32)
    tempered = np.stack([apply_temperature(p, t) for p, t in zip(pool, TEMPERATURES, strict=True)])
    expected = apply_temperature(VOTINGS[voting](tempered, np.array(WEIGHTS)), 1.3)
    np.testing.assert_allclose(ensemble_of(pool, Vote(voting, WEIGHTS, TEMPERATURES, 1.3)), expected, atol=2e-6)


def test_a_stacked_head_equals_the_ensemble_rooms() -> None:
    from orchestrator.ensemble.stacking import LinearHead

    pool, rng = random_pool(3).astype(np.float32), np.random.default_rng(4)
    head = LinearHead(tuple(map(tuple, rng.normal(size=(4, 12)))), tuple(rng.normal(size=4)))
    members = [{"trial_id": str(i), "weight": 1.0, "temperature": 1.0} for i in range(3)]
    plain = {"coefficients": head.coefficients, "intercept": head.intercept}
    vote = Vote.from_dict({"voting": "soft", "members": members, "head": plain})
    np.testing.assert_allclose(ensemble_of(pool, vote), head.combine(pool), atol=1e-5)


def test_vote_reads_the_plain_form_and_normalises() -> None:
    vote = Vote.from_dict({"voting": "soft", "members": [{"trial_id": "a", "weight": 3}, {"trial_id": "b", "weight": 1}]})
    assert vote == Vote("soft", (0.75, 0.25), (1.0, 1.0), 1.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"voting": "loud"}, "allowed: soft, hard, log"),
        ({"members": [{"trial_id": "a", "weight": 0.0}]}, "positive sum"),
        ({"temperature": 0.0}, "expected > 0"),
    ],
)
def test_vote_refuses_what_is_no_vote(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Vote.from_dict({"voting": "soft", "members": [{"trial_id": "a", "weight": 1.0}], **changes})

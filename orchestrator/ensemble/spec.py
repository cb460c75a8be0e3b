"""What the user asks of the ensembling stage, on one page."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.ensemble.calibration import CALIBRATIONS
from orchestrator.ensemble.metrics import METRICS, REGRESSION
from orchestrator.ensemble.voting import VOTINGS

METHODS = ("convex", "greedy", "log_pool", "topk", "single", "auto")
SELECT_BY = ("log_loss", "accuracy", "balanced_accuracy", "macro_f1", "brier", "rmse", "mae", "r2")


@dataclass(frozen=True)
class EnsembleSpec:
    """How members are chosen, combined, calibrated and cross-fitted."""

    method: str = "convex"
    """A selector: convex (default), greedy, log_pool, topk, single, or auto (the cross-validated best of them)."""
    metric: str = "accuracy"
    """The metric that the best single model is chosen by and the verdict is about."""
    select_by: str = ""
    """What `greedy` makes small; empty is log_loss (rmse for regression), which is the better guide to accuracy too."""
    voting: str = "soft"
    """How the chosen vote: soft (weighted mean), hard, log. `log_pool` always pools logarithmically."""
    max_members: int = 10
    """At most so many members."""
    min_weight: float = 0.01
    """Members with less weight are dropped and the rest fitted again (convex, log_pool)."""
    iterations: int = 25
    """Picks of greedy selection."""
    bags: int = 0
    """Greedy selections from random halves of the members, averaged; 0 is one selection from all."""
    l2: float | None = None
    """Pull toward uniform weights; empty: cross-validated (convex), or a hundredth of 0.1, of 0.5 below five rows a member
    (log_pool)."""
    diversity: float = 0.0
    """Weight of the ambiguity beside the loss (greedy, convex). The loss prices diversity already; more did harm."""
    calibrate: bool = True
    """One temperature a member before selection and one after pooling."""
    calibration: str = "temperature"
    """What follows the pooled temperature: nothing more, or vector scaling or isotonic curves (many more numbers to fit)."""
    prefilter: int = 200
    """Only so many members with the least calibrated log-loss are looked at by the selector."""
    folds: int = 5
    """Folds of the cross-fitted judgement on validation; 0 leaves it out."""

    def __post_init__(self) -> None:
        _check_choice("method", self.method, METHODS)
        _check_choice("metric", self.metric, tuple(METRICS))
        _check_choice("voting", self.voting, tuple(VOTINGS))
        _check_choice("calibration", self.calibration, ("temperature", *CALIBRATIONS))
        if self.calibration != "temperature" and (self.regression or not self.calibrate):
            raise ValueError(f"calibration={self.calibration!r} needs a classification metric and calibrate=True")
        if self.select_by:
            _check_choice("select_by", self.select_by, SELECT_BY)
            if (self.select_by in REGRESSION) != self.regression:
                raise ValueError(f"select_by={self.select_by!r} and metric={self.metric!r} belong to different tasks")
        for name, low in (("max_members", 1), ("iterations", 1), ("prefilter", 1), ("bags", 0), ("diversity", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} must be >= {low}; got {getattr(self, name)}")
        if not 0.0 <= self.min_weight < 1.0 or (self.l2 is not None and self.l2 < 0):
            raise ValueError(f"needs 0 <= min_weight < 1 and l2 >= 0; got min_weight={self.min_weight}, l2={self.l2}")
        if self.folds < 0 or self.folds == 1:
            raise ValueError(f"folds must be 0 (no cross-fitting) or at least 2; got {self.folds}")
        if self.diversity > 0 and self.method not in ("greedy", "convex"):
            raise ValueError(f"diversity is an option of greedy and convex; got method={self.method!r}")
        if self.regression and self.method == "log_pool":
            raise ValueError("log_pool needs probabilities; use convex or greedy for regression")

    @property
    def regression(self) -> bool:
        """Whether the members predict a number instead of a class."""
        return self.metric in REGRESSION

    @property
    def criterion(self) -> str:
        """The metric that greedy selection makes small."""
        return self.select_by or ("rmse" if self.regression else "log_loss")

    def shrinkage(self, n_rows: int, n_members: int) -> float:
        """The L2 weight for so many validation rows and members, where it was neither asked for nor cross-validated."""
        if self.l2 is not None:
            return self.l2
        return 0.5 if n_rows < 5 * n_members else 0.1


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}; got {value!r}")

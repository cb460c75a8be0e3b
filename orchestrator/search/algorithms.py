"""Who proposes the next configuration: Optuna's samplers behind their one door, plain random draws, and the grid.

A proposal depends on the seed, on how many were asked before and on what was told so far, never on the process it is made
in: so a search taken up from its ledger goes on as the first one would have.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from search_spaces.space import RandomTrial, Space, draw, grid

if TYPE_CHECKING:
    import optuna

ALGORITHMS = ("tpe", "random", "gp", "cmaes", "grid")
Drawn = dict[str, Any]


class Proposer(Protocol):
    """Proposes what `draw` returns, once a trial, and hears what came of it."""

    def ask(self, trial_id: str) -> Drawn | None:
        """Return the next configuration, or None when there is none left."""

    def recall(self, trial_id: str, drawn: Mapping[str, Any]) -> None:
        """Hear of a configuration that was handed out before (a resumed search, a baseline)."""

    def tell(self, trial_id: str, *, status: str, score: float, epoch: int) -> None:
        """Hear how a trial ended ("finished", "stopped", "failed") with its best score and last epoch."""


def make_proposer(
    algorithm: str, space: Space, *, seed: int, mode: str, trials: int, points: Sequence[Mapping[str, Any]] = ()
) -> Proposer:
    """Return the proposer of that name; `points` are asked first; raises ValueError for a grid of more than `trials`."""
    if algorithm == "grid":
        return Listed(grid(space, limit=trials))
    if algorithm == "random":
        return RandomDraws(space, seed=seed, points=points)
    if algorithm in ALGORITHMS:
        return StudyProposer(algorithm, space, seed=seed, mode=mode, trials=trials, points=points)
    raise ValueError(f"search.algorithm: got {algorithm!r}, allowed: {', '.join(ALGORITHMS)}")


def derive_seed(seed: int, *words: object) -> int:
    """Return a seed in [0, 2**31) that is a hash of a seed and any further words."""
    text = "/".join(str(word) for word in (seed, *words))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1


class Listed:
    """A fixed list, in order: the grid."""

    def __init__(self, listed: Sequence[Drawn]) -> None:
        self._listed, self._asked = list(listed), 0

    def ask(self, trial_id: str) -> Drawn | None:  # noqa: ARG002
        """Return the next of the list."""
        self._asked += 1
        return dict(self._listed[self._asked - 1]) if self._asked <= len(self._listed) else None

    def recall(self, trial_id: str, drawn: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Skip one."""
        self._asked += 1

    def tell(self, trial_id: str, *, status: str, score: float, epoch: int) -> None:
        """Do nothing."""


class RandomDraws:
    """The k-th proposal is drawn from (seed, k) alone."""

    def __init__(self, space: Space, *, seed: int, points: Sequence[Mapping[str, Any]] = ()) -> None:
        self._space, self._seed, self._points, self._asked = space, seed, list(points), 0

    def ask(self, trial_id: str) -> Drawn | None:  # noqa: ARG002
        """Return a point not asked yet, else a fresh draw."""
        k, self._asked = self._asked, self._asked + 1
        return dict(self._points[k]) if k < len(self._points) else draw(self._space, RandomTrial(derive_seed(self._seed, k)))

    def recall(self, trial_id: str, drawn: Mapping[str, Any]) -> None:  # noqa: ARG002
        """Skip one."""
        self._asked += 1

    def tell(self, trial_id: str, *, status: str, score: float, epoch: int) -> None:
        """Do nothing."""


class StudyProposer:
    """An Optuna study in memory, rebuilt from the ledger when a search is taken up again.

    Every proposal gets a sampler of its own, seeded with (seed, number asked). CMA-ES keeps its distribution in the trials it
    proposed, so it is rebuilt by proposing them once more.
    """

    STARTUP = 10

    def __init__(
        self, algorithm: str, space: Space, *, seed: int, mode: str, trials: int, points: Sequence[Mapping[str, Any]]
    ) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._algorithm, self._space, self._seed, self._points, self._asked = algorithm, space, seed, list(points), 0
        self._startup = min(self.STARTUP, max(3, trials // 3))
        self._study = optuna.create_study(direction="maximize" if mode == "max" else "minimize")
        self._number: dict[str, int] = {}

    def ask(self, trial_id: str) -> Drawn | None:
        """Return a point not asked yet, else the sampler's proposal."""
        if self._asked < len(self._points):
            point = dict(self._points[self._asked])
            self.recall(trial_id, point)
            return point
        self._asked += 1
        return self._propose(trial_id)

    def _propose(self, trial_id: str) -> Drawn:
        self._study.sampler = self._sampler(derive_seed(self._seed, self._asked))
        trial = self._study.ask()
        self._number[trial_id] = trial.number
        return draw(self._space, trial)

    def _sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        from optuna.samplers import CmaEsSampler, GPSampler, TPESampler

        match self._algorithm:
            case "tpe":
                return TPESampler(seed=seed, n_startup_trials=self._startup)
            case "gp":
                return GPSampler(seed=seed, n_startup_trials=self._startup)
        return CmaEsSampler(seed=seed, n_startup_trials=self._startup, warn_independent_sampling=False)

    def recall(self, trial_id: str, drawn: Mapping[str, Any]) -> None:
        """Put a configuration into the study as a running trial; one that left the space counts but teaches nothing."""
        import optuna

        self._asked += 1
        if self._algorithm == "cmaes" and self._asked > len(self._points):
            if self._propose(trial_id) == drawn:
                return
            self.tell(trial_id, status="failed", score=math.nan, epoch=0)
        recorder = Recorder(drawn)
        try:
            draw(self._space, recorder)
        except OutsideSpace:
            return
        params, distributions = recorder.params, recorder.distributions()
        self._study.add_trial(
            optuna.trial.create_trial(params=params, distributions=distributions, state=optuna.trial.TrialState.RUNNING)
        )
        self._number[trial_id] = len(self._study.get_trials(deepcopy=False)) - 1

    def tell(self, trial_id: str, *, status: str, score: float, epoch: int) -> None:
        """Tell the study: COMPLETE, PRUNED at its last epoch, or FAIL (also for a score that is not a number)."""
        from optuna.trial import Trial, TrialState

        number = self._number.pop(trial_id, None)
        if number is None:
            return
        if status == "failed" or not math.isfinite(score):
            self._study.tell(number, state=TrialState.FAIL)
        elif status == "stopped":
            Trial(self._study, self._study.get_trials(deepcopy=False)[number]._trial_id).report(score, epoch)
            self._study.tell(number, state=TrialState.PRUNED)
        else:
            self._study.tell(number, score)


class OutsideSpace(ValueError):
    """A value that its dimension could not have proposed."""


class Recorder:
    """A trial that proposes given values, as long as they lie in the space, and remembers the ranges."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.params: dict[str, Any] = {}
        self._ranges: dict[str, tuple[Any, ...]] = {}

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False) -> float:
        """Return the given value if it lies in [low, high], on the step's lattice if there is one."""
        value = self._number(name, low, high)
        if step is not None and abs((value - low) / step - round((value - low) / step)) > 1e-6:
            raise OutsideSpace(f"{name}: {value!r} is not {low} + k * {step}")
        return float(self._keep(name, value, ("float", low, high, step, log)))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return the given value if it is a whole number in [low, high]."""
        value = self._number(name, low, high)
        if value != int(value) or (int(value) - low) % step:
            raise OutsideSpace(f"{name}: {value!r} is not {low} + k * {step}")
        return int(self._keep(name, int(value), ("int", low, high, step, log)))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        """Return the given value if it is one of the choices."""
        value = self._values.get(name)
        if not any(type(value) is type(choice) and value == choice for choice in choices):
            raise OutsideSpace(f"{name}: {value!r} is not one of {list(choices)}")
        return self._keep(name, value, ("choice", tuple(choices)))

    def _number(self, name: str, low: float, high: float) -> float:
        value = self._values.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise OutsideSpace(f"{name}: {value!r} is not in {low} to {high}")
        return value

    def _keep(self, name: str, value: Any, form: tuple[Any, ...]) -> Any:
        self.params[name], self._ranges[name] = value, form
        return value

    def distributions(self) -> dict[str, Any]:
        """Return Optuna's form of the ranges."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        made: dict[str, Any] = {}
        for name, (kind, *form) in self._ranges.items():
            if kind == "choice":
                made[name] = CategoricalDistribution(form[0])
            else:
                low, high, step, log = form
                make = FloatDistribution if kind == "float" else IntDistribution
                made[name] = make(low, high, log=log, step=step)
        return made


def point_in(space: Space, values: Mapping[str, Any]) -> Drawn | None:
    """Return the draw of the space (with its constants) whose dimensions have these values, or None where one does not fit."""
    try:
        return draw(space, Recorder(values))
    except OutsideSpace:
        return None

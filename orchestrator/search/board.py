"""What a person watching wants to know of a search, as plain numbers: who is where, the best so far, how long still."""

from __future__ import annotations

from dataclasses import dataclass, field

DONE = ("finished", "stopped", "failed")


@dataclass
class Row:
    """One trial as last heard of."""

    trial_id: str
    epochs: int
    """Epochs it would train if nothing stopped it."""
    status: str = "waiting"
    epoch: int = 0
    best: float = float("nan")


@dataclass
class Board:
    """All trials of a search; `total` counts those still to be proposed too."""

    metric: str
    mode: str
    total: int = 0
    rows: dict[str, Row] = field(default_factory=dict)
    trained: int = 0
    """Epochs heard of since this driver started."""
    epoch_s: float = 0.0
    """Seconds that these took, each as its worker measured it."""
    elapsed: float = 0.0
    """Seconds since this driver started."""

    def count(self, *statuses: str) -> int:
        """Return how many trials have one of these statuses."""
        return sum(row.status in statuses for row in self.rows.values())

    @property
    def best(self) -> Row | None:
        """Return the trial with the best epoch so far, failed ones left out."""
        scored = [row for row in self.rows.values() if row.best == row.best and row.status != "failed"]
        pick = max if self.mode == "max" else min
        return pick(scored, key=lambda row: row.best) if scored else None

    @property
    def eta_s(self) -> float:
        """Return the seconds still to go: epochs left at their mean time, over the trials running at once (NaN before one).

        Trials to come are taken to last as long as the ended ones did on average; starting workers does not count.
        """
        if self.rows and self.count(*DONE) >= self.total:
            return 0.0
        if not self.trained:
            return float("nan")
        ended = [row.epoch for row in self.rows.values() if row.status in DONE]
        longest = max((row.epochs for row in self.rows.values()), default=0)
        typical = sum(ended) / len(ended) if ended else float(longest)
        to_come = max(0, self.total - len(self.rows)) * typical
        under_way = sum(max(0.0, min(row.epochs, typical) - row.epoch) for row in self.rows.values() if row.status not in DONE)
        return (to_come + under_way) * self.epoch_s / self.trained / max(1, self.count("running"))

    def summary(self) -> str:
        """Return one line: counts, best so far, time to go."""
        counts = [f"{self.count(*DONE)}/{self.total} trials"]
        counts += [f"{n} {name}" for name in ("running", "stopped", "failed") if (n := self.count(name))]
        best = self.best
        found = f"best {best.trial_id} {self.metric} {best.best:.4f}" if best else "no score yet"
        return ", ".join(counts) + f"; {found}; {duration(self.eta_s)} to go"


def duration(seconds: float) -> str:
    """Return seconds as words: "42 s", "3 min", "2 h 05 min"; "?" for NaN.

    >>> duration(7500)
    '2 h 05 min'
    """
    if seconds != seconds:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"

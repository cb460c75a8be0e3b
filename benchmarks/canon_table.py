"""The claims that benchmarks/canon.py checks, intervals, and the table and figure of what was measured."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

INF = float("inf")
DRAWS = 2000


@dataclass(frozen=True)
class Claim:
    """One claim: which part measures it, what it says, what the value is, and the range in which the claim is true."""

    part: str
    says: str
    value: str
    low: float = -INF
    high: float = INF
    needs: str = ""
    """What the claim presumes; with fewer images the row is shown, but decides nothing."""


CLAIMS: dict[str, Claim] = {
    "a_accuracy": Claim("variants", "variant A reaches 65 to 70 %", "test accuracy of A, %", 65, 70, "50,000 images"),
    "a_gap": Claim("variants", "A shows a clear train/test gap", "train minus test accuracy of A, points", 3),
    "b_over_a": Claim("variants", "BatchNorm after each convolution helps", "B minus A, points", 0),
    "c_over_a": Claim("variants", "C is several points better than A", "C minus A, points", 2),
    "c_gap": Claim("variants", "C has a narrower gap than A", "gap of C minus gap of A, points", -INF, 0),
    "augmentation": Claim("augmentation", "flip + crop buy 4 to 6 points", "C with minus C without, points", 4, 6,
                          "50,000 images"),
    "schedule": Claim("schedule", "cosine ends better than a constant rate", "cosine minus constant, points of accuracy", 0),
    "schedule_loss": Claim("schedule", "cosine ends at a lower validation loss", "cosine minus constant, val loss", -INF, 0),
    "levers": Claim("levers", "the levers together pass 80 %", "test accuracy, %", 80, INF, "50,000 images"),
    "head_only": Claim("transfer", "head only, 5 epochs: feature extraction is enough", "accuracy on the held-out photos, %"),
    "full": Claim("transfer", "below a thousand images a class depth matters little", "full at 1e-4 minus head only, points",
                  -3, 3),
    "differential": Claim("transfer", "differential rates are no worse than one for all", "differential minus full, points", 0),
    "scratch": Claim("transfer", "from scratch does not match it in ten times the epochs", "scratch minus head only, points",
                     -INF, 0),
    "svm": Claim("svm", "a light classifier on frozen features is as good as a trained head", "SVM minus head only, points",
                 -3, INF),
    "views": Claim("svm", "cached augmented views cost nothing", "4 cached views minus fresh draws, points", -2, INF),
    "no_eval": Claim("modes", "no eval() and batches of one class ruin the score", "cost, points", 1),
    "bn_drift": Claim("modes", "frozen BatchNorm drifts on small batches after train()", "cost, points", 0),
    "test_flips": Claim("modes", "random transforms on the test set cost accuracy", "cost, points", 0),
    "wrong_statistics": Claim("modes", "the wrong normalisation statistics cost accuracy", "cost, points", 1),
    "loader_photos": Claim("loader", "workers help where images are decoded (photos)", "0 workers over the fastest, x", 1.1),
    "loader_pixels": Claim("loader", "more workers are not always faster (decoded images)", "0 workers over the fastest, x",
                           -INF, 1.1),
}  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """A value with its 95 % interval, what it rests on, and how it came about."""

    value: float
    low: float
    high: float
    n: int
    seeds: int
    seconds: float
    note: str = ""
    command: str = ""


def interval(scores: NDArray[np.floating[Any]], *, scale: float = 100.0) -> tuple[float, float, float]:
    """Return mean and 95 % bootstrap interval of scores (or paired differences) [seeds, images]; both are drawn anew."""
    rng = np.random.default_rng(0)
    seeds, images = scores.shape
    drawn = np.empty(DRAWS)
    for number in range(DRAWS):
        rows = scores[rng.integers(0, seeds, seeds)].mean(axis=0)
        drawn[number] = rows[rng.integers(0, images, images)].mean()
    low, high = np.quantile(drawn, [0.025, 0.975])
    return scale * float(scores.mean()), scale * float(low), scale * float(high)


def verdict(claim: Claim, found: Measured, *, complete: bool) -> str:
    """Return whether a measurement bears the claim out."""
    if claim.needs and not complete:
        return f"undecided: the claim is for {claim.needs}"
    if claim.low == -INF and claim.high == INF:
        return "measured"
    if claim.low <= found.low and found.high <= claim.high:
        return "yes"
    if found.high < claim.low or found.low > claim.high:
        return "no"
    return "within noise: " + ("yes" if claim.low <= found.value <= claim.high else "no")


def write(folder: Path, rows: dict[str, Measured], facts: dict[str, Any]) -> None:
    """Merge rows into canon.json, and write the table and the figure from all that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "canon.json"
    before = json.loads(path.read_text()) if path.exists() else {"rows": {}}
    kept = {**before["rows"], **{key: {**asdict(row), **facts} for key, row in rows.items()}}
    path.write_text(json.dumps({"rows": kept}, indent=1, sort_keys=True) + "\n")
    (folder / "canon.md").write_text(table(kept))
    draw(kept, folder / "canon.png")


def table(rows: dict[str, Any]) -> str:
    """Return claim, measured, interval and verdict as Markdown; a claim without a row says "not run here"."""
    lines = [
        "# The canon, claim by claim",
        "",
        "95 % intervals by bootstrap over seeds and images; points are percentage points of accuracy. Commands stand below.",
        "",
        "| claim | value | measured | interval | holds? | n x seeds | conditions |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, claim in CLAIMS.items():
        row = rows.get(key)
        if row is None:
            lines.append(f"| {claim.says} | {claim.value} | not run here | | | | |")
            continue
        found = Measured(**{name: row[name] for name in Measured.__dataclass_fields__})
        held = verdict(claim, found, complete=row["images"] >= 45_000)
        lines.append(f"| {claim.says} | {claim.value} | {found.value:.2f} | {found.low:.2f} to {found.high:.2f} | {held} "
                     f"| {found.n} x {found.seeds} | {found.note} |")  # fmt: skip
    commands = sorted({(row["command"], row["machine"], row["versions"]) for row in rows.values()})
    lines += ["", *(f"- `{command}` on {machine}; {versions}" for command, machine, versions in commands)]
    return "\n".join(lines) + "\n"


def draw(rows: dict[str, Any], path: Path) -> None:
    """Draw every difference in points with its interval, zero and the claimed range marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = [key for key, claim in CLAIMS.items() if key in rows and "points" in claim.value]
    if not shown:
        return
    figure = Figure(figsize=(9, 1.2 + 0.4 * len(shown)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    widest = max(abs(rows[key][end]) for key in shown for end in ("low", "high")) * 1.1 or 1.0
    for place, key in enumerate(shown):
        row, claim = rows[key], CLAIMS[key]
        low, high = max(claim.low, -widest), min(claim.high, widest)
        axes.barh(place, high - low, left=low, height=0.8, color="#E69F00", alpha=0.25)
        axes.plot([row["low"], row["high"]], [place, place], color="#0072B2", linewidth=2)
        axes.plot(row["value"], place, "o", color="#0072B2")
    axes.axvline(0, color="#767676", linewidth=1)
    axes.set_yticks(range(len(shown)), [f"{CLAIMS[key].says}\n{CLAIMS[key].value}" for key in shown], fontsize="x-small")
    axes.invert_yaxis()
    axes.set_xlim(-widest, widest)
    axes.set_xlabel("percentage points (dot and line: measured, 95 % interval; shaded: as claimed)")
    figure.savefig(path)

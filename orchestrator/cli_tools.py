"""The verbs beside the way of a run: advice, a doctor, a learning-rate test, and measurements of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli_options import Json, Overrides, Source, experiment_of, print_json
from orchestrator.errors import RunFailed

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from orchestrator.config import Experiment

Out = Annotated[Path | None, typer.Option("--out", help="where to save the figure (default: the run folder's figures)")]


def _save(figure: Figure, source: Experiment, out: Path | None, name: str) -> Path:
    from orchestrator.report.canvas import save_figure
    from orchestrator.store.workspace import Workspace

    return save_figure(figure, out or Workspace(source.run_path).figures / f"{name}.png")


def advise(source: Source = None, override: Overrides = None, json_: Json = False) -> None:
    """Say how deep to fine-tune a pretrained backbone.

    From the number of images a class and their similarity to the pretraining data, which is measured.
    """
    from orchestrator.setup.advise import advise as advise_on

    found = advise_on(experiment_of(source, override))
    if json_:
        print_json(found.to_dict())
    else:
        print(found)


def doctor(source: Source = None, override: Overrides = None, json_: Json = False) -> None:
    """Check your model and data for known mistakes.

    Of modes, normalisation and labels; exit 1 when one is there.
    """
    from orchestrator.tools.doctor import examine

    found = examine(experiment_of(source, override))
    if json_:
        print_json([{"name": check.name, "ok": check.ok, "message": check.message} for check in found])
    else:
        print("\n".join(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.message}" for check in found))
    failed = [check.name for check in found if not check.ok]
    if failed:
        raise RunFailed(f"doctor: {len(failed)} of {len(found)} checks failed: {', '.join(failed)}")


def lr_find(
    source: Source = None,
    override: Overrides = None,
    low: Annotated[float, typer.Option(help="lowest rate")] = 1e-6,
    high: Annotated[float, typer.Option(help="highest rate")] = 1.0,
    steps: Annotated[int, typer.Option(min=3, help="batches trained at most")] = 100,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Run the learning-rate range test on the baseline.

    Prints the rate where its loss falls fastest.
    """
    from orchestrator.tools.lr_find import find_lr, lr_facts, lr_figure

    experiment = experiment_of(source, override)
    curve = find_lr(experiment, low=low, high=high, steps=steps)
    figure = _save(lr_figure(curve), experiment, out, "lr_find")
    if json_:
        print_json({**lr_facts(curve), "figure": figure})
    else:
        said = f"suggestion: lr {curve.suggestion:.2g}" if curve.suggestion else "no suggestion: the loss never fell"
        print(f"{said} ({len(curve.rates)} batches)\nfigure: {figure}")


benchmark = typer.Typer(name="benchmark", help="Measure this machine on your data.", no_args_is_help=True)


@benchmark.command()
def loader(
    source: Source = None,
    override: Overrides = None,
    batches: Annotated[int, typer.Option(min=0, help="stop each epoch after so many batches (0: none)")] = 0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Time one epoch of loading with 0, 2, 4 and 8 workers, pinned or not, non-blocking or not."""
    from orchestrator.tools.loader_benchmark import benchmark_loader, loader_figure

    experiment = experiment_of(source, override)
    found = benchmark_loader(experiment, batches=batches)
    figure = _save(loader_figure(found), experiment, out, "benchmark_loader")
    if json_:
        print_json({**found.to_dict(), "figure": figure})
    else:
        print(f"{found}\nfigure: {figure}")


@benchmark.command()
def stages(
    source: Source = None,
    override: Overrides = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="how long each stage is repeated")] = 1.0,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Measure images a second of every stage of training; name the bottleneck and what would lift it."""
    from orchestrator.tools.stage_benchmark import benchmark_stages, stage_figure

    experiment = experiment_of(source, override)
    found = benchmark_stages(experiment, seconds=seconds)
    figure = _save(stage_figure(found), experiment, out, "benchmark_stages")
    if json_:
        print_json({**found.to_dict(), "figure": figure})
    else:
        print(f"{found}\nfigure: {figure}")


def add_tools(app: typer.Typer) -> None:
    """Give the command these verbs."""
    for verb in (advise, doctor, lr_find):
        app.command()(verb)
    app.add_typer(benchmark)

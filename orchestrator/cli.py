"""The command `orchestrate`: a verb a stage, each runnable alone and again; vendors are imported only inside a verb."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator import __version__
from orchestrator.errors import RunFailed, UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from orchestrator.config import Experiment
    from orchestrator.context import Context

app = typer.Typer(
    name="orchestrate",
    help="Find, judge and export the best ensemble of image classifiers.\n\nStart with `orchestrate run` (handwritten digits), "
    "or `orchestrate init folder:PATH` for your own images.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Source = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE|RUN]", help="experiment file, or the folder of a run; none: the digits demo", show_default=False
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--override", "-o", metavar="KEY=VALUE", help="replace one value, e.g. -o search.trials=20")
]
Json = Annotated[bool, typer.Option("--json", help="print one JSON object on standard output")]
Address = Annotated[
    str | None, typer.Option("--address", help="Ray cluster: auto, HOST:PORT or ray://HOST:PORT (default: this machine)")
]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, sort_keys=True, default=str))


def _experiment(source: Path | None, overrides: list[str] | None, **changes: str | None) -> Experiment:
    from orchestrator.context import stored_experiment
    from orchestrator.experiment_file import load, override
    from orchestrator.store.workspace import Workspace

    extra = [f"{key.replace('__', '.')}={value}" for key, value in changes.items() if value is not None]
    wanted = [*(overrides or []), *extra]
    if source is not None and source.is_dir():
        return override(stored_experiment(Workspace(source)), wanted)
    return load(source, wanted)


@contextmanager
def _open(source: Path | None, overrides: list[str] | None, **changes: str | None) -> Iterator[Context]:
    from orchestrator.context import open_run

    with open_run(_experiment(source, overrides, **changes), _say) as context:
        yield context


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(
            f"orchestrate {__version__}",
            *(f"{name} {version(name)}" for name in ("torch", "ray", "optuna", "mlflow")),
            sep="\n",
        )
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="print versions")] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def run(source: Source = None, override: Overrides = None, address: Address = None, json_: Json = False) -> None:
    """Run the whole way: baseline, diagnosis, search, ensemble, export, report."""
    from orchestrator.pipeline import run_all
    from orchestrator.stages.summary import print_summary, summary

    with _open(source, override, search__address=address) as context:
        run_all(context)
        if json_:
            _print_json(summary(context.workspace))
        else:
            print_summary(context.workspace, source)


@app.command()
def baseline(source: Source = None, override: Overrides = None, json_: Json = False) -> None:
    """Train the plain model whose score everything later must beat."""
    from orchestrator.stages.baseline import run_baseline

    with _open(source, override) as context:
        record = run_baseline(context)
        if json_:
            _print_json(record.to_dict())


@app.command()
def diagnose(source: Source = None, override: Overrides = None, json_: Json = False) -> None:
    """Find where the baseline fails, and which augmentations that asks for or forbids."""
    from orchestrator.stages.diagnose import run_diagnosis

    with _open(source, override) as context:
        found = run_diagnosis(context)
        if json_:
            _print_json(found)


@app.command()
def search(
    source: Source = None,
    override: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on after a crash or an interruption")] = False,
    address: Address = None,
    json_: Json = False,
) -> None:
    """Run the search: many trials, each tracked in MLflow and kept in the prediction bank."""
    from orchestrator.stages.search import run_search_stage

    with _open(source, override, search__address=address) as context:
        records = run_search_stage(context, resume=resume)
        if json_:
            _print_json([record.to_dict() for record in records])


@app.command()
def extend(
    trials: Annotated[int, typer.Argument(min=1, help="how many more trials")],
    source: Source = None,
    override: Overrides = None,
    address: Address = None,
) -> None:
    """Add trials to a finished search."""
    from orchestrator.stages.search import run_search_stage

    with _open(source, override, search__address=address) as context:
        run_search_stage(context, resume=True, extra_trials=trials)


@app.command()
def ensemble(
    source: Source = None,
    override: Overrides = None,
    require_gain: Annotated[bool, typer.Option("--require-gain", help="exit 1 unless it beats the best single")] = False,
    external: Annotated[Path | None, typer.Option(help="a folder of predictions made elsewhere, in place of a run")] = None,
    json_: Json = False,
) -> None:
    """Choose, calibrate and judge the ensemble from the search's predictions."""
    from orchestrator.stages.summary import print_ensemble

    gain = {"ensemble__require_gain": "true" if require_gain else None}
    if external is not None:
        from orchestrator.stages.external import run_external

        print_ensemble(run_external(external, _experiment(source, override, **gain), _say), json_=json_)
        return
    from orchestrator.stages.ensemble import run_ensemble

    with _open(source, override, **gain) as context:
        run_ensemble(context)
        print_ensemble(context.workspace, source, json_=json_)


@app.command()
def export(
    source: Source = None,
    override: Overrides = None,
    max_latency: Annotated[str | None, typer.Option(help="export the best of the family within it, e.g. 5ms")] = None,
) -> None:
    """Write the ensemble as one portable folder (ONNX, weights, manifest) and register it in MLflow."""
    from orchestrator.stages.export import run_export

    with _open(source, override) as context:
        print(run_export(context, max_latency=max_latency))


@app.command()
def report(source: Source = None, override: Overrides = None) -> None:
    """Write what was done, what made each improvement and how sure that is, as one HTML page and Markdown."""
    from orchestrator.stages.report import run_report

    with _open(source, override) as context:
        print(run_report(context))


@app.command()
def predict(
    bundle: Annotated[Path, typer.Argument(help="exported folder")],
    images: Annotated[list[str], typer.Argument(help="image files, folders or globs")],
    json_: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="print CSV on standard output")] = False,
) -> None:
    """Print the class and probabilities of images, with an exported bundle alone."""
    from orchestrator.deliver.predict import predict_images, print_rows

    rows = predict_images(bundle, images)
    print_rows(rows, style="json" if json_ else "csv" if csv else "table")
    if rows and all("error" in row for row in rows):
        raise UserError("no image could be read; the reasons stand above")


@app.command()
def evaluate(
    bundle: Annotated[Path, typer.Argument(help="exported folder")],
    folder: Annotated[Path, typer.Argument(help="a folder of labelled images, one subfolder a class")],
    json_: Json = False,
) -> None:
    """Score an exported bundle on labelled images."""
    from orchestrator.deliver.evaluate import evaluate_bundle

    scores = evaluate_bundle(bundle, folder)
    if json_:
        _print_json(scores)
    else:
        print("\n".join(f"{name}: {value}" for name, value in scores.items()))


@app.command()
def serve(
    bundle: Annotated[Path, typer.Argument(help="exported folder")],
    host: Annotated[str, typer.Option(help="address to listen on; other machines reach it only if you say so")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
) -> None:
    """Serve an exported bundle over HTTP (POST /predict an image)."""
    from orchestrator.deliver.serve import serve as serve_bundle

    serve_bundle(bundle, host=host, port=port)


@app.command()
def ui(
    source: Source = None,
    override: Overrides = None,
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow's pages for a run: scores, curves, figures, the registered model."""
    from orchestrator.tracking.ui import serve as serve_ui

    serve_ui(_experiment(source, override), host=host, port=port)


@app.command()
def init(
    data: Annotated[str, typer.Argument(help="folder:PATH, csv:PATH or a torchvision name")],
    out: Annotated[Path, typer.Option("--out", help="the file to write")] = Path("experiment.yaml"),
    force: Annotated[bool, typer.Option("--force", help="overwrite the file")] = False,
    weights: Annotated[str | None, typer.Option(help="pretrained weights: default, a torchvision name, or a file")] = None,
    model: Annotated[str | None, typer.Option(help="backbone of those weights, e.g. mobilenet_v2")] = None,
) -> None:
    """Look at your data and write a commented experiment file for it."""
    from orchestrator.setup.init import write_experiment

    written = write_experiment(data, out, force=force, weights=weights, model=model)
    print(f"{written}\nnext: orchestrate check {written}")


@app.command()
def check(
    source: Source = None,
    override: Overrides = None,
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help="time part of an epoch for the estimate")] = True,
    json_: Json = False,
) -> None:
    """Validate an experiment file; print it resolved, the size of its space, and what it will cost."""
    from orchestrator.setup.check import check as check_experiment

    found = check_experiment(_experiment(source, override), measure=measure)
    if json_:
        _print_json(found.to_dict())
    else:
        print(found)


Out = Annotated[Path | None, typer.Option("--out", help="where to save the figure (default: the run folder's figures)")]


def _save(figure: Figure, source: Experiment, out: Path | None, name: str) -> Path:
    from orchestrator.report.canvas import save_figure
    from orchestrator.store.workspace import Workspace

    return save_figure(figure, out or Workspace(source.run_path).figures / f"{name}.png")


@app.command()
def advise(source: Source = None, override: Overrides = None, json_: Json = False) -> None:
    """Say how deep to fine-tune a pretrained backbone, from the images a class and their measured similarity."""
    from orchestrator.setup.advise import advise as advise_on

    found = advise_on(_experiment(source, override))
    if json_:
        _print_json(found.to_dict())
    else:
        print(found)


@app.command()
def doctor(source: Source = None, override: Overrides = None, json_: Json = False) -> None:
    """Check your model and data for the known mistakes of modes, normalisation and labels; exit 1 when one is there."""
    from orchestrator.tools.doctor import examine

    found = examine(_experiment(source, override))
    if json_:
        _print_json([{"name": check.name, "ok": check.ok, "message": check.message} for check in found])
    else:
        print("\n".join(f"{'ok  ' if check.ok else 'FAIL'}  {check.name}: {check.message}" for check in found))
    failed = [check.name for check in found if not check.ok]
    if failed:
        raise RunFailed(f"doctor: {len(failed)} of {len(found)} checks failed: {', '.join(failed)}")


@app.command()
def lr_find(
    source: Source = None,
    override: Overrides = None,
    low: Annotated[float, typer.Option(help="lowest rate")] = 1e-6,
    high: Annotated[float, typer.Option(help="highest rate")] = 1.0,
    steps: Annotated[int, typer.Option(min=3, help="batches trained at most")] = 100,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Run the learning-rate range test on the baseline; print the rate where its loss falls fastest."""
    from orchestrator.tools.lr_find import find_lr, lr_facts, lr_figure

    experiment = _experiment(source, override)
    curve = find_lr(experiment, low=low, high=high, steps=steps)
    figure = _save(lr_figure(curve), experiment, out, "lr_find")
    if json_:
        _print_json({**lr_facts(curve), "figure": figure})
    else:
        said = f"suggestion: lr {curve.suggestion:.2g}" if curve.suggestion else "no suggestion: the loss never fell"
        print(f"{said} ({len(curve.rates)} batches)\nfigure: {figure}")


benchmark = typer.Typer(name="benchmark", help="Measure this machine on your data.", no_args_is_help=True)
app.add_typer(benchmark)


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

    experiment = _experiment(source, override)
    found = benchmark_loader(experiment, batches=batches)
    figure = _save(loader_figure(found), experiment, out, "benchmark_loader")
    if json_:
        _print_json({**found.to_dict(), "figure": figure})
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

    experiment = _experiment(source, override)
    found = benchmark_stages(experiment, seconds=seconds)
    figure = _save(stage_figure(found), experiment, out, "benchmark_stages")
    if json_:
        _print_json({**found.to_dict(), "figure": figure})
    else:
        print(f"{found}\nfigure: {figure}")

"""The command `orchestrate`: a verb a stage, each runnable alone and again; vendors are imported only inside a verb."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator import __version__
from orchestrator.cli_bundle import add_bundle_verbs
from orchestrator.cli_options import Address, Json, Overrides, Source, experiment_of, print_json
from orchestrator.cli_tools import add_tools
from orchestrator.errors import Interrupted

if TYPE_CHECKING:
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


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@contextmanager
def _open(
    source: Path | None, overrides: list[str] | None, *, verb: str = "run", address: str | None = None, searches: bool = False,
    **once: str | None,
) -> Iterator[Context]:  # fmt: skip
    """Open the run of a verb; what is given as a flag (`--address`, `once`) holds for this call alone."""
    from orchestrator.context import how_to_go_on, open_run
    from orchestrator.search.interrupt import raise_now, signals

    flags = {"search.address": address, **{key.replace("__", "."): value for key, value in once.items()}}
    given = [f"{key}={value}" for key, value in flags.items() if value is not None]
    experiment = experiment_of(source, overrides)
    try:
        with signals(raise_now), open_run(experiment, _say, verb=verb, once=given, searches=searches) as context:
            yield context
    except KeyboardInterrupt as error:  # between trainings, which say more; typer would end without a word
        code = getattr(error, "exit_code", 130)
        again = how_to_go_on("run", experiment.run_path, address or experiment.search.address)
        said = f"{str(error) or 'interrupted'}; everything finished is kept: the same command goes on, or `{again}`"
        raise Interrupted(said, code) from None


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
    """Run the whole way, from the baseline to the report.

    Baseline, diagnosis, search, ensemble, export, predictions, report; the same command goes on where it was left.
    """
    from orchestrator.pipeline import run_all
    from orchestrator.stages.summary import print_summary, summary

    with _open(source, override, address=address, searches=True) as context:
        run_all(context)
        if json_:
            print_json(summary(context.workspace))
        else:
            print_summary(context.workspace)


@app.command()
def baseline(source: Source = None, override: Overrides = None, address: Address = None, json_: Json = False) -> None:
    """Train the plain model whose score everything later must beat."""
    from orchestrator.stages.baseline import run_baseline

    with _open(source, override, verb="baseline", address=address) as context:
        record = run_baseline(context)
        if json_:
            print_json(record.to_dict())


@app.command()
def light(source: Source = None, override: Overrides = None, json_: Json = False) -> None:
    """Fit linear classifiers on frozen pretrained features.

    The features are those of the baseline's pretrained weights.
    """
    from orchestrator.stages.light import run_light

    with _open(source, override) as context:
        record = run_light(context)
        if json_:
            print_json(record.to_dict() if record is not None else {})


@app.command()
def diagnose(source: Source = None, override: Overrides = None, json_: Json = False) -> None:
    """Find where the baseline fails, and what that asks for.

    Confusions, hard images, and which augmentations the baseline's errors ask for or forbid.
    """
    from orchestrator.stages.diagnose import run_diagnosis

    with _open(source, override) as context:
        found = run_diagnosis(context)
        if json_:
            print_json(found)


@app.command()
def search(
    source: Source = None,
    override: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on after a crash or an interruption")] = False,
    address: Address = None,
    json_: Json = False,
) -> None:
    """Run the search: many trials, tracked in MLflow.

    Each trial's predictions are kept, so that an ensemble can be chosen from all of them.
    """
    from orchestrator.stages.search import run_search_stage

    with _open(source, override, verb="search", address=address, searches=True) as context:
        records = run_search_stage(context, resume=resume)
        if json_:
            print_json([record.to_dict() for record in records])


@app.command()
def extend(
    trials: Annotated[int, typer.Argument(min=1, help="how many more trials")],
    source: Source = None,
    override: Overrides = None,
    address: Address = None,
    json_: Json = False,
) -> None:
    """Add trials to a finished search."""
    from orchestrator.stages.search import run_search_stage

    with _open(source, override, verb="search", address=address) as context:
        records = run_search_stage(context, resume=True, extra_trials=trials)
        if json_:
            print_json([record.to_dict() for record in records])
        _say(f"next: orchestrate run {shlex.quote(str(context.workspace.root))} renews ensemble, bundle and report")


@app.command()
def ensemble(
    source: Source = None,
    override: Overrides = None,
    require_gain: Annotated[bool, typer.Option("--require-gain", help="exit 1 unless it beats the best single")] = False,
    external: Annotated[str | None, typer.Option(help="a folder of predictions made elsewhere, or mlflow:EXPERIMENT")] = None,
    address: Address = None,
    json_: Json = False,
) -> None:
    """Choose, calibrate and judge the ensemble.

    From the predictions that the search has kept, or (--external) from some made elsewhere.
    """
    from orchestrator.stages.summary import print_ensemble

    gain = "true" if require_gain else None
    if external is not None:
        from orchestrator.stages.external import run_external

        asked = [*(override or []), *(["ensemble.require_gain=true"] if require_gain else [])]
        print_ensemble(run_external(external, experiment_of(source, asked), _say), json_=json_)
        return
    from orchestrator.stages.ensemble import run_ensemble

    with _open(source, override, verb="ensemble", address=address, ensemble__require_gain=gain) as context:
        run_ensemble(context)
        print_ensemble(context.workspace, json_=json_)


@app.command()
def export(
    source: Source = None,
    override: Overrides = None,
    max_latency: Annotated[
        str | None, typer.Option(help="the best model (single, few or all members) measured within it, e.g. 5ms")
    ] = None,
    single: Annotated[bool, typer.Option("--single", help="the best single model instead of the ensemble")] = False,
    json_: Json = False,
) -> None:
    """Write the ensemble as one portable folder.

    It holds ONNX, weights and a manifest, needs nothing of this project, and is registered in MLflow.
    """
    from orchestrator.stages.export import milliseconds, run_export

    if max_latency is not None:
        milliseconds(max_latency)  # a mistake in it is said before the run is opened
    with _open(source, override) as context:
        bundle = run_export(context, max_latency=max_latency, single=single)
        if json_:
            print_json({"bundle": bundle})
        else:
            print(bundle)


@app.command()
def report(source: Source = None, override: Overrides = None, json_: Json = False) -> None:
    """Write what was done and what made each improvement.

    One HTML page and Markdown; every improvement with its interval.
    """
    from orchestrator.stages.report import run_report

    with _open(source, override) as context:
        page = run_report(context)
        if json_:
            print_json({"html": page, "markdown": context.workspace.report_text})
        else:
            print(page)


add_bundle_verbs(app)  # here, since help lists the verbs in the order of a run


@app.command()
def ui(
    source: Source = None,
    override: Overrides = None,
    host: Annotated[str, typer.Option(help="address to listen on; other machines reach it only if you say so")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow's pages for a run.

    Scores, curves, figures, the registered model.
    """
    from orchestrator.tracking.ui import serve as serve_ui

    serve_ui(experiment_of(source, override), host=host, port=port)


@app.command()
def init(
    data: Annotated[str, typer.Argument(help="folder:PATH, csv:PATH or a torchvision name")],
    out: Annotated[Path, typer.Option("--out", help="the file to write")] = Path("experiment.yaml"),
    force: Annotated[bool, typer.Option("--force", help="overwrite the file")] = False,
    weights: Annotated[str | None, typer.Option(help="pretrained weights: default, a torchvision name, or a file")] = None,
    model: Annotated[str | None, typer.Option(help="backbone of those weights, e.g. mobilenet_v2")] = None,
    json_: Json = False,
) -> None:
    """Look at your data and write a commented experiment file for it."""
    from orchestrator.setup.init import write_experiment

    written = write_experiment(data, out, force=force, weights=weights, model=model)
    if json_:
        print_json({"experiment": written})
        return
    print(f"{written}\nnext: orchestrate check {written}")


@app.command()
def check(
    source: Source = None,
    override: Overrides = None,
    measure: Annotated[bool, typer.Option("--measure/--no-measure", help="time part of an epoch for the estimate")] = True,
    json_: Json = False,
) -> None:
    """Validate an experiment file, and say what it will cost.

    Prints it resolved, the size of its space, warnings, and an estimate of time and disk.
    """
    from orchestrator.setup.check import check as check_experiment

    found = check_experiment(experiment_of(source, override), measure=measure, say=_say)
    if json_:
        print_json(found.to_dict())
    else:
        print(found)


add_tools(app)

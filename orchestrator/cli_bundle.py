"""The verbs of an exported bundle, which need nothing else: predictions, scores on labelled images, a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orchestrator.cli_options import Json, print_json
from orchestrator.errors import UserError


def predict(
    bundle: Annotated[Path, typer.Argument(help="exported folder")],
    images: Annotated[list[str], typer.Argument(help="image files, folders or globs")],
    json_: Json = False,
    csv: Annotated[bool, typer.Option("--csv", help="print CSV on standard output")] = False,
) -> None:
    """Print the class and probabilities of images, by a bundle alone."""
    from orchestrator.deliver.predict import predict_images, print_rows

    rows = predict_images(bundle, images)
    print_rows(rows, style="json" if json_ else "csv" if csv else "table")
    if rows and all("error" in row for row in rows):
        raise UserError("no image could be read; the reasons stand above")


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="exported folder")],
    folder: Annotated[str, typer.Argument(help="labelled images, one subfolder a class: PATH or folder:PATH")],
    json_: Json = False,
) -> None:
    """Score an exported bundle on labelled images."""
    from orchestrator.deliver.evaluate import evaluate_bundle, in_words

    scores = evaluate_bundle(bundle, Path(folder.removeprefix("folder:")))
    if json_:
        print_json(scores)
    else:
        print(in_words(scores))


def serve(
    bundle: Annotated[Path, typer.Argument(help="exported folder")],
    host: Annotated[str, typer.Option(help="address to listen on; other machines reach it only if you say so")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8000,
) -> None:
    """Serve an exported bundle over HTTP (POST /predict an image)."""
    from orchestrator.deliver.serve import serve as serve_bundle

    serve_bundle(bundle, host=host, port=port)


def add_bundle_verbs(app: typer.Typer) -> None:
    """Add these verbs to the command line."""
    for verb in (predict, evaluate, serve):
        app.command()(verb)

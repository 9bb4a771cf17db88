"""``edgeforge model``: the registry."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.model_upload import dequantise, register, scan_folder, upload_missing
from coordinator.cli.output import as_json, enum_word
from protos.domain.errors import InvalidRequest
from protos.output.terminal import print_json, print_line, print_progress, print_table
from protos.v1 import admin_pb2, resources_pb2

app = group("model", "The registry of models.")

DEFAULT_ENGINE_VENV = ".venv-engine"


@app.command("import")
def import_model(
    path: Annotated[Path, typer.Argument(help="A safetensors directory or a GGUF file.")],
    name: Annotated[str, typer.Option(help="owner/name@version.")],
    context_tokens: Annotated[
        int, typer.Option(help="Longest context; 0: as its config.json says.", min=0)
    ] = 0,
    engine_venv: Annotated[
        Path,
        typer.Option(
            help="Engine environment that dequantises a GGUF file.",
            envvar="EDGEFORGE_ENGINE_VENV",
        ),
    ] = Path(DEFAULT_ENGINE_VENV),
    json_output: JsonOption = False,
) -> None:
    """Import a model. An interrupted import continues where it stopped; no file is uploaded twice.

    Example: edgeforge model import ./llama-8b --name acme/llama-8b@1
    """
    with tempfile.TemporaryDirectory(prefix="edgeforge-import-") as scratch:
        folder = path
        if path.is_file():
            if path.suffix.lower() != ".gguf":
                raise InvalidRequest(
                    f"{path} is neither a directory nor a .gguf file",
                    "give the directory that holds config.json and *.safetensors",
                )
            folder = dequantise(path, Path(scratch) / "model", engine_venv, print_progress)
        files = scan_folder(folder, Path(scratch), print_progress)
        with admin() as client:
            sent_bytes = upload_missing(client, files, print_progress)
            model = register(client, name, files, context_tokens)
    if json_output:
        print_json(as_json(model) | {"uploaded_bytes": sent_bytes})
    else:
        already = "; every file was there already" if sent_bytes == 0 else ""
        print_line(f"{model.name}: {model.family}, {_size(model.weights_bytes)}{already}")


@app.command("ls")
def list_models(json_output: JsonOption = False) -> None:
    """List the registry.

    Example: edgeforge model ls
    """
    with admin() as client:
        models = client.call(lambda stub: stub.ListModels, admin_pb2.ListModelsRequest()).models
    if json_output:
        print_json([as_json(model) for model in models])
        return
    print_table(
        ("model", "source", "family", "size class", "weights", "context"),
        (
            (
                model.name,
                enum_word(resources_pb2.ModelSource.Name(model.source), "MODEL_SOURCE_"),
                model.family or "-",
                model.size_class,
                _size(model.weights_bytes),
                model.context_tokens or "-",
            )
            for model in models
        ),
        "no models yet; edgeforge model import brings one",
    )


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1024**2:.0f} MiB" if size_bytes else "-"

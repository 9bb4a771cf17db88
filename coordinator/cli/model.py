"""``edgeforge model``: the models of the registry."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.folder_scan import scan_folder
from coordinator.cli.gguf_import import dequantise
from coordinator.cli.object_upload import publish_files, upload_missing
from coordinator.cli.objects import (
    WIRE_KINDS,
    AccountOption,
    LicenceOption,
    NameOption,
    YesOption,
    list_objects,
    print_published,
    remove_object,
    show_object,
    size,
    verify_object,
)
from coordinator.cli.output import enum_word
from coordinator.cli.upstream_import import import_upstream, is_upstream, refuse_options
from protos.domain.errors import InvalidRequest
from protos.domain.object_names import ObjectKind
from protos.output.terminal import print_progress
from protos.v1 import registry_pb2, resources_pb2

app = group("model", "The registry of models.")

DEFAULT_ENGINE_VENV = ".venv-engine"

ModelArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="owner/name@version; without a version the latest one.",
        autocompletion=completion.models,
    ),
]


@app.command("import")
def import_model(
    path: Annotated[
        str,
        typer.Argument(help="A safetensors directory, a GGUF file, or hf://org/repo[@rev]."),
    ],
    name: NameOption,
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
    account: AccountOption = "",
    licence: LicenceOption = "",
    json_output: JsonOption = False,
) -> None:
    """Import a model. An interrupted import continues where it stopped; no file is uploaded twice.

    Example: edgeforge model import ./llama-8b --name acme/llama-8b@1
    """
    if is_upstream(path):
        refuse_options(context_tokens=context_tokens, licence=licence)
        import_upstream(path, name, account, "", json_output=json_output)
        return
    with tempfile.TemporaryDirectory(prefix="edgeforge-import-") as scratch:
        folder = source = Path(path)
        if source.is_file():
            if source.suffix.lower() != ".gguf":
                raise InvalidRequest(
                    f"{path} is neither a directory nor a .gguf file",
                    "give the directory that holds config.json and *.safetensors",
                )
            folder = dequantise(source, Path(scratch) / "model", engine_venv, print_progress)
        files = scan_folder(folder, Path(scratch), print_progress)
        with admin() as client:
            sent_bytes = upload_missing(client, files)
            found = publish_files(
                client,
                WIRE_KINDS[ObjectKind.MODEL],
                name,
                files,
                context_tokens=context_tokens,
                account_id=account,
                licence=licence,
            )
    text = f"{found.model.family}, {size(found.model.weights_bytes)}"
    print_published(found, text, sent_bytes, json_output=json_output)


@app.command("ls")
def list_models(json_output: JsonOption = False) -> None:
    """List the models.

    Example: edgeforge model ls
    """
    columns = ("source", "family", "size class", "weights", "context")
    list_objects(ObjectKind.MODEL, columns, _cells, json_output=json_output)


@app.command("show")
def show_model(name: ModelArgument, json_output: JsonOption = False) -> None:
    """Show a model: its files, where it came from, and what uses it.

    Example: edgeforge model show acme/llama-8b
    """
    show_object(ObjectKind.MODEL, name, json_output=json_output)


@app.command("rm")
def remove_model(
    name: ModelArgument, yes: YesOption = False, json_output: JsonOption = False
) -> None:
    """Remove a version of a model that no deployment and no adapter uses.

    Example: edgeforge model rm acme/llama-8b@1 --yes
    """
    remove_object(ObjectKind.MODEL, name, yes=yes, json_output=json_output)


@app.command("verify")
def verify_model(name: ModelArgument, json_output: JsonOption = False) -> None:
    """Have the coordinator read every byte of a model again, and compare digests.

    Example: edgeforge model verify acme/llama-8b
    """
    verify_object(ObjectKind.MODEL, name, json_output=json_output)


def _cells(found: registry_pb2.RegistryObject) -> tuple[object, ...]:
    model = found.model
    return (
        enum_word(resources_pb2.ModelSource.Name(model.source), "MODEL_SOURCE_"),
        model.family or "-",
        model.size_class,
        size(model.weights_bytes),
        model.context_tokens or "-",
    )

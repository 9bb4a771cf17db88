"""``edgeforge runtime``: how engines are started, as objects of the registry."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.object_upload import PUBLISH_TIMEOUT_S
from coordinator.cli.objects import (
    WIRE_KINDS,
    AccountOption,
    NameOption,
    YesOption,
    list_objects,
    print_published,
    remove_object,
    show_object,
    verify_object,
)
from protos.domain.errors import InvalidRequest
from protos.domain.object_names import ObjectKind
from protos.v1 import registry_pb2, resources_pb2

app = group("runtime", "How engines are started: engine, version, options, load format.")

RuntimeArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="owner/name@version; without a version the latest one.",
        autocompletion=completion.runtimes,
    ),
]

_MAX_FILE_BYTES = 64 * 1024
_TEXTS = ("engine_kind", "version_constraint", "load_format")
_LISTS = ("args", "accelerators")


@app.command("import")
def import_runtime(
    name: NameOption,
    path: Annotated[
        Path | None, typer.Argument(help="A TOML or JSON file; options take precedence.")
    ] = None,
    engine_kind: Annotated[str, typer.Option(help="vllm.")] = "",
    version: Annotated[
        str, typer.Option(help="Versions of the engine, as pip writes them: >=0.32,<0.33.")
    ] = "",
    arg: Annotated[
        list[str] | None,
        typer.Option(help="An option of the engine, as --arg=--seed=1; repeatable."),
    ] = None,
    load_format: Annotated[str, typer.Option(help="How it reads weights; else its default.")] = "",
    accelerator: Annotated[
        list[str] | None,
        typer.Option(help="cuda, rocm or cpu; repeatable. Without it: any."),
    ] = None,
    account: AccountOption = "",
    json_output: JsonOption = False,
) -> None:
    """Publish a runtime from a file, from options, or both.

    Example: edgeforge runtime import --name acme/fast@1 --version ">=0.32" --load-format
    safetensors --arg=--max-num-batched-tokens=4096 --accelerator cuda
    """
    settings = {} if path is None else settings_of(path)
    texts = {"engine_kind": engine_kind, "version_constraint": version, "load_format": load_format}
    settings |= {key: value for key, value in texts.items() if value}
    settings |= {
        key: value for key, value in (("args", arg), ("accelerators", accelerator)) if value
    }
    runtime = resources_pb2.Runtime(**({"engine_kind": "vllm"} | settings))  # type: ignore[arg-type]
    request = registry_pb2.PublishRequest(
        kind=WIRE_KINDS[ObjectKind.RUNTIME], name=name, runtime=runtime, account_id=account
    )
    with admin() as client:
        found = client.registry(lambda stub: stub.Publish, request, PUBLISH_TIMEOUT_S)
    print_published(found, found.runtime.engine_kind, 0, json_output=json_output)


def settings_of(path: Path) -> dict[str, object]:
    """Return the settings in a TOML or JSON file. Raises: InvalidRequest."""
    if path.stat().st_size > _MAX_FILE_BYTES:
        raise InvalidRequest(f"{path} has more than {_MAX_FILE_BYTES} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        found = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{path} cannot be read: {error}", "write TOML or JSON") from error
    if not isinstance(found, Mapping):
        raise InvalidRequest(f"{path} is not an object", "write it as key = value")
    for key, value in found.items():
        fits = (key in _TEXTS and isinstance(value, str)) or (
            key in _LISTS and isinstance(value, list) and all(isinstance(one, str) for one in value)
        )
        if not fits:
            raise InvalidRequest(
                f"{path}: {str(key)[:40]!a} is not a setting of a runtime, or not of its type",
                f"texts: {', '.join(_TEXTS)}; lists of texts: {', '.join(_LISTS)}",
            )
    return dict(found)


@app.command("ls")
def list_runtimes(json_output: JsonOption = False) -> None:
    """List the runtimes.

    Example: edgeforge runtime ls
    """
    columns = ("engine", "version", "load format", "accelerators")
    list_objects(ObjectKind.RUNTIME, columns, _cells, json_output=json_output)


@app.command("show")
def show_runtime(name: RuntimeArgument, json_output: JsonOption = False) -> None:
    """Show a runtime, and what uses it.

    Example: edgeforge runtime show acme/fast
    """
    show_object(ObjectKind.RUNTIME, name, json_output=json_output)


@app.command("rm")
def remove_runtime(
    name: RuntimeArgument, yes: YesOption = False, json_output: JsonOption = False
) -> None:
    """Remove a version of a runtime that no deployment uses.

    Example: edgeforge runtime rm acme/fast@1 --yes
    """
    remove_object(ObjectKind.RUNTIME, name, yes=yes, json_output=json_output)


@app.command("verify")
def verify_runtime(name: RuntimeArgument, json_output: JsonOption = False) -> None:
    """Check that a runtime is as it was published; it has no files.

    Example: edgeforge runtime verify acme/fast
    """
    verify_object(ObjectKind.RUNTIME, name, json_output=json_output)


def _cells(found: registry_pb2.RegistryObject) -> tuple[object, ...]:
    runtime = found.runtime
    return (
        runtime.engine_kind,
        runtime.version_constraint or "any",
        runtime.load_format or "-",
        ", ".join(runtime.accelerators) or "any",
    )

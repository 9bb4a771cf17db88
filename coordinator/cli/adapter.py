"""``edgeforge adapter``: LoRA adapters of the registry."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.folder_scan import scan_folder
from coordinator.cli.object_upload import (
    PUBLISH_TIMEOUT_S,
    publish_files,
    upload_missing,
)
from coordinator.cli.objects import (
    WIRE_KINDS,
    AccountOption,
    LicenceOption,
    NameOption,
    YesOption,
    list_objects,
    object_json,
    print_published,
    remove_object,
    show_object,
    size,
    verify_object,
)
from coordinator.cli.upstream_import import import_upstream, is_upstream, refuse_options
from protos.domain.object_names import ObjectKind
from protos.output.terminal import print_json, print_line, print_progress
from protos.v1 import registry_pb2

app = group("adapter", "LoRA adapters, each for one version of a model.")

AdapterArgument = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="owner/name@version; without a version the latest one.",
        autocompletion=completion.adapters,
    ),
]


@app.command("import")
def import_adapter(
    path: Annotated[
        str,
        typer.Argument(help="The directory that PEFT wrote, or hf://org/repo[@rev]."),
    ],
    name: NameOption,
    base: Annotated[
        str,
        typer.Option(
            "--base",
            "--model",
            help="Model that it was trained on; of hf:// also as its configuration says.",
            autocompletion=completion.models,
        ),
    ] = "",
    account: AccountOption = "",
    licence: LicenceOption = "",
    json_output: JsonOption = False,
) -> None:
    """Import an adapter. Each of its tensors is checked against the tensors of its base.

    Example: edgeforge adapter import ./support-lora --name acme/support@1 --base acme/llama-8b@1
    """
    if is_upstream(path):
        refuse_options(licence=licence)
        import_upstream(path, name, account, base, json_output=json_output)
        return
    with tempfile.TemporaryDirectory(prefix="edgeforge-import-") as scratch:
        files = scan_folder(Path(path), Path(scratch), print_progress, ObjectKind.ADAPTER)
        with admin() as client:
            sent_bytes = upload_missing(client, files)
            found = publish_files(
                client,
                WIRE_KINDS[ObjectKind.ADAPTER],
                name,
                files,
                base=base,
                account_id=account,
                licence=licence,
            )
    print_published(found, _text(found), sent_bytes, json_output=json_output)


@app.command("port")
def port_adapter(
    name: AdapterArgument,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="Model to port it to; without a version the latest one.",
            autocompletion=completion.models,
        ),
    ],
    publish_as: Annotated[
        str, typer.Option("--as", help="owner/name@version of the ported adapter.")
    ],
    json_output: JsonOption = False,
) -> None:
    """Publish an adapter for another base, or say which of its tensors do not fit it.

    Example: edgeforge adapter port acme/support@1 --to acme/llama-8b@2 --as acme/support@2
    """
    with admin() as client:
        request = registry_pb2.PortAdapterRequest(adapter=name, base=to, name=publish_as)
        found = client.registry(lambda stub: stub.PortAdapter, request, PUBLISH_TIMEOUT_S)
    if json_output:
        print_json(object_json(found))
        return
    print_line(f"{found.name}: {_text(found)}, ported from {found.ported_from}")
    print_line(f"  {found.comparison}")


@app.command("compare")
def compare_adapter(
    name: AdapterArgument,
    other: Annotated[
        str,
        typer.Option(
            "--with",
            help="Adapter to compare it with; else what it was ported from.",
            autocompletion=completion.adapters,
        ),
    ] = "",
    json_output: JsonOption = False,
) -> None:
    """Compare the answers of an adapter with those of another; engines must serve both.

    Example: edgeforge adapter compare acme/support@2
    """
    with admin() as client:
        request = registry_pb2.CompareAdapterRequest(adapter=name, other=other)
        found = client.registry(lambda stub: stub.CompareAdapter, request, PUBLISH_TIMEOUT_S)
    if json_output:
        print_json(object_json(found))
    else:
        print_line(f"{found.name}: {found.comparison}")


@app.command("ls")
def list_adapters(json_output: JsonOption = False) -> None:
    """List the adapters.

    Example: edgeforge adapter ls
    """
    list_objects(ObjectKind.ADAPTER, ("base", "rank", "weights"), _cells, json_output=json_output)


@app.command("show")
def show_adapter(name: AdapterArgument, json_output: JsonOption = False) -> None:
    """Show an adapter: its base, its files, where it came from, and what uses it.

    Example: edgeforge adapter show acme/support
    """
    show_object(ObjectKind.ADAPTER, name, json_output=json_output)


@app.command("rm")
def remove_adapter(
    name: AdapterArgument, yes: YesOption = False, json_output: JsonOption = False
) -> None:
    """Remove a version of an adapter that no deployment uses.

    Example: edgeforge adapter rm acme/support@1 --yes
    """
    remove_object(ObjectKind.ADAPTER, name, yes=yes, json_output=json_output)


@app.command("verify")
def verify_adapter(name: AdapterArgument, json_output: JsonOption = False) -> None:
    """Have the coordinator read every byte of an adapter again, and compare digests.

    Example: edgeforge adapter verify acme/support
    """
    verify_object(ObjectKind.ADAPTER, name, json_output=json_output)


def _text(found: registry_pb2.RegistryObject) -> str:
    adapter = found.adapter
    return f"rank {adapter.rank} for {adapter.model}, {size(adapter.weights_bytes)}"


def _cells(found: registry_pb2.RegistryObject) -> tuple[object, ...]:
    adapter = found.adapter
    return (adapter.model, adapter.rank, size(adapter.weights_bytes))

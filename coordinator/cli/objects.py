"""What ``edgeforge model``, ``adapter`` and ``runtime`` have in common: ls, show, rm, verify."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from coordinator.cli import completion
from coordinator.cli.common import admin
from coordinator.cli.output import as_json
from protos.domain.errors import EdgeForgeError, InvalidRequest
from protos.domain.object_names import ObjectKind
from protos.output.terminal import confirmed, print_json, print_line, print_table
from protos.v1 import registry_pb2

WIRE_KINDS = {
    ObjectKind.MODEL: registry_pb2.OBJECT_KIND_MODEL,
    ObjectKind.ADAPTER: registry_pb2.OBJECT_KIND_ADAPTER,
    ObjectKind.RUNTIME: registry_pb2.OBJECT_KIND_RUNTIME,
}
#: Reading a terabyte at 300 MB a second.
_VERIFY_TIMEOUT_S = 3_600.0
_SHOWN_REVISION_CHARS = 12

NameOption = Annotated[str, typer.Option(help="owner/name@version.")]
AccountOption = Annotated[
    str,
    typer.Option(
        help="Account that owns it; without one every account may deploy it.",
        autocompletion=completion.accounts,
    ),
]
LicenceOption = Annotated[str, typer.Option(help="Its licence; else as its README.md says.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]

#: Returns the cells of a row of a list, behind the name.
Cells = Callable[[registry_pb2.RegistryObject], Sequence[object]]


def object_json(message: registry_pb2.RegistryObject) -> dict[str, Any]:
    """Return an object as scripts read it: its row's fields beside the others, digests in hex."""
    found = as_json(message)
    which = message.WhichOneof("row") or ""
    row = found.pop(which, {})
    assert isinstance(row, dict)
    for key in ("manifest_sha256", "swap_key"):
        if key in row:
            row[key] = getattr(getattr(message, which), key).hex()
    files = [
        {"path": file.path, "sha256": file.sha256.hex(), "size_bytes": file.size_bytes}
        for file in message.files
    ]
    return row | found | {"files": files}


def list_objects(
    kind: ObjectKind, columns: Sequence[str], cells: Cells, *, json_output: bool
) -> None:
    """Print every version of a kind."""
    with admin() as client:
        request = registry_pb2.ListObjectsRequest(kind=WIRE_KINDS[kind])
        found = client.registry(lambda stub: stub.ListObjects, request).objects
    if json_output:
        print_json([object_json(one) for one in found])
        return
    print_table(
        (kind.value, *columns, "revision", "owner"),
        (
            (
                f"{one.name} (latest)" if one.is_latest else one.name,
                *cells(one),
                one.revision[:_SHOWN_REVISION_CHARS] or "-",
                one.account_id or "operators",
            )
            for one in found
        ),
        f"no {kind}s yet; edgeforge {kind} import brings one",
    )


def show_object(kind: ObjectKind, ref: str, *, json_output: bool) -> None:
    """Print a version with its files and its users."""
    with admin() as client:
        found = client.registry(lambda stub: stub.ShowObject, asked(kind, ref))
    if json_output:
        print_json(object_json(found))
        return
    for name, value in _lines(found):
        print_line(f"{name:>12}  {value}")
    for file in found.files:
        print_line(f"{'file':>12}  {file.path}  {size(file.size_bytes)}  {file.sha256.hex()[:16]}")


def remove_object(kind: ObjectKind, name: str, *, yes: bool, json_output: bool) -> None:
    """Remove a version that nothing uses."""
    if not yes and not confirmed(f"remove {kind} {name}? its name cannot be used again"):
        raise InvalidRequest(f"{name} was not removed", "answer y, or add --yes")
    with admin() as client:
        done = client.registry(lambda stub: stub.RemoveObject, asked(kind, name))
    if json_output:
        print_json({"name": done.name})
    else:
        print_line(f"{done.name} is removed; its files go when nothing names them any more")


def verify_object(kind: ObjectKind, ref: str, *, json_output: bool) -> None:
    """Have every byte of a version read again. Raises: EdgeForgeError when one is wrong."""
    with admin() as client:
        request = asked(kind, ref)
        done = client.registry(lambda stub: stub.VerifyObject, request, _VERIFY_TIMEOUT_S)
    if json_output:
        print_json(as_json(done) | {"size_bytes": done.size_bytes, "ok": not done.problems})
    if done.problems:
        raise EdgeForgeError(
            f"{done.name}: " + "; ".join(f"{one.path} {one.problem}" for one in done.problems[:10]),
            "restore the coordinator's blobs, or publish the files again: what is missing is sent",
        )
    if not json_output:
        print_line(f"{done.name}: {done.files} files, {size(done.size_bytes)}, as published")


def asked(kind: ObjectKind, ref: str) -> registry_pb2.ObjectRequest:
    """Return the request about one object."""
    return registry_pb2.ObjectRequest(kind=WIRE_KINDS[kind], ref=ref)


def print_published(
    found: registry_pb2.RegistryObject, text: str, sent_bytes: int, *, json_output: bool
) -> None:
    """Print what an import has done."""
    if json_output:
        print_json(object_json(found) | {"uploaded_bytes": sent_bytes})
        return
    already = "" if found.is_new else "; it was published already, with the same content"
    if found.is_new and found.files and not sent_bytes:
        already = "; every file was there already"
    print_line(f"{found.name}: {text}, revision {found.revision}{already}")


def size(size_bytes: int) -> str:
    """Return a size as tables show it."""
    if not size_bytes:
        return "-"
    if size_bytes < 1024**2:
        return f"{size_bytes / 1024:.1f} KiB"
    return f"{size_bytes / 1024**2:.0f} MiB"


def _lines(found: registry_pb2.RegistryObject) -> Iterator[tuple[str, str]]:
    """Yield what is shown of an object, in order."""
    yield "name", f"{found.name} (latest)" if found.is_latest else found.name
    yield "owner", found.account_id or "operators"
    yield "revision", found.revision or "-"
    if found.published_unix_ms:
        at = datetime.fromtimestamp(found.published_unix_ms / 1_000, UTC)
        yield "published", f"{at:%Y-%m-%d %H:%M:%S} UTC by {found.published_by}"
    for name in ("source", "licence", "ported_from", "comparison"):
        if value := getattr(found, name):
            yield name.replace("_", " "), str(value)
    which = found.WhichOneof("row") or ""
    for name, value in as_json(getattr(found, which)).items():
        if name not in ("name", "account_id", "manifest_sha256", "swap_key") and value:
            shown = " ".join(map(str, value)) if isinstance(value, list) else str(value)
            yield name.replace("_", " "), shown
    if which == "model" and found.model.swap_key:
        yield "swap key", found.model.swap_key.hex()[:16]
    yield "used by", ", ".join(found.used_by) or "nothing"

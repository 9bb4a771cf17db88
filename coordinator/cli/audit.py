"""``edgeforge audit``: who changed what, and who was refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

from coordinator import clock
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json
from protos.domain.errors import InvalidRequest
from protos.output.terminal import print_json, print_progress, print_table
from protos.v1 import admin_pb2

app = group("audit", "Who changed what, and who was refused.")

#: Entries asked for in one call.
PAGE_ENTRIES = 1_000
_UNITS_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@app.command("ls")
def list_audit(
    limit: Annotated[int, typer.Option(help="Newest entries to show.", min=1, max=1_000_000)] = 100,
    actor: Annotated[
        str, typer.Option(help="Only of this actor, such as operator/ana or node/gru-1.")
    ] = "",
    action: Annotated[
        str, typer.Option(help="Only actions that start with this, such as node. or key.create.")
    ] = "",
    since: Annotated[
        str, typer.Option(help="Only from this time on: 30m, 24h, 7d ago, or an ISO date.")
    ] = "",
    strangers: Annotated[
        bool, typer.Option("--strangers", help="Refused callers who proved nothing, kept apart.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """List who changed what, and who was refused, newest first; says when there are older entries.

    Example: edgeforge audit ls --actor operator/ana --action key. --since 24h
    """
    entries: list[admin_pb2.AuditEntry] = []
    request = admin_pb2.ListAuditRequest(
        actor=actor,
        action=action,
        since_unix_ms=since_unix_ms(since, clock.now_unix_ms()),
        strangers=strangers,
    )
    more = True
    with admin() as client:
        while more and len(entries) < limit:
            request.limit = min(PAGE_ENTRIES, limit - len(entries))
            page = client.call(lambda stub: stub.ListAudit, request)
            entries += page.entries
            more = page.more
            if page.entries:
                request.before_seq = page.entries[-1].seq
    if json_output:
        print_json([as_json(entry) for entry in entries])
    else:
        _show(entries)
    if more:
        print_progress(f"{len(entries)} shown; there are older ones: a higher --limit shows them")


def since_unix_ms(text: str, now_unix_ms: int) -> int:
    """Return the time that ``--since`` names, 0 for an empty text. Raises: InvalidRequest."""
    if not text:
        return 0
    if ago := re.fullmatch(r"(\d{1,9})([smhd])", text):
        return max(0, now_unix_ms - int(ago[1]) * _UNITS_MS[ago[2]])
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"--since {text!r} is no time", "write 30m, 24h, 7d, or a date: 2026-11-27T18:00"
        ) from None
    return max(0, int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000))


def _show(entries: list[admin_pb2.AuditEntry]) -> None:
    print_table(
        ("at", "who", "what", "on", "detail"),
        (
            (
                f"{datetime.fromtimestamp(entry.at_unix_ms / 1_000, UTC):%F %T}",
                entry.actor,
                entry.action,
                entry.subject,
                entry.detail,
            )
            for entry in entries
        ),
        "nothing yet",
    )

"""``edgeforge usage``: what was used, each request of it, and what was not believed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

import typer

from coordinator import clock
from coordinator.cli import completion
from coordinator.cli.audit import since_unix_ms
from coordinator.cli.common import JsonOption, admin, group
from protos.domain.errors import InvalidRequest
from protos.domain.pricing import format_usd
from protos.domain.usage_record import SUM_NAMES, script_fields
from protos.output.terminal import print_json, print_line, print_progress, print_table
from protos.v1 import usage_pb2
from protos.wire.usage import decode_record

app = group("usage", "What was used: sums, each request, and what was not believed.")

#: A whole export may take this long.
EXPORT_TIMEOUT_S = 86_400.0
_PAGE = 1_000
_GROUPS = ("day", "deployment", "tier")

AccountOption = Annotated[
    str, typer.Option(help="Only of this account.", autocompletion=completion.accounts)
]
DeploymentOption = Annotated[
    str, typer.Option(help="Only of this deployment.", autocompletion=completion.deployments)
]
FromOption = Annotated[
    str, typer.Option("--from", help="From this time on: 24h, 7d ago, or an ISO date, UTC.")
]
ToOption = Annotated[str, typer.Option("--to", help="Before this time, written as for --from.")]
IdsArgument = Annotated[
    list[int], typer.Argument(metavar="ID...", help="Numbers from 'edgeforge usage quarantine'.")
]


@app.callback(invoke_without_command=True, no_args_is_help=False)
def show(
    context: typer.Context,
    account: AccountOption = "",
    deployment: DeploymentOption = "",
    from_: FromOption = "",
    to: ToOption = "",
    by: Annotated[str, typer.Option(help="What to add up by: day, deployment or tier.")] = "day",
    json_output: JsonOption = False,
) -> None:
    """Show requests, tokens and their price, added up; without --from since the month began.

    Example: edgeforge usage --account acme --by tier --from 7d
    """
    if context.invoked_subcommand is not None:
        return
    if by not in _GROUPS:
        raise InvalidRequest(f"--by {by!r} is none of day, deployment and tier", "choose one")
    now = clock.now_unix_ms()
    request = usage_pb2.ShowUsageRequest(
        account=account,
        deployment=deployment,
        from_unix_ms=since_unix_ms(from_, now) or _month_began(now),
        until_unix_ms=since_unix_ms(to, now),
        by=by,
    )
    with admin() as client:
        groups = client.usage(lambda stub: stub.ShowUsage, request).groups
    rows = [{by: one.group} | dict(zip(SUM_NAMES, one.sums, strict=True)) for one in groups]
    if json_output:
        print_json(rows)
        return
    print_table(
        (by, "requests", "billed", "prompt", "cached", "completion", "shed", "usd"),
        (
            (
                row[by],
                row["requests"],
                row["billed"],
                row["prompt_tokens"],
                row["cached_tokens"],
                row["completion_tokens"],
                row["shed"],
                format_usd(int(row["nano_usd"])),
            )
            for row in rows
        ),
        "nothing was used",
    )


@app.command("export")
def export(
    account: AccountOption = "",
    deployment: DeploymentOption = "",
    from_: FromOption = "",
    to: ToOption = "",
    json_output: JsonOption = False,
) -> None:
    """Print one line for each request, in the order in which their records arrived.

    With --json each line is a JSON object. Records of any age: from the database, and from the
    blob store once they have moved there. Example: edgeforge usage export --json --from 24h
    """
    now = clock.now_unix_ms()
    request = usage_pb2.ExportUsageRequest(
        account=account,
        deployment=deployment,
        from_unix_ms=since_unix_ms(from_, now),
        until_unix_ms=since_unix_ms(to, now),
    )
    with admin() as client:
        for page in client.export_usage(request, EXPORT_TIMEOUT_S):
            for line in page.lines:
                fields = line_fields(line)
                if json_output:
                    print_json(fields, indent=None)
                else:
                    print_line("  ".join(f"{name}={value}" for name, value in fields.items()))


@app.command("exports")
def list_exports(json_output: JsonOption = False) -> None:
    """List the Parquet files of past days in the blob store.

    Each holds records that arrived on one day; docs/OPERATIONS.md says how to read them.
    """
    with admin() as client:
        found = client.usage(
            lambda stub: stub.ListUsageExports, usage_pb2.ListUsageExportsRequest()
        ).exports
    if json_output:
        print_json([_export_fields(one) for one in found])
        return
    print_table(
        ("day", "records", "bytes", "usd", "sha256"),
        (
            (one.day, one.records, one.size_bytes, format_usd(one.nano_usd), one.sha256.hex())
            for one in found
        ),
        "nothing was exported yet",
    )


@app.command("quarantine")
def quarantine(
    state: Annotated[
        str, typer.Option(help="held, released or dismissed; empty for all.")
    ] = "held",
    limit: Annotated[int, typer.Option(help="Oldest rows to show.", min=1, max=1_000_000)] = 1_000,
    json_output: JsonOption = False,
) -> None:
    """List records that were not counted, with the reason, oldest first.

    An admin counts them with 'edgeforge usage release ID', or never: 'edgeforge usage dismiss ID'.
    """
    rows: list[usage_pb2.QuarantinedUsage] = []
    request = usage_pb2.ListQuarantineRequest(state=state)
    more = True
    with admin() as client:
        while more and len(rows) < limit:
            request.limit = min(_PAGE, limit - len(rows))
            page = client.usage(lambda stub: stub.ListQuarantine, request)
            rows += page.held
            more = page.more
            if page.held:
                request.after_id = page.held[-1].id
    if json_output:
        print_json([_quarantine_fields(row) for row in rows])
    else:
        print_table(
            ("id", "node", "seq", "kind", "account", "usd", "reason", "state"),
            (
                (
                    row.id,
                    row.node,
                    row.seq if row.seq == row.last_seq else f"{row.seq}-{row.last_seq}",
                    row.kind,
                    row.account,
                    format_usd(row.nano_usd),
                    row.reason,
                    row.state,
                )
                for row in rows
            ),
            "nothing is in quarantine",
        )
    if more:
        print_progress(f"{len(rows)} shown; there are more: a higher --limit shows them")


@app.command("release")
def release(ids: IdsArgument, json_output: JsonOption = False) -> None:
    """Count records of the quarantine, and bill them. They are counted as of now.

    Example: edgeforge usage release 12 13
    """
    _settle(ids, release=True, json_output=json_output)


@app.command("dismiss")
def dismiss(ids: IdsArgument, json_output: JsonOption = False) -> None:
    """Never count records of the quarantine; they stay listed as dismissed.

    Example: edgeforge usage dismiss 14
    """
    _settle(ids, release=False, json_output=json_output)


def line_fields(line: usage_pb2.UsageLine) -> dict[str, object]:
    """Return one request as scripts read it."""
    record = decode_record(line.record.SerializeToString())
    return script_fields(record) | {
        "began_unix_ms": record.began_unix_ms,
        "billing_reason": str(record.billing_reason),
        "model": record.model,
        "sla_tier": str(record.sla_tier),
        "key": record.key_id,
        "path": record.path,
        "stream": record.stream,
        "serving_node": record.serving_node,
        "serving_pop": record.serving_pop,
        "ingress_pop": record.ingress_pop,
        "seen": str(record.cause) == "complete",
        "predicted_miss": record.predicted_miss,
        "ttft_us": record.ttft_us,
        "stream_us": record.stream_us,
        "node": line.node,
        "spool": line.spool,
        "seq": line.seq,
        "clock_suspect": line.clock_suspect,
    }


def _quarantine_fields(row: usage_pb2.QuarantinedUsage) -> Mapping[str, object]:
    return {field.name: getattr(row, field.name) for field in row.DESCRIPTOR.fields}


def _export_fields(export: usage_pb2.UsageExport) -> Mapping[str, object]:
    fields = {field.name: getattr(export, field.name) for field in export.DESCRIPTOR.fields}
    return fields | {"sha256": export.sha256.hex()}


def _settle(ids: list[int], *, release: bool, json_output: bool) -> None:
    with admin() as client:
        settled = client.usage(
            lambda stub: stub.SettleQuarantine,
            usage_pb2.SettleQuarantineRequest(ids=ids, release=release),
        ).settled
    if json_output:
        print_json({"settled": settled, "released": release}, indent=None)
    else:
        print_line(f"{settled} {'counted' if release else 'dismissed'}")


def _month_began(now_unix_ms: int) -> int:
    now = datetime.fromtimestamp(now_unix_ms / 1_000, UTC)
    return int(datetime(now.year, now.month, 1, tzinfo=UTC).timestamp() * 1_000)

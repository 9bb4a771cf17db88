"""Reports of usage for operators."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from coordinator.rpc.admin_base import AdminServicerBase
from coordinator.usage.exports import LineFilter
from coordinator.usage.quarantine import MAX_PAGE
from coordinator.usage.reports import GroupBy, UsageQuery
from protos.domain.errors import InvalidRequest
from protos.domain.usage_record import SUM_NAMES
from protos.v1 import usage_pb2, usage_pb2_grpc
from protos.wire.usage import decode_record, encode_record

if TYPE_CHECKING:
    from coordinator.rpc.identity import Context
    from coordinator.usage.lines import UsageLine
    from coordinator.usage.quarantine import Quarantined

_NO_END = 2**62


class UsageReportsService(AdminServicerBase, usage_pb2_grpc.UsageReportsServicer):
    """Every call of UsageReports in ``usage.proto``: a request, a use case, a message."""

    async def ShowUsage(
        self, request: usage_pb2.ShowUsageRequest, context: Context
    ) -> usage_pb2.ShowUsageResponse:
        """Return sums by group. Raises: InvalidRequest."""
        try:
            by = GroupBy(request.by or GroupBy.DAY)
        except ValueError:
            raise InvalidRequest(f"no group {request.by!r}", "day, deployment or tier") from None
        query = UsageQuery(
            account=request.account,
            deployment=request.deployment,
            from_unix_ms=request.from_unix_ms,
            until_unix_ms=request.until_unix_ms or _NO_END,
            by=by,
        )
        rows = await self._operations.usage.sums(self._actor(context), query)
        return usage_pb2.ShowUsageResponse(
            groups=[
                usage_pb2.UsageGroup(
                    group=row.group, sums=[getattr(row.sums, name) for name in SUM_NAMES]
                )
                for row in rows
            ]
        )

    async def ExportUsage(
        self, request: usage_pb2.ExportUsageRequest, context: Context
    ) -> AsyncIterator[usage_pb2.UsageLines]:
        """Send every line, some at a time."""
        wanted = LineFilter(
            account=request.account,
            deployment=request.deployment,
            from_unix_ms=request.from_unix_ms,
            until_unix_ms=request.until_unix_ms or _NO_END,
        )
        async for lines in await self._operations.usage.export(self._actor(context), wanted):
            yield usage_pb2.UsageLines(lines=map(_line, lines))

    async def ListUsageExports(
        self, request: usage_pb2.ListUsageExportsRequest, context: Context
    ) -> usage_pb2.ListUsageExportsResponse:
        """Return what has moved to the blob store."""
        found = await self._operations.usage.exports(self._actor(context))
        return usage_pb2.ListUsageExportsResponse(
            exports=[
                usage_pb2.UsageExport(
                    day=one.day,
                    sha256=one.sha256,
                    size_bytes=one.size_bytes,
                    records=one.records,
                    nano_usd=one.nano_usd,
                    began_min_unix_ms=one.began_min_unix_ms,
                    began_max_unix_ms=one.began_max_unix_ms,
                    exported_unix_ms=one.exported_unix_ms,
                )
                for one in found
            ]
        )

    async def ListQuarantine(
        self, request: usage_pb2.ListQuarantineRequest, context: Context
    ) -> usage_pb2.ListQuarantineResponse:
        """Return what was not counted."""
        limit = min(request.limit or MAX_PAGE, MAX_PAGE)
        rows = await self._operations.usage.quarantine(
            self._actor(context), request.state, request.after_id, limit
        )
        return usage_pb2.ListQuarantineResponse(
            held=map(_quarantined, rows), more=len(rows) == limit
        )

    async def SettleQuarantine(
        self, request: usage_pb2.SettleQuarantineRequest, context: Context
    ) -> usage_pb2.SettleQuarantineResponse:
        """Count what was not, or never count it."""
        await self._operations.usage.settle(
            self._actor(context), list(request.ids), count=request.release
        )
        return usage_pb2.SettleQuarantineResponse(settled=len(request.ids))


def _line(line: UsageLine) -> usage_pb2.UsageLine:
    return usage_pb2.UsageLine(
        record=usage_pb2.UsageRecord.FromString(encode_record(line.record)),
        node=line.node,
        spool=line.spool,
        seq=line.key[2],
        clock_suspect=line.clock_suspect,
        told_unix_ms=line.told_unix_ms,
    )


def _quarantined(row: Quarantined) -> usage_pb2.QuarantinedUsage:
    message = usage_pb2.QuarantinedUsage(
        id=row.id,
        node=row.node,
        spool=row.spool,
        seq=row.seq,
        last_seq=row.last_seq,
        kind=row.kind,
        reason=row.reason,
        arrived_unix_ms=row.arrived_unix_ms,
        state=row.state,
        settled_by=row.settled_by,
        settled_unix_ms=row.settled_unix_ms,
    )
    if row.kind in ("record", "conflict"):
        try:
            record = decode_record(row.payload)
        except InvalidRequest:
            return message
        message.account, message.nano_usd = record.account, record.nano_usd
    return message

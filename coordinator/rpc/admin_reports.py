"""The service Reports of ``prices.proto``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from coordinator.core.sla_report import By
from coordinator.rpc.admin_base import AdminServicerBase
from protos.domain.errors import InvalidRequest
from protos.v1 import prices_pb2, prices_pb2_grpc

if TYPE_CHECKING:
    from coordinator.core.fleet_metrics import Metric
    from coordinator.core.pop_review import PopReview
    from coordinator.core.sla_report import SlaLine
    from coordinator.operations.reports import MonthCredit
    from coordinator.rpc.identity import Context


class ReportService(AdminServicerBase, prices_pb2_grpc.ReportsServicer):
    """Every call of the service: a request, a use case, a message."""

    async def ReportSla(
        self, request: prices_pb2.ReportSlaRequest, context: Context
    ) -> prices_pb2.ReportSlaResponse:
        """Report how promises were kept."""
        report = await self._operations.reports.sla(
            self._actor(context), request.from_unix_ms, request.to_unix_ms, _by(request.by)
        )
        return prices_pb2.ReportSlaResponse(
            from_unix_ms=report.from_unix_ms,
            to_unix_ms=report.until_unix_ms,
            lines=map(_sla_line, report.lines),
            credits=map(_credit, report.credits),
            owed_nano_usd=report.owed_nano_usd,
        )

    async def ReportMetrics(
        self, request: prices_pb2.ReportMetricsRequest, context: Context
    ) -> prices_pb2.ReportMetricsResponse:
        """Return the fleet's figures."""
        found = await self._operations.reports.metrics(self._actor(context), request.at_unix_ms)
        return prices_pb2.ReportMetricsResponse(
            at_unix_ms=request.at_unix_ms, metrics=map(_metric, found)
        )

    async def ReviewPops(
        self, request: prices_pb2.ReviewPopsRequest, context: Context
    ) -> prices_pb2.ReviewPopsResponse:
        """Review POPs."""
        report = await self._operations.reports.pops(
            self._actor(context), request.days, request.at_unix_ms
        )
        return prices_pb2.ReviewPopsResponse(
            from_unix_ms=report.from_unix_ms,
            to_unix_ms=report.until_unix_ms,
            pops=map(_review, report.pops),
        )

    async def SetPopCost(
        self, request: prices_pb2.SetPopCostRequest, context: Context
    ) -> prices_pb2.PopCost:
        """Write down what a POP costs an hour."""
        cost = await self._operations.reports.set_cost(
            self._actor(context), request.pop_id, request.nano_usd_per_hour
        )
        return prices_pb2.PopCost(
            pop_id=cost.pop_id,
            nano_usd_per_hour=cost.now.nano_usd_per_hour,
            since_unix_ms=cost.now.since_unix_ms,
        )


def _by(word: str) -> By:
    try:
        return By(word) if word else By.REGION
    except ValueError:
        raise InvalidRequest(
            f"no report is by {word[:20]!r}", "use tier, region or account", param="by"
        ) from None


def _sla_line(line: SlaLine) -> prices_pb2.SlaLine:
    sums = line.sums
    return prices_pb2.SlaLine(
        sla_tier=line.sla_tier,
        region=line.region,
        account=line.account,
        requests=sums.requests,
        streams=sums.streams,
        streams_in_time=sums.streams_in_time,
        predicted_misses=sums.predicted_misses,
        shed=sums.shed,
        first_token_ms_p50=line.first_token_ms_p50,
        first_token_ms_p99=line.first_token_ms_p99,
        tokens_per_s_p50=line.tokens_per_s_p50,
        tokens_per_s_p1=line.tokens_per_s_p1,
        promise_percent=line.promise_percent,
        kept=line.kept,
        nano_usd=sums.nano_usd,
    )


def _credit(one: MonthCredit) -> prices_pb2.SlaCredit:
    credit = one.credit
    return prices_pb2.SlaCredit(
        account=credit.account,
        sla_tier=credit.sla_tier,
        month=one.month,
        streams=credit.streams,
        streams_in_time=credit.streams_in_time,
        promise_percent=credit.promise_percent,
        charged_nano_usd=credit.charged_nano_usd,
        nano_usd=credit.nano_usd,
    )


def _metric(one: Metric) -> prices_pb2.Metric:
    return prices_pb2.Metric(
        name=one.name,
        value=one.value,
        unit=one.unit,
        target=one.target,
        comparison=one.comparison,
        met=one.met,
        note=one.note,
    )


def _review(one: PopReview) -> prices_pb2.PopReviewLine:
    return prices_pb2.PopReviewLine(
        pop_id=one.pop_id,
        tier=one.tier,
        zone=one.zone,
        utilisation_ratio=one.utilisation_ratio,
        days_seen=one.days_seen,
        days_under=one.days_under,
        revenue_nano_usd=one.revenue_nano_usd,
        cost_nano_usd=one.cost_nano_usd,
        margin_nano_usd=one.margin_nano_usd,
        has_cost=one.has_cost,
        verdict=one.verdict,
        why=one.why,
    )

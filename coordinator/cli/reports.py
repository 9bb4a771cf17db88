"""``edgeforge sla``, ``metrics``, ``pop review`` and ``pop cost``: reports on the whole fleet."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli import completion, money
from coordinator.cli.common import JsonOption, admin, group
from protos.domain.card_document import iso_utc, unix_ms_of
from protos.domain.pricing import format_usd
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import prices_pb2

app = group("sla", "How the promises to customers were kept.")

#: Reports over months of sums take a while.
_TIMEOUT_S = 120.0


@app.command("report")
def report_sla(
    from_: Annotated[
        str, typer.Option("--from", help="2026-11-01 or with a time; else the month's start.")
    ] = "",
    to: Annotated[str, typer.Option("--to", help="Not included; else now.")] = "",
    by: Annotated[str, typer.Option(help="tier, region or account.")] = "region",
    json_output: JsonOption = False,
) -> None:
    """Show first token, pace, share in time, predicted misses, shed, and the credits owed.

    Credits are of the whole months that the report touches, by the rule that invoices follow.

    Example: edgeforge sla report --from 2026-11-01 --to 2026-12-01 --by account
    """
    request = prices_pb2.ReportSlaRequest(
        from_unix_ms=unix_ms_of(from_, "from") if from_ else 0,
        to_unix_ms=unix_ms_of(to, "to") if to else 0,
        by=by,
    )
    with admin() as client:
        report = client.reports(lambda stub: stub.ReportSla, request, _TIMEOUT_S)
    if json_output:
        print_json(_sla_json(report))
        return
    print_line(f"from {iso_utc(report.from_unix_ms)} to {iso_utc(report.to_unix_ms)}")
    print_table(
        (
            *("sla tier", "region", "account", "requests", "P50 ms", "P99 ms", "tokens/s P50"),
            *("tokens/s P1", "in time", "misses", "shed", "promise"),
        ),
        (_sla_row(line) for line in report.lines),
        "nothing was used in that time",
    )
    owed = [one for one in report.credits if one.nano_usd]
    if owed:
        print_table(
            ("month", "account", "sla tier", "in time", "promise", "charged", "credit"),
            (_credit_row(one) for one in owed),
            "",
        )
    print_line(f"credits owed: ${format_usd(report.owed_nano_usd)}")


def metrics(
    at: Annotated[str, typer.Option(help="As of then: 2026-12-01; else now.")] = "",
    json_output: JsonOption = False,
) -> None:
    """Show the fleet's figures against what the product is sold on.

    Latency, requests and utilisation are of the last 7 days, money is of the last 30.

    Example: edgeforge metrics
    """
    request = prices_pb2.ReportMetricsRequest(at_unix_ms=unix_ms_of(at, "at") if at else 0)
    with admin() as client:
        found = client.reports(lambda stub: stub.ReportMetrics, request, _TIMEOUT_S).metrics
    if json_output:
        print_json([_metric_json(one) for one in found])
        return
    print_table(
        ("figure", "value", "target", "met", "note"),
        (
            (
                one.name.replace("_", " "),
                _number(one.value, one.unit) if one.HasField("value") else "unknown",
                f"{one.comparison} {_number(one.target, one.unit)}"
                if one.HasField("target")
                else "-",
                ("yes" if one.met else "no") if one.HasField("met") else "-",
                one.note,
            )
            for one in found
        ),
        "no figures",
    )


def review_pops(
    days: Annotated[int, typer.Option(min=0, max=366, help="Whole days back.")] = 60,
    json_output: JsonOption = False,
) -> None:
    """Propose POPs for retirement: under half full on every day, with their margin.

    Example: edgeforge pop review
    """
    request = prices_pb2.ReviewPopsRequest(days=days)
    with admin() as client:
        report = client.reports(lambda stub: stub.ReviewPops, request, _TIMEOUT_S)
    if json_output:
        print_json(
            {
                "from": iso_utc(report.from_unix_ms),
                "to": iso_utc(report.to_unix_ms),
                "pops": [_review_json(one) for one in report.pops],
            }
        )
        return
    print_table(
        ("pop", "tier", "zone", "fill", "days", "revenue", "cost", "margin", "verdict", "why"),
        (
            (
                one.pop_id,
                one.tier,
                one.zone,
                f"{one.utilisation_ratio:.0%}" if one.HasField("utilisation_ratio") else "-",
                one.days_seen,
                f"${money.usd_rounded(one.revenue_nano_usd)}",
                f"${money.usd_rounded(one.cost_nano_usd)}" if one.has_cost else "not known",
                f"${money.usd_rounded(one.margin_nano_usd)}" if one.has_cost else "-",
                one.verdict,
                one.why,
            )
            for one in report.pops
        ),
        "no POPs yet; edgeforge pop create makes one",
    )


def set_pop_cost(
    pop: Annotated[str, typer.Argument(help="A POP.", autocompletion=completion.pops)],
    usd_per_hour: Annotated[str, typer.Option(help="What it costs an hour, all in: 12.50.")],
    json_output: JsonOption = False,
) -> None:
    """Write down what a POP costs an hour from now on, for margins.

    Example: edgeforge pop cost GRU --usd-per-hour 12.50
    """
    request = prices_pb2.SetPopCostRequest(
        pop_id=pop, nano_usd_per_hour=money.nano_usd(usd_per_hour, "--usd-per-hour")
    )
    with admin() as client:
        cost = client.reports(lambda stub: stub.SetPopCost, request)
    if json_output:
        print_json(
            {
                "pop_id": cost.pop_id,
                "nano_usd_per_hour": cost.nano_usd_per_hour,
                "since": iso_utc(cost.since_unix_ms),
            }
        )
        return
    print_line(f"{cost.pop_id} costs ${format_usd(cost.nano_usd_per_hour)} an hour from now on")


def add_to_pops(pops: typer.Typer) -> None:
    """Add the commands about POPs to their group."""
    pops.command("review")(review_pops)
    pops.command("cost")(set_pop_cost)


def _sla_row(line: prices_pb2.SlaLine) -> tuple[str, ...]:
    in_time = f"{line.streams_in_time / line.streams:.2%}" if line.streams else "no stream"
    return (
        line.sla_tier or "-",
        line.region or "all",
        line.account or "all",
        f"{line.requests}",
        *(
            "-" if (value := _optional(line, name)) is None else f"{value:.1f}"
            for name in _OPTIONAL
        ),
        in_time,
        f"{line.predicted_misses}",
        f"{line.shed}",
        f"{line.promise_percent} % {'kept' if line.kept else 'missed'}",
    )


#: Figures that a line has only if something was seen.
_OPTIONAL = (
    "first_token_ms_p50",
    "first_token_ms_p99",
    "tokens_per_s_p50",
    "tokens_per_s_p1",
)


def _credit_row(one: prices_pb2.SlaCredit) -> tuple[str, ...]:
    return (
        f"{one.month // 100}-{one.month % 100:02}",
        one.account,
        one.sla_tier,
        f"{one.streams_in_time} of {one.streams}",
        f"{one.promise_percent} %",
        f"${format_usd(one.charged_nano_usd)}",
        f"${format_usd(one.nano_usd)}",
    )


def _sla_json(report: prices_pb2.ReportSlaResponse) -> dict[str, object]:
    return {
        "from": iso_utc(report.from_unix_ms),
        "to": iso_utc(report.to_unix_ms),
        "lines": [
            {
                "sla_tier": line.sla_tier,
                "region": line.region or None,
                "account": line.account or None,
                "requests": line.requests,
                "streams": line.streams,
                "streams_in_time": line.streams_in_time,
                "kept_ratio": line.streams_in_time / line.streams if line.streams else None,
                "predicted_misses": line.predicted_misses,
                "shed": line.shed,
                "first_token_ms_p50": _optional(line, "first_token_ms_p50"),
                "first_token_ms_p99": _optional(line, "first_token_ms_p99"),
                "tokens_per_s_p50": _optional(line, "tokens_per_s_p50"),
                "tokens_per_s_p1": _optional(line, "tokens_per_s_p1"),
                "promise_percent": line.promise_percent,
                "kept": line.kept,
                "nano_usd": line.nano_usd,
            }
            for line in report.lines
        ],
        "credits": [
            {
                "month": f"{one.month // 100}-{one.month % 100:02}",
                "account": one.account,
                "sla_tier": one.sla_tier,
                "streams": one.streams,
                "streams_in_time": one.streams_in_time,
                "promise_percent": one.promise_percent,
                "charged_nano_usd": one.charged_nano_usd,
                "nano_usd": one.nano_usd,
            }
            for one in report.credits
        ],
        "owed_nano_usd": report.owed_nano_usd,
    }


def _metric_json(one: prices_pb2.Metric) -> dict[str, object]:
    return {
        "name": one.name,
        "value": one.value if one.HasField("value") else None,
        "unit": one.unit,
        "target": one.target if one.HasField("target") else None,
        "comparison": one.comparison,
        "met": one.met if one.HasField("met") else None,
        "note": one.note,
    }


def _review_json(one: prices_pb2.PopReviewLine) -> dict[str, object]:
    known = one.HasField("utilisation_ratio")
    return {
        "pop_id": one.pop_id,
        "tier": one.tier,
        "zone": one.zone,
        "utilisation_ratio": one.utilisation_ratio if known else None,
        "days_seen": one.days_seen,
        "days_under": one.days_under,
        "revenue_nano_usd": one.revenue_nano_usd,
        "cost_nano_usd": one.cost_nano_usd if one.has_cost else None,
        "margin_nano_usd": one.margin_nano_usd if one.has_cost else None,
        "verdict": one.verdict,
        "why": one.why,
    }


def _optional(line: prices_pb2.SlaLine, name: str) -> float | None:
    return getattr(line, name) if line.HasField(name) else None  # type: ignore[arg-type]


def _number(value: float, unit: str) -> str:
    shown = f"{value:,.0f}" if value == round(value) else f"{value:,.1f}"
    return f"{shown} {unit}".rstrip()

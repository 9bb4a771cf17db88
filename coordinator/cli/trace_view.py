"""One trace as a picture in the terminal: latency and cost, part by part, on common axes.

Prints nothing: ``edgeforge trace show`` and ``edgeforge up``'s demonstration print the picture.
"""

from __future__ import annotations

from datetime import UTC, datetime

from protos.domain.pricing import format_usd
from protos.domain.trace import (
    Part,
    Trace,
    TraceAttempt,
    TraceCandidate,
    token_pace,
    waterfall,
)
from protos.domain.usage_record import BillingReason
from protos.output.terminal import Column, Picture, plain, plain_table, stacked

#: Cells of the time axis and of the cost axis.
TIME_CELLS = 48
COST_CELLS = 16
_BILLING_REASONS: dict[str, str] = {
    BillingReason.CHEAPEST: "the cheapest tier in time",
    BillingReason.CHEAPER_FITTED: "the cheapest in time, the serving one was our choice",
    BillingReason.PREDICTED_MISS: "none was predicted in time",
    BillingReason.FREE: "it costs nothing",
}
_FULL, _SLIVER = "█", "▏"
_STYLES = {
    "last mile": "magenta",
    "failed": "red",
    "network": "yellow",
    "queue": "bright_red",
    "load": "yellow",
    "prefill": "blue",
    "answer": "blue",
    "decode": "green",
}


def trace_picture(trace: Trace) -> Picture:
    """Return the whole picture: summary, waterfall, tokens, and candidates of each attempt."""
    parts: list[Picture] = [plain(line) for line in headlines(trace)]
    parts += [plain(""), waterfall_table(trace)]
    tokens = tokens_line(trace)
    if tokens:
        parts.append(plain(tokens))
    for number, attempt in enumerate(trace.attempts, 1):
        parts += [plain(""), plain(_attempt_line(number, attempt)), _candidates_table(attempt)]
    return stacked(parts)


def headlines(trace: Trace) -> list[str]:
    """Return the summary of a trace, a few lines."""
    at = datetime.fromtimestamp(trace.began_unix_ms / 1_000, UTC)
    served = f", served by {trace.node_id} ({trace.pop_id})" if trace.node_id else ""
    lines = [
        f"trace {trace.trace_id}  {at:%Y-%m-%d %H:%M:%S} UTC",
        f"{trace.deployment or trace.path}"
        f" via {trace.ingress_node_id} ({trace.ingress_pop_id})"
        f"{served}: {_outcome(trace)}",
    ]
    if trace.budget_ms > 0.0:
        lines.append(f"budget {trace.budget_ms:.0f} ms: {_budget_kept(trace)}")
    if trace.serving_tier:
        lines.append(
            f"served {trace.serving_tier}, billed {trace.billing_tier}{_why_billed(trace)}: "
            f"${format_usd(trace.cost.total_nano_usd)}, {_card(trace)}"
        )
    if (cold := trace.cold_start) is not None:
        pulled = f", of which {cold.pull_ms:.0f} ms pulled its files" if cold.pull_ms else ""
        lines.append(
            f"cold start: {cold.path} from {cold.residency.replace('_', ' ')}, "
            f"{cold.weights_bytes / 1e6:,.1f} MB in {cold.took_ms:.0f} ms{pulled}"
        )
    if trace.withheld:
        lines.append(f"bound to {', '.join(trace.zones)}: names and texts stay there")
    if trace.usage_exceeded:
        lines.append(f"{trace.node_id} counted more tokens than is possible: billed by our count")
    if trace.clock_jumped:
        lines.append("the wall clock jumped around this request: doubt its date, not its durations")
    return lines


def waterfall_table(trace: Trace) -> Picture:
    """Return the waterfall: a row for each part, with time and cost on common axes."""
    rows = [Part("last mile", 0.0, trace.last_mile_ms)] if trace.last_mile_ms > 0.0 else []
    # The user's time starts one last mile before the agent's.
    rows += [
        Part(part.name, part.began_ms + trace.last_mile_ms, part.took_ms)
        for part in waterfall(trace)
    ]
    whole_ms = max((part.began_ms + part.took_ms for part in rows), default=0.0)
    costs = _cost_by_part(trace)
    whole_nano_usd = sum(costs.values())
    columns = (
        Column("part", footer="sum"),
        Column("ms", footer=f"{whole_ms:.1f}", align="right"),
        Column(f"0 {'─' * (TIME_CELLS - 12)} {whole_ms:.0f} ms", min_width=TIME_CELLS),
        Column("nano-USD", footer=f"{whole_nano_usd:,}", align="right"),
        Column("cost", min_width=COST_CELLS),
    )
    cells = []
    for part in rows:
        style = _STYLES.get(part.name, "cyan")
        nano_usd = costs.get(part.name, 0)
        cells.append(
            (
                part.name,
                f"{part.took_ms:.1f}",
                plain(bar(part.began_ms, part.took_ms, whole_ms, TIME_CELLS), style=style),
                f"{nano_usd:,}" if nano_usd else "",
                plain(bar(0.0, nano_usd, whole_nano_usd, COST_CELLS), style=style),
            )
        )
    return plain_table(columns, cells)


def bar(began: float, took: float, whole: float, cells: int) -> str:
    """Return a bar from ``began`` to ``began + took`` on an axis of ``whole`` over ``cells``.

    A positive value is drawn at least as a sliver; a bar never leaves the axis.
    """
    if whole <= 0.0 or took <= 0.0:
        return ""
    start = min(cells - 1, int(began / whole * cells))
    end = min(cells, round((began + took) / whole * cells))
    return " " * start + (_FULL * (end - start) if end > start else _SLIVER)


def tokens_line(trace: Trace) -> str:
    """Return the numbers of tokens, their cost and their pace; empty for none."""
    usage, cost = trace.usage, trace.cost
    if not (usage.prompt_tokens or usage.completion_tokens or trace.token_gaps_us):
        return ""
    said = (
        f"tokens: {usage.prompt_tokens - usage.cached_tokens} prompt ({cost.prompt_nano_usd:,}"
        f" nano-USD), {usage.cached_tokens} cached ({cost.cached_nano_usd:,}),"
        f" {usage.completion_tokens} completion ({cost.completion_nano_usd:,})"
    )
    pace = token_pace(trace)
    if pace.tokens > 1:
        said += (
            f"; {pace.tokens} seen coming, "
            f"TPOT P50 {pace.tpot_ms_p50:.1f} ms, P99 {pace.tpot_ms_p99:.1f} ms"
        )
    return said


def _cost_by_part(trace: Trace) -> dict[str, int]:
    """Return the cost in nano-USD by the part of the time that it is for."""
    cost = trace.cost
    prompt_nano_usd = cost.prompt_nano_usd + cost.cached_nano_usd
    if trace.first_token_ms is None:
        return {"answer": prompt_nano_usd + cost.completion_nano_usd}
    return {"prefill": prompt_nano_usd, "decode": cost.completion_nano_usd}


def _outcome(trace: Trace) -> str:
    if trace.client_gone:
        return "the client left"
    kind = "stream" if trace.stream else "whole answer"
    if trace.error:
        return f"{trace.status or 'no answer'}, {trace.error}"
    return f"{trace.status}, {kind}"


def _budget_kept(trace: Trace) -> str:
    predicted = ""
    if trace.predicted_ttft_ms_p99 > 0.0:
        predicted = f"; predicted P99 {trace.predicted_ttft_ms_p99:.1f} ms"
        predicted += ", a predicted miss" if trace.predicted_miss else ""
    felt_ms = trace.felt_ttft_ms
    if felt_ms is None:
        return "no first token was seen" + predicted
    kept = "kept" if felt_ms <= trace.budget_ms else "missed"
    return f"{kept}, first token felt after {felt_ms:.1f} ms{predicted}"


def _card(trace: Trace) -> str:
    if not trace.card_version:
        return "not on the price card"
    return f"price card version {trace.card_version}"


def _why_billed(trace: Trace) -> str:
    why = _BILLING_REASONS.get(trace.billing_reason, "")
    return f" ({why})" if why else ""


def _attempt_line(number: int, attempt: TraceAttempt) -> str:
    fitting = sum(one.fits for one in attempt.candidates)
    left_out = f", {attempt.candidates_left_out} more" if attempt.candidates_left_out else ""
    return (
        f"attempt {number}: {attempt.node_id}, {attempt.summary}"
        f" after {attempt.took_ms:.1f} ms; {attempt.budget_left_ms:.0f} ms were left,"
        f" {fitting} of {len(attempt.candidates)} candidates fitted{left_out}"
    )


def _candidates_table(attempt: TraceAttempt) -> Picture:
    names = list(dict.fromkeys(term.name for one in attempt.candidates for term in one.terms))
    columns = ("", "node", "pop", "tier", "P99 ms", *names, "nUSD/1k+1k", "room", "budget")
    rows = []
    for one in attempt.candidates:
        terms = {term.name: term.value_ms for term in one.terms}
        rows.append(
            (
                "->" if one.chosen else "",
                one.node_id,
                one.pop_id,
                str(one.tier),
                f"{one.ttft_ms_p99:.1f}",
                *(f"{terms[name]:.1f}" if name in terms else "-" for name in names),
                f"{one.price_nano_usd_per_1k_tokens:,}"
                if one.price_nano_usd_per_1k_tokens
                else "-",
                str(one.headroom),
                _verdict(one, attempt.budget_left_ms),
            )
        )
    return plain_table(columns, rows)


def _verdict(one: TraceCandidate, budget_left_ms: float) -> str:
    return "fits" if one.fits else f"over by {one.ttft_ms_p99 - budget_left_ms:.1f} ms"

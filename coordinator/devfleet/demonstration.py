"""The demonstration of a new fleet of five sites: four requests, with the placement of each, its
reason, the predicted and the measured first token, and the cost.

All values are real: an unexpected placement is shown as it is, with the deciding agent's reason.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.cli.output import as_json
from coordinator.cli.trace_view import tokens_line, waterfall_table
from coordinator.devfleet import distances
from coordinator.devfleet.streamed_answer import StreamedAnswer, stream_answer
from coordinator.devfleet.waiting import wait_for
from protos.domain.errors import NotFound
from protos.domain.plain_text import escaped
from protos.domain.pricing import format_usd
from protos.output.terminal import as_text, plain, stacked
from protos.v1 import admin_pb2, fleet_pb2
from protos.wire import trace_from_wire

if TYPE_CHECKING:
    from coordinator.cli.client import AdminClient
    from coordinator.devfleet.layout import FleetFacts
    from protos.domain.trace import Trace, TraceAttempt, TraceCandidate

Report = Callable[[str], None]

#: Requests on each path before those shown, to open connections and warm up engines.
WARM_UP_REQUESTS = 3
#: Pause before each request shown: engines share this machine's cores, and vLLM 0.32's worker
#: polls for its next step for a second after each (``SpinCondition`` of ``shm_broadcast.py``).
ENGINES_REST_S = 1.2
_PICTURE_WIDTH = 110
_TRACE_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Case:
    """One request of the demonstration, and the tier that serves it when engines are idle."""

    via: str
    budget_ms: float
    tier: str
    because: str
    #: The tier that serves it when edge nodes with free capacity are preferred.
    filled_tier: str


CASES = (
    Case("GRU", 180.0, "edge", "the others are too far away", "edge"),
    Case("GRU", 2_000.0, "central", "it has the time, and is the cheapest", "edge"),
    Case("BOM", 250.0, "regional", "the only one near enough", "regional"),
    Case("LAG", 80.0, "regional", "none can: the fastest, marked as a predicted miss", "regional"),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one case. ``explanation`` was fetched just before the request, ``trace``
    holds the candidates at its placement.
    """

    case: Case
    expected_tier: str
    explanation: fleet_pb2.RouteExplanation
    answer: StreamedAnswer
    trace: Trace

    @property
    def as_expected(self) -> bool:
        return self.answer.tier == self.expected_tier

    def as_json(self) -> dict[str, object]:
        """Return the object that ``edgeforge demo --json`` prints."""
        answer = self.answer
        return {
            "via": self.case.via,
            "budget_ms": self.case.budget_ms,
            "expected_tier": self.expected_tier,
            "tier": answer.tier,
            "node": answer.node,
            "billing_tier": self.trace.billing_tier,
            "predicted_miss": answer.predicted_miss,
            "predicted_ttft_ms_p99": self.trace.predicted_ttft_ms_p99,
            "ttft_ms": answer.first_token_ms,
            "cost_nano_usd": answer.cost_nano_usd,
            "trace_id": answer.trace_id,
            "explanation": as_json(self.explanation),
        }


def demonstrate(
    client: AdminClient, facts: FleetFacts, api_key: str, report: Report
) -> list[Outcome]:
    """Send the requests and explain them. Raises: EdgeForgeError when one is not answered."""
    deployment = facts.deployments[0].name
    ports = {agent.pop: agent.client_port for agent in facts.agents}
    report(_introduction(facts))
    for case in CASES:
        for _ in range(WARM_UP_REQUESTS):
            stream_answer(ports[case.via], api_key, deployment, case.budget_ms)
    outcomes = []
    for number, case in enumerate(CASES, 1):
        asked = admin_pb2.ExplainRouteRequest(
            deployment=deployment, via=case.via, budget_ms=case.budget_ms
        )
        time.sleep(ENGINES_REST_S)
        explanation = client.call(lambda stub: stub.ExplainRoute, asked)
        answer = stream_answer(ports[case.via], api_key, deployment, case.budget_ms)
        expected = case.filled_tier if facts.edge_fill_ratio > 0 else case.tier
        trace = fetch_trace(client, answer.trace_id, case.via)
        outcome = Outcome(case, expected, explanation, answer, trace)
        outcomes.append(outcome)
        report(f"\n{number}. {describe(outcome)}")
    return outcomes


def describe(outcome: Outcome) -> str:
    """Return the text of one case."""
    case, answer, trace = outcome.case, outcome.answer, outcome.trace
    over_ms = answer.first_token_ms - case.budget_ms
    late = f", {over_ms:.0f} ms over the budget" if over_ms > 0.0 else ""
    missed = " (marked x-edgeforge-predicted-miss)" if answer.predicted_miss else ""
    lines = [
        f"Through {case.via} with {case.budget_ms:,.0f} ms: {_headline(outcome)}",
        *(
            _candidate(one, attempt)
            for attempt in trace.attempts[-1:]
            for one in attempt.candidates
        ),
        f"   first token: P99 predicted {trace.predicted_ttft_ms_p99:.0f} ms,"
        f" came after {answer.first_token_ms:.0f} ms{late}{missed}",
        f"   {answer.text!r} for {format_usd(answer.cost_nano_usd)} USD,"
        f" billed as {trace.billing_tier}",
        picture(trace),
        f"   edgeforge trace show {answer.trace_id}",
    ]
    return "\n".join(lines)


def picture(trace: Trace) -> str:
    """Return the waterfall of latency and cost as plain text."""
    drawn = as_text(stacked((waterfall_table(trace), plain(tokens_line(trace)))), _PICTURE_WIDTH)
    return "\n".join("   " + line.rstrip() for line in drawn.splitlines())


def fetch_trace(client: AdminClient, trace_id: str, via: str) -> Trace:
    """Return a trace, waiting until its agent has written it. Raises: EdgeForgeError."""
    request = admin_pb2.GetTraceRequest(trace_id=trace_id, via=via)
    found: list[Trace] = []

    def kept() -> bool:
        with contextlib.suppress(NotFound):
            found.append(trace_from_wire(client.call(lambda stub: stub.GetTrace, request)))
        return bool(found)

    wait_for(kept, _TRACE_TIMEOUT_S, f"trace {trace_id} to be kept by {via}")
    return found[0]


def _headline(outcome: Outcome) -> str:
    case, answer = outcome.case, outcome.answer
    served = f"{answer.tier} serves ({answer.node})"
    if not outcome.as_expected:
        return (
            f"{served}, not {outcome.expected_tier} as where three engines are idle;"
            f" {escaped(outcome.explanation.summary)}"
        )
    if outcome.expected_tier != case.tier:
        return f"{served}: it is paid for whether used or not, and has room"
    return f"{served}: {case.because}"


def _candidate(one: TraceCandidate, attempt: TraceAttempt) -> str:
    terms = " + ".join(f"{term.name} {term.value_ms:.0f}" for term in one.terms if term.value_ms)
    return (
        f"   {'->' if one.chosen else '  '} {one.node_id:<6} {one.tier.value:<9}"
        f" P99 {one.ttft_ms_p99:4.0f} ms = {terms:<44}"
        f" {one.price_nano_usd_per_1k_tokens / 1_000:.0f} nUSD  {_why(one, attempt)}"
    )


def _why(one: TraceCandidate, attempt: TraceAttempt) -> str:
    over_ms = one.ttft_ms_p99 - attempt.budget_left_ms
    if not one.fits:
        late = f"over the budget by {over_ms:.0f} ms"
        return f"{late}; nothing fits and this is the fastest" if one.chosen else late
    chosen = next((other for other in attempt.candidates if other.chosen), one)
    dearer = one.price_nano_usd_per_1k_tokens - chosen.price_nano_usd_per_1k_tokens
    if one.chosen:
        return "fits; chosen"
    if dearer > 0:
        return f"fits; dearer by {dearer / chosen.price_nano_usd_per_1k_tokens:.0%}"
    return "fits; passed over for an edge node with room"


def _introduction(facts: FleetFacts) -> str:
    rule = "by price alone"
    if facts.edge_fill_ratio > 0:
        rule = f"edge nodes filled to less than {facts.edge_fill_ratio:.0%} are preferred"
    lines = [
        "",
        "Four requests, each with a budget for its first token; placement",
        f"{rule} (edgeforge up --edge-fill).",
        f"Round trips between the sites: {distances.SOURCE};",
        "those of LAG fitted from distance. The last mile is this machine's loopback, near zero,",
        "and the agents' links to the coordinator are direct.",
        f"First {WARM_UP_REQUESTS} requests on each path that are not shown; before each that is,",
        f"{ENGINES_REST_S} s of rest: engines share this machine's cores, and one that has just",
        "answered slows the next.",
    ]
    return "\n".join(lines)

"""What a new fleet of five sites does with four requests, told in the terminal: where each is
placed and why, what was predicted and what came, and what it cost.

Nothing is made up: a placement that turns out otherwise is shown as it is, with the reason that the
deciding agent gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from coordinator.cli.output import as_json, enum_word
from coordinator.devfleet import distances
from coordinator.devfleet.streamed_answer import StreamedAnswer, stream_answer
from protos.domain.pricing import format_usd
from protos.v1 import admin_pb2, fleet_pb2, resources_pb2

if TYPE_CHECKING:
    from coordinator.cli.client import AdminClient
    from coordinator.devfleet.layout import FleetFacts

Tell = Callable[[str], None]

#: Requests on each path before those that are shown: connections are made and engines have run.
WARM_UP_REQUESTS = 3
_BAR_WIDTH = 44


@dataclass(frozen=True, slots=True)
class Case:
    """One request of the demonstration, and who serves it where engines are idle."""

    via: str
    budget_ms: float
    tier: str
    because: str
    #: Who serves it when edge nodes with room are preferred.
    filled_tier: str


CASES = (
    Case("GRU", 180.0, "edge", "the others are too far away", "edge"),
    Case("GRU", 2_000.0, "central", "it has the time, and is the cheapest", "edge"),
    Case("BOM", 250.0, "regional", "the only one near enough", "regional"),
    Case(
        "LAG", 80.0, "regional", "nobody can: the fastest, marked as a predicted miss", "regional"
    ),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one case; ``explanation`` was asked for just before it was sent."""

    case: Case
    expected_tier: str
    explanation: fleet_pb2.RouteExplanation
    answer: StreamedAnswer

    @property
    def as_expected(self) -> bool:
        return self.answer.tier == self.expected_tier

    @property
    def billing_tier(self) -> str:
        return enum_word(resources_pb2.Tier.Name(self.explanation.billing_tier), "TIER_")

    @property
    def predicted_ms(self) -> float:
        """P99 of the node that served, as predicted; 0 when it was no candidate."""
        found = (
            one.ttft_ms_p99
            for one in self.explanation.candidates
            if one.node_id == self.answer.node
        )
        return next(found, 0.0)

    def as_json(self) -> dict[str, object]:
        """Return what ``edgeforge demo --json`` prints of it."""
        answer = self.answer
        return {
            "via": self.case.via,
            "budget_ms": self.case.budget_ms,
            "expected_tier": self.expected_tier,
            "tier": answer.tier,
            "node": answer.node,
            "billing_tier": self.billing_tier,
            "predicted_miss": answer.predicted_miss,
            "predicted_ttft_ms_p99": self.predicted_ms,
            "ttft_ms": answer.first_token_ms,
            "parts_ms": answer.parts_ms,
            "cost_nano_usd": answer.cost_nano_usd,
            "trace_id": answer.trace_id,
            "explanation": as_json(self.explanation),
        }


def demonstrate(client: AdminClient, facts: FleetFacts, api_key: str, tell: Tell) -> list[Outcome]:
    """Send the requests and explain them. Raises: EdgeForgeError when one is not answered."""
    deployment = facts.deployments[0].name
    ports = {agent.pop: agent.client_port for agent in facts.agents}
    tell(_introduction(facts))
    for case in CASES:
        for _ in range(WARM_UP_REQUESTS):
            stream_answer(ports[case.via], api_key, deployment, case.budget_ms)
    outcomes = []
    for number, case in enumerate(CASES, 1):
        asked = admin_pb2.ExplainRouteRequest(
            deployment=deployment, via=case.via, budget_ms=case.budget_ms
        )
        explanation = client.call(lambda stub: stub.ExplainRoute, asked)
        answer = stream_answer(ports[case.via], api_key, deployment, case.budget_ms)
        expected = case.filled_tier if facts.edge_fill_ratio > 0 else case.tier
        outcome = Outcome(case, expected, explanation, answer)
        outcomes.append(outcome)
        tell(f"\n{number}. {describe(outcome)}")
    return outcomes


def describe(outcome: Outcome) -> str:
    """Return the text of one case."""
    case, answer, explanation = outcome.case, outcome.answer, outcome.explanation
    lines = [f"Through {case.via} with {case.budget_ms:,.0f} ms: {_headline(outcome)}"]
    lines += [_candidate(one) for one in explanation.candidates]
    lines.append(
        f"   first token: P99 predicted {outcome.predicted_ms:.0f} ms, came after"
        f" {answer.first_token_ms:.0f} ms"
        + (" (marked x-edgeforge-predicted-miss)" if answer.predicted_miss else "")
    )
    lines.append(
        f"   {answer.text!r} for {format_usd(answer.cost_nano_usd)} USD,"
        f" billed as {outcome.billing_tier}"
    )
    return "\n".join(lines + waterfall(answer))


def waterfall(answer: StreamedAnswer) -> list[str]:
    """Return the parts of the request's time, one under the other."""
    parts = [*answer.parts_ms.items(), ("tokens", answer.whole_ms - answer.first_token_ms)]
    whole_ms = max(answer.whole_ms, sum(took_ms for _, took_ms in parts))
    lines, began_ms = [], 0.0
    for name, took_ms in parts:
        if name == "tokens":
            began_ms = answer.first_token_ms
        start = round(began_ms / whole_ms * _BAR_WIDTH)
        end = max(start + 1, round((began_ms + took_ms) / whole_ms * _BAR_WIDTH))
        bar = " " * start + "█" * (end - start)
        lines.append(f"   {name:<10}{took_ms:8.1f} ms |{bar:<{_BAR_WIDTH}}|")
        began_ms += took_ms
    return lines


def _headline(outcome: Outcome) -> str:
    case, answer = outcome.case, outcome.answer
    served = f"{answer.tier} serves ({answer.node})"
    if not outcome.as_expected:
        return (
            f"{served}, not {outcome.expected_tier} as where every engine is idle and there;"
            f" it decided so: {outcome.explanation.summary}"
        )
    if outcome.expected_tier != case.tier:
        return f"{served}: it is paid for whether used or not, and has room"
    return f"{served}: {case.because}"


def _candidate(one: fleet_pb2.CandidateExplanation) -> str:
    tier = enum_word(resources_pb2.Tier.Name(one.tier), "TIER_")
    terms = " + ".join(f"{term.name} {term.value_ms:.0f}" for term in one.terms if term.value_ms)
    return (
        f"   {'->' if one.chosen else '  '} {one.node_id:<6} {tier:<9}"
        f" P99 {one.ttft_ms_p99:4.0f} ms = {terms:<44}"
        f" {one.price_nano_usd_per_1k_tokens / 1_000:.0f} nUSD  {one.verdict}"
    )


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
        f"First {WARM_UP_REQUESTS} requests on each path that are not shown, ...",
    ]
    return "\n".join(lines)

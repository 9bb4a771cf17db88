"""Counters of the requests that clients sent to this agent, and the metrics made of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.core.demand import Demand
from agent.core.promises import PromisesBySla, Shed
from agent.core.samples import Sample, Samples, counter_samples

if TYPE_CHECKING:
    from agent.core.request.log import RequestLog


@dataclass(slots=True)
class GatewayStats:
    """Plain counters; ``_HELP`` names those that are metrics."""

    requests: int = 0
    in_flight: int = 0
    errors: int = 0
    replaced: int = 0
    clients_gone: int = 0
    predicted_misses: int = 0
    hedges_won: int = 0
    streams_continued: int = 0
    streams_broken: int = 0
    local: int = 0
    to_peers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    usage_exceeded: int = 0
    #: First tokens and shed requests by SLA tier.
    promises: PromisesBySla = field(default_factory=PromisesBySla)
    #: Requests a minute of each deployment.
    demand: Demand = field(default_factory=Demand)

    def finished(self, log: RequestLog) -> None:
        """Count a request that has ended. Hot."""
        self.clients_gone += log.client_gone
        self.replaced += log.replaced
        self.streams_broken += log.broken
        self.streams_continued += log.continued
        if log.error:
            self.errors += 1
        if log.answered:
            self.hedges_won += log.hedge_won
            self.predicted_misses += log.predicted_miss
            if log.by_peer:
                self.to_peers += 1
            else:
                self.local += 1
        self.usage_exceeded += log.usage_exceeded
        usage = log.usage
        self.prompt_tokens += usage.prompt_tokens
        self.completion_tokens += usage.completion_tokens
        if log.shed:
            self.promises.of(log.sla).shed[Shed(log.shed)] += 1
        elif log.deployment:
            promises = self.promises.of(log.sla)
            promises.admitted += 1
            if (felt_ms := log.felt_ttft_ms) is not None:
                promises.first_token(felt_ms, log.budget_ms)

    def samples(self, now_mono_ms: float) -> Samples:
        """Yield the counters, the requests in progress, and the figures by SLA tier."""
        yield from counter_samples("edgeforge_gateway_", self, _HELP)
        yield Sample("edgeforge_gateway_in_flight", "Requests in progress.", float(self.in_flight))
        yield from self.promises.samples(now_mono_ms)

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return requests in progress, and how many were repaired or broken."""
        return {
            "first_byte": {"replaced": self.replaced, "hedges_won": self.hedges_won},
            "streams_continued": self.streams_continued,
            "streams_broken": self.streams_broken,
            "in_flight": self.in_flight,
        }


_HELP = {
    "requests": "Generation requests that clients sent here.",
    "errors": "Requests answered with an error of this agent's.",
    "replaced": "Attempts replaced by another target before the first byte.",
    "clients_gone": "Requests whose client left before the end.",
    "predicted_misses": "Requests that no target was predicted to serve in time.",
    "hedges_won": "Second copies that served their client.",
    "streams_continued": "Broken streams that another replica brought to their end.",
    "streams_broken": "Streams that ended in an error event.",
    "local": "Requests served by this node's own engine.",
    "to_peers": "Requests served by another node.",
    "prompt_tokens": "Prompt tokens of answered requests.",
    "completion_tokens": "Completion tokens of answered requests.",
    "usage_exceeded": "Answers of other hosts with more tokens than are possible, recounted here.",
}

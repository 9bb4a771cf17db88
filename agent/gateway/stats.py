"""Counters of the requests that clients sent to this agent, and the metrics made of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from agent.core.promises import PromisesBySla
from agent.core.samples import Sample, Samples, counter_samples


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
    #: By SLA tier: first tokens, and what was shed beside them.
    promises: PromisesBySla = field(default_factory=PromisesBySla)

    def samples(self, now_mono_ms: float) -> Samples:
        """Yield the counters, the requests in progress, and the figures by SLA tier."""
        yield from counter_samples("edgeforge_gateway_", self, _HELP)
        yield Sample("edgeforge_gateway_in_flight", "Requests in progress.", float(self.in_flight))
        yield from self.promises.samples(now_mono_ms)

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return requests in progress and what was repaired before and after the first byte."""
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
}

"""Heads of what the client gets: the engine's headers that pass, and what we say of the request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.fill import told_fill
from agent.relay.messages import Header, Request, response_head
from agent.relay.sse import find_usage
from protos.domain.pricing import Usage, format_usd

if TYPE_CHECKING:
    from agent.gateway.records import RequestRecord
    from agent.relay.exchange import Exchange
    from agent.relay.server import ServerConnection

#: Headers of an engine that mean something to its client.
_PASSED_ON = frozenset({b"content-type", b"cache-control", b"retry-after"})


class ResponseHeads:
    """Makes the head of a response when its time has come."""

    def __init__(
        self,
        request: Request,
        client: ServerConnection,
        record: RequestRecord,
        node_id: str,
        placed_mono_ms: float,
    ) -> None:
        self._request = request
        self._client = client
        self._record = record
        self._node_id = node_id
        self._placed_mono_ms = placed_mono_ms

    def stream_head(self, status: int, headers: list[Header]) -> bytes:
        """Return the head of a stream."""
        ours = self._headers(headers)
        ours.append((b"transfer-encoding", b"chunked"))
        keep_alive = self._client.may_keep_alive(self._request)
        return response_head(status, ours, keep_alive=keep_alive)

    def whole_headers(self, headers: list[Header], cost_nano_usd: int) -> list[Header]:
        """Return the headers of a response with a length."""
        ours = self._headers(headers)
        ours.append((b"x-edgeforge-cost-usd", format_usd(cost_nano_usd).encode()))
        return ours

    def _headers(self, headers: list[Header]) -> list[Header]:
        record = self._record
        ours = [header for header in headers if header[0] in _PASSED_ON]
        route_ms = self._placed_mono_ms - self._request.first_byte_mono_ms
        ours += [
            (b"x-edgeforge-trace-id", record.trace_id.encode()),
            (b"x-edgeforge-node", self._node_id.encode()),
            (b"x-edgeforge-tier", record.serving_tier.encode()),
            (b"server-timing", b"route;dur=%.3f" % route_ms),
        ]
        if record.predicted_miss:
            ours.append((b"x-edgeforge-predicted-miss", b"true"))
        return ours


def usage_of(exchange: Exchange) -> Usage | None:
    """Return the tokens that the engine counted, as far as it said; None when it did not."""
    if exchange.streamed and exchange.events is not None:
        found = exchange.events.usage()
    else:
        found = find_usage(exchange.body)
    if found is None:
        return None
    prompt = _count(found.get("prompt_tokens"))
    details = found.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else 0
    return Usage(prompt, min(cached, prompt), _count(found.get("completion_tokens")))


@dataclass(frozen=True, slots=True)
class PeerLoad:
    """How loaded a peer says it is."""

    in_flight: int
    queued: int
    fill_ratio: float | None
    draining: bool


def load_of(headers: list[Header]) -> PeerLoad | None:
    """Return the load that a peer put on its response, or None."""
    for name, value in headers:
        if name == b"x-edgeforge-load":
            parts = dict(part.partition(b"=")[::2] for part in value.split(b";"))
            try:
                in_flight, queued = int(parts.get(b"in_flight", 0)), int(parts.get(b"queued", 0))
            except ValueError:
                return None
            fill_ratio = told_fill(parts.get(b"fill"))
            return PeerLoad(in_flight, queued, fill_ratio, parts.get(b"draining") == b"1")
    return None


def _count(value: object) -> int:
    return min(value, 100_000_000) if isinstance(value, int) and value > 0 else 0

"""Heads of what the client gets: the engine's headers that pass, and what we say of the request."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.fill import told_fill
from agent.relay.messages import Header, response_head
from protos.domain.pricing import format_usd
from protos.domain.trace import asked_cuts

if TYPE_CHECKING:
    from agent.gateway.asked import Asked
    from agent.gateway.records import RequestRecord
    from agent.gateway.trail import Trail
    from agent.relay.server import ServerConnection
    from protos.domain.trace import FarTimes

#: Headers of an engine that mean something to its client.
_PASSED_ON = frozenset({b"content-type", b"cache-control", b"retry-after"})


class ResponseHeads:
    """Makes the head of a response when its time has come."""

    def __init__(
        self,
        client: ServerConnection,
        record: RequestRecord,
        trail: Trail,
        asked: Asked,
        now_mono_ms: Callable[[], float],
    ) -> None:
        self._client = client
        self._record = record
        self._trail = trail
        self._asked = asked
        self._now_mono_ms = now_mono_ms

    def stream_head(self, status: int, headers: list[Header]) -> bytes:
        """Return the head of a stream: with its first token."""
        ours = self._headers(headers, stream=True) + self._trail.request.answer_headers()
        ours.append((b"transfer-encoding", b"chunked"))
        keep_alive = self._client.may_keep_alive(self._trail.request)
        return response_head(status, ours, keep_alive=keep_alive)

    def whole_headers(self, headers: list[Header], cost_nano_usd: int) -> list[Header]:
        """Return the headers of a response with a length."""
        ours = self._headers(headers, stream=False)
        ours.append((b"x-edgeforge-cost-usd", format_usd(cost_nano_usd).encode()))
        return ours

    def _headers(self, headers: list[Header], *, stream: bool) -> list[Header]:
        record = self._record
        ours = [header for header in headers if header[0] in _PASSED_ON]
        now = self._now_mono_ms()
        far = self._asked.far_times(headers, now)
        ours += [
            (b"x-edgeforge-node", self._asked.target.node_id.encode()),
            (b"x-edgeforge-tier", self._asked.placement.serving_tier.encode()),
            (b"server-timing", server_timing(self._trail, self._asked, far, now, stream=stream)),
        ]
        if record.predicted_miss:
            ours.append((b"x-edgeforge-predicted-miss", b"true"))
        return ours


def server_timing(
    trail: Trail, asked: Asked, far: FarTimes | None, answered_mono_ms: float, *, stream: bool
) -> bytes:
    """Return where the time until now went, as browsers and tools read it. Durations in ms.

    Source: W3C Server Timing.
    """
    read, began = trail.read_mono_ms, asked.began_mono_ms
    authed = trail.authed_mono_ms or read
    placed = trail.placed_mono_ms or began
    timed = [f"auth;dur={authed - read:.3f}, route;dur={placed - authed:.3f}"]
    at = began
    for name, until in asked_cuts(far, began, answered_mono_ms, stream=stream):
        if until > at:
            timed.append(f"{name};dur={until - at:.3f}")
            at = until
        else:
            timed.append(name + ";dur=0.000")
    return ", ".join(timed).encode()


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

"""Response heads: the engine's headers that are passed on, and EdgeForge's own headers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.core.request.bookkeeping import far_times
from agent.relay.far_times import ENGINE_MODEL_HEADER, REFUSED_HEADER, read_far_times
from agent.relay.passed_on import passed_on_headers
from protos.domain.pricing import format_usd
from protos.domain.trace import asked_cuts

if TYPE_CHECKING:
    from agent.core.request.attempt import Attempt
    from agent.core.request.log import RequestLog
    from agent.relay.messages import Header
    from protos.domain.trace import FarTimes

_MAX_MODEL_CHARS = 512
_EVENT_STREAM = (b"content-type", b"text/event-stream; charset=utf-8")
_JSON = (b"content-type", b"application/json")
_NEAR = b"auth;dur=%.3f, route;dur=%.3f, "
_FAR = _NEAR + b"network;dur=%.3f, admission;dur=%.3f, queue;dur=%.3f, "
_LOADED = _NEAR + b"network;dur=%.3f, admission;dur=%.3f, load;dur=%.3f, queue;dur=%.3f, "
#: The header Server-Timing: whether the times of the target are known, and whether it is a stream.
_SERVER_TIMING = {
    (False, False): _NEAR + b"answer;dur=%.3f",
    (False, True): _NEAR + b"prefill;dur=%.3f",
    (True, False): _FAR + b"answer;dur=%.3f",
    (True, True): _FAR + b"prefill;dur=%.3f",
}


class ResponseHeads:
    """Makes the headers of one response at the time it is sent."""

    __slots__ = ("_log", "limits")

    def __init__(self, log: RequestLog) -> None:
        self._log = log
        #: What the client is told of the limits of its account and key.
        self.limits: list[Header] = []

    def stream(self, attempt: Attempt, headers: list[Header], now_mono_ms: float) -> list[Header]:
        """Return the headers of a stream, which are sent with its first token."""
        return [_EVENT_STREAM, *self._served_by(attempt, headers, now_mono_ms, stream=True)]

    def early_stream(self) -> list[Header]:
        """Return the headers of a stream before it is known which target will serve it."""
        return [_EVENT_STREAM, *self.limits]

    def whole(
        self, attempt: Attempt, headers: list[Header], now_mono_ms: float, cost_nano_usd: int
    ) -> list[Header]:
        """Return the headers of a response with a length."""
        ours = [_JSON, *self._served_by(attempt, headers, now_mono_ms, stream=False)]
        ours.append((b"x-edgeforge-cost-usd", format_usd(cost_nano_usd).encode()))
        return ours

    def _served_by(
        self, attempt: Attempt, headers: list[Header], now_mono_ms: float, *, stream: bool
    ) -> list[Header]:
        log = self._log
        reported = read_far_times(headers) if attempt.place is None else None
        far = far_times(attempt, reported, now_mono_ms)
        ours = passed_on_headers(headers)
        ours += [
            (b"x-edgeforge-node", attempt.node_id.encode()),
            (b"x-edgeforge-tier", attempt.placement.serving_tier.encode()),
            (b"server-timing", server_timing(log, attempt, far, now_mono_ms, stream=stream)),
        ]
        if self.limits:
            ours += self.limits
        if log.predicted_miss:
            ours.append((b"x-edgeforge-predicted-miss", b"true"))
        return ours


def server_timing(
    log: RequestLog,
    attempt: Attempt,
    far: FarTimes | None,
    answered_mono_ms: float,
    *,
    stream: bool,
) -> bytes:
    """Return how the time until now was spent, as a Server-Timing header. Durations in ms.

    Source: W3C Server Timing.
    """
    read, began = log.read_mono_ms, attempt.began_mono_ms
    authed = log.authed_mono_ms or read
    placed = log.placed_mono_ms or began
    durations = [authed - read, placed - authed]
    at = began
    for _, until in asked_cuts(far, began, answered_mono_ms, stream=stream):
        durations.append(max(0.0, until - at))
        at = max(at, until)
    if far is not None and far.load_ms > 0.0:
        return (_LOADED + (b"prefill;dur=%.3f" if stream else b"answer;dur=%.3f")) % tuple(
            durations
        )
    return _SERVER_TIMING[far is not None, stream] % tuple(durations)


def is_refused_by_agent(headers: list[Header]) -> bool:
    """Whether a peer's agent refused the request itself, rather than its engine."""
    return any(name == REFUSED_HEADER for name, _ in headers)


def engine_model_of(headers: list[Header]) -> str:
    """Return the model name of a peer's external engine; empty if the peer does not report it."""
    for name, value in headers:
        if name == ENGINE_MODEL_HEADER:
            return value.decode("latin-1")[:_MAX_MODEL_CHARS]
    return ""

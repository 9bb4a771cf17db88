"""What remains of a finished request on this host: a light record in a bounded ring.

What is heavy (candidates, tokens' times) leaves with the request's trace: ``agent.gateway.trail``.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Attempt:
    """One target that was asked, and how that ended."""

    node_id: str
    outcome: str
    took_ms: float


@dataclass(slots=True)
class RequestRecord:
    """One request at the agent that its client reached."""

    trace_id: str
    began_unix_ms: int
    path: str
    deployment: str = ""
    account: str = ""
    stream: bool = False
    status: int = 0
    error: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    node_id: str = ""
    serving_tier: str = ""
    billing_tier: str = ""
    predicted_miss: bool = False
    budget_ms: float = 0.0
    predicted_ttft_ms_p99: float = 0.0
    #: From the request's first byte to its first token; None for a request without a stream.
    ttft_ms: float | None = None
    took_ms: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nano_usd: int = 0
    client_gone: bool = False
    clock_jumped: bool = False


class RequestRecords:
    """The last ``max_records`` requests, newest last."""

    def __init__(self, max_records: int) -> None:
        self._ring: deque[RequestRecord] = deque(maxlen=max_records)

    def add(self, record: RequestRecord) -> None:
        self._ring.append(record)

    def latest(self, count: int) -> list[RequestRecord]:
        """Return up to ``count`` records, newest first."""
        newest = list(self._ring)[-count:] if count > 0 else []
        return newest[::-1]

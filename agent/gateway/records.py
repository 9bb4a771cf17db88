"""What remains of a finished request on this host: a light record in a bounded ring.

What is heavy (candidates, tokens' times) leaves with the request's trace: ``agent.gateway.trail``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import islice

from protos.domain.service import Service, service_of

#: Requests that a summary looks back on: it is made on the event loop, every 2 s.
MAX_SUMMARISED = 1_000
#: Deployments told one by one; the others are in the whole.
MAX_DEPLOYMENTS = 20


@dataclass(slots=True)
class Attempt:
    """One target that was asked, and how that ended. Written once; not frozen because it is hot."""

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
    sla: str = ""
    account: str = ""
    stream: bool = False
    status: int = 0
    error: str = ""
    #: Why it was refused though it was right in itself; empty: it was not.
    shed: str = ""
    attempts: list[Attempt] = field(default_factory=list)
    node_id: str = ""
    serving_tier: str = ""
    billing_tier: str = ""
    predicted_miss: bool = False
    budget_ms: float = 0.0
    predicted_ttft_ms_p99: float = 0.0
    #: From the request's first byte to its first token; None for a request without a stream.
    ttft_ms: float | None = None
    last_mile_ms: float = 0.0
    took_ms: float = 0.0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_nano_usd: int = 0
    client_gone: bool = False
    clock_jumped: bool = False

    @property
    def felt_ttft_ms(self) -> float | None:
        """What the user felt: the first token's time and the last mile."""
        return None if self.ttft_ms is None else self.ttft_ms + self.last_mile_ms


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

    def latest_json(self, count: int) -> list[dict[str, object]]:
        """Return the same as JSON."""
        return [asdict(record) for record in self.latest(count)]

    def service(self) -> Service:
        """Return how the latest requests were served."""
        return _service(islice(reversed(self._ring), MAX_SUMMARISED))

    def service_by_deployment(self) -> dict[str, Service]:
        """Return the same by deployment, those with most requests first."""
        found: dict[str, list[RequestRecord]] = {}
        for record in islice(reversed(self._ring), MAX_SUMMARISED):
            if record.deployment:
                found.setdefault(record.deployment, []).append(record)
        busiest = sorted(found, key=lambda name: (-len(found[name]), name))
        return {name: _service(found[name]) for name in busiest[:MAX_DEPLOYMENTS]}

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return how the latest requests were served, altogether and by deployment."""
        by_deployment = self.service_by_deployment()
        deployments = {name: _service_status(of) for name, of in by_deployment.items()}
        return {"service": {"all": _service_status(self.service()), "deployments": deployments}}


def _service(records: Iterable[RequestRecord]) -> Service:
    """Leave out what never came as far as a deployment and was not shed: strangers, mistakes."""
    admitted = shed = 0
    first_tokens_ms = []
    for record in records:
        if record.shed:
            shed += 1
        elif record.deployment:
            admitted += 1
        if (felt_ms := record.felt_ttft_ms) is not None:
            first_tokens_ms.append(felt_ms)
    return service_of(first_tokens_ms, admitted=admitted, shed=shed)


def _service_status(service: Service) -> dict[str, object]:
    return asdict(service) | {"shed_ratio": service.shed_ratio, "said": str(service)}

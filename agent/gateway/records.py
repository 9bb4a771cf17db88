"""The latest finished requests on this host, in a bounded ring, and a summary of them.

The large parts of each log (candidates, token times) have been moved to its trace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import asdict
from heapq import merge
from itertools import chain, count, islice
from typing import TYPE_CHECKING

from protos.domain.service import Service, service_of

if TYPE_CHECKING:
    from agent.core.request.log import RequestLog

#: Requests in a summary, which is made on the event loop every 2 s.
MAX_SUMMARISED = 1_000
#: Requests without a valid key that are remembered, apart: a flood of them hides no customer's.
MAX_STRANGERS = 500
#: Deployments that have a summary of their own; all others count only in the total.
MAX_DEPLOYMENTS = 20


class RequestRecords:
    """The last ``max_records`` requests of customers, and some of strangers, newest last."""

    def __init__(self, max_records: int) -> None:
        self._ring: deque[tuple[int, RequestLog]] = deque(maxlen=max_records)
        self._strangers: deque[tuple[int, RequestLog]] = deque(
            maxlen=min(max_records, MAX_STRANGERS)
        )
        self._numbers = count()

    def add(self, log: RequestLog) -> None:
        """Remember ``log``; it is a stranger's without an account. Hot."""
        ring = self._ring if log.account else self._strangers
        ring.append((next(self._numbers), log))

    def latest(self, count: int) -> list[RequestLog]:
        """Return up to ``count`` requests, newest first."""
        newest = merge(reversed(self._ring), reversed(self._strangers), key=_age)
        return [log for _, log in islice(newest, max(0, count))]

    def latest_json(self, count: int) -> list[dict[str, object]]:
        """Return the same as JSON."""
        return [log.as_json() for log in self.latest(count)]

    def service(self) -> Service:
        """Return how the latest requests were served."""
        strangers = (log for _, log in self._strangers)
        return _service(chain(self._customers(), strangers))

    def service_by_deployment(self) -> dict[str, Service]:
        """Return the same by deployment, those with the most requests first."""
        found: dict[str, list[RequestLog]] = {}
        for log in self._customers():
            if log.deployment:
                found.setdefault(log.deployment, []).append(log)
        busiest = sorted(found, key=lambda name: (-len(found[name]), name))
        return {name: _service(found[name]) for name in busiest[:MAX_DEPLOYMENTS]}

    def _customers(self) -> Iterable[RequestLog]:
        return (log for _, log in islice(reversed(self._ring), MAX_SUMMARISED))

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return how the latest requests were served, altogether and by deployment."""
        by_deployment = self.service_by_deployment()
        deployments = {name: _service_status(of) for name, of in by_deployment.items()}
        return {"service": {"all": _service_status(self.service()), "deployments": deployments}}


def _age(numbered: tuple[int, RequestLog]) -> int:
    return -numbered[0]


def _service(logs: Iterable[RequestLog]) -> Service:
    """Ignore requests without a deployment that were not shed: they were not valid."""
    admitted = shed = 0
    first_tokens_ms = []
    for log in logs:
        if log.shed:
            shed += 1
        elif log.deployment:
            admitted += 1
        if (felt_ms := log.felt_ttft_ms) is not None:
            first_tokens_ms.append(felt_ms)
    return service_of(first_tokens_ms, admitted=admitted, shed=shed)


def _service_status(service: Service) -> dict[str, object]:
    return asdict(service) | {"shed_ratio": service.shed_ratio, "said": str(service)}

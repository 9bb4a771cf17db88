"""The service level of a set of requests: first tokens and the share that was shed.

Both are always reported together, since shedding lowers the latency of the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

#: Statuses of requests that were refused for load or for lack of a replica.
SHED_STATUSES = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Service:
    """Numbers of admitted and shed requests, and quantiles of the first token as users felt it.

    ``first_tokens`` of the ``admitted`` were streams whose first token came; without any the
    quantiles are 0.
    """

    admitted: int
    shed: int
    first_tokens: int
    ttft_ms_p50: float
    ttft_ms_p99: float

    @property
    def shed_ratio(self) -> float:
        """Share of the requests that was shed, 0 without any request."""
        asked = self.admitted + self.shed
        return self.shed / asked if asked else 0.0

    def __str__(self) -> str:
        asked = self.admitted + self.shed
        if not asked:
            return "no requests yet"
        said = "no first token"
        if self.first_tokens:
            said = (
                f"first token P50 {self.ttft_ms_p50:.1f} ms, P99 {self.ttft_ms_p99:.1f} ms"
                f" over {self.first_tokens:,} streams"
            )
        return f"{said}; {self.shed:,} of {asked:,} requests shed ({self.shed_ratio:.1%})"


def service_of(first_tokens_ms: Sequence[float], *, admitted: int, shed: int) -> Service:
    """Return the service of requests whose streams' first tokens came after these times."""
    ordered = sorted(first_tokens_ms)
    if not ordered:
        return Service(admitted, shed, 0, 0.0, 0.0)
    p50, p99 = (ordered[ceil(level * len(ordered)) - 1] for level in (0.50, 0.99))
    return Service(admitted, shed, len(ordered), p50, p99)

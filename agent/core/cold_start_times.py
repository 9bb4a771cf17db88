"""What cold starts took, by path and by where the weights were. Pure and bounded."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.samples import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agent.core.cold_start import ColdPath, ColdStart
    from agent.core.samples import Samples
    from protos.domain.resources import Residency

#: Latest cold starts kept of each path and residency.
MAX_KEPT = 512
_GB = 1e9


@dataclass(frozen=True, slots=True)
class ColdStartSummary:
    """Of one path and residency: all since the agent's start, and the latest of them."""

    path: ColdPath
    residency: Residency
    count: int
    p50_ms: float
    p99_ms: float
    ms_per_gb: float


class ColdStartTimes:
    """The latest cold starts."""

    def __init__(self) -> None:
        self._latest: dict[tuple[ColdPath, Residency], deque[ColdStart]] = {}
        self._counts: dict[tuple[ColdPath, Residency], int] = {}

    def add(self, start: ColdStart) -> None:
        """Take one that has ended."""
        key = (start.path, start.residency)
        self._latest.setdefault(key, deque(maxlen=MAX_KEPT)).append(start)
        self._counts[key] = self._counts.get(key, 0) + 1

    def summaries(self) -> Iterator[ColdStartSummary]:
        """Yield each path and residency that occurred; at most 15."""
        for key in sorted(self._latest):
            latest = self._latest[key]
            took = sorted(one.took_ms for one in latest)
            weights_gb = sum(one.weights_bytes for one in latest) / _GB
            yield ColdStartSummary(
                *key,
                count=self._counts[key],
                p50_ms=quantile(took, 0.5),
                p99_ms=quantile(took, 0.99),
                ms_per_gb=sum(took) / weights_gb if weights_gb else 0.0,
            )

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield how many there were, and what they took."""
        for one in self.summaries():
            labels = (("path", one.path.value), ("residency", one.residency.value))
            yield Sample(
                "edgeforge_cold_starts",
                "Models and adapters put into an engine.",
                float(one.count),
                counter=True,
                labels=labels,
            )
            for name, value in (("p50", one.p50_ms), ("p99", one.p99_ms)):
                yield Sample(
                    f"edgeforge_cold_start_{name}_ms",
                    "Of the latest 512.",
                    value,
                    labels=labels,
                )


def quantile(ordered: list[float], share: float) -> float:
    """Return the smallest of ``ordered`` that at least ``share`` of them do not exceed."""
    at = max(0, math.ceil(share * len(ordered)) - 1)
    return ordered[min(at, len(ordered) - 1)]

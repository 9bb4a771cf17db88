"""How much each deployment is asked for at this agent: a moving average of requests a minute. Pure.

The coordinator adds up what agents report and places models by it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

#: A request this long ago counts 1/e of a new one.
WINDOW_MS = 300_000.0
#: Deployments remembered, and reported; the one asked for longest ago is dropped.
MAX_DEPLOYMENTS = 1_024
#: A lower rate is not reported.
_LEAST_PER_MINUTE = 0.01
_MINUTE_MS = 60_000.0


@dataclass(slots=True)
class _Asked:
    count: float
    at_mono_ms: float


class Demand:
    """Requests by deployment. Mutable; used from one event loop."""

    def __init__(self) -> None:
        self._asked: OrderedDict[str, _Asked] = OrderedDict()

    def __len__(self) -> int:
        """Deployments remembered."""
        return len(self._asked)

    def note(self, deployment: str, now_mono_ms: float) -> None:
        """Count a request, whatever becomes of it. Hot."""
        asked = self._asked.get(deployment)
        if asked is None:
            if len(self._asked) >= MAX_DEPLOYMENTS:
                self._asked.popitem(last=False)
            self._asked[deployment] = _Asked(1.0, now_mono_ms)
            return
        asked.count = asked.count * _decay(now_mono_ms - asked.at_mono_ms) + 1.0
        asked.at_mono_ms = now_mono_ms
        self._asked.move_to_end(deployment)

    def per_minute(self, now_mono_ms: float) -> list[tuple[str, float]]:
        """Return each deployment's requests a minute, the most asked for first."""
        rates = [
            (name, rate)
            for name, asked in self._asked.items()
            if (rate := _rate(asked, now_mono_ms)) >= _LEAST_PER_MINUTE
        ]
        return sorted(rates, key=lambda one: (-one[1], one[0]))


def _rate(asked: _Asked, now_mono_ms: float) -> float:
    return asked.count * _decay(now_mono_ms - asked.at_mono_ms) * _MINUTE_MS / WINDOW_MS


def _decay(passed_ms: float) -> float:
    return math.exp(-max(0.0, passed_ms) / WINDOW_MS)

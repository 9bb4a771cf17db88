"""How often each deployment is asked for at each POP, from what agents report. Pure.

An agent is believed up to a bound, for the deployments that exist. A figure follows reports
slowly, so that a plan made from it moves things only for a lasting change, and it decays once its
node is silent.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

#: Deployments that a node may report.
MAX_DEPLOYMENTS = 1_024
#: Most that one node is believed to be asked, of one deployment and of all.
MAX_PER_MINUTE = 60_000.0
MAX_NODE_PER_MINUTE = 300_000.0
#: A figure has followed half of a change after so long.
HALF_LIFE_MS = 120_000.0
#: A node that has not reported for so long is not asked any more.
SILENT_MS = 30_000.0
#: A figure below it is forgotten.
_LEAST_PER_MINUTE = 0.01


@dataclass(slots=True)
class _NodeDemand:
    told: dict[str, float] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    heard_mono_ms: float = -math.inf
    moved_mono_ms: float = 0.0


class DemandTable:
    """Demand by node and deployment; read by POP."""

    def __init__(self) -> None:
        self._nodes: dict[str, _NodeDemand] = {}

    def heard(self, node_id: str, told: Iterable[tuple[str, float]], now_mono_ms: float) -> None:
        """Take a node's report: requests per minute by deployment."""
        node = self._nodes.get(node_id)
        if node is None:
            node = self._nodes[node_id] = _NodeDemand(moved_mono_ms=now_mono_ms)
        self._move(node, now_mono_ms)
        node.told = _believed(told)
        node.heard_mono_ms = now_mono_ms

    def by_pop(
        self, pop_of: Mapping[str, str], deployments: Collection[str], now_mono_ms: float
    ) -> dict[tuple[str, str], float]:
        """Return (POP, deployment) -> requests per minute, rounded so that noise is no change."""
        found: dict[tuple[str, str], float] = {}
        for node_id, node in self._nodes.items():
            pop_id = pop_of.get(node_id)
            self._move(node, now_mono_ms)
            if pop_id is None:
                continue
            for deployment, per_minute in node.figures.items():
                if deployment in deployments:
                    place = pop_id, deployment
                    found[place] = found.get(place, 0.0) + per_minute
        return {place: _rounded(value) for place, value in sorted(found.items()) if value >= 0.05}

    def keep_only(self, node_ids: Collection[str]) -> None:
        """Forget all other nodes."""
        for gone in [node_id for node_id in self._nodes if node_id not in node_ids]:
            del self._nodes[gone]

    def _move(self, node: _NodeDemand, now_mono_ms: float) -> None:
        """Let the figures follow what the node last told, or nothing once it is silent."""
        passed_ms = max(0.0, now_mono_ms - node.moved_mono_ms)
        if passed_ms == 0.0:
            return
        node.moved_mono_ms = now_mono_ms
        told = node.told if now_mono_ms - node.heard_mono_ms <= SILENT_MS else {}
        kept = 0.5 ** (passed_ms / HALF_LIFE_MS)
        moved = {
            name: told.get(name, 0.0) + kept * (node.figures.get(name, 0.0) - told.get(name, 0.0))
            for name in {*node.figures, *told}
        }
        node.figures = {name: value for name, value in moved.items() if value >= _LEAST_PER_MINUTE}


def _believed(told: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Return what counts of a report: the most asked for, each and all within the bounds."""
    finite = {
        name: min(value, MAX_PER_MINUTE)
        for name, value in told
        if math.isfinite(value) and value > 0.0
    }
    most = sorted(finite.items(), key=lambda one: (-one[1], one[0]))[:MAX_DEPLOYMENTS]
    total = sum(value for _, value in most)
    share = min(1.0, MAX_NODE_PER_MINUTE / total) if total else 1.0
    return {name: value * share for name, value in most}


def _rounded(value: float) -> float:
    """Return two significant digits: 0.23, 1.7, 46."""
    digits = 1 - math.floor(math.log10(value))
    return round(value, digits)

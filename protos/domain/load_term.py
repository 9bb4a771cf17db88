"""How long a load takes before a request can be served: learned from cold starts, else assumed.

Pure. A load has a fixed part, a part that grows with the bytes of the weights, and a pull if the
files are not on the node's disk.
"""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from typing import NamedTuple

from protos.domain.resources import Residency


class ColdPath(enum.StrEnum):
    """The ways into an engine, cheapest first."""

    ADAPTER = "adapter"
    SWAP = "swap"
    ENGINE = "engine"


class ColdWay(NamedTuple):
    """How a node would get weights into an engine, and where they are now.

    ``delay_ms``: the load begins so much later, since an engine or a slot is to keep what it has
    until then; negative: it has begun so long ago.
    """

    path: ColdPath
    residency: Residency
    delay_ms: float = 0.0


class LoadTerm(NamedTuple):
    """The load that a request would wait for at a node, part of its predicted first token.

    ``learned``: from enough cold starts; else its P99 is a guess.
    """

    way: ColdWay
    p50_ms: float
    p99_ms: float
    learned: bool = False


#: P99 assumed of each path before any cold start was seen, without the bytes of the weights.
PRIOR_MS = {ColdPath.ADAPTER: 300.0, ColdPath.SWAP: 600.0, ColdPath.ENGINE: 40_000.0}
#: Assumed bytes per millisecond into an engine from where the weights are.
_ENGINE_BYTES_PER_MS = 1_000_000.0
#: Assumed bytes per millisecond to the node's disk; weights that are nearer need no pull.
PULL_BYTES_PER_MS = {Residency.PEER: 100_000.0, Residency.ORIGIN: 25_000.0}
#: Median over P99 of what is assumed.
_PRIOR_P50_RATIO = 0.6
#: Cold starts remembered of each kind; the P99 of so few is the longest.
WINDOW = 32
#: Cold starts after which what is assumed no longer holds a prediction up.
SETTLED = 8
#: Kinds remembered; the one unused for longest is dropped.
MAX_KINDS = 2_048
#: A cold start that is said to have taken longer counts as this.
MAX_LOAD_MS = 3_600_000.0
#: Part of its P99 that a load in progress is still expected to take, however long it has lasted.
LEAST_LEFT_RATIO = 0.1
#: Any node: the kind of all cold starts of a way.
_ANY_NODE = ""


class _Seen(NamedTuple):
    weights_bytes: int
    load_ms: float
    pull_ms: float


class LoadTerms:
    """Cold starts seen, by node and way. Mutable; used from one event loop."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, ColdWay], deque[_Seen]] = OrderedDict()

    def __len__(self) -> int:
        """Kinds remembered."""
        return len(self._seen)

    def learn(
        self, node_id: str, way: ColdWay, weights_bytes: int, took_ms: float, pull_ms: float = 0.0
    ) -> None:
        """Take a cold start at ``node_id``; ``pull_ms`` of ``took_ms`` was its pull."""
        took_ms = min(max(0.0, took_ms), MAX_LOAD_MS)
        pull_ms = min(max(0.0, pull_ms), took_ms)
        seen = _Seen(max(0, weights_bytes), took_ms - pull_ms, pull_ms)
        for key in ((node_id, way), (_ANY_NODE, way)):
            window = self._seen.get(key)
            if window is None:
                if len(self._seen) >= MAX_KINDS:
                    self._seen.popitem(last=False)
                window = self._seen[key] = deque(maxlen=WINDOW)
            window.append(seen)
            self._seen.move_to_end(key)

    def expect(self, node_id: str, way: ColdWay, weights_bytes: int) -> LoadTerm:
        """Return the load of ``weights_bytes`` at ``node_id``. Not for targets that are warm.

        From the node's own cold starts of this way, else from all nodes', else assumed. Until
        there are ``SETTLED``, the P99 is not below what is assumed. Then the delay is added.
        """
        term = self._expect(node_id, way._replace(delay_ms=0.0), weights_bytes)
        if not way.delay_ms:
            return term
        least_ms = LEAST_LEFT_RATIO * term.p99_ms if way.delay_ms < 0 else 0.0
        p50_ms, p99_ms = (
            min(MAX_LOAD_MS, max(least_ms, each + way.delay_ms))
            for each in (term.p50_ms, term.p99_ms)
        )
        return LoadTerm(way, p50_ms, p99_ms, term.learned)

    def _expect(self, node_id: str, way: ColdWay, weights_bytes: int) -> LoadTerm:
        prior_ms = prior_load_ms(way, weights_bytes)
        window = self._seen.get((node_id, way)) or self._seen.get((_ANY_NODE, way))
        if not window:
            return LoadTerm(way, _PRIOR_P50_RATIO * prior_ms, prior_ms)
        ordered = sorted(_scaled_ms(seen, way, weights_bytes) for seen in window)
        longest_ms = ordered[-1]
        if not (is_settled := len(ordered) >= SETTLED):
            longest_ms = max(longest_ms, prior_ms)
        return LoadTerm(way, ordered[(len(ordered) - 1) // 2], longest_ms, is_settled)

    def forget_all_but(self, nodes: frozenset[str]) -> None:
        """Drop what is known of nodes that have left the table."""
        for key in [key for key in self._seen if key[0] and key[0] not in nodes]:
            del self._seen[key]


def credible_load_ms(told_ms: float, waited_ms: float, warm_ms: float) -> float:
    """Return what a load took that a node reports, as far as who asked for it can tell.

    ``waited_ms`` passed until the answer began, of which at most about ``warm_ms`` without a load:
    a node that calls its loads short would be asked again and again.
    """
    return min(waited_ms, max(told_ms, waited_ms - warm_ms))


def prior_load_ms(way: ColdWay, weights_bytes: int) -> float:
    """Return the P99 assumed of a load before any was seen."""
    load_ms = PRIOR_MS[way.path]
    if way.residency not in (Residency.DEVICE, Residency.HOST_MEMORY):
        load_ms += weights_bytes / _ENGINE_BYTES_PER_MS
    rate = PULL_BYTES_PER_MS.get(way.residency)
    return min(MAX_LOAD_MS, load_ms if rate is None else load_ms + weights_bytes / rate)


def _scaled_ms(seen: _Seen, way: ColdWay, weights_bytes: int) -> float:
    """Return what the cold start would have taken with ``weights_bytes``.

    What exceeds the fixed part of its path, and its pull, grow with the bytes.
    """
    ratio = weights_bytes / seen.weights_bytes if seen.weights_bytes > 0 else 1.0
    fixed_ms = min(seen.load_ms, PRIOR_MS[way.path])
    scaled_ms = fixed_ms + ratio * (seen.load_ms - fixed_ms + seen.pull_ms)
    return min(MAX_LOAD_MS, scaled_ms)

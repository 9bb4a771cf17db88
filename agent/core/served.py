"""This node's own count of what it served for other agents, by account and asking node. Pure.

The asking agent bills its client; this count comes from the engine itself, without the asking
agent, so the two can be compared. It is kept in memory only, and starts at zero with the agent.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import asdict, dataclass
from itertools import islice
from typing import TYPE_CHECKING

from agent.core.samples import Samples, counter_samples

if TYPE_CHECKING:
    from protos.domain.pricing import Usage

#: Limit of (account, asking node) pairs; the least recently served are summed in one line.
MAX_PAIRS = 8_192
#: Limit of (minute, asking node, account, deployment); the oldest are dropped.
MAX_MINUTES = 16_384
#: Of them in one answer.
MAX_TOLD_MINUTES = 1_000
_MINUTE_MS = 60_000
#: Limit of single requests that are remembered.
MAX_RECORDS = 1_000
#: Limit of nodes whose invalid requests are counted by node.
MAX_FLAGGED = 1_024
#: A node's invalid requests are logged at most this often.
LOG_EVERY_MS = 60_000.0

_HELP = {
    "requests": "Requests of other agents that this node's engine answered, whole or in part.",
    "prompt_tokens": "Prompt tokens served for other agents.",
    "cached_tokens": "Prompt tokens of them that were in the engine's cache.",
    "completion_tokens": "Completion tokens served for other agents.",
}


@dataclass(slots=True)
class Totals:
    """Sums of requests and of the engine's own count of tokens."""

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0

    def count(self, usage: Usage) -> None:
        """Add one request."""
        self.requests += 1
        self.prompt_tokens += usage.prompt_tokens
        self.cached_tokens += usage.cached_tokens
        self.completion_tokens += usage.completion_tokens

    def add(self, other: Totals) -> None:
        """Add the sums of ``other``."""
        self.requests += other.requests
        self.prompt_tokens += other.prompt_tokens
        self.cached_tokens += other.cached_tokens
        self.completion_tokens += other.completion_tokens


@dataclass(slots=True)
class ServedRecord:
    """One request of another agent, under the trace id that the asking agent gave it."""

    trace_id: str
    asking_node: str
    account: str
    deployment: str
    model: str
    path: str
    #: Of the engine's response; 0: none.
    status: int
    #: Whether the whole response was passed on.
    complete: bool
    began_unix_ms: int
    took_ms: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int


@dataclass(slots=True)
class _Flag:
    """A node's invalid requests. ``logged_mono_ms`` is when one was logged last."""

    count: int = 0
    reason: str = ""
    logged_mono_ms: float = float("-inf")


class ServedLedger:
    """What this node served for whom. Mutable; used from one event loop."""

    def __init__(
        self,
        max_pairs: int = MAX_PAIRS,
        max_records: int = MAX_RECORDS,
        max_flagged: int = MAX_FLAGGED,
    ) -> None:
        self._max_pairs = max_pairs
        self._max_flagged = max_flagged
        self.total = Totals()
        #: The sum of the pairs that were dropped.
        self.dropped = Totals()
        self._pairs: OrderedDict[tuple[str, str], Totals] = OrderedDict()
        #: By minute of the beginning, asking node, account and deployment.
        self._minutes: OrderedDict[tuple[int, str, str, str], Totals] = OrderedDict()
        self._flags: OrderedDict[str, _Flag] = OrderedDict()
        self._records: deque[ServedRecord] = deque(maxlen=max_records)

    def served(self, record: ServedRecord, usage: Usage) -> None:
        """Count a request that reached the engine. Hot."""
        self._records.append(record)
        self.total.count(usage)
        pairs, key = self._pairs, (record.account, record.asking_node)
        of_pair = pairs.get(key)
        if of_pair is None:
            of_pair = pairs[key] = Totals()
            if len(pairs) > self._max_pairs:
                _, least_recent = pairs.popitem(last=False)
                self.dropped.add(least_recent)
        else:
            pairs.move_to_end(key)
        of_pair.count(usage)
        began_unix_ms = record.began_unix_ms
        minute_unix_ms = began_unix_ms - began_unix_ms % _MINUTE_MS
        minute = (minute_unix_ms, record.asking_node, record.account, record.deployment)
        sums = self._minutes.get(minute)
        if sums is None:
            sums = self._minutes[minute] = Totals()
            if len(self._minutes) > MAX_MINUTES:
                self._minutes.popitem(last=False)
        sums.count(usage)

    def flag(self, node_id: str, reason: str, now_mono_ms: float) -> bool:
        """Count a request that no agent of ours sends; return whether to log it now."""
        flags = self._flags
        flag = flags.get(node_id)
        if flag is None:
            flag = flags[node_id] = _Flag()
            if len(flags) > self._max_flagged:
                flags.popitem(last=False)
        flags.move_to_end(node_id)
        flag.count += 1
        flag.reason = reason
        if now_mono_ms - flag.logged_mono_ms < LOG_EVERY_MS:
            return False
        flag.logged_mono_ms = now_mono_ms
        return True

    def of(self, account: str, asking_node: str) -> Totals:
        """Return what was served for ``account`` on behalf of one node."""
        return self._pairs.get((account, asking_node)) or Totals()

    def as_json(self, records: int) -> dict[str, object]:
        """Return all sums, and up to ``records`` single requests, newest first."""
        newest = list(self._records)[-records:] if records > 0 else []
        return {
            "total": asdict(self.total),
            "accounts": [
                {"account": account, "asking_node": node, **asdict(of_pair)}
                for (account, node), of_pair in sorted(self._pairs.items())
            ],
            "minutes": [
                {
                    "minute_unix_ms": minute_unix_ms,
                    "asking_node": node,
                    "account": account,
                    "deployment": deployment,
                    **asdict(sums),
                }
                for (minute_unix_ms, node, account, deployment), sums in self._newest_minutes()
            ],
            "dropped": asdict(self.dropped),
            "flagged": self._flagged(),
            "requests": [asdict(one) for one in reversed(newest)],
        }

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return the nodes whose requests were invalid."""
        return {"flagged_peers": self._flagged()}

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield the sums of all accounts."""
        yield from counter_samples("edgeforge_peer_served_", self.total, _HELP)

    def _newest_minutes(self) -> list[tuple[tuple[int, str, str, str], Totals]]:
        return list(islice(reversed(self._minutes.items()), MAX_TOLD_MINUTES))

    def _flagged(self) -> dict[str, dict[str, object]]:
        return {
            node_id: {"count": flag.count, "last_reason": flag.reason}
            for node_id, flag in sorted(self._flags.items())
        }

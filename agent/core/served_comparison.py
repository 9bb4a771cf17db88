"""Whether serving agents have counted what this agent bills of their answers. Pure.

Each whole answer of a peer says at its end what its agent has counted. This agent reads the same
answer for itself; where the two differ, one of them counts wrongly, or the count was changed.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from agent.core.samples import Sample, Samples

if TYPE_CHECKING:
    from protos.domain.pricing import Usage

#: Limit of nodes whose differences are kept; the one whose last is the oldest is dropped.
MAX_NODES = 1_024
#: A node's differences are logged at most this often.
LOG_EVERY_MS = 60_000.0


@dataclass(slots=True)
class Difference:
    """The answers of one node of which two counts differ, and the last of them."""

    answers: int = 0
    trace_id: str = ""
    billed_tokens: int = 0
    served_tokens: int = 0
    logged_mono_ms: float = float("-inf")


class ServedComparison:
    """The comparisons of one agent. Used from one event loop."""

    def __init__(self, max_nodes: int = MAX_NODES) -> None:
        self._max_nodes = max_nodes
        self.agreed = 0
        self.differed = 0
        self._by_node: OrderedDict[str, Difference] = OrderedDict()

    def compare(
        self, node_id: str, trace_id: str, billed: Usage, served: Usage, now_mono_ms: float
    ) -> Difference | None:
        """Compare two counts of one answer; return a difference that is to be logged now. Hot."""
        if (
            billed.completion_tokens == served.completion_tokens
            and billed.prompt_tokens == served.prompt_tokens
            and billed.cached_tokens == served.cached_tokens
        ):
            self.agreed += 1
            return None
        self.differed += 1
        found = self._by_node.pop(node_id, None) or Difference()
        self._by_node[node_id] = found
        if len(self._by_node) > self._max_nodes:
            self._by_node.popitem(last=False)
        found.answers += 1
        found.trace_id = trace_id
        found.billed_tokens = billed.prompt_tokens + billed.completion_tokens
        found.served_tokens = served.prompt_tokens + served.completion_tokens
        if now_mono_ms - found.logged_mono_ms < LOG_EVERY_MS:
            return None
        found.logged_mono_ms = now_mono_ms
        return found

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield how many answers were compared, by whether the counts were equal."""
        for result, count in (("agreed", self.agreed), ("differed", self.differed)):
            yield Sample(
                "edgeforge_gateway_counts_compared",
                "Answers of other hosts whose count was compared with this agent's own.",
                float(count),
                counter=True,
                labels=(("result", result),),
            )

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return the nodes with differences, and the last of each."""
        found = {node_id: asdict(one) for node_id, one in self._by_node.items()}
        for one in found.values():
            del one["logged_mono_ms"]
        return {
            "counts_compared": {
                "agreed": self.agreed,
                "differed": self.differed,
                "nodes": found,
            }
        }

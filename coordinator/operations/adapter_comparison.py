"""Asks engines of the fleet for the answers of two adapters to the same prompts."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from coordinator.core.answer_comparison import ANSWER_TOKENS, PROMPTS, comparison_of
from protos.domain.errors import Conflict, EdgeForgeError
from protos.domain.resources import ReplicaState

if TYPE_CHECKING:
    from coordinator.operations.use_case import OperationsParts
    from protos.domain.resources import Adapter

#: Pairs of nodes that are asked before the comparison has failed.
_MAX_TRIES = 3


async def compare_adapters(parts: OperationsParts, old: Adapter, new: Adapter) -> str:
    """Return how the answers of ``new`` compare with those of ``old``, in one sentence.

    Raises: Conflict while no engine serves one of them; LinkDown, EngineFailed, DeadlineExceeded.
    """
    olds, news = (_serving(parts, one) for one in (old, new))
    # One node has one kind of device, whose rounding is the same for both.
    pairs = sorted(product(olds, news), key=lambda pair: pair[0] != pair[1])
    failure: EdgeForgeError | None = None
    for old_node, new_node in pairs[:_MAX_TRIES]:
        try:
            before = [await _answer(parts, old_node, old, prompt) for prompt in PROMPTS]
            after = [await _answer(parts, new_node, new, prompt) for prompt in PROMPTS]
        except EdgeForgeError as error:
            failure = error
            continue
        return comparison_of(old.name, before, after)
    assert failure is not None
    raise failure


def _serving(parts: OperationsParts, adapter: Adapter) -> list[str]:
    """Return the nodes that serve an adapter now. Raises: Conflict without one."""
    replicas = parts.store.view().adapter_replicas.get(adapter.name, {})
    nodes = sorted(node for node, one in replicas.items() if one.state is ReplicaState.READY)
    if not nodes:
        raise Conflict(
            f"no engine serves {adapter.name} now",
            "deploy both adapters, and compare them once they serve",
        )
    return nodes


async def _answer(parts: OperationsParts, node_id: str, adapter: Adapter, prompt: str) -> str:
    found = await parts.agents.canary(
        node_id, adapter.model, adapter=adapter.name, prompt=prompt, max_tokens=ANSWER_TOKENS
    )
    return found.text

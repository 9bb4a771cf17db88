"""Estimates which prompt prefixes each engine holds in its prefix cache. Pure.

A prompt is cut into blocks of bytes, each hashed together with all blocks before it, because an
engine reuses a block only after the same prefix. There is no tokenizer: bytes are assumed to be
proportional to tokens. The hash is Python's own, with a new key in each process, so a client cannot
construct a collision; a collision would only make one prediction wrong.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from agent.core.samples import Sample, Samples

if TYPE_CHECKING:
    from protos.domain.resources import Replica

#: About four engine blocks of 16 tokens: shorter prefixes are not worth a place in memory.
BLOCK_BYTES = 256
#: Only this much of a prompt is hashed, about 32,000 tokens; the rest counts as not cached.
MAX_HASHED_BYTES = 128 * 1024
#: Limit of blocks remembered for one replica (2 MiB of text), and for all (about 20 MB of memory).
MAX_REPLICA_BLOCKS = 8_192
MAX_BLOCKS = 131_072
#: A prefix not seen for so long has probably been evicted.
FORGET_AFTER_MS = 600_000.0
#: Share of an expected hit that an engine reuses, before its first report of a hit. It is below 1
#: because the engine's block boundaries differ from ours.
PRIOR_HIT_RATIO = 0.9
#: Weight of a new observation in the moving average, and the lower bound of the average: an
#: estimate of zero could never be corrected.
_LEARNING_RATE = 0.1
_MIN_HIT_RATIO = 0.05


@dataclass(slots=True)
class PromptBlocks:
    """The chained hashes of one prompt, and how many bytes the whole prompt has.

    Written once; not frozen because it is hot.
    """

    chain: tuple[int, ...]
    total_bytes: int


#: For prompts that are not tracked.
NO_BLOCKS = PromptBlocks((), 0)


def prompt_blocks(
    prompt: bytes, model: str, account: str, total_bytes: int | None = None
) -> PromptBlocks:
    """Cut and hash ``prompt``; another model or account gives other hashes. Hot: 7 us for 8 KB.

    ``total_bytes``: of the whole prompt, where ``prompt`` is only its beginning.
    """
    link = hash((model, account))
    chain = []
    for start in range(0, min(len(prompt), MAX_HASHED_BYTES) - BLOCK_BYTES + 1, BLOCK_BYTES):
        link = hash((link, prompt[start : start + BLOCK_BYTES]))
        chain.append(link)
    return PromptBlocks(tuple(chain), len(prompt) if total_bytes is None else total_bytes)


@dataclass(slots=True)
class _Replica:
    """``blocks``: hash -> when it was last seen (mono ms), the least recent first."""

    generation: int
    blocks: OrderedDict[int, float] = field(default_factory=OrderedDict)
    hit_ratio: float = PRIOR_HIT_RATIO
    #: Whether the engine has ever reported a hit; some engines never report any.
    reports_hits: bool = False


class PrefixMemory:
    """Prompt blocks seen by each replica. Mutable; used from one event loop.

    A replica is a (node, model). The first block of a prompt is always at least as recent as the
    next one, so the blocks of a prompt that are still remembered are a prefix of it.
    """

    def __init__(self, max_blocks: int = MAX_BLOCKS) -> None:
        self._max_blocks = max_blocks
        self._replicas: OrderedDict[tuple[str, str], _Replica] = OrderedDict()
        #: The same replicas by model and node.
        self._by_model: dict[str, dict[str, _Replica]] = {}
        self._size = 0

    def __len__(self) -> int:
        """Blocks remembered, all replicas together."""
        return self._size

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield how many blocks are remembered."""
        yield Sample(
            "edgeforge_prefix_blocks",
            "Blocks of prompts remembered, all engines together.",
            float(self._size),
        )

    def status(self, _now_mono_ms: float) -> dict[str, object]:
        """Return how many blocks are remembered."""
        return {"prefix_blocks": self._size}

    def record(
        self, node_id: str, model: str, generation: int, prompt: PromptBlocks, now_mono_ms: float
    ) -> None:
        """Record that a request with ``prompt`` was sent there. Hot: 0.1 us a block."""
        if not prompt.chain:
            return
        replica = self._of(node_id, model, generation)
        blocks = replica.blocks
        before = len(blocks)
        for link in reversed(prompt.chain):
            blocks[link] = now_mono_ms
            blocks.move_to_end(link)
        while len(blocks) > MAX_REPLICA_BLOCKS:
            blocks.popitem(last=False)
        self._size += len(blocks) - before
        while self._size > self._max_blocks:
            self._forget_some()

    def cached_ratios(
        self,
        model: str,
        replicas: Mapping[str, Replica],
        prompt: PromptBlocks,
        now_mono_ms: float,
    ) -> dict[str, float]:
        """Return the share of ``prompt`` expected in the cache of each of ``replicas``. Hot.

        Omits replicas where none of it is expected.
        """
        known = self._by_model.get(model)
        found: dict[str, float] = {}
        if known is None or not prompt.chain:
            return found
        first, oldest = prompt.chain[0], now_mono_ms - FORGET_AFTER_MS
        for node_id, replica in known.items():
            seen_mono_ms = replica.blocks.get(first)
            if seen_mono_ms is None or seen_mono_ms < oldest:
                continue
            now_there = replicas.get(node_id)
            if now_there is not None and now_there.generation == replica.generation:
                found[node_id] = _share(replica, prompt, now_mono_ms) * replica.hit_ratio
        return found

    def report_hit(
        self, node_id: str, model: str, expected_ratio: float, cached_ratio: float
    ) -> None:
        """Learn from the share of a prompt that the engine reported as cached.

        Ignores zeros from an engine that has never reported a hit: it may not report them at all.
        """
        replica = self._replicas.get((node_id, model))
        if replica is None or expected_ratio <= 0.0:
            return
        replica.reports_hits = replica.reports_hits or cached_ratio > 0.0
        if not replica.reports_hits:
            return
        # expected_ratio was already multiplied by hit_ratio
        ratio = min(1.0, cached_ratio / expected_ratio * replica.hit_ratio)
        average = replica.hit_ratio + _LEARNING_RATE * (ratio - replica.hit_ratio)
        replica.hit_ratio = max(_MIN_HIT_RATIO, average)

    def hit_ratio(self, node_id: str, model: str) -> float:
        """Return the learned share of an expected hit that the engine really reuses."""
        replica = self._replicas.get((node_id, model))
        return PRIOR_HIT_RATIO if replica is None else replica.hit_ratio

    def forget(self, node_id: str) -> None:
        """Drop all blocks of the node, whose engine may have been restarted."""
        for key in [key for key in self._replicas if key[0] == node_id]:
            self._drop(key)

    def forget_all_but(self, node_ids: Iterable[str]) -> None:
        """Drop the nodes that have left the table."""
        kept = frozenset(node_ids)
        for key in [key for key in self._replicas if key[0] not in kept]:
            self._drop(key)

    def _of(self, node_id: str, model: str, generation: int) -> _Replica:
        key = (node_id, model)
        replica = self._replicas.get(key)
        if replica is None or replica.generation != generation:
            if replica is not None:
                self._drop(key)
            replica = self._replicas[key] = _Replica(generation)
            self._by_model.setdefault(model, {})[node_id] = replica
        self._replicas.move_to_end(key)
        return replica

    def _drop(self, key: tuple[str, str]) -> None:
        node_id, model = key
        self._size -= len(self._replicas.pop(key).blocks)
        of_model = self._by_model[model]
        del of_model[node_id]
        if not of_model:
            del self._by_model[model]

    def _forget_some(self) -> None:
        """Drop the oldest block of the replica that has been unused for longest."""
        key, replica = next(iter(self._replicas.items()))
        replica.blocks.popitem(last=False)
        self._size -= 1
        if not replica.blocks:
            self._drop(key)


def _share(replica: _Replica, prompt: PromptBlocks, now_mono_ms: float) -> float:
    """Return the share of ``prompt`` that is remembered, by binary search: it is a prefix."""
    blocks, chain, oldest = replica.blocks, prompt.chain, now_mono_ms - FORGET_AFTER_MS
    count = len(chain)
    # In the common case, the next turn of a conversation, all blocks are remembered.
    if blocks.get(chain[-1], -math.inf) < oldest:
        count = bisect_left(chain, True, key=lambda link: blocks.get(link, -math.inf) < oldest)
    return count * BLOCK_BYTES / prompt.total_bytes

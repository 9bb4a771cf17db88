"""Results for one target, of functions that work on all targets at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.learned_ttft import P99, evidence_of, learned_ms, predict_from
from tests.support.fleets import replica

if TYPE_CHECKING:
    from agent.core.live import LiveState
    from agent.core.prefixes import PrefixMemory, PromptBlocks
    from protos.domain.predictor import TargetModel
    from protos.domain.regimes import Load
    from protos.domain.router import TargetState
    from protos.domain.ttft import Network, Prediction


def seen_target(
    live: LiveState,
    node_id: str,
    now_mono_ms: float,
    *,
    warm: bool,
    cached_ratio: float = 0.0,
    allow_late: bool = False,
) -> TargetState:
    """Return the state of ``node_id`` for the router."""
    cached = {node_id: cached_ratio} if cached_ratio else {}
    found = live.targets((node_id,), now_mono_ms, lambda _: warm, cached, allow_late=allow_late)
    return found[node_id]


def cached_ratio(
    memory: PrefixMemory,
    node_id: str,
    model: str,
    generation: int,
    prompt: PromptBlocks,
    now_mono_ms: float,
) -> float:
    """Return the share of ``prompt`` that is expected in the cache of one replica."""
    of_one = {node_id: replica(node_id, model=model, generation=generation)}
    return memory.cached_ratios(model, of_one, prompt, now_mono_ms).get(node_id, 0.0)


def predict_learned(target: TargetModel, load: Load, network: Network) -> Prediction:
    """Predict from the outcomes of ``target``, as placement does."""
    evidence = evidence_of(target, load.backlog_tokens, load.waiting, load.progress_ms)
    p99 = network.total_ms + learned_ms(evidence, P99, *load)
    return predict_from(evidence, load, network, p99)

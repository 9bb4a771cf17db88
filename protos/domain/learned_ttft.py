"""The first token of a target that this agent has outcomes of, term by term."""

from __future__ import annotations

from operator import mul
from typing import TYPE_CHECKING

from protos.domain.regimes import FEATURES, TOKENS_UNIT, Evidence, place_of
from protos.domain.ttft import Prediction

if TYPE_CHECKING:
    from protos.domain.predictor import TargetModel
    from protos.domain.regimes import Load
    from protos.domain.ttft import Network

#: Names of the terms of ``predict_from``. ``progress`` is not above 0: what of the time of the
#: prompts ahead has passed already.
LEARNED_TERMS = ("rtt", "handshake", "transfer", *FEATURES, "progress")

#: Which coefficients of a regime are whose.
QUANTILES = MEDIAN, P95, P99 = 0, 1, 2
_BEHIND, _FULL = 2 * len(QUANTILES), 3 * len(QUANTILES)
#: While outcomes are few a prediction lies within this factor of the profile's; each further
#: outcome multiplies the factor by as much, until ``SETTLED_OUTCOMES`` more have come.
HANDOVER_FACTOR, SETTLED_OUTCOMES = 2.0, 12


def evidence_of(
    target: TargetModel, backlog_tokens: float, waiting: float, progress_ms: float
) -> Evidence:
    """Return what ``target`` has taught of such a load. Hot.

    It is of the regime that the load is in, and of every lighter one.
    """
    return target.evidence[place_of(backlog_tokens, waiting)]


def learned_ms(
    evidence: Evidence,
    quantile: int,
    prompt_tokens: float,
    in_flight: float,
    backlog_tokens: float,
    waiting: float,
    progress_ms: float,
) -> float:
    """Return one quantile of the time at the target, without the way there. Hot.

    However little a heavier regime has seen, and however long the prompts ahead have been on their
    way, a token never comes sooner than it would with less ahead.
    """
    prompt = prompt_tokens / TOKENS_UNIT
    engine_ms, prompt_ms, batch_ms, backlog_ms, queue_ms = evidence[quantile]
    free_ms = engine_ms + prompt_ms * prompt + batch_ms * in_flight
    regimes = len(evidence)
    if regimes < _BEHIND:
        return free_ms
    backlog = backlog_tokens / TOKENS_UNIT
    engine_ms, prompt_ms, batch_ms, backlog_ms, queue_ms = evidence[quantile + 3]
    behind_ms = engine_ms + prompt_ms * prompt + batch_ms * in_flight + backlog_ms * backlog
    if regimes < _FULL:
        behind_ms -= progress_ms
        return behind_ms if behind_ms > free_ms else free_ms
    engine_ms, prompt_ms, batch_ms, backlog_ms, queue_ms = evidence[quantile + 6]
    full_ms = engine_ms + prompt_ms * prompt + batch_ms * in_flight
    full_ms += backlog_ms * backlog + queue_ms * waiting
    if full_ms > behind_ms and full_ms > free_ms:
        return full_ms
    return behind_ms if behind_ms > free_ms else free_ms


def handed_over_ms(learned_ms_p99: float, profile_ms_p99: float, more_outcomes: int) -> float:
    """Return a P99 on its way from the profile's to the learned one.

    ``more_outcomes`` have come since outcomes were enough to predict from. So no single outcome
    moves a target, which others may just be choosing, by more than a factor.
    """
    factor = HANDOVER_FACTOR ** (1 + max(0, more_outcomes))
    return min(profile_ms_p99 * factor, max(profile_ms_p99 / factor, learned_ms_p99))


def lower_quantiles_ms(
    evidence: Evidence, load: Load, there_ms: float, ttft_ms_p99: float
) -> tuple[float, float]:
    """Return median and P95 of the total, whose P99 is ``ttft_ms_p99``."""
    median_ms = min(ttft_ms_p99, there_ms + learned_ms(evidence, MEDIAN, *load))
    p95_ms = max(median_ms, there_ms + learned_ms(evidence, P95, *load))
    return median_ms, min(ttft_ms_p99, p95_ms)


def predict_from(
    evidence: Evidence, load: Load, network: Network, ttft_ms_p99: float
) -> Prediction:
    """Return the terms that add up to ``ttft_ms_p99``.

    The residual quantile is one on the total, so the spread of the network is in it. The terms are
    those of the regime that decides; while a P99 is handed over they are scaled to their sum. A
    P99 that is held below the outcomes does not count as learned: no attempt is cut by it.
    """
    at_target_ms = learned_ms(evidence, P99, *load)
    features = load.features()
    lines = [tuple(map(mul, evidence[at], features)) for at in range(P99, len(evidence), 3)]
    values_ms = max(lines, key=sum)
    progress_ms = min(0.0, at_target_ms - sum(values_ms))
    handed_ms = max(0.0, ttft_ms_p99 - network.total_ms)
    held_back = handed_ms < at_target_ms * (1.0 - 1e-9)
    if at_target_ms > 0.0 and abs(handed_ms - at_target_ms) > 1e-9 * at_target_ms:
        scale = handed_ms / at_target_ms
        values_ms = tuple([scale * each for each in values_ms])
        progress_ms *= scale
    median_ms, p95_ms = lower_quantiles_ms(evidence, load, network.total_ms, ttft_ms_p99)
    return Prediction(
        median_ms,
        ttft_ms_p99,
        (*network, *values_ms, progress_ms),
        LEARNED_TERMS,
        learned=not held_back,
        ttft_ms_p95=p95_ms,
    )

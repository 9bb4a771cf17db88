"""The first token of a target that this agent has outcomes of, term by term."""

from __future__ import annotations

from operator import mul
from typing import TYPE_CHECKING

from protos.domain.regimes import FEATURES, TOKENS_UNIT, Place, place_of
from protos.domain.ttft import Prediction

if TYPE_CHECKING:
    from protos.domain.predictor import TargetModel
    from protos.domain.regimes import Load
    from protos.domain.ttft import Network

#: Names of the terms of ``predict_from``. ``progress`` is not above 0: what of the time of the
#: prompts ahead has passed already.
LEARNED_TERMS = ("rtt", "handshake", "transfer", *FEATURES, "progress")

#: Which coefficients of an ``Evidence`` are whose.
QUANTILES = MEDIAN, P95, P99 = 0, 1, 2
#: Coefficients of median, P95 and P99 as they were at one moment; those of a free engine behind
#: them where a part of the backlog's time has passed.
Evidence = tuple[tuple[float, ...], ...]


def evidence_of(
    target: TargetModel, backlog_tokens: float, waiting: float, progress_ms: float
) -> Evidence:
    """Return what ``target`` has taught of such a load. Hot."""
    place = place_of(backlog_tokens, waiting)
    regime = target.regimes[place]
    if place is Place.BEHIND and progress_ms > 0.0:
        return regime.quantiles + target.regimes[Place.FREE].quantiles
    return regime.quantiles


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

    However long the prompts ahead have been on their way, a token never comes sooner than with
    nobody ahead.
    """
    prompt = prompt_tokens / TOKENS_UNIT
    engine_ms, prompt_ms, batch_ms, backlog_ms, queue_ms = evidence[quantile]
    behind_ms = (
        engine_ms
        + prompt_ms * prompt
        + batch_ms * in_flight
        + backlog_ms * (backlog_tokens / TOKENS_UNIT)
        + queue_ms * waiting
    )
    if len(evidence) == len(QUANTILES):
        return behind_ms
    engine_ms, prompt_ms, batch_ms, _, _ = evidence[len(QUANTILES) + quantile]
    free_ms = engine_ms + prompt_ms * prompt + batch_ms * in_flight
    return sooner_ms(behind_ms, free_ms, progress_ms)


def sooner_ms(behind_ms: float, free_ms: float, progress_ms: float) -> float:
    """Return ``behind_ms`` less the progress made, but not sooner than a free engine."""
    return max(behind_ms - progress_ms, min(behind_ms, free_ms))


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
    """Tell how ``ttft_ms_p99`` comes about.

    The residual quantile is one on the total, so the spread of the network is in it.
    """
    values_ms = tuple(map(mul, evidence[P99], load.features()))
    progress_ms = 0.0
    if len(evidence) > len(QUANTILES):
        progress_ms = min(0.0, learned_ms(evidence, P99, *load) - sum(values_ms))
    median_ms, p95_ms = lower_quantiles_ms(evidence, load, network.total_ms, ttft_ms_p99)
    return Prediction(
        median_ms,
        ttft_ms_p99,
        (*network, *values_ms, progress_ms),
        LEARNED_TERMS,
        learned=True,
        ttft_ms_p95=p95_ms,
    )

"""The first token of a target that this agent has outcomes of, term by term."""

from __future__ import annotations

from operator import mul
from typing import TYPE_CHECKING

from protos.domain.regimes import FEATURES, Place
from protos.domain.ttft import Prediction

if TYPE_CHECKING:
    from protos.domain.predictor import TargetModel
    from protos.domain.regimes import Load
    from protos.domain.ttft import Network

#: Names of the terms of ``predict_learned``. ``progress`` is not above 0: what of the time of the
#: prompts ahead has passed already.
LEARNED_TERMS = ("rtt", "handshake", "transfer", *FEATURES, "progress")


def predict_learned(target: TargetModel, load: Load, network: Network) -> Prediction:
    """Predict from what ``target`` did with the requests this agent sent there. Hot.

    The residual quantile is one on the total, so the spread of the network is in it. However long
    the prompts ahead have been on their way, a token never comes sooner than with nobody ahead.
    """
    regimes = target.regimes
    features = load.features()
    regime = regimes[load.place]
    values_ms = tuple(map(mul, regime.p99, features))
    p50, p95, p99 = _dot(regime.p50, features), _dot(regime.p95, features), sum(values_ms)
    progress_ms = 0.0
    head_start_ms = load.head_start_ms
    if head_start_ms > 0.0:
        free, alone = regimes[Place.FREE], (*features[:3], 0.0, 0.0)
        soonest = max(p99 - head_start_ms, min(p99, _dot(free.p99, alone)))
        progress_ms, p99 = soonest - p99, soonest
        p50 = min(p99, max(p50 - head_start_ms, min(p50, _dot(free.p50, alone))))
        p95 = min(p99, max(p95 - head_start_ms, min(p95, _dot(free.p95, alone)), p50))
    there_ms = network.total_ms
    return Prediction(
        there_ms + p50,
        there_ms + p99,
        (network.rtt_ms, network.handshake_ms, network.transfer_ms, *values_ms, progress_ms),
        LEARNED_TERMS,
        learned=True,
        ttft_ms_p95=there_ms + p95,
    )


def _dot(coefficients: tuple[float, ...], features: tuple[float, ...]) -> float:
    total: float = sum(map(mul, coefficients, features))
    return total

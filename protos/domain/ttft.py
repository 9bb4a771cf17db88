"""How long until the first token: a prediction that explains itself term by term.

Version 0 knows the hardware profile, what this agent has measured of the network, and the load
that targets report. A learned predictor replaces ``predict`` and returns the same ``Prediction``.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import hypot
from typing import NamedTuple

from protos.domain.resources import EngineProfile

#: Names of the terms of ``predict``, in the order of their values.
TERMS = ("rtt", "handshake", "transfer", "queue", "prefill", "engine")


class Term(NamedTuple):
    """One part of a prediction."""

    name: str
    value_ms: float


@dataclass(slots=True)
class Prediction:
    """First-token time of one target. Written once; not frozen because it is made per candidate.

    ``values_ms`` follows ``names`` and sums to ``ttft_ms_p99``: each value is that term's share of
    the total's P99, not a P99 of its own.
    """

    ttft_ms_p50: float
    ttft_ms_p99: float
    values_ms: tuple[float, ...]
    names: tuple[str, ...] = TERMS

    def terms(self) -> tuple[Term, ...]:
        """Return the terms by name, zero ones included."""
        return tuple(map(Term, self.names, self.values_ms))


def predict(
    profile: EngineProfile,
    *,
    rtt_ms_p50: float,
    rtt_ms_p99: float,
    warm: bool,
    in_flight: int,
    queued: int,
    prompt_tokens: int,
    body_bytes: int,
) -> Prediction:
    """Predict the first token's time from the profile, the network and the load. Hot."""
    raise NotImplementedError(hypot)

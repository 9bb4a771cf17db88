"""How many requests a target gets before its outcomes are known: its speed is a claim.

A target is proven once this agent has seen ``SETTLED_OBSERVATIONS`` first tokens there. Until then
a flattering profile wins little from targets that are proven: it never counts as sooner than them
at the same price, it is drawn among them by what it has answered rather than by the places that it
claims, and it has a limited number of requests in progress. Among unproven targets profiles decide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.candidates import SETTLED_OBSERVATIONS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from protos.domain.candidates import Candidate

#: Requests of one agent in progress at a target that has not answered any yet. Each answer and
#: each first token allows one more.
FIRST_REQUESTS = 4


def is_proven(candidate: Candidate) -> bool:
    """Whether enough outcomes of the target are known."""
    return candidate.outcomes >= SETTLED_OBSERVATIONS


def shown(candidate: Candidate) -> int:
    """Return how many requests the target has answered, or begun to."""
    return max(candidate.outcomes, candidate.state.answers)


def is_within_allowance(candidate: Candidate) -> bool:
    """Whether a target may get one more request though others are proven."""
    if candidate.outcomes >= SETTLED_OBSERVATIONS:
        return True
    return candidate.state.own_in_flight < FIRST_REQUESTS + shown(candidate)


def within_allowance(fitting: list[Candidate]) -> list[Candidate]:
    """Return ``fitting`` without the unproven that have enough requests, if one is proven. Hot."""
    for one in fitting:
        if one.outcomes < SETTLED_OBSERVATIONS:
            break
    else:
        return fitting
    if all(one.outcomes < SETTLED_OBSERVATIONS for one in fitting):
        return fitting
    kept = [one for one in fitting if is_within_allowance(one)]
    return fitting if len(kept) == len(fitting) else kept


def reference(pool: Sequence[Candidate], best: Candidate) -> Candidate:
    """Return the candidate whose time the others are compared with: a proven one, if there is.

    ``best`` is the soonest of the cheapest in ``pool``; only targets of its price count.
    """
    if best.outcomes >= SETTLED_OBSERVATIONS:
        return best
    rate, soonest = best.offer.rate_nano_usd_per_1k_tokens, None
    for one in pool:
        if (
            one.outcomes >= SETTLED_OBSERVATIONS
            and one.offer.rate_nano_usd_per_1k_tokens == rate
            and (soonest is None or one.ttft_ms_p99 < soonest.ttft_ms_p99)
        ):
            soonest = one
    return soonest or best


def tickets(tied: Sequence[Candidate]) -> list[int]:
    """Return the weight of each in a draw: its headroom, beside proven ones its answers at most."""
    proven = [one.outcomes >= SETTLED_OBSERVATIONS for one in tied]
    if True not in proven or False not in proven:
        return [one.headroom for one in tied]
    return [
        one.headroom if one.outcomes >= SETTLED_OBSERVATIONS else min(one.headroom, 1 + shown(one))
        for one in tied
    ]

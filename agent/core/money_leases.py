"""Money of an account at this agent: what a request may cost at most, and when it is settled. Pure.

A request is admitted only with its greatest possible cost reserved under the lease. At its end the
real cost takes the place of the reservation, and stays in use until the coordinator has counted the
request's record: only then is it a part of what the account has spent.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.pricing import surcharged
from protos.domain.resources import Tier

if TYPE_CHECKING:
    from agent.core.quota_lease import Lease
    from agent.core.usage_bounds import AskedTokens
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Deployment

#: A request whose answer no record will count.
NO_RECORD = -1


@dataclass(slots=True)
class CostBound:
    """What a request costs at most: ``prompt_nano_usd`` and a rate for each generated token."""

    prompt_nano_usd: int
    nano_usd_per_token: int
    sequences: int
    tokens: int

    @property
    def nano_usd(self) -> int:
        """The most that the request may cost."""
        return self.prompt_nano_usd + self.nano_usd_per_token * self.sequences * self.tokens

    def tokens_within(self, nano_usd: int) -> int:
        """Return which ``max_tokens`` would fit into ``nano_usd``; 0: none."""
        rest = nano_usd - self.prompt_nano_usd
        each = self.nano_usd_per_token * max(1, self.sequences)
        if rest < 0 or not self.tokens:
            return 0
        return self.tokens if not each else min(self.tokens, rest // each)


def cost_bound(view: FleetView, deployment: Deployment, asked: AskedTokens) -> CostBound:
    """Return the bound at the dearest rates that may be billed: of any tier, with all surcharges.

    Without a price nothing is billed.
    """
    model, terms = view.models.get(deployment.model), view.card.get("terms")
    prompt_rate = answer_rate = 0
    for tier in Tier:
        price = None if model is None else view.prices.get((model.size_class, tier))
        if price is None:
            continue
        if terms is not None:
            price = surcharged(price, terms, deployment.sla_tier, pinned=True)
        prompt_rate = max(
            prompt_rate, price.prompt_nano_usd_per_token, price.cached_nano_usd_per_token
        )
        answer_rate = max(answer_rate, price.completion_nano_usd_per_token)
    prompt_tokens = asked.most_prompt_tokens()
    return CostBound(
        prompt_tokens * prompt_rate,
        answer_rate,
        asked.sequences,
        asked.most_answer_tokens(),
    )


class UnsettledRecords:
    """Costs of requests whose records the coordinator has not counted yet, in their order."""

    __slots__ = ("_counted", "_waiting")

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Lease, int]] = deque()
        self._counted = NO_RECORD

    def __len__(self) -> int:
        return len(self._waiting)

    def ended(self, lease: Lease, reserved: int, nano_usd: int, record: int) -> None:
        """Replace a reservation by the real cost, until record number ``record`` is counted."""
        lease.release(reserved)
        if record <= self._counted:
            lease.draw(nano_usd)  # already counted, or without a record: it can no longer be spent
        else:
            lease.in_use += nano_usd
            self._waiting.append((record, lease, nano_usd))

    def counted(self, record: int) -> None:
        """Note that the coordinator has counted all records up to number ``record``."""
        self._counted = max(self._counted, record)
        while self._waiting and self._waiting[0][0] <= record:
            _, lease, nano_usd = self._waiting.popleft()
            lease.release(nano_usd)
            lease.draw(nano_usd)

"""The context of one request: fixed when it is admitted, unchanged until its end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.pricing import surcharged
from protos.domain.residency import allowed_zones
from protos.domain.resources import NO_TERMS

if TYPE_CHECKING:
    from agent.core.prefixes import PromptBlocks
    from agent.core.usage_bounds import UsageCheck
    from protos.domain.fleet_view import FleetView
    from protos.domain.residency import Zones
    from protos.domain.resources import Deployment, Price, Tier


@dataclass(slots=True)
class RequestContext:
    """One admitted request. Written once; not frozen because it is hot.

    ``view`` is the routing table and the price card at the time of admission; the request is billed
    by it. Targets are chosen from the current table of each attempt, because health, residency and
    addresses must be current.
    """

    view: FleetView
    account: str
    #: Of the key that was sent.
    key_digest: bytes
    deployment: Deployment
    stream: bool
    embeds: bool
    #: The model may or must call a tool, so the engine needs a tool-call parser.
    needs_tool_parser: bool
    prompt_tokens: int
    body_bytes: int
    budget_ms: float
    #: Smoothed round trip of the client's own connection.
    last_mile_ms: float
    first_byte_mono_ms: float
    #: Zones that account, key and header have allowed at admission; None: any.
    zones: frozenset[str] | None
    #: Hashed blocks of the prompt, to look up which engines may have cached it.
    blocks: PromptBlocks
    #: Checks the counts of other hosts; set with the first attempt at one.
    usage_check: UsageCheck | None = None
    #: What an engine computes for it: prompts times answers.
    sequences: int = 1
    #: Tokens without anything to see that are free: the ends of its sequences; below 0: of each.
    free_ends: int = -1
    #: Whether the answer contains its prompt or its probabilities, so that the prompt is billed.
    tells_prompt: bool = False
    #: Most tokens of one answer.
    max_answer_tokens: float = math.inf
    key_id: str = ""
    #: Its account, key or deployment is bound to zones: it pays the surcharge of residency.
    is_pinned: bool = False
    #: Every zone that it may be served in, sorted; empty: any.
    bound_zones: tuple[str, ...] = ()
    #: What the client asked for in ``service_tier``; empty: nothing.
    service_tier: str = ""

    def price(self, tier: Tier) -> Price | None:
        """Return what the request pays for ``tier``, or None if its price card has no such line.

        With the surcharges of its SLA tier and of residency. Hot: computed once for each view.
        """
        view, deployment = self.view, self.deployment
        model = view.models.get(deployment.model)
        if model is None:
            return None
        key = (model.size_class, tier, deployment.sla_tier, self.is_pinned)
        price = view.surcharged.get(key)
        if price is None and (line := view.prices.get((model.size_class, tier))) is not None:
            terms = view.card.get("terms", NO_TERMS)
            price = surcharged(line, terms, deployment.sla_tier, pinned=self.is_pinned)
            view.surcharged[key] = price
        return price

    def zones_in(self, view: FleetView) -> Zones:
        """Return where it may be served by ``view``: account and deployment may be narrower now."""
        zones = self.zones
        account = view.accounts.get(self.account)
        if account is not None and account.zones:
            zones = allowed_zones(account.zones, zones)
        deployment = view.deployments.get(self.deployment.name)
        if deployment is not None and deployment.residency_zones:
            zones = allowed_zones(deployment.residency_zones, zones)
        return zones

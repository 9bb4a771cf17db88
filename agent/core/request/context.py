"""The context of one request: fixed when it is admitted, unchanged until its end."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from protos.domain.residency import allowed_zones

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
    #: Most tokens of one answer.
    max_answer_tokens: float = math.inf

    def price(self, tier: Tier) -> Price | None:
        """Return the price of ``tier`` on the request's price card, or None if it has none."""
        model = self.view.models.get(self.deployment.model)
        return None if model is None else self.view.prices.get((model.size_class, tier))

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

"""What one request began with, and keeps to its end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent.core.prefixes import PromptBlocks
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import Deployment, Price, Tier


@dataclass(slots=True)
class RequestContext:
    """One admitted request. Written once; not frozen because it is hot.

    ``view`` is the routing table and the price card of the moment at which the request was
    admitted. What it is billed comes from there. Where it goes is decided on the table of the
    moment of each attempt, since health, residency and addresses must be current.
    """

    view: FleetView
    account: str
    deployment: Deployment
    stream: bool
    embeds: bool
    #: The model may or must call a tool, which an engine has to find in its words.
    needs_tool_parser: bool
    prompt_tokens: int
    body_bytes: int
    budget_ms: float
    #: Smoothed round trip of the client's own connection.
    last_mile_ms: float
    first_byte_mono_ms: float
    #: Residency zones that the request's own header leaves; None: it has none.
    zones: frozenset[str] | None
    #: The beginning of the prompt, as far as engines may have seen it before.
    blocks: PromptBlocks

    def price(self, tier: Tier) -> Price | None:
        """Return what ``tier`` costs on the card that the request began with, if it is priced."""
        model = self.view.models.get(self.deployment.model)
        return None if model is None else self.view.prices.get((model.size_class, tier))

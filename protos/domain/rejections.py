"""Which hard filter each replica fails that may not serve a request. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from protos.domain.context_limit import holds_prompt
from protos.domain.offers import Filter, Offer, Offers, Rejected
from protos.domain.resources import ReplicaState

if TYPE_CHECKING:
    from collections.abc import Container

    from protos.domain.load_term import ColdWay
    from protos.domain.targets import RequestShape, TargetLookup, TargetState


def cold_way(offer: Offer, state: TargetState, name: str) -> ColdWay | None:
    """Return how ``name``, which is in no engine there, would get into one; None: it would not.

    By what the node reports, else by the table.
    """
    loadable = state.loadable
    return offer.cold if loadable is None else loadable.get(name)


def is_too_dear(offer: Offer, offers: Offers, request: RequestShape) -> bool:
    """Whether ``offer`` costs more than its deployment allows above the model's central rate."""
    most_percent = request.deployment.max_premium_percent
    central = offers.central_rate_nano_usd_per_1k_tokens
    if most_percent <= 0 or central <= 0:
        return False
    return offer.rate_nano_usd_per_1k_tokens * 100 > central * (100 + most_percent)


def rejections(
    offers: Offers,
    request: RequestShape,
    zones: frozenset[str] | None,
    live: TargetLookup,
    passed: Container[str],
) -> list[Rejected]:
    """Return the replicas that did not pass, each with the first filter that it fails."""
    lines = [
        Rejected(
            each.node_id,
            each.replica,
            each.pop,
            _failed_filter(each, offers, request, zones, live),
        )
        for each in offers.offers
        if each.node_id not in passed
    ]
    return lines + [Rejected(*each, Filter.TOPOLOGY) for each in offers.homeless]


def _failed_filter(
    offer: Offer,
    offers: Offers,
    request: RequestShape,
    zones: frozenset[str] | None,
    live: TargetLookup,
) -> Filter:
    """Return the first hard filter that ``offer`` fails; it fails at least one."""
    deployment = request.deployment
    if offer.profile.embeds is not request.embeds:
        return Filter.MODE
    if zones is not None and offer.zone not in zones:
        return Filter.RESIDENCY
    if (pins := deployment.pins) is not None and offer.node_id not in pins:
        return Filter.PINS
    if is_too_dear(offer, offers, request):
        return Filter.PREMIUM
    if not holds_prompt(offer.profile, request.prompt_tokens):
        return Filter.CONTEXT
    if offer.barred is not None:
        return offer.barred
    state = live(offer.node_id)
    if (absent := _absence(offer, request, state)) is not None:
        return absent
    if request.needs_tool_parser and offer.profile.lacks_tool_parser:
        return Filter.TOOLS
    return Filter.EJECTED if state.ejected else Filter.TRIED


def _absence(offer: Offer, request: RequestShape, state: TargetState) -> Filter | None:
    """Return why what is asked for can neither be served there nor loaded; None if it can."""
    deployment, ready = request.deployment, state.ready_models
    adapter = deployment.adapter
    if adapter and request.embeds:
        return Filter.ADAPTER
    if offer.is_ready if ready is None else (adapter or deployment.model) in ready:
        return None
    if cold_way(offer, state, adapter or deployment.model) is not None:
        return None
    base_is_there = offer.replica.state in (ReplicaState.READY, ReplicaState.COLD)
    if ready is not None:
        base_is_there = deployment.model in ready
    # what the table has there cannot be loaded at this moment only
    lacks_it = bool(adapter) and base_is_there and not offer.has_adapter
    return Filter.ADAPTER if lacks_it else Filter.NOT_READY

"""How many tokens of context a model is served with: its own limit, or that of its engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView


def served_context_tokens(view: FleetView, model: str) -> int | None:
    """Return the context that every replica of ``model`` serves; None if it is not known."""
    registered = view.models.get(model)
    limits = [replica.profile.context_tokens for replica in view.replicas.get(model, {}).values()]
    if registered is not None:
        limits.append(registered.context_tokens)
    return min((limit for limit in limits if limit > 0), default=None)

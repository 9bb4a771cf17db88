"""How many tokens of context a model is served with: its own limit, or that of its engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import EngineProfile


def served_context_tokens(view: FleetView, model: str) -> int | None:
    """Return the context that every replica of ``model`` serves; None if it is not known."""
    registered = view.models.get(model)
    limits = [replica.profile.context_tokens for replica in view.replicas.get(model, {}).values()]
    if registered is not None:
        limits.append(registered.context_tokens)
    return min((limit for limit in limits if limit > 0), default=None)


def holds_prompt(profile: EngineProfile, prompt_tokens: int) -> bool:
    """Whether an engine has the context for a prompt and one token of its answer."""
    return not 0 < profile.context_tokens <= prompt_tokens


def longest_context_tokens(view: FleetView, model: str) -> int:
    """Return the longest context that any replica of ``model`` serves; 0 if it is not known."""
    registered = view.models.get(model)
    own = registered.context_tokens if registered is not None else 0
    limits = [
        min(limit, own) if limit > 0 and own > 0 else limit or own
        for limit in (one.profile.context_tokens for one in view.replicas.get(model, {}).values())
    ]
    return max(limits, default=own)

"""The errors for a request that no replica may serve, with the time to retry."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from protos.domain.context_limit import longest_context_tokens
from protos.domain.errors import EdgeForgeError, InvalidRequest, NoReplica
from protos.domain.offers import Filter, Rejected
from protos.domain.residency import allowed_zones

if TYPE_CHECKING:
    from protos.domain.fleet_view import FleetView
    from protos.domain.targets import RequestShape

#: Retry time by the filter that removed a replica.
_RETRY_AFTER_S = {
    Filter.TOPOLOGY: 5.0,
    Filter.MODE: 60.0,
    Filter.TOOLS: 60.0,
    Filter.CONTEXT: 60.0,
    Filter.RESIDENCY: 60.0,
    Filter.PINS: 60.0,
    Filter.DEAD: 5.0,
    Filter.UNROUTABLE: 5.0,
    Filter.DRAINING: 5.0,
    Filter.RETIRED: 60.0,
    Filter.NOT_READY: 5.0,
    Filter.UNPRICED: 60.0,
    Filter.ADAPTER: 60.0,
    Filter.PREMIUM: 60.0,
    Filter.EJECTED: 1.0,
    Filter.TRIED: 1.0,
}
_NOWHERE_RETRY_AFTER_S = 60.0
#: Filters that let no request like this one through later either.
_LASTING = frozenset(
    {
        *(Filter.CONTEXT, Filter.MODE, Filter.TOOLS, Filter.RESIDENCY, Filter.PINS),
        *(Filter.RETIRED, Filter.UNPRICED, Filter.ADAPTER, Filter.PREMIUM),
    }
)


def check_context(view: FleetView, request: RequestShape) -> None:
    """Refuse a prompt that no replica of the model can hold. Raises: InvalidRequest."""
    model = view.models.get(request.deployment.model)
    if model is None or not 0 < model.context_tokens <= request.prompt_tokens:
        return
    raise _context_exceeded(longest_context_tokens(view, request.deployment.model), request)


def _context_exceeded(limit: int, request: RequestShape) -> InvalidRequest:
    """Return OpenAI's error, in words that clients search for the number."""
    return InvalidRequest(
        f"This model's maximum context length is {limit} tokens. However, your "
        f"prompt contains at least {request.prompt_tokens} input tokens",
        "Please reduce the length of the prompt",
        code="context_length_exceeded",
    )


def no_replica(request: RequestShape, rejected: Sequence[Rejected]) -> EdgeForgeError:
    """Return the error for ``request`` when hard filters removed all replicas.

    InvalidRequest if the model cannot do what is asked, else NoReplica with a time to retry.
    """
    name = request.deployment.name
    if not rejected:
        return NoReplica(
            f"{name!r} is deployed on no engine",
            "place its model on a node, or retry later",
            retry_after_s=_NOWHERE_RETRY_AFTER_S,
        )
    rejected = [line for line in rejected if line.filter is not Filter.PINS]
    if not rejected:
        return NoReplica(
            f"{name!r} has no replica on a node that it is pinned to",
            "pin it to a node that can hold its model, or retry later",
            retry_after_s=_RETRY_AFTER_S[Filter.PINS],
        )
    filters = {line.filter for line in rejected}
    return _unable(request, rejected, filters) or _not_now(request, filters)


def _unable(
    request: RequestShape, rejected: Sequence[Rejected], filters: AbstractSet[Filter]
) -> InvalidRequest | None:
    """Return the error if the model cannot do what is asked, wherever it is."""
    name = request.deployment.name
    if filters == {Filter.MODE}:
        if request.embeds:
            does, instead = "generates text and gives no embeddings", "/v1/chat/completions"
        else:
            does, instead = "gives embeddings and generates no text", "/v1/embeddings"
        return InvalidRequest(f"{name!r} {does}", f"call {instead}", param="model")
    if filters == {Filter.TOOLS}:
        return InvalidRequest(
            f"{name!r} cannot call tools: its engine names no parser of tool calls",
            "ask the operator to set engine.tool_parser, or leave the tools out",
            code="tool_choice_unsupported",
            param="tool_choice",
        )
    if Filter.CONTEXT in filters and filters <= _LASTING:
        limits = [
            line.replica.profile.context_tokens
            for line in rejected
            if line.filter is Filter.CONTEXT
        ]
        return _context_exceeded(max(limits), request)
    return None


def _not_now(request: RequestShape, filters: AbstractSet[Filter]) -> NoReplica:
    name = request.deployment.name
    retry_after_s = min(_RETRY_AFTER_S[each] for each in filters)
    if filters == {Filter.RESIDENCY}:
        zones = allowed_zones(request.deployment.residency_zones, request.narrowed_zones)
        return NoReplica(
            f"residency leaves no engine for {name!r}: "
            f"it may be served in {', '.join(sorted(zones or ())) or 'no zone at all'}",
            "widen x-edgeforge-residency, or deploy in an allowed zone",
            retry_after_s=retry_after_s,
        )
    if filters == {Filter.ADAPTER}:
        return NoReplica(
            f"no engine can serve {name!r} now: every node of its model is {Filter.ADAPTER} "
            f"{request.deployment.adapter!r}, and may not load it",
            "wait until the adapter is placed beside its model, or retry later",
            retry_after_s=retry_after_s,
        )
    if filters == {Filter.PREMIUM}:
        return NoReplica(
            f"no engine can serve {name!r} now: every one is {Filter.PREMIUM}, "
            f"{request.deployment.max_premium_percent} %",
            "raise the deployment's premium limit, or deploy on a cheaper node",
            retry_after_s=retry_after_s,
        )
    why = ", ".join(sorted(filters))
    return NoReplica(
        f"no engine can serve {name!r} now: {why}", "retry later", retry_after_s=retry_after_s
    )

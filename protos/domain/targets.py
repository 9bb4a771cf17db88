"""A request and the nodes that may serve it, as the router sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protos.domain.load_term import ColdWay
    from protos.domain.resources import Deployment


@dataclass(slots=True)
class RequestShape:
    """A request as the router sees it. Never changed; not frozen, for speed.

    ``prompt_tokens`` must not over-estimate: prompts longer than the model's context are refused.
    ``expected_tokens`` is what predictions use; 0: ``prompt_tokens``.
    ``budget_left_ms`` is the first-token budget less what has passed since the first byte.
    ``narrowed_zones`` is the request's own residency header; None when it has none.
    """

    deployment: Deployment
    prompt_tokens: int
    body_bytes: int
    stream: bool
    budget_left_ms: float
    narrowed_zones: frozenset[str] | None
    #: The request needs an engine that embeds; else one that generates.
    embeds: bool = False
    expected_tokens: int = 0
    #: The model may or must call a tool.
    needs_tool_parser: bool = False


@dataclass(slots=True)
class TargetState:
    """What this agent knows of a node beyond the table. Never changed; not frozen, for speed.

    ``rtt_ms_*`` is None until measured: the router then estimates it from the distance.
    ``in_flight`` requests are being served there, ``queued`` ones wait in its engine.
    ``warm``: a connection is open. ``ejected``: it gets no requests for a while after failures.
    ``ready_models``: those its agent reported as ready, fresher than the table; None without a
    report. ``cached_ratio`` is the share of this request's prompt expected in its cache.
    ``backlog_tokens`` of prompts that this agent sent there have no first token yet, and
    ``progress_ms`` have passed since one of them had. ``answers`` of requests of this agent were
    complete, and ``own_in_flight`` are in progress. ``ready_models`` has names of adapters too;
    ``loadable`` has those that it would load for a request, None where it does not report them.
    """

    rtt_ms_p50: float | None
    rtt_ms_p99: float | None
    in_flight: int
    queued: int
    warm: bool
    ejected: bool
    ready_models: frozenset[str] | None = None
    cached_ratio: float = 0.0
    backlog_tokens: float = 0.0
    progress_ms: float = 0.0
    answers: int = 0
    own_in_flight: int = 0
    loadable: Mapping[str, ColdWay] | None = None


TargetLookup = Callable[[str], TargetState]

#: The state of a node that this agent has never connected to.
UNKNOWN_TARGET = TargetState(None, None, 0, 0, warm=False, ejected=False)

"""What one target is sent for a request, and the reader of the stream that it answers with."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import orjson

from agent.core.usage_bounds import UsageCheck
from agent.formats.asked_tokens import asked_tokens
from agent.formats.continuing import ContinuableStream
from agent.formats.usage import read_usage
from agent.relay.messages import request_bytes
from protos.domain.pricing import cost_of, format_usd

if TYPE_CHECKING:
    from agent.core.request.context import RequestContext
    from agent.core.request.log import RequestLog
    from agent.core.request.state import RouterState
    from agent.formats.body import GenerationBody
    from agent.formats.sse import EventStream
    from agent.gateway.targets import Target
    from protos.domain.resources import Deployment, Price


def engine_request(
    body: GenerationBody, fields: dict[str, object], log: RequestLog, target: Target
) -> bytes:
    """Return the bytes for ``target``: ``body`` with ``fields``. Raises: InvalidRequest."""
    trace_id = log.trace_id.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"accept", b"text/event-stream" if body.stream else b"application/json"),
        (b"x-request-id", trace_id),
    ]
    if target.peer:
        headers += [
            (b"x-edgeforge-trace-id", trace_id),
            (b"x-edgeforge-account", log.account.encode()),
            (b"x-edgeforge-deployment", log.deployment.encode()),
            (b"x-edgeforge-model", log.model.encode()),
        ]
    payload = body.for_engine(target.model, continuous_usage=target.continuous_usage, fields=fields)
    host = target.pool.address.host_header
    return request_bytes("POST", body.api.path.encode(), host, headers, payload)


def open_stream(
    body: GenerationBody, deployment: Deployment, target: Target, price: Price | None
) -> EventStream:
    """Return the reader of the stream of ``target``; ``price`` is what its tokens cost."""
    api, names = body.api, body.names(target.model)
    beside_usage = partial(_cost_field, price)
    if deployment.continue_streams:
        continuable = api.continuable_stream(
            body.fields,
            include_usage=body.include_usage,
            continuous_usage=body.continuous_usage,
            beside_usage=beside_usage,
            names=names,
        )
        if continuable is not None:
            return continuable
    return api.event_stream(
        include_usage=body.include_usage,
        continuous_usage=body.continuous_usage,
        beside_usage=beside_usage,
        names=names,
    )


def usage_check(
    body: GenerationBody, sent: bytes, context: RequestContext, state: RouterState
) -> UsageCheck:
    """Return the check of other hosts' counts for a request whose client sent ``sent``."""
    deployment = context.deployment
    model = context.view.models.get(deployment.model)
    context_tokens = 0 if model is None else model.context_tokens
    return UsageCheck(
        asked_tokens(body.api, body.fields, sent, context_tokens),
        partial(state.prompt_tokens.estimate, deployment.name, len(sent)),
    )


def rest_of_stream(
    body: GenerationBody, events: EventStream | None
) -> tuple[ContinuableStream, dict[str, object]] | None:
    """Return the reader of a broken stream, and the fields that request the rest of it.

    None when nothing is left to generate.
    """
    if not isinstance(events, ContinuableStream):
        return None
    fields = body.api.continued(body.fields, events.text, events.completion_tokens)
    return None if fields is None else (events, fields)


def _cost_field(price: Price | None, usage: bytes) -> bytes:
    """Return the JSON field with the cost of ``usage``; empty without a price."""
    try:
        found = orjson.loads(usage)
    except orjson.JSONDecodeError:
        found = None
    if price is None or not isinstance(found, dict):
        return b""
    return b',"cost_usd":' + format_usd(cost_of(read_usage(found), price).total_nano_usd).encode()

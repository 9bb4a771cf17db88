"""What one target is sent for a request, and the reader of the stream that it answers with."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import orjson

from agent.core.peer_request import (
    ACCOUNT_HEADER,
    ADAPTER_HEADER,
    DEPLOYMENT_HEADER,
    LOAD_HEADER,
    MODEL_HEADER,
    ZONES_HEADER,
)
from agent.core.request.messages import Rest
from agent.core.request.usage import is_empty
from agent.formats.continuing import ContinuableStream
from agent.formats.sequences import answers_to_each
from agent.formats.usage import read_usage
from agent.relay.messages import request_bytes
from protos.domain.pricing import cost_of, format_usd

if TYPE_CHECKING:
    from agent.core.request.attempt import Attempt
    from agent.core.request.context import RequestContext
    from agent.core.request.log import RequestLog
    from agent.formats.body import GenerationBody
    from agent.formats.sse import BesideUsage, EventStream
    from agent.gateway.context import GatewayContext
    from agent.gateway.targets import Target
    from protos.domain.resources import Deployment, Price


def engine_request(
    body: GenerationBody,
    fields: dict[str, object],
    log: RequestLog,
    target: Target,
    attempt: Attempt,
    cache_salt: Callable[[str], str],
) -> bytes:
    """Return the bytes for ``target``: ``body`` with ``fields``. Raises: InvalidRequest.

    This node's own engine gets the account's salt, from ``cache_salt``; a peer adds its own.
    """
    trace_id = log.trace_id.encode()
    headers = [
        (b"content-type", b"application/json"),
        (b"accept", b"text/event-stream" if body.stream else b"application/json"),
        (b"x-request-id", trace_id),
    ]
    if target.peer:
        headers += [
            (b"x-edgeforge-trace-id", trace_id),
            (ACCOUNT_HEADER, log.account.encode()),
            (DEPLOYMENT_HEADER, log.deployment.encode()),
            (MODEL_HEADER, target.model.encode()),
        ]
        if adapter := attempt.deployment.adapter:
            headers.append((ADAPTER_HEADER, adapter.encode()))
        if log.zones:
            headers.append((ZONES_HEADER, ",".join(log.zones).encode()))
        if attempt.placement.chosen.cold is not None:
            headers.append((LOAD_HEADER, b"1"))
    payload = body.for_engine(
        target.model,
        continuous_usage=target.continuous_usage,
        cache_salt=None if target.peer else cache_salt(log.account),
        fields=fields,
    )
    host = target.pool.address.host_header
    return request_bytes("POST", body.api.path.encode(), host, headers, payload)


def write_ahead(body: GenerationBody, context: RequestContext, gateway: GatewayContext) -> None:
    """Write ``body`` now, for this node's engine or for a peer. Raises: InvalidRequest."""
    model, adapter = context.deployment.model, context.deployment.adapter
    here = gateway.targets.find(
        gateway.state.node_id, model, embeds=context.embeds, adapter=adapter
    )
    body.write_ahead(
        model if here is None else here.model,
        continuous_usage=here is None or here.continuous_usage,
        cache_salt=None if here is None else gateway.cache_salt(context.account),
    )


def open_stream(
    body: GenerationBody,
    deployment: Deployment,
    target: Target,
    price: Price | None,
    service_word: str,
) -> EventStream:
    """Return the reader of the stream of ``target``; ``price`` is what its tokens cost.

    ``service_word``: what the client is told of its service tier; empty: nothing.
    """
    events = _reader(
        body, deployment, target, partial(_cost_field, price, body.tells_prompt, body.free_ends)
    )
    if body.sequences > 1:
        events.count_choices(answers_to_each(body.fields))
    if service_word:
        events.tell_service_tier(service_word)
    return events


def _reader(
    body: GenerationBody, deployment: Deployment, target: Target, beside_usage: BesideUsage
) -> EventStream:
    api, names = body.api, body.names(target.model)
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


def rest_of(events: EventStream | None) -> Rest:
    """Return what a stream lacks that was read as far as ``events``."""
    if not isinstance(events, ContinuableStream):
        return Rest.UNKNOWN
    if events.lacks_only_its_end:
        return Rest.END if events.can_end else Rest.UNKNOWN
    return Rest.TEXT if events.can_go_on else Rest.UNKNOWN


def _cost_field(
    price: Price | None, of_prompt: bool, free_ends: int, usage: bytes, visible: bool
) -> bytes:
    """Return the JSON field with the cost of ``usage``; empty without a price."""
    try:
        found = orjson.loads(usage)
    except orjson.JSONDecodeError:
        found = None
    if price is None or not isinstance(found, dict):
        return b""
    counted, nano_usd = read_usage(found), 0
    if not is_empty(counted, of_prompt=of_prompt, visible=visible, free_ends=free_ends):
        nano_usd = cost_of(counted, price).total_nano_usd
    return b',"cost_usd":' + format_usd(nano_usd).encode()

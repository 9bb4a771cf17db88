"""What each request format looks like on the wire; chosen once a request, not once a chunk."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from agent.core.routes import Api
from agent.relay.named_events import MessagesEvents, ResponsesEvents
from agent.relay.sse import EventStream, find_usage

#: How an event that carries a token looks, as good as always: for counting without parsing.
TOKEN_MARKS = {
    Api.CHAT: b'data: {"',
    Api.COMPLETIONS: b'data: {"',
    Api.RESPONSES: b".delta\ndata: {",
    Api.EMBEDDINGS: b'data: {"',
    Api.MESSAGES: b"event: content_block_delta\n",
    Api.COUNT_TOKENS: b"event: content_block_delta\n",
}


def event_stream(
    api: Api,
    *,
    include_usage: bool,
    continuous_usage: bool,
    beside_usage: Callable[[bytes], bytes] | None = None,
) -> EventStream:
    """Return what reads a stream of ``api``.

    What was asked of usage matters where there are stream options; else it is part of the format.
    """
    if api is Api.RESPONSES:
        return ResponsesEvents(beside_usage)
    if api is Api.MESSAGES:
        return MessagesEvents(beside_usage)
    return EventStream(
        include_usage=include_usage, continuous_usage=continuous_usage, beside_usage=beside_usage
    )


def body_usage(api: Api, body: bytes) -> dict[str, object] | None:
    """Return the usage object of a whole response, or None.

    A response of ``/v1/responses`` repeats objects of its request, which may hold anything; in
    the other formats usage comes after all that a client could have written.
    """
    if api is not Api.RESPONSES:
        return find_usage(body)
    try:
        response = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    usage = response.get("usage") if isinstance(response, dict) else None
    return usage if isinstance(usage, dict) else None

"""An engine on a real port that sends what the test tells it to, when the test tells it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson

from agent.relay.messages import chunk, response_head, whole_response
from agent.relay.upstream import Address
from agent.relay.upstream_pool import UpstreamPool
from tests.support.waiting import wait_until_async

_JSON = (b"content-type", b"application/json")
_STREAM = ((b"content-type", b"text/event-stream"), (b"transfer-encoding", b"chunked"))
#: What vLLM says of a prompt of ten tokens, four of them cached, and three tokens.
COUNTS = {
    "prompt_tokens": 10,
    "completion_tokens": 3,
    "total_tokens": 13,
    "prompt_tokens_details": {"cached_tokens": 4},
}


def data(**fields: Any) -> bytes:
    """Return an event of the chat format."""
    return b"data: " + orjson.dumps(fields) + b"\n\n"


def token(text: str, completion_tokens: int | None = None) -> bytes:
    """Return a token's event; with the engine's count so far, if it is given."""
    fields: dict[str, Any] = {"choices": [{"index": 0, "delta": {"content": text}}]}
    if completion_tokens is not None:
        fields["usage"] = COUNTS | {"completion_tokens": completion_tokens}
    return data(**fields)


def end(counts: dict[str, Any] | None = COUNTS) -> bytes:
    """Return what follows the last token: the usage, if any, and the end."""
    usage = b"" if counts is None else data(choices=[], usage=counts)
    return usage + b"data: [DONE]\n\n"


def whole(text: str = "a b c", counts: dict[str, Any] | None = COUNTS) -> bytes:
    """Return a whole answer of the chat format."""
    message = {"role": "assistant", "content": text}
    answer: dict[str, Any] = {"id": "x", "choices": [{"index": 0, "message": message}]}
    return orjson.dumps(answer if counts is None else answer | {"usage": counts})


class StepwiseEngine:
    """Takes one request after the other; ``requests`` are their bodies."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        #: Answers each request by itself, if it is set.
        self.reply: bytes | None = None
        self.pool: UpstreamPool
        self.cut_by_agent = 0
        self.connections: list[asyncio.StreamWriter] = []
        self._streams: list[asyncio.StreamWriter] = []

    async def asked(self, times: int = 1) -> None:
        """Wait until so many requests have come."""
        await wait_until_async(lambda: len(self.requests) >= times, 10.0, "the engine is asked")

    def begins(self, *events: bytes) -> None:
        """Send the head of a stream, and its first events."""
        self._streams[-1].write(response_head(200, list(_STREAM), keep_alive=True))
        for event in events:
            self.says(event)

    def says(self, event: bytes) -> None:
        """Send an event, or more."""
        self._streams[-1].write(chunk(event))

    def ends(self, last: bytes = b"", trailers: bytes = b"") -> None:
        """Send the last events, and the end of the response."""
        if last:
            self.says(last)
        self._streams[-1].write(b"0\r\n" + (trailers + b"\r\n" if trailers else b"") + b"\r\n")

    def answers(self, body: bytes, status: int = 200) -> None:
        """Send a whole response."""
        self._streams[-1].write(whole_response(status, [_JSON], body, keep_alive=True))

    def dies(self) -> None:
        """Cut the connection."""
        self._streams[-1].transport.abort()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                body = await reader.readexactly(size)
                self._streams.append(writer)
                self.requests.append(orjson.loads(body))
                if self.reply is not None:
                    writer.write(self.reply)
        self.cut_by_agent += 1


@contextlib.asynccontextmanager
async def stepwise_engine() -> AsyncIterator[StepwiseEngine]:
    """Serve an engine; its ``pool`` connects to it."""
    engine = StepwiseEngine()
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    engine.pool = UpstreamPool(
        Address("the engine", b"x", host="127.0.0.1", port=port),
        max_idle=8,
        connect_timeout_ms=5_000.0,
    )
    try:
        yield engine
    finally:
        engine.pool.close()
        server.close()
        for writer in engine.connections:
            writer.close()

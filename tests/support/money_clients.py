"""Clients that count by themselves what they see of each answer, whatever happens to it.

They share nothing with the product: a request is bytes on a socket, an answer is what was read of
it until its end, until the client left, or until the connection broke.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

EMBEDDINGS = "/v1/embeddings"
#: What each path takes besides its model, and the name of its limit.
BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "/v1/chat/completions": ({"messages": [{"role": "user", "content": "hi"}]}, "max_tokens"),
    "/v1/completions": ({"prompt": "hi"}, "max_tokens"),
    "/v1/responses": ({"input": "hi"}, "max_output_tokens"),
    "/v1/messages": ({"messages": [{"role": "user", "content": "hi"}]}, "max_tokens"),
    EMBEDDINGS: ({"input": ["a", "b"]}, ""),
}
_PATHS = (*BODIES, "/v1/chat/completions", "/v1/chat/completions")
_LAST_EVENTS = ("message_stop", "response.completed", "response.incomplete")
_TOKEN_EVENTS = ("content_block_delta", "response.output_text.delta")
LONG_TOKENS = 40
_READ_BYTES = 65_536
_SLOW_BYTES = 200


@dataclass
class Asked:
    """One request, and what its client has seen of it."""

    number: int
    path: str
    stream: bool
    max_tokens: int
    deployment: str
    #: By the names that the test gave them.
    node: str
    key: str
    budget_ms: int = 0
    asks_usage: bool = False
    #: The client leaves after so many bytes; None: it reads to the end.
    leaves_after_bytes: int | None = None
    slow: bool = False
    # What was seen.
    sent: bool = False
    status: int = 0
    trace_id: str = ""
    cost_usd: str = ""
    body: bytes = b""
    #: The framing says that nothing follows.
    ended: bool = False
    left: bool = False

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Every whole JSON event of a stream, or the answer."""
        if not self.stream:
            return [json.loads(self.body)] if self.ended and self.body else []
        return list(_events(self.body))

    @property
    def seen(self) -> bool:
        """Whether a whole good answer was read, down to the format's own end."""
        if not self.ended or self.status != 200:
            return False
        if not self.stream:
            return True
        found = self.messages
        if any(_is_error(one) for one in found):
            return False
        last = found[-1].get("type") if found else ""
        return b"data: [DONE]\n\n" in self.body or last in _LAST_EVENTS

    @property
    def tokens_seen(self) -> int:
        """Tokens of the answer that were read, one an event: so the engine of this test writes."""
        return sum(_is_token(one) for one in self.messages) if self.stream else 0

    @property
    def usage(self) -> tuple[int, int] | None:
        """Prompt and completion tokens as the answer says; None where it says nothing."""
        found: dict[str, Any] = {}
        for one in self.messages:
            for holder in (one, one.get("message") or {}, one.get("response") or {}):
                if isinstance(holder.get("usage"), dict):
                    found |= holder["usage"]
        if not found:
            return None
        prompt = found.get("prompt_tokens", found.get("input_tokens"))
        completion = found.get("completion_tokens", found.get("output_tokens"))
        return int(prompt), int(completion or 0)


def _events(body: bytes) -> Iterator[dict[str, Any]]:
    for block in body.split(b"\n\n")[:-1]:
        for line in block.split(b"\n"):
            if line.startswith(b"data: {"):
                with contextlib.suppress(ValueError):
                    yield json.loads(line[6:])


def _is_error(message: dict[str, Any]) -> bool:
    return bool(message.get("error")) or message.get("type") in ("error", "response.failed")


def _is_token(message: dict[str, Any]) -> bool:
    if message.get("type") in _TOKEN_EVENTS:
        return True
    choices = message.get("choices") or [{}]
    return bool(choices[0].get("text") or (choices[0].get("delta") or {}).get("content"))


def drawn(
    number: int,
    *,
    nodes: Sequence[str],
    keys: Mapping[str, float],
    names: Mapping[str, str],
) -> Asked:
    """Return request ``number`` of the mix: always the same one.

    ``keys``: shares of the keys by name. ``names``: the deployment of each, and that of
    embeddings under their path.
    """
    draw = random.Random(number)
    path = draw.choice(_PATHS)
    embeds = path == EMBEDDINGS
    key = draw.choices(list(keys), list(keys.values()))[0]
    asked = Asked(
        number,
        path,
        stream=not embeds and draw.random() < 0.7,
        max_tokens=draw.randint(1, 12),
        deployment=names[EMBEDDINGS] if embeds else names[key],
        node=draw.choice(nodes),
        key="default" if embeds else key,
        budget_ms=10_000 if draw.random() < 0.6 else 0,
        asks_usage=draw.random() < 0.5,
        slow=draw.random() < 0.05,
    )
    if draw.random() < 0.15:
        asked.leaves_after_bytes = draw.choice([0, draw.randint(1, 400), draw.randint(400, 4_000)])
    return asked


def body_of(asked: Asked) -> bytes:
    """Return what is sent."""
    fields, limit = BODIES[asked.path]
    body: dict[str, Any] = {"model": asked.deployment} | fields
    if limit:
        body[limit] = asked.max_tokens
    if asked.stream:
        body["stream"] = True
        if asked.asks_usage and "completions" in asked.path:
            body["stream_options"] = {"include_usage": True}
    return json.dumps(body).encode()


class Crowd:
    """Sends requests from ``at_once`` clients at a time; told when to stop."""

    def __init__(
        self, urls: dict[str, str], keys: dict[str, str], draw: Callable[[int], Asked]
    ) -> None:
        self._urls, self._keys, self._draw = urls, keys, draw
        self.asked: list[Asked] = []
        self.stopping = False
        self._numbers = 0
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def sent(self) -> int:
        """How many requests have been sent."""
        return sum(one.sent for one in self.asked)

    async def run(self, at_once: int) -> None:
        """Send until told to stop, and until every answer has ended."""
        self._loop = asyncio.get_running_loop()
        await asyncio.gather(*(self._client() for _ in range(at_once)))

    def begin(self, asked: Asked) -> None:
        """Send one more, from another thread."""
        assert self._loop is not None
        asyncio.run_coroutine_threadsafe(self._follow(asked), self._loop)

    async def _client(self) -> None:
        while not self.stopping:
            asked = self._draw(self._numbers)
            self._numbers += 1
            await self._follow(asked)
            if not asked.sent:
                await asyncio.sleep(0.05)

    async def _follow(self, asked: Asked) -> None:
        self.asked.append(asked)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await asyncio.wait_for(self._ask(asked), 50)

    async def _ask(self, asked: Asked) -> None:
        parts = urlsplit(self._urls[asked.node])
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
        body = body_of(asked)
        lines = [
            f"POST {asked.path} HTTP/1.1",
            f"host: {parts.netloc}",
            f"authorization: Bearer {self._keys[asked.key]}",
            "content-type: application/json",
            f"content-length: {len(body)}",
        ]
        if asked.budget_ms:
            lines.append(f"x-edgeforge-ttft-budget-ms: {asked.budget_ms}")
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            asked.sent = True
            await writer.drain()
            if asked.leaves_after_bytes == 0:
                await asyncio.sleep(asked.number % 20 / 1_000)
                asked.left = True
                return
            await self._read(asked, reader)
        finally:
            if asked.left and asked.number % 2:
                writer.transport.abort()
            writer.close()

    async def _read(self, asked: Asked, reader: asyncio.StreamReader) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if ": " in line)
        asked.trace_id = headers.get("x-edgeforge-trace-id", "")
        asked.cost_usd = headers.get("x-edgeforge-cost-usd", "")
        asked.status = int(head[0].split()[1])
        if "chunked" not in headers.get("transfer-encoding", ""):
            await self._take(asked, reader, int(headers["content-length"]))
            asked.ended = not asked.left
            return
        while not asked.left:
            size = int(await reader.readuntil(b"\r\n"), 16)
            await self._take(asked, reader, size)
            if asked.left:
                return
            await reader.readexactly(2)
            if size == 0:
                asked.ended = True
                return

    async def _take(self, asked: Asked, reader: asyncio.StreamReader, size: int) -> None:
        """Read so many bytes of the body, or until the client leaves."""
        until = asked.leaves_after_bytes
        while size:
            most = min(size, _SLOW_BYTES if asked.slow else _READ_BYTES)
            if until is not None:
                most = min(most, until - len(asked.body))
                if most <= 0:
                    asked.left = True
                    return
            part = await reader.read(most)
            if not part:
                raise asyncio.IncompleteReadError(asked.body, None)
            asked.body += part
            size -= len(part)
            if asked.slow:
                await asyncio.sleep(0.004)

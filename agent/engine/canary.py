"""A canary: an engine answers a fixed prompt, and its speed is measured."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from agent.engine.probe import session_of
from protos.domain.errors import DeadlineExceeded, EngineFailed, InvalidRequest

if TYPE_CHECKING:
    from agent.core.engine_status import EngineEndpoint

PROMPT = "List three facts about the sea, one on each line.\n1."
TOKENS = 32
MAX_TOKENS = 128
MAX_PROMPT_CHARS = 4_000
MAX_TEXT_CHARS = 4_000
_MAX_LINE_BYTES = 256 * 1024
_MAX_ANSWER_BYTES = 4 * 1024**2
_DEFAULT_TIMEOUT_MS = 30_000.0
#: Keeps the canary's prefix apart from the tenants' in the engine's cache.
_CACHE_SALT = "edgeforge-canary"


@dataclass(frozen=True, slots=True)
class Canary:
    """What came back. ``tokens_per_s`` counts those behind the first; 0.0: there was one."""

    text: str
    tokens: int
    first_token_ms: float
    tokens_per_s: float


async def ask_canary(
    endpoint: EngineEndpoint,
    prompt: str,
    max_tokens: int,
    timeout_ms: float,
    now_mono_ms: Callable[[], float],
) -> Canary:
    """Return the engine's answer to ``prompt``; empty, and 0: the ones of this module.

    Nothing is sampled, so that the same weights answer the same. Raises: InvalidRequest,
    EngineFailed, DeadlineExceeded.
    """
    if len(prompt) > MAX_PROMPT_CHARS or max_tokens > MAX_TOKENS:
        raise InvalidRequest(
            f"a canary has at most {MAX_PROMPT_CHARS} characters and {MAX_TOKENS} tokens"
        )
    if endpoint.embeds:
        raise InvalidRequest(f"{endpoint.model} generates no text")
    body = {
        "model": endpoint.model,
        "prompt": prompt or PROMPT,
        "max_tokens": max_tokens or TOKENS,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
        "cache_salt": _CACHE_SALT,
    }
    timeout_s = (timeout_ms or _DEFAULT_TIMEOUT_MS) / 1_000
    try:
        async with asyncio.timeout(timeout_s):
            return await _measure(endpoint, body, now_mono_ms)
    except TimeoutError:
        raise DeadlineExceeded(f"the engine did not answer within {timeout_s:.0f} s") from None
    except (aiohttp.ClientError, OSError) as error:
        raise EngineFailed(f"the engine cannot be asked: {type(error).__name__}") from error


async def _measure(
    endpoint: EngineEndpoint, body: dict[str, Any], now_mono_ms: Callable[[], float]
) -> Canary:
    text: list[str] = []
    tokens, first_mono_ms, last_mono_ms = 0, 0.0, 0.0
    async with session_of(endpoint.uds_path) as session:
        began_mono_ms = now_mono_ms()
        url = f"{_base_url(endpoint)}/v1/completions"
        async with session.post(url, json=body) as response:
            if response.status != 200:
                raise EngineFailed(f"the engine answers {response.status}")
            async for event in _events(response):
                choices = event.get("choices")
                piece = choices[0].get("text") if isinstance(choices, list) and choices else None
                if isinstance(piece, str) and piece:
                    last_mono_ms = now_mono_ms()
                    first_mono_ms = first_mono_ms or last_mono_ms
                    text.append(piece)
                usage = event.get("usage")
                if isinstance(usage, dict):
                    tokens = int(usage.get("completion_tokens") or 0)
    if not text:
        raise EngineFailed("the engine answered without a token")
    tokens = tokens or len(text)
    between_s = (last_mono_ms - first_mono_ms) / 1_000
    return Canary(
        text="".join(text)[:MAX_TEXT_CHARS],
        tokens=tokens,
        first_token_ms=first_mono_ms - began_mono_ms,
        tokens_per_s=(tokens - 1) / between_s if tokens > 1 and between_s > 0 else 0.0,
    )


async def _events(response: aiohttp.ClientResponse) -> Any:  # noqa: ANN401 - an async generator
    left, received_bytes = bytearray(), 0
    async for chunk in response.content.iter_any():
        received_bytes += len(chunk)
        left += chunk
        if received_bytes > _MAX_ANSWER_BYTES or len(left) > _MAX_LINE_BYTES:
            raise EngineFailed("the engine answers with more than a canary has")
        while (end := left.find(b"\n")) >= 0:
            line = bytes(left[:end]).strip()
            del left[: end + 1]
            data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
            if data and data != b"[DONE]":
                try:
                    event = orjson.loads(data)
                except orjson.JSONDecodeError:
                    raise EngineFailed("the engine streams something other than JSON") from None
                if isinstance(event, dict):
                    yield event


def _base_url(endpoint: EngineEndpoint) -> str:
    if endpoint.uds_path is not None:
        return "http://engine"
    host = f"[{endpoint.host}]" if endpoint.host and ":" in endpoint.host else endpoint.host
    return f"{'https' if endpoint.tls else 'http'}://{host}:{endpoint.port}"

"""Asking an engine whether it is there and whether it really generates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from protos.domain.errors import EngineFailed

#: An answer to one token; more means that something else is speaking.
MAX_ANSWER_BYTES = 1024 * 1024
_PROMPT = "Hello"
#: Keeps the probe's prefix apart from the tenants' in the engine's cache.
_CACHE_SALT = "edgeforge-probe"


@dataclass(frozen=True, slots=True)
class ProbeTarget:
    """Where to ask: ``base_url`` without ``/v1``, through ``uds_path`` if there is one."""

    base_url: str
    uds_path: str | None = None


async def check_listening(target: ProbeTarget) -> None:
    """Return when the engine's HTTP side says it is healthy.

    The caller sets the time limit, here and below.

    Raises: EngineFailed, or aiohttp's and the system's errors of a connection that fails.
    """
    async with _session(target) as session, session.get(f"{target.base_url}/health") as response:
        if response.status != 200:
            raise EngineFailed(f"/health answers {response.status}")


async def check_generates(target: ProbeTarget, model: str) -> None:
    """Return when the engine has generated a token for ``model``. Raises as ``check_listening``."""
    body = {"model": model, "prompt": _PROMPT, "max_tokens": 1, "temperature": 0}
    answer = await _post(target, "/v1/completions", body | {"cache_salt": _CACHE_SALT})
    if not answer.get("choices") or answer.get("usage", {}).get("completion_tokens") != 1:
        raise EngineFailed("a generation came back without a token")


async def check_embeds(target: ProbeTarget, model: str) -> None:
    """Return when the engine has embedded a word for ``model``. Raises as ``check_listening``."""
    answer = await _post(target, "/v1/embeddings", {"model": model, "input": _PROMPT})
    data = answer.get("data")
    first = data[0] if isinstance(data, list) and data else None
    if not isinstance(first, dict) or not first.get("embedding"):
        raise EngineFailed("an embedding came back empty")


async def served_model(target: ProbeTarget) -> str:
    """Return the name of the first model that the server offers. Raises as ``check_listening``."""
    url = f"{target.base_url}/v1/models"
    async with _session(target) as session, session.get(url) as response:
        answer = await _json(response, "/v1/models")
    models = answer.get("data")
    name = models[0].get("id") if isinstance(models, list) and models else None
    if not isinstance(name, str) or not name:
        raise EngineFailed("/v1/models names no model")
    return name


async def counts_while_streaming(target: ProbeTarget, model: str) -> bool:
    """Generate a token as a stream; tell whether usage comes with the tokens, not only at the end.

    Servers differ: one that refuses the option is asked again without it, one that cannot chat is
    asked to complete. Raises as ``check_listening``, for the last of these.
    """
    common = {"model": model, "max_tokens": 1, "stream": True}
    counting = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    chat = common | {"messages": [{"role": "user", "content": _PROMPT}]}
    complete = common | {"prompt": _PROMPT}
    failure: EngineFailed | None = None
    for path, body in (
        ("/v1/chat/completions", chat | counting),
        ("/v1/chat/completions", chat),
        ("/v1/completions", complete | counting),
        ("/v1/completions", complete),
    ):
        try:
            events = await _stream(target, path, body)
        except EngineFailed as error:
            failure = error
        else:
            return any(event.get("choices") and event.get("usage") for event in events)
    assert failure is not None
    raise failure


def _session(target: ProbeTarget) -> aiohttp.ClientSession:
    connector: aiohttp.BaseConnector
    if target.uds_path is not None:
        connector = aiohttp.UnixConnector(target.uds_path, force_close=True)
    else:
        connector = aiohttp.TCPConnector(force_close=True)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout())


async def _post(target: ProbeTarget, path: str, body: dict[str, Any]) -> dict[str, Any]:
    url = f"{target.base_url}{path}"
    async with _session(target) as session, session.post(url, json=body) as response:
        return await _json(response, path)


async def _stream(target: ProbeTarget, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    url = f"{target.base_url}{path}"
    async with _session(target) as session, session.post(url, json=body) as response:
        text = await _read(response, path)
    events = []
    for line in text.splitlines():
        data = line.removeprefix(b"data:").strip() if line.startswith(b"data:") else b""
        if data and data != b"[DONE]":
            events.append(_parse(data, path))
    if not any(event.get("choices") for event in events):
        raise EngineFailed(f"{path} streams no token")
    return events


async def _json(response: aiohttp.ClientResponse, path: str) -> dict[str, Any]:
    return _parse(await _read(response, path), path)


async def _read(response: aiohttp.ClientResponse, path: str) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_any():
        data += chunk
        if len(data) > MAX_ANSWER_BYTES:
            raise EngineFailed(f"{path} answers with more than {MAX_ANSWER_BYTES} bytes")
    if response.status != 200:
        said = bytes(data[:200]).decode("utf-8", "replace")
        raise EngineFailed(f"{path} answers {response.status}: {said}")
    return bytes(data)


def _parse(data: bytes, path: str) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EngineFailed(f"{path} answers with what is no JSON") from error
    if not isinstance(value, dict):
        raise EngineFailed(f"{path} answers with what is no JSON object")
    return value

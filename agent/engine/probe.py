"""Requests to an engine that find out whether it listens, generates and makes progress."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson

from protos.domain.errors import EngineFailed

if TYPE_CHECKING:
    from agent.core.engine_liveness import Counters

#: Largest answer to a probe, and largest page of counters, that is read.
MAX_ANSWER_BYTES = 1024 * 1024
_PROMPT = "Hello"
#: Keeps the probe's prefix apart from the tenants' in the engine's cache.
_CACHE_SALT = "edgeforge-probe"
#: What vLLM 0.32 changes after a step of its scheduler, and only then. During a prefill in chunks
#: no token is counted before the last chunk; the KV cache in use grows with each.
#: Source: vllm/v1/metrics/loggers.py, ``PrometheusStatLogger.record``.
_PROGRESS_COUNTERS = (
    b"vllm:generation_tokens_total",
    b"vllm:prompt_tokens_total",
    b"vllm:iteration_tokens_total_count",
    b"vllm:request_success_total",
    b"vllm:kv_cache_usage_perc",
    b"vllm:num_requests_running",
    b"vllm:num_requests_waiting",
)


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
    async with (
        session_of(target.uds_path) as session,
        session.get(f"{target.base_url}/health") as response,
    ):
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


async def read_counters(target: ProbeTarget) -> Counters | None:
    """Return vLLM's counters of progress, None if it has none. Raises as ``check_listening``."""
    url = f"{target.base_url}/metrics"
    async with session_of(target.uds_path) as session, session.get(url) as response:
        return progress_counters(await _read(response, "/metrics"))


def progress_counters(page: bytes) -> Counters | None:
    """Return the lines of a metrics page that change with an engine's work, None without any."""
    lines = tuple(
        line
        for line in page.splitlines()
        if line.partition(b"{")[0].partition(b" ")[0] in _PROGRESS_COUNTERS
    )
    return lines or None


async def served_model(target: ProbeTarget) -> str:
    """Return the name of the first model that the server offers. Raises as ``check_listening``."""
    url = f"{target.base_url}/v1/models"
    async with session_of(target.uds_path) as session, session.get(url) as response:
        answer = await _json(response, "/v1/models")
    models = answer.get("data")
    name = models[0].get("id") if isinstance(models, list) and models else None
    if not isinstance(name, str) or not name:
        raise EngineFailed("/v1/models names no model")
    return name


async def counts_while_streaming(target: ProbeTarget, model: str) -> bool:
    """Return whether usage comes with the tokens of a stream, by generating one token.

    A server that refuses the option is asked without it, one that cannot chat for a completion.
    Raises as ``check_listening``, for the last of these.
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


def session_of(uds_path: str | None) -> aiohttp.ClientSession:
    """Return a session to an engine without limits of its own; its connections are not kept."""
    connector: aiohttp.BaseConnector
    if uds_path is not None:
        connector = aiohttp.UnixConnector(uds_path, force_close=True)
    else:
        connector = aiohttp.TCPConnector(force_close=True)
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout())


async def _post(target: ProbeTarget, path: str, body: dict[str, Any]) -> dict[str, Any]:
    url = f"{target.base_url}{path}"
    async with session_of(target.uds_path) as session, session.post(url, json=body) as response:
        return await _json(response, path)


async def _stream(target: ProbeTarget, path: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    url = f"{target.base_url}{path}"
    async with session_of(target.uds_path) as session, session.post(url, json=body) as response:
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
        raise EngineFailed(f"{path} answers with something other than JSON") from error
    if not isinstance(value, dict):
        raise EngineFailed(f"{path} answers with something other than a JSON object")
    return value

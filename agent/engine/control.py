"""What this agent asks of its own vLLM beside requests: adapters, weights, caches, fingerprints.

These routes exist only on the engine's private socket. The agent's ports forward the paths of API
formats and no other, so no client and no peer reaches them.
"""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, Protocol

import aiohttp
import orjson

from agent.core.fingerprint import ANSWER_TOKENS, BRIEF_PROMPTS, PROMPTS, TOP, Take
from agent.engine.probe import MAX_ANSWER_BYTES, session_of
from protos.domain.errors import EngineFailed

if TYPE_CHECKING:
    from pathlib import Path

#: Limits of each call; an engine that computes may answer late.
ADAPTER_TIMEOUT_S = 60.0
RELOAD_TIMEOUT_S = 600.0
RESET_TIMEOUT_S = 10.0
TAKE_TIMEOUT_S = 60.0
_SAID_CHARS = 300


class Control(Protocol):
    """What a slot asks of its engine; each call raises EngineFailed."""

    async def load_adapter(self, name: str, path: Path) -> None: ...
    async def unload_adapter(self, name: str) -> None: ...
    async def reload_weights(self, path: Path) -> None: ...
    async def reset_prefix_cache(self) -> bool: ...
    async def take(self, name: str, *, brief: bool = False) -> Take: ...


class EngineControl:
    """Calls to the vLLM that listens at ``uds_path``."""

    def __init__(self, uds_path: str) -> None:
        self._uds_path = uds_path

    async def load_adapter(self, name: str, path: Path) -> None:
        """Make the adapter in ``path`` known as ``name`` and read it. Never in place of another.

        Raises: EngineFailed, retryable unless the engine says that it cannot read this adapter.
        """
        body = {"lora_name": name, "lora_path": str(path)}
        status, said = await self._post("/v1/load_lora_adapter", body, ADAPTER_TIMEOUT_S)
        if status != 200:
            raise EngineFailed(
                f"the engine cannot load adapter {name}: {_text(said)}",
                "import it again for this base, or raise engine.max_adapter_rank",
                # of its own fault it says 500, and may load the same adapter after it
                retryable=status >= 500,
            )

    async def unload_adapter(self, name: str) -> None:
        """Make the engine forget ``name``; its weights leave when others need their place."""
        body = {"lora_name": name}
        status, said = await self._post("/v1/unload_lora_adapter", body, ADAPTER_TIMEOUT_S)
        if status not in (200, 404):
            raise EngineFailed(f"the engine cannot unload adapter {name}: {_text(said)}")

    async def reload_weights(self, path: Path) -> None:
        """Read the weights in ``path`` in place of those that the engine has.

        An engine that fails in this ends itself, since it may hold a part of both.
        """
        body = {"method": "reload_weights", "kwargs": {"weights_path": str(path)}}
        status, said = await self._post("/collective_rpc", body, RELOAD_TIMEOUT_S)
        if status != 200:
            raise EngineFailed(f"the engine cannot read other weights: {_text(said)}")

    async def reset_prefix_cache(self) -> bool:
        """Empty the prefix cache; False while a request holds a part of it."""
        status, said = await self._post("/reset_prefix_cache", None, RESET_TIMEOUT_S)
        if status != 200:
            raise EngineFailed(f"the engine cannot empty its prefix cache: {_text(said)}")
        return _object(said).get("success") is True

    async def take(self, name: str, *, brief: bool = False) -> Take:
        """Return what ``name``, a model or an adapter, says to the fixed prompts.

        ``brief``: one token for the shortest of them.
        """
        prompts = BRIEF_PROMPTS if brief else PROMPTS
        body = {
            "model": name,
            "prompt": list(prompts),
            "max_tokens": 1 if brief else ANSWER_TOKENS,
            "temperature": 0,
            "ignore_eos": True,
            "logprobs": TOP,
            "return_token_ids": True,
            # Never answered out of the prefix cache, nor in another's place in it.
            "cache_salt": f"edgeforge-fingerprint-{uuid.uuid4().hex}",
        }
        status, said = await self._post("/v1/completions", body, TAKE_TIMEOUT_S)
        if status != 200:
            raise EngineFailed(f"the engine does not answer as {name}: {_text(said)}")
        try:
            return read_take(_object(said), len(prompts))
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise EngineFailed(f"the engine's answer has no logprobs: {error!r}") from error

    async def _post(
        self, path: str, body: dict[str, Any] | None, timeout_s: float
    ) -> tuple[int, bytes]:
        try:
            async with (
                asyncio.timeout(timeout_s),
                session_of(self._uds_path) as session,
                session.post(f"http://engine{path}", json=body) as response,
            ):
                data = bytearray()
                async for chunk in response.content.iter_any():
                    data += chunk
                    if len(data) > MAX_ANSWER_BYTES:
                        raise EngineFailed(f"{path} answers with too much")
                return response.status, bytes(data)
        except TimeoutError as error:
            raise EngineFailed(f"{path} has no answer within {timeout_s:.0f} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise EngineFailed(f"{path} fails: {error!r}") from error


def read_take(answer: dict[str, Any], prompts: int) -> Take:
    """Return the ids and logprobs in an answer of ``/v1/completions`` to so many prompts.

    Raises: KeyError, IndexError, TypeError, ValueError for an answer without them.
    """
    token_ids: list[int] = []
    logprobs: list[float] = []
    choices = sorted(answer["choices"], key=lambda choice: int(choice["index"]))
    if len(choices) != prompts:
        raise ValueError(f"{len(choices)} answers")
    for choice in choices:
        token_ids += [int(one) for one in (*choice["prompt_token_ids"], *choice["token_ids"])]
        said = choice["logprobs"]
        logprobs += [float(one) for one in said["token_logprobs"]]
        for likeliest in said["top_logprobs"]:
            top = sorted((float(one) for one in likeliest.values()), reverse=True)[:TOP]
            # Tokens that are written alike are one key.
            logprobs += top + [top[-1]] * (TOP - len(top))
    return Take(tuple(token_ids), tuple(logprobs))


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise EngineFailed("the engine answers with something other than JSON") from error
    if not isinstance(value, dict):
        raise EngineFailed("the engine answers with something other than a JSON object")
    return value


def _text(data: bytes) -> str:
    return data[:_SAID_CHARS].decode("utf-8", "replace")

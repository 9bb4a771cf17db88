"""Sends one streamed request as a client would, and reads placement and cost from the answer."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from protos.domain.errors import EdgeForgeError

QUESTION = "What is the capital of France?"
_TIMEOUT_S = 120.0
_MAX_TOKENS = 24
_NANO_PER_USD = 1_000_000_000


@dataclass(frozen=True, slots=True)
class StreamedAnswer:
    """The answer with its serving node, first token time and cost."""

    text: str
    node: str
    tier: str
    trace_id: str
    first_token_ms: float
    cost_nano_usd: int
    predicted_miss: bool


def stream_answer(
    port: int, api_key: str, deployment: str, budget_ms: float | None = None
) -> StreamedAnswer:
    """Stream one answer through the agent at ``port``. Raises: EdgeForgeError."""
    body = {
        "model": deployment,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0,
        "max_tokens": _MAX_TOKENS,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant"},
            {"role": "user", "content": QUESTION},
        ],
    }
    headers = {"authorization": f"Bearer {api_key}", "content-type": "application/json"}
    if budget_ms is not None:
        headers["x-edgeforge-ttft-budget-ms"] = f"{budget_ms:g}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.connect()
        began_s = time.monotonic()  # noqa: TID251 - a client's own watch
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            message = response.read(2_000).decode("utf-8", "replace")
            raise EdgeForgeError(f"a request was answered {response.status}: {message}")
        reading = _Reading(began_s)
        for line in response:
            reading.take(line)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise EdgeForgeError(f"a request failed: {error!r}") from error
    finally:
        connection.close()
    return StreamedAnswer(
        text="".join(reading.texts).strip(),
        node=response.getheader("x-edgeforge-node", "?"),
        tier=response.getheader("x-edgeforge-tier", "?"),
        trace_id=response.getheader("x-edgeforge-trace-id", ""),
        first_token_ms=reading.first_token_ms,
        cost_nano_usd=reading.cost_nano_usd,
        predicted_miss=response.getheader("x-edgeforge-predicted-miss") == "true",
    )


class _Reading:
    """Reads the events of one stream."""

    def __init__(self, began_s: float) -> None:
        self._began_s = began_s
        self.texts: list[str] = []
        self.first_token_ms = 0.0
        self.cost_nano_usd = 0

    def elapsed_ms(self) -> float:
        return (time.monotonic() - self._began_s) * 1_000  # noqa: TID251 - a client's own watch

    def take(self, line: bytes) -> None:
        if not line.startswith(b"data: {"):
            return
        event: dict[str, Any] = json.loads(line[len(b"data: ") :], parse_float=Decimal)
        if "error" in event:
            raise EdgeForgeError(f"a request broke: {event['error'].get('message')}")
        for choice in event["choices"]:
            content = choice["delta"].get("content")
            if content and not self.first_token_ms:
                self.first_token_ms = self.elapsed_ms()
            self.texts.append(content or "")
        if "cost_usd" in event:
            self.cost_nano_usd = int(event["cost_usd"] * _NANO_PER_USD)

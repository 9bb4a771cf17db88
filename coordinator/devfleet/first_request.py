"""The first request through a new fleet: sent as any client would, and shown as it was placed."""

from __future__ import annotations

import http.client
import json
import time
from dataclasses import dataclass

from protos.domain.errors import EdgeForgeError

_TIMEOUT_S = 120.0
_QUESTION = "What is the capital of France?"
_MAX_TOKENS = 24


@dataclass(frozen=True, slots=True)
class FirstAnswer:
    """What came back, from where, and when its first token did."""

    text: str
    node: str
    tier: str
    first_token_ms: float


def send_first_request(port: int, api_key: str, deployment: str) -> FirstAnswer:
    """Stream one answer through the agent at ``port``. Raises: EdgeForgeError."""
    body = {
        "model": deployment,
        "stream": True,
        "temperature": 0,
        "max_tokens": _MAX_TOKENS,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant"},
            {"role": "user", "content": _QUESTION},
        ],
    }
    headers = {"authorization": f"Bearer {api_key}", "content-type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    began_s = time.monotonic()  # noqa: TID251 - a client's own watch
    try:
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        response = connection.getresponse()
        if response.status != 200:
            message = response.read(2_000).decode("utf-8", "replace")
            raise EdgeForgeError(f"the first request was answered {response.status}: {message}")
        text, first_ms = _read_stream(response, began_s)
    except (OSError, http.client.HTTPException) as error:
        raise EdgeForgeError(f"the first request failed: {error!r}") from error
    finally:
        connection.close()
    return FirstAnswer(
        text=text.strip(),
        node=response.getheader("x-edgeforge-node", "?"),
        tier=response.getheader("x-edgeforge-tier", "?"),
        first_token_ms=first_ms,
    )


def _read_stream(response: http.client.HTTPResponse, began_s: float) -> tuple[str, float]:
    """Return the text and when its first token came."""
    parts: list[str] = []
    first_ms = 0.0
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        event = json.loads(line[len(b"data: ") :])
        if "error" in event:
            raise EdgeForgeError(f"the first request broke: {event['error'].get('message')}")
        for choice in event["choices"]:
            content = choice["delta"].get("content")
            if content and not first_ms:
                first_ms = (time.monotonic() - began_s) * 1_000  # noqa: TID251 - as above
            parts.append(content or "")
    return "".join(parts), first_ms

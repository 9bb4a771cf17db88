"""Asks an engine on its socket, and compares the shape of two engines' answers."""

from __future__ import annotations

import json
from typing import Any

from tests.support.fake_engine_process import UnixHTTPConnection


def ask(uds: str, path: str, body: object, method: str = "POST") -> tuple[int, bytes]:
    connection = UnixHTTPConnection(uds, timeout_s=60)
    data = body if isinstance(body, bytes) else json.dumps(body)
    headers = {"content-type": "application/json"}
    connection.request(method, path, None if body is None else data, headers)
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response.status, answer


def shape(value: Any) -> Any:
    """Return the shape of an answer: keys in their order, and the types of values."""
    if isinstance(value, dict):
        return [(key, shape(inner)) for key, inner in value.items()]
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    if value is None or isinstance(value, bool):
        return value
    return type(value).__name__

"""What clients of every format have counted is what the coordinator counts, whoever serves."""

from __future__ import annotations

import json
from typing import Any

from tests.support.fleet import Fleet
from tests.support.waiting import wait_until

BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5},
    "/v1/completions": {"prompt": "hi", "max_tokens": 5},
    "/v1/responses": {"input": "hi", "max_output_tokens": 5},
    "/v1/messages": {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5},
}


def usage_in(body: bytes) -> dict[str, Any]:
    """Return the last usage that a client has read."""
    found: dict[str, Any] = {}
    for line in body.decode().splitlines():
        data = line.removeprefix("data: ")
        if not data.startswith("{"):
            continue
        message = json.loads(data)
        for holder in (message, message.get("message") or {}, message.get("response") or {}):
            if isinstance(holder.get("usage"), dict):
                found |= holder["usage"]
    return found


def test_each_answer_is_counted_once_with_the_tokens_that_its_client_has_read(
    fleet: Fleet,
) -> None:
    agent = fleet.agent("gru-1")
    seen: dict[str, tuple[int, int]] = {}
    costs: dict[str, int] = {}
    for path, fields in BODIES.items():
        for stream in (False, True):
            asked = fields | ({"stream": True} if stream else {})
            if stream and "completions" in path:
                asked |= {"stream_options": {"include_usage": True}}
            answer = agent.send({"model": agent.model} | asked, path=path)
            assert answer.status == 200, answer.body
            usage = usage_in(answer.body)
            prompt = usage.get("prompt_tokens", usage.get("input_tokens"))
            completion = usage.get("completion_tokens", usage.get("output_tokens"))
            trace_id = answer.headers["x-edgeforge-trace-id"]
            seen[trace_id] = (int(prompt), int(completion))
            if not stream:
                dollars = answer.headers["x-edgeforge-cost-usd"]
                costs[trace_id] = int(dollars.replace(".", ""))

    def exported() -> dict[str, dict[str, Any]]:
        lines = fleet.edgeforge("usage", "export", "--json").splitlines()
        found = [json.loads(line) for line in lines]
        assert len({one["trace_id"] for one in found}) == len(found), "none twice"
        return {one["trace_id"]: one for one in found}

    counted = wait_until(
        lambda: found if set(seen) <= set(found := exported()) else None, 60, "all are counted"
    )
    for trace_id, tokens in seen.items():
        one = counted[trace_id]
        assert (one["prompt_tokens"], one["completion_tokens"]) == tokens
        assert (one["cause"], one["status"]) == ("complete", 200)
    assert {trace_id: counted[trace_id]["nano_usd"] for trace_id in costs} == costs
    assert all(nano_usd > 0 for nano_usd in costs.values())

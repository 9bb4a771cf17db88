"""Where latency and cost were paid, as clients read it on their answers."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Answer, Fleet
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def fleet(own_fleet: Fleet) -> Fleet:
    """Its agents hold these tests' traces alone."""
    return own_fleet


def timing(answer: Answer) -> dict[str, float]:
    """The parts of Server-Timing and their durations."""
    parts = {}
    for part in answer.headers["server-timing"].split(", "):
        name, _, duration = part.partition(";dur=")
        parts[name] = float(duration)
    return parts


def test_server_timing_of_a_stream_over_a_hop_tells_network_from_engine(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    engine.control(first_token_delay_ms=150)
    answer = fleet.agent("gru-1").chat(stream=True)
    parts = timing(answer)
    assert list(parts) == ["auth", "route", "network", "admission", "queue", "prefill"]
    assert parts["prefill"] >= 149, "the engine's part, as its own agent measured it"
    record = fleet.agent("gru-1").last_request()
    assert sum(parts.values()) <= record["ttft_ms"] + 1.0
    assert parts["network"] > 0.0


def test_server_timing_of_a_whole_answer_says_answer_and_what_it_cost(fleet: Fleet) -> None:
    answer = fleet.agent("iad-1").chat()
    assert list(timing(answer)) == ["auth", "route", "network", "admission", "queue", "answer"]
    cost_nano_usd = int(Decimal(answer.headers["x-edgeforge-cost-usd"]) * 10**9)
    assert cost_nano_usd == fleet.agent("iad-1").last_request()["cost_nano_usd"] > 0


def test_the_usage_chunk_of_a_stream_tells_its_cost(fleet: Fleet) -> None:
    gru = fleet.agent("gru-1")
    answer = gru.chat(stream=True, stream_options={"include_usage": True})
    (told,) = [
        json.loads(event, parse_float=Decimal)
        for event in answer.events()
        if '"choices":[]' in event
    ]
    assert told["usage"]["completion_tokens"] == 8
    assert int(told["cost_usd"] * 10**9) == gru.last_request()["cost_nano_usd"] > 0


def test_a_stream_whose_client_asked_for_no_usage_tells_no_cost(fleet: Fleet) -> None:
    answer = fleet.agent("gru-1").chat(stream=True)
    assert b"cost_usd" not in answer.body
    assert b"usage" not in answer.body


def shown(fleet: Fleet, answer: Answer) -> dict[str, Any]:
    trace_id = answer.headers["x-edgeforge-trace-id"]
    return dict(json.loads(fleet.edgeforge("trace", "show", trace_id, "--json")))


def test_a_trace_tells_a_request_whole(fleet: Fleet, engine: FakeEngineProcess) -> None:
    engine.control(first_token_delay_ms=60, token_delay_ms=20, tokens=5)
    answer = fleet.agent("gru-1").chat(stream=True)
    trace = shown(fleet, answer)
    assert (trace["ingress_node_id"], trace["node_id"]) == ("gru-1", "iad-1")
    assert trace["status"] == 200
    assert trace["far"]["engine_ms"] >= 59
    gaps_us = trace["token_gaps_us"]
    assert len(gaps_us) == 5
    assert sum(gaps_us) / 1_000 <= trace["ended_ms"]
    assert gaps_us[0] / 1_000 == pytest.approx(trace["first_token_ms"], abs=0.01)
    assert min(gaps_us[1:]) > 0, "each token has its own time"
    (attempt,) = trace["attempts"]
    (candidate,) = [one for one in attempt["candidates"] if one["chosen"]]
    assert (candidate["node_id"], candidate["pop_id"]) == ("iad-1", "IAD")
    assert set(candidate["term_names"]) >= {"rtt", "queue", "prefill"}
    assert sum(candidate["term_values_ms"]) == pytest.approx(candidate["ttft_ms_p99"], abs=0.01)
    assert trace["tokens"] == {"prompt": 7, "cached": 0, "completion": 5}
    cost = trace["cost"]
    assert int(cost["prompt_nano_usd"]) > 0
    assert int(cost["card_version"]) > 0
    total = sum(int(cost[f"{part}_nano_usd"]) for part in ("prompt", "cached", "completion"))
    assert total == fleet.agent("gru-1").last_request()["cost_nano_usd"]


def test_a_trace_is_drawn_in_the_terminal(fleet: Fleet) -> None:
    trace_id = fleet.agent("gru-1").chat(stream=True).headers["x-edgeforge-trace-id"]
    picture = fleet.edgeforge("trace", "show", trace_id)
    for part in ("network", "prefill", "decode", "candidates fitted", "nano-USD", "TPOT P50"):
        assert part in picture


def test_traces_are_listed_over_all_agents_filtered_and_paged(fleet: Fleet) -> None:
    gru, iad = fleet.agent("gru-1"), fleet.agent("iad-1")
    tight = {"x-edgeforge-ttft-budget-ms": "0.001"}
    body = {"model": gru.model, "messages": [{"role": "user", "content": "x"}], "stream": True}
    missed = gru.send(body, headers=tight).headers["x-edgeforge-trace-id"]
    local = iad.chat(stream=True).headers["x-edgeforge-trace-id"]
    newest = json.loads(fleet.edgeforge("trace", "ls", "--limit", "2", "--json"))
    assert [line["trace_id"] for line in newest["traces"]] == [local, missed]
    assert newest["searched"] == ["gru-1", "iad-1"]
    cursor = newest["next"]
    at = f"{cursor['value']!r}:{cursor['trace_id']}"
    older = json.loads(fleet.edgeforge("trace", "ls", "--after", at, "--json"))["traces"]
    assert not {local, missed} & {line["trace_id"] for line in older}
    late = json.loads(fleet.edgeforge("trace", "ls", "--missed", "--json"))["traces"]
    assert late[0]["trace_id"] == missed
    assert all(line["missed"] for line in late)
    via = json.loads(fleet.edgeforge("trace", "ls", "--via", "IAD", "--slow", "--json"))["traces"]
    assert {line["ingress_node_id"] for line in via} == {"iad-1"}
    felt = [line["felt_ttft_ms"] for line in via]
    assert felt == sorted(felt, reverse=True)
    other = json.loads(fleet.edgeforge("trace", "ls", "--deployment", "none", "--json"))
    assert other["traces"] == []


def test_a_refused_request_has_a_trace_too(fleet: Fleet) -> None:
    answer = fleet.agent("gru-1").send({"model": "no-such"})
    trace = shown(fleet, answer)
    assert trace["status"] == answer.status >= 400
    assert "first_token_ms" not in trace
    assert trace["attempts"] == []


def test_strangers_leave_no_trace_and_so_push_none_out(fleet: Fleet) -> None:
    gru = fleet.agent("gru-1")
    stranger = {"authorization": "Bearer ef-nobody"}
    body = {"model": gru.model, "messages": []}
    refused = [gru.send(body, headers=stranger) for _ in range(3)]
    assert {answer.status for answer in refused} == {401}
    assert gru.last_request()["status"] == 401
    customer = gru.chat().headers["x-edgeforge-trace-id"]
    listed = json.loads(fleet.edgeforge("trace", "ls", "--via", "gru-1", "--json"))["traces"]
    assert listed[0]["trace_id"] == customer
    assert not [line for line in listed if line["status"] == 401]


def test_a_client_that_leaves_is_on_record(fleet: Fleet, engine: FakeEngineProcess) -> None:
    engine.control(tokens=500, token_delay_ms=20)
    gru = fleet.agent("gru-1")
    connection = gru.connect()
    body = json.dumps({"model": gru.model, "messages": [], "stream": True})
    headers = {"authorization": f"Bearer {gru.api_key}", "content-type": "application/json"}
    connection.request("POST", "/v1/chat/completions", body, headers)
    response = connection.getresponse()
    trace_id = response.headers["x-edgeforge-trace-id"]
    response.read(100)
    connection.sock.close()
    response.close()
    wait_until(lambda: gru.last_request()["trace_id"] == trace_id, 20, "the request to end")
    trace = json.loads(fleet.edgeforge("trace", "show", trace_id, "--json"))
    assert trace["client_gone"]
    assert trace["attempts"][0]["outcome"] == "client_gone"
    assert trace["tokens"]["completion"] > 0, "an abort knows its tokens"


def refusal(fleet: Fleet, *argv: str) -> str:
    with pytest.raises(AssertionError) as refused:
        fleet.edgeforge(*argv)
    return str(refused.value)


def test_an_unknown_trace_says_who_was_searched(fleet: Fleet) -> None:
    said = refusal(fleet, "trace", "show", "f" * 32)
    assert "was not found; searched: gru-1, iad-1" in said
    assert "not searched" not in said.partition("==")[0]
    assert "no trace id" in refusal(fleet, "trace", "show", "xyz")
    assert "neither a POP nor a node" in refusal(fleet, "trace", "ls", "--via", "XXX")


def test_a_trace_asked_of_a_dead_agent_is_a_clear_answer_and_survives_its_restart(
    fleet: Fleet,
) -> None:
    gru = fleet.agent("gru-1")
    trace_id = gru.chat(stream=True).headers["x-edgeforge-trace-id"]
    fleet.edgeforge("trace", "show", trace_id)  # it is on disk now
    fleet.kill("gru-1")
    wait_until(
        lambda: json.loads(fleet.edgeforge("trace", "ls", "--json"))["unsearched"],
        20,
        "the coordinator to see that the agent is gone",
    )
    for via in ((), ("--via", "gru-1"), ("--via", "GRU")):
        said = refusal(fleet, "trace", "show", trace_id, *via)
        assert "not searched: gru-1 (not connected" in said
    assert "searched: no agent" in said
    (unsearched,) = json.loads(fleet.edgeforge("trace", "ls", "--json"))["unsearched"]
    assert unsearched["node_id"] == "gru-1"
    fleet.start("gru-1")
    fleet.agent("gru-1").wait_ready()
    wait_until(
        lambda: not json.loads(fleet.edgeforge("trace", "ls", "--json"))["unsearched"],
        30,
        "the agent to be asked again",
    )
    trace = json.loads(fleet.edgeforge("trace", "show", trace_id, "--json"))
    assert trace["trace_id"] == trace_id


def test_a_full_ring_lets_the_oldest_go_and_requests_go_on(fleet: Fleet) -> None:
    fleet.configure("gru-1", "traces", max_rows=3)
    gru = fleet.agent("gru-1")
    sent = [gru.chat(stream=True).headers["x-edgeforge-trace-id"] for _ in range(5)]
    wait_until(
        lambda: not json.loads(fleet.edgeforge("trace", "ls", "--json"))["unsearched"],
        30,
        "the agent to be connected",
    )
    listed = json.loads(fleet.edgeforge("trace", "ls", "--via", "gru-1", "--json"))["traces"]
    assert [line["trace_id"] for line in listed] == sent[:-4:-1]
    assert gru.status()["traces"]["rows"] == 3
    assert "not found" in refusal(fleet, "trace", "show", sent[0])


def test_a_quote_replays_what_agents_hold_and_bills_as_they_did(fleet: Fleet) -> None:
    gru = fleet.agent("gru-1")
    for _ in range(3):
        gru.chat(stream=True)
    cost_nano_usd = gru.last_request()["cost_nano_usd"]
    quoted = json.loads(
        fleet.edgeforge("quote", "--deployment", gru.model, "--ttft", "1,60000ms", "--json")
    )
    tightest, loosest = quoted["lines"][0], quoted["lines"][-1]
    assert loosest["requests"] >= 3
    assert loosest["median_nano_usd"] == cost_nano_usd
    assert (loosest["kept_ratio"], loosest["predicted_misses"]) == (1.0, 0)
    assert loosest["billed_by_tier"] == {"central": loosest["requests"]}
    assert tightest["kept_ratio"] == 0.0
    assert tightest["predicted_misses"] == tightest["requests"]
    (present,) = [line for line in quoted["lines"] if line["is_present"]]
    assert present["observed_ratio"] == 1.0, "there is one target, and it did serve"
    assert any("too few" in note for note in quoted["notes"])

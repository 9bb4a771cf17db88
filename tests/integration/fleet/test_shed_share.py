"""No latency is read anywhere without the share of requests that was shed beside it."""

from __future__ import annotations

import json
import re

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import COMMANDS, Fleet
from tests.support.waiting import wait_until

NEVER = {"x-edgeforge-ttft-budget-ms": "0.001"}


@pytest.fixture(scope="module")
def used(own_fleet: Fleet) -> Fleet:
    """At GRU: 3 streams, 1 refused by admission, 2 that nobody could serve. Strict."""
    fleet = own_fleet
    gru = fleet.agent("gru-1")
    fleet.edgeforge("deployment", "set", fleet.model, "--strict", "--sla", "realtime")
    body = {"model": gru.model, "messages": [], "stream": True}

    def refused() -> bool:
        return gru.send(body, headers=NEVER).json()["error"]["code"] == "budget_unreachable"

    iad = fleet.agent("iad-1")
    strict = lambda: iad.send(body, headers=NEVER).status == 429  # noqa: E731
    wait_until(strict, 20, "the deployment to be strict")
    held = lambda agent: agent.digests()["deployments"]  # noqa: E731
    wait_until(lambda: held(gru) == held(iad), 20, "gru-1 to hold it too")
    for _ in range(3):
        assert gru.chat(stream=True).status == 200
    assert refused()
    for _ in range(2):
        answer = gru.send(body, headers={"x-edgeforge-residency": "EU"})
        assert answer.json()["error"]["code"] == "no_replica"
    return fleet


def metric(page: str, name: str, **labels: str) -> float:
    said = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    (found,) = re.findall(rf"^{name}{{{re.escape(said)}}} (\S+)$", page, re.MULTILINE)
    return float(found)


def test_monitoring_reads_first_tokens_and_what_was_shed_by_sla_and_reason(used: Fleet) -> None:
    page = used.metrics("gru-1")
    shed = {
        reason: metric(page, "edgeforge_gateway_shed_total", reason=reason, sla="realtime")
        for reason in ("budget_unreachable", "no_replica", "overloaded")
    }
    assert shed == {"budget_unreachable": 1.0, "no_replica": 2.0, "overloaded": 0.0}
    assert metric(page, "edgeforge_gateway_admitted_total", sla="realtime") == 3.0
    first = "edgeforge_gateway_first_token_seconds"
    assert metric(page, f"{first}_count", sla="realtime") == 3.0
    assert metric(page, f"{first}_bucket", le="+Inf", sla="realtime") == 3.0
    assert 0.0 < metric(page, f"{first}_sum", sla="realtime") < 60.0
    assert metric(page, f"{first}_count", sla="standard") == 0.0


def test_the_agents_status_tells_first_tokens_with_the_share_that_was_shed(used: Fleet) -> None:
    service = used.agent("gru-1").status()["service"]
    assert (service["all"]["admitted"], service["all"]["shed"]) == (3, 3)
    assert service["all"]["shed_ratio"] == 0.5
    assert service["deployments"][used.model]["first_tokens"] == 3
    config = used.state_dir / "agents" / "gru-1.toml"
    printed = used.run([str(COMMANDS / "edgeforge-agent"), "status", "--config", str(config)])
    assert "over 3 streams; 3 of 6 requests shed (50.0%)" in printed


def test_the_coordinator_tells_of_a_node_first_tokens_with_what_was_shed(used: Fleet) -> None:
    shown = lambda: used.edgeforge("node", "show", "gru-1")  # noqa: E731
    wait_until(lambda: "3 of 6 requests shed (50.0%)" in shown(), 20, "a status that tells it")
    assert "first token P50" in shown()
    told = json.loads(used.edgeforge("node", "show", "gru-1", "--json"))["service"]
    assert (told["admitted"], told["shed"], told["first_tokens"]) == (3, 3, 3)


def test_a_list_of_traces_ends_with_its_latency_and_what_was_shed(used: Fleet) -> None:
    listed = used.edgeforge("trace", "ls", "--via", "gru-1")
    assert "these: first token P50" in listed
    assert "over 3 streams; 3 of 6 requests shed (50.0%)" in listed


def test_a_mistake_of_the_clients_is_no_shed_request(
    used: Fleet, engine: FakeEngineProcess
) -> None:
    before = used.agent("gru-1").status()["service"]["all"]
    assert used.agent("gru-1").send(b"{").status == 400
    assert used.agent("gru-1").send({"model": "nosuch"}).status == 404
    after = used.agent("gru-1").status()["service"]["all"]
    assert (after["admitted"], after["shed"]) == (before["admitted"], before["shed"])


def test_predicted_p99s_are_counted_with_the_first_tokens_that_came_within_them(
    used: Fleet,
) -> None:
    told = used.agent("gru-1").status()["predictions"]
    seen = sum(of["seen"] for of in told.values())
    kept = sum(of["kept"] for of in told.values())
    assert kept <= seen == 3, "as many as streams had a first token, each once"
    page = used.metrics("gru-1")
    counted = {
        name: sum(
            metric(page, f"edgeforge_{name}_total", basis=basis, place=place)
            for basis in ("profile", "learned")
            for place in ("free", "behind", "full")
        )
        for name in ("predictions", "predictions_kept")
    }
    assert counted == {"predictions": seen, "predictions_kept": kept}

"""The law of money, checked from outside: what clients have counted against what is billed.

Seen is a part of billed, billed of admitted; each seen request is billed once, with the tokens
that its client has counted; what is billed and was not seen names its cause; ledger, sums, raw
records and invoices agree. Thousands of requests in all formats, while processes are killed.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet
from tests.support.money_clients import EMBEDDINGS, LONG_TOKENS, Asked, Crowd, drawn
from tests.support.waiting import wait_until

#: The fleet starts, and every process of it again, before the first test.
pytestmark = pytest.mark.timeout(300)

REQUESTS = 3_100
AT_ONCE = 20
PROMPT_TOKENS = 7
SHARES = {"default": 0.76, "revoked": 0.08, "continued": 0.16, "suspended": 0.06}
NAMES = {
    "default": "twin",
    "revoked": "twin",
    "continued": "steady",
    "suspended": "theirs",
    EMBEDDINGS: "embed",
}
#: Why a client has not seen the end of what it pays for.
NOT_SEEN = {"client_gone", "engine_lost", "revoked", "cut_short", "agent_lost"}
BEHAVED: dict[str, object] = {"tokens": 400, "token_delay_ms": 1}


def key_of(fleet: Fleet, account: str) -> dict[str, str]:
    return dict(json.loads(fleet.edgeforge("key", "create", "--account", account, "--json")))


class Trial:
    """A fleet of three agents under load: IAD serves, GRU too and dearer, iad-2 embeds."""

    def __init__(self, fleet: Fleet, iad: FakeEngineProcess, gru: FakeEngineProcess) -> None:
        self.fleet, self.iad, self.gru = fleet, iad, gru
        on_both = ("--model", "external/twin@1", "--node", "iad-1", "--node", "gru-1")
        budget = ("--budget-ms", "150")
        create = partial(fleet.edgeforge, "deployment", "create")
        create("steady", "--account", "default", *on_both, *budget, "--continue-streams")
        fleet.edgeforge("account", "create", "other")
        create("theirs", "--account", "other", *on_both, *budget)
        self.revoked, other = key_of(fleet, "default"), key_of(fleet, "other")
        keys = {
            "default": fleet.facts["api_key"],
            "continued": fleet.facts["api_key"],
            "revoked": self.revoked["api_key"],
            "suspended": other["api_key"],
        }
        urls = {node: fleet.agent(node).url for node in ("gru-1", "iad-1")}
        nodes = ["gru-1", "gru-1", "iad-1"]
        draw = partial(drawn, nodes=nodes, keys=SHARES, names=NAMES)
        self.before = {str(one["trace_id"]) for one in self.lines()}
        self.crowd = Crowd(urls, keys, draw)
        #: By key: streams that were in progress during the last fault.
        self.in_progress: dict[str, list[Asked]] = {}
        #: Their clients have left while nothing was generated.
        self.leavers: list[Asked] = []
        self.thread = threading.Thread(target=lambda: asyncio.run(self.crowd.run(AT_ONCE)))

    @contextmanager
    def load(self) -> Iterator[None]:
        """Clients ask meanwhile; behind it every answer has ended."""
        self.thread.start()
        try:
            yield
        finally:
            self.crowd.stopping = True
            wait_until(self._have_ended, 90, "every answer to end")

    def _have_ended(self) -> bool:
        """Whether every answer has; those that began to be held since the last fault go on."""
        for engine in (self.iad, self.gru):
            engine.control(**BEHAVED)
        self.thread.join(0.2)
        return not self.thread.is_alive()

    def after(self, more: int) -> None:
        """Wait until the clients have sent so many more requests."""
        target = self.crowd.sent + more
        wait_until(lambda: self.crowd.sent >= target, 60, f"{target} requests")

    @contextmanager
    def held(self, key: str) -> Iterator[None]:
        """Streams stop after some tokens meanwhile, among them at least two of ``key``."""
        for engine in (self.iad, self.gru):
            engine.control(**BEHAVED, hold_after_tokens=5)
        nodes = ("gru-1", "gru-1", "iad-1", "iad-1")
        asked = [
            Asked(0, "/v1/chat/completions", True, LONG_TOKENS, NAMES[key], node, key)
            for node in nodes
        ]
        leaver = Asked(1, "/v1/chat/completions", True, LONG_TOKENS, NAMES[key], "gru-1", key)
        leaver.leaves_after_bytes = 700
        for one in (*asked, leaver):
            self.crowd.begin(one)
        held = wait_until(
            lambda: (
                found if len(found := [one for one in asked if one.tokens_seen == 5]) > 1 else None
            ),
            30,
            "streams to be held",
        )
        self.in_progress[key] = held
        yield
        if leaver.left:
            self.leavers.append(leaver)
        for engine in (self.iad, self.gru):
            engine.control(**BEHAVED)

    def is_refused(self, key: str, status: int) -> bool:
        """Ask once more with ``key``; return whether it has been refused at both agents."""
        for node in ("gru-1", "iad-1"):
            one = Asked(0, "/v1/chat/completions", False, 1, NAMES[key], node, key)
            self.crowd.begin(one)
        asked = [one for one in self.crowd.asked if one.key == key and one.status == status]
        return {one.node for one in asked} == {"gru-1", "iad-1"}

    def restart(self, process: str) -> None:
        self.fleet.start(process)
        if process != "coordinator":
            self.fleet.agent(process).wait_ready()

    def publish(self) -> None:
        """Publish a card with twice the prices."""
        card = json.loads(self.fleet.edgeforge("price", "show", "--json"))
        for line in card["prices"]:
            for name in line:
                if name.endswith("per_token"):
                    line[name] *= 2
        file = self.fleet.state_dir / "card.json"
        file.write_text(json.dumps(card))
        told = json.loads(self.fleet.edgeforge("price", "propose", str(file), "--json"))
        self.fleet.edgeforge("price", "publish", str(told["version"]))

    def lines(self) -> list[dict[str, Any]]:
        return list(map(json.loads, self.fleet.edgeforge("usage", "export", "--json").splitlines()))

    def wait_drained(self) -> None:
        """Until every record of every spool is counted."""
        for agent in self.fleet.agents():
            agent.wait_ready()
            wait_until(
                lambda agent=agent: _is_drained(agent.status()["usage"]),
                90,
                f"{agent.node} to have delivered",
            )


def _is_drained(usage: dict[str, Any]) -> bool:
    return not usage["older_spools"] and not usage["waiting"]


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trial]:
    """The fleet, after the load and every fault, with all spools drained."""
    with (
        FakeEngineProcess("twin") as iad,
        FakeEngineProcess("twin") as gru,
        FakeEngineProcess("embed") as embedder,
        Fleet(tmp_path_factory.mktemp("m"), [iad.url, gru.url, embedder.url]) as fleet,
    ):
        fleet.configure("gru-1", "router", hedge_ratio=1.0)
        fleet.let_embed("iad-2", embedder)
        trial = Trial(fleet, iad, gru)
        for engine in (iad, gru):
            engine.control(**BEHAVED)
        with trial.load():
            inject(trial)
            wait_until(lambda: trial.crowd.sent >= REQUESTS, 60, "all requests")
        trial.wait_drained()
        yield trial


def inject(trial: Trial) -> None:
    """Do every fault once, while clients ask, most of them in the middle of streams."""
    fleet, iad = trial.fleet, trial.iad
    trial.after(200)
    iad.control(**BEHAVED, cut_after_tokens=3, remaining=20)
    trial.after(150)
    with trial.held("default"):
        trial.publish()
    trial.after(150)
    with trial.held("revoked"):
        fleet.edgeforge("key", "revoke", trial.revoked["id"])
        cut = trial.in_progress["revoked"]
        wait_until(lambda: all(one.ended for one in cut), 20, "streams of the key to be cut")
    trial.after(150)
    fleet.kill("coordinator")
    trial.after(200)
    with trial.held("default"):
        fleet.kill("gru-1")
    trial.restart("gru-1")
    trial.after(200)
    trial.restart("coordinator")
    trial.after(100)
    iad.control(**BEHAVED, first_token_delay_ms=2_000, remaining=24)
    trial.after(150)
    iad.control(**BEHAVED)
    with trial.held("suspended"):
        fleet.edgeforge("account", "suspend", "other", "--reason", "test")
        wait_until(lambda: trial.is_refused("suspended", 403), 20, "the account to be refused")
    trial.after(100)
    with trial.held("continued"):
        iad.kill()
        iad.start()
    fleet.kill("coordinator")
    trial.restart("coordinator")
    trial.after(100)
    with trial.held("default"):
        fleet.kill("iad-1")
    trial.restart("iad-1")


@pytest.fixture(scope="module")
def lines(trial: Trial) -> dict[str, dict[str, Any]]:
    """What is billed for the load, by trace: each once."""
    lines = trial.lines()
    found = {str(one["trace_id"]): one for one in lines}
    assert len(found) == len(lines), "none twice"
    return {trace_id: one for trace_id, one in found.items() if trace_id not in trial.before}


def answered(trial: Trial) -> dict[str, Asked]:
    """Return the requests whose clients have read a head, by its trace."""
    return {one.trace_id: one for one in trial.crowd.asked if one.trace_id}


def counted(one: dict[str, Any]) -> tuple[int, int]:
    return int(one["prompt_tokens"]), int(one["completion_tokens"])


def test_each_seen_request_is_billed_once_with_the_tokens_that_its_client_has_counted(
    trial: Trial, lines: dict[str, dict[str, Any]]
) -> None:
    assert trial.crowd.sent >= 3_000
    seen = {one.trace_id: one for one in trial.crowd.asked if one.seen}
    assert len(seen) >= 2_000
    assert not seen.keys() - lines.keys(), "seen is a part of billed"
    for trace_id, asked in seen.items():
        line = lines[trace_id]
        assert (line["status"], line["path"], line["stream"]) == (200, asked.path, asked.stream)
        assert line["deployment"] == asked.deployment
        assert line["nano_usd"] > 0
        assert line["cause"] in ("complete", "agent_lost"), asked
        if asked.usage is not None:
            assert counted(line) == asked.usage, asked
        if asked.stream:
            assert counted(line) == (PROMPT_TOKENS, asked.tokens_seen), asked
        elif asked.cost_usd:
            assert line["nano_usd"] == int(asked.cost_usd.replace(".", ""))
    formats = Counter((one.path, one.stream) for one in seen.values())
    assert len(formats) == 9, "all formats, streamed and whole"
    assert min(formats.values()) >= 30


def test_nothing_is_billed_that_was_not_asked_for(
    trial: Trial, lines: dict[str, dict[str, Any]]
) -> None:
    """What has a trace that no client knows was asked by one that has left before the head."""
    known = answered(trial)
    headless = Counter(
        (one.path, one.stream, one.deployment, one.node)
        for one in trial.crowd.asked
        if one.sent and not one.status
    )
    unknown = Counter(
        (one["path"], one["stream"], one["deployment"], one["node"])
        for trace_id, one in lines.items()
        if trace_id not in known
    )
    assert not unknown - headless
    refused = [one for one in known.values() if one.status != 200]
    assert {one.status for one in refused} <= {401, 403, 500, 502, 503}
    billed = {trace_id for trace_id, one in lines.items() if one["nano_usd"]}
    assert not billed & {one.trace_id for one in refused}
    admitted = {one.trace_id: one for one in known.values() if one.status == 200}
    unbilled = [one for trace_id, one in admitted.items() if trace_id not in lines]
    assert {one.node for one in unbilled} <= {"gru-1", "iad-1"}, "only where an agent was killed"
    assert not any(one.ended for one in unbilled)


def test_what_is_billed_and_was_not_seen_names_its_cause(
    trial: Trial, lines: dict[str, dict[str, Any]]
) -> None:
    known = answered(trial)
    assert trial.leavers
    for one in trial.leavers:
        line = lines.get(one.trace_id)  # none where its agent was killed before it had noticed
        assert line is None or line["cause"] in ("client_gone", "agent_lost")
    for trace_id, line in lines.items():
        asked = known.get(trace_id)
        if asked is not None and asked.seen:
            continue
        if asked is not None and not asked.left:
            assert line["cause"] in NOT_SEEN, (asked, line)
            if line["cause"] in ("engine_lost", "revoked"):
                assert line["completion_tokens"] == asked.tokens_seen, (asked, line)
        if asked is not None:
            assert line["completion_tokens"] >= asked.tokens_seen, (asked, line)
            assert line["completion_tokens"] <= asked.max_tokens


def test_each_is_priced_by_the_card_that_was_in_force_when_it_began(
    trial: Trial, lines: dict[str, dict[str, Any]]
) -> None:
    card = json.loads(trial.fleet.edgeforge("price", "show", "--json"))
    rates = {one["tier"]: one for one in card["prices"] if one["size_class"] == "xs"}
    for line in lines.values():
        if line["nano_usd"]:
            rate = rates[line["tier_billed"]]
            prompt, completion = counted(line)
            cost = prompt * rate["prompt_nano_usd_per_token"]
            cost += completion * rate["completion_nano_usd_per_token"]
            assert line["nano_usd"] == (cost if line["card"] == 2 else cost // 2), line
    assert {line["card"] for line in lines.values() if line["nano_usd"]} == {1, 2}


def test_ledger_sums_raw_records_and_invoices_agree(trial: Trial) -> None:
    lines = trial.lines()
    total = sum(one["nano_usd"] for one in lines)
    check = json.loads(trial.fleet.edgeforge("ledger", "check", "--json"))
    assert check["problems"] == []
    names = ("usage_nano_usd", "rollup_nano_usd", "raw_nano_usd")
    assert {check[name] for name in names} == {total}
    shown = json.loads(trial.fleet.edgeforge("usage", "--json"))
    invoice = json.loads(trial.fleet.edgeforge("invoice", "--json"))
    assert sum(one["requests"] for one in shown) == len(lines)
    assert sum(one["nano_usd"] for one in shown) == invoice["total_nano_usd"] == total
    assert invoice["requests"] == len(lines)
    for name in ("prompt_tokens", "completion_tokens"):
        assert invoice[name] == sum(one[name] for one in shown) == sum(one[name] for one in lines)
    assert json.loads(trial.fleet.edgeforge("usage", "quarantine", "--json")) == []


def test_the_serving_agents_own_count_agrees_with_the_ingress_agents(
    trial: Trial, lines: dict[str, dict[str, Any]]
) -> None:
    compared = 0
    for agent in trial.fleet.agents():
        assert "counts differ" not in trial.fleet.log(agent.node)
        for served in agent.ask("GET", "/served?limit=1000")["requests"]:
            line = lines.get(served["trace_id"])
            if not served["complete"] or line is None or line["serving_node"] != agent.node:
                continue
            if line["cause"] == "complete":
                assert counted(line) == counted(served), (line, served)
                compared += 1
            else:  # its client has left while the rest was on its way
                assert line["completion_tokens"] <= served["completion_tokens"]
    assert compared >= 100


def test_every_fault_has_met_requests_in_progress(
    trial: Trial, lines: dict[str, dict[str, Any]]
) -> None:
    causes = Counter(one["cause"] for one in lines.values() if one["nano_usd"])
    assert causes.keys() >= {"complete", "client_gone", "engine_lost", "revoked"}
    assert causes.keys() <= NOT_SEEN | {"complete"}
    statuses = Counter(one.status for one in trial.crowd.asked)
    assert statuses[401] > 0, "of the revoked key"
    assert statuses[403] > 0, "of the suspended account"
    assert all(one.seen for one in trial.in_progress["suspended"]), "running ones end as usual"
    for one in trial.in_progress["revoked"]:
        assert (one.tokens_seen, lines[one.trace_id]["cause"]) == (5, "revoked")
    continued = [one for one in trial.in_progress["continued"] if one.seen]
    assert {one.tokens_seen for one in continued} == {LONG_TOKENS}
    first_byte = trial.fleet.agent("gru-1").status()["first_byte"]
    assert first_byte["hedges_won"] > 0

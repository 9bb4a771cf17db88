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
from tests.support.money_clients import EMBEDDINGS, Crowd, drawn
from tests.support.waiting import wait_until

REQUESTS = 3_200
AT_ONCE = 24
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
BEHAVED: dict[str, object] = {"tokens": 400, "token_delay_ms": 2}


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
        self.thread = threading.Thread(target=lambda: asyncio.run(self.crowd.run(AT_ONCE)))

    @contextmanager
    def load(self) -> Iterator[None]:
        """Clients ask meanwhile; behind it every answer has ended."""
        self.thread.start()
        try:
            yield
        finally:
            self.crowd.stopping = True
            self.thread.join(90)
        assert not self.thread.is_alive()

    def after(self, more: int) -> None:
        """Wait until the clients have sent so many more requests."""
        target = self.crowd.sent + more
        wait_until(lambda: self.crowd.sent >= target, 60, f"{target} requests")

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
    """Do every fault once, while clients ask."""
    fleet, iad = trial.fleet, trial.iad
    trial.after(200)
    iad.control(**BEHAVED, cut_after_tokens=3, remaining=20)
    trial.after(150)
    trial.publish()
    trial.after(150)
    fleet.kill("gru-1")
    trial.restart("gru-1")
    trial.after(150)
    fleet.edgeforge("key", "revoke", trial.revoked["id"])
    trial.after(150)
    fleet.kill("coordinator")
    trial.after(300)
    fleet.kill("gru-1")
    trial.restart("gru-1")
    trial.after(150)
    trial.restart("coordinator")
    trial.after(100)
    iad.control(**BEHAVED, first_token_delay_ms=3_000, remaining=10)
    trial.after(150)
    fleet.edgeforge("account", "suspend", "other", "--reason", "test")
    trial.after(150)
    iad.kill()
    iad.start()
    iad.control(**BEHAVED)
    trial.after(150)
    fleet.kill("coordinator")
    trial.restart("coordinator")
    trial.after(100)
    fleet.kill("iad-1")
    trial.restart("iad-1")


def lines_of(trial: Trial) -> dict[str, dict[str, Any]]:
    """Return the lines of the load by trace, each once."""
    lines = trial.lines()
    found = {str(one["trace_id"]): one for one in lines}
    assert len(found) == len(lines), "none twice"
    return {trace_id: one for trace_id, one in found.items() if trace_id not in trial.before}


def test_dump(trial: Trial) -> None:
    import pickle

    lines = trial.lines()
    pickle.dump(
        (
            trial.crowd.asked,
            lines,
            trial.before,
            {a.node: a.ask("GET", "/served?limit=1000") for a in trial.fleet.agents()},
            {n: trial.fleet.log(n) for n in ("gru-1", "iad-1", "iad-2", "coordinator")},
        ),
        open("/tmp/law/dump.pkl", "wb"),
    )
    print(Counter(one["cause"] for one in lines))
    print(Counter(one.status for one in trial.crowd.asked))
    print(trial.fleet.edgeforge("usage", "quarantine", "--json")[:500])
    print(trial.fleet.edgeforge("ledger", "check", "--json"))
    print(trial.fleet.edgeforge("usage", "--json"))
    print(trial.fleet.edgeforge("invoice", "--json"))

"""Fault 6: the coordinator dies, and clients notice nothing, whatever else happens meanwhile."""

from __future__ import annotations

import threading

from tests.support.fleet import AgentClient, Fleet
from tests.support.waiting import wait_until


class Load:
    """Clients that never stop asking; every answer is kept."""

    def __init__(self, agents: list[AgentClient]) -> None:
        self._agents = agents
        self._stop = threading.Event()
        self.statuses: list[int] = []
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._ask, args=(one,)) for one in agents]

    def _ask(self, agent: AgentClient) -> None:
        while not self._stop.is_set():
            try:
                answer = agent.chat(stream=len(self.statuses) % 2 == 0)
            except OSError as error:
                self.errors.append(f"{agent.node}: {error!r}")
                return
            if answer.status != 200:
                self.errors.append(f"{agent.node}: {answer.status} {answer.body!r}")
            self.statuses.append(answer.status)

    def wait_for(self, more: int) -> None:
        """Wait until ``more`` further requests have been answered."""
        wanted = len(self.statuses) + more
        wait_until(lambda: len(self.statuses) >= wanted or self.errors, 30, f"{more} more answers")

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)


def wait_connected(fleet: Fleet) -> None:
    for agent in fleet.agents():
        wait_until(
            lambda agent=agent: agent.status()["link"]["connected"],
            40,
            f"{agent.node} to be connected",
        )


def wait_same_digests(fleet: Fleet) -> dict[str, tuple[int, int, str]]:
    """Shared tables are the same everywhere; each node's desired one is its own."""

    def same() -> dict[str, tuple[int, int, str]]:
        held = []
        for agent in fleet.agents():
            digests = agent.digests()
            digests.pop("desired")
            held.append(digests)
        return held[0] if all(one == held[0] for one in held) else {}

    return wait_until(same, 20, "the same digests everywhere")


def is_on_disk(fleet: Fleet, node: str) -> bool:
    """Whether a node would come back with the tables it has: images follow within a moment."""
    held = {kind: one[:2] for kind, one in fleet.agent(node).digests().items()}
    return fleet.image_versions(node) == held


def test_coordinator_killed_then_agent_restarted_then_coordinator_back_clients_notice_nothing(
    fleet: Fleet,
) -> None:
    before = wait_same_digests(fleet)
    with Load(fleet.agents()) as load:
        load.wait_for(20)
        fleet.kill("coordinator")
        load.wait_for(50)
    assert not load.errors

    wait_until(lambda: is_on_disk(fleet, "gru-1"), 30, "its tables to be on disk")
    fleet.kill("gru-1")
    fleet.start("gru-1")
    restarted = fleet.agent("gru-1")
    restarted.wait_ready()
    assert not restarted.status()["link"]["connected"]
    with Load(fleet.agents()) as load:
        load.wait_for(50)
        fleet.start("coordinator")
        wait_connected(fleet)
        load.wait_for(20)
    assert not load.errors
    assert wait_same_digests(fleet) == before


def test_coordinator_restarted_under_load_no_request_fails(fleet: Fleet) -> None:
    wait_connected(fleet)
    with Load(fleet.agents() * 2) as load:
        load.wait_for(20)
        for _ in range(2):
            fleet.kill("coordinator")
            load.wait_for(20)
            fleet.start("coordinator")
            wait_connected(fleet)
            load.wait_for(20)
    assert not load.errors
    assert load.statuses


def test_a_change_made_after_the_coordinator_came_back_reaches_every_agent(fleet: Fleet) -> None:
    wait_connected(fleet)
    fleet.kill("coordinator")
    fleet.start("coordinator")
    wait_connected(fleet)
    before = wait_same_digests(fleet)
    fleet.edgeforge("deployment", "set", fleet.model, "--budget-ms", "900")
    wait_until(
        lambda: wait_same_digests(fleet)["deployments"][1] > before["deployments"][1],
        20,
        "the change to be everywhere",
    )
    fleet.edgeforge("deployment", "set", fleet.model, "--budget-ms", "1000")

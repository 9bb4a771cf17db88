"""Thousands of random fleets that fail and disagree: who reads a prompt, and who holds weights.

Each agent decides by its own table, which may be the one from before its account was narrowed. The
law: a node reads a prompt only where its own table *and* that of the agent which placed it there
allow it, so that one side that knows is enough; and where both know, nothing leaves the zones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from agent.core.peer_request import (
    ACCOUNT_HEADER,
    DEPLOYMENT_HEADER,
    MODEL_HEADER,
    ZONES_HEADER,
    read_peer_request,
    refuse_by_head,
)
from agent.core.piece_swarm import candidates, is_source
from agent.core.request.attempt import Attempt
from agent.core.request.messages import Rest
from agent.core.request.timing import RequestPolicy
from agent.gateway.authentication import authenticate, find_deployment
from coordinator.core.account_zones import narrowed, within_account
from coordinator.core.plan_input import PlanInput, PlanNode
from coordinator.core.planned_rows import RowMaker, still_allowed
from coordinator.core.replica_plan import plan_replicas
from coordinator.core.zone_rows import row_for
from protos.domain.customers import Account, ApiKey
from protos.domain.errors import EdgeForgeError, Misdirected
from protos.domain.fleet_view import FleetView
from protos.domain.hardware import NodeHardware
from protos.domain.holding import is_outside, may_hold
from protos.domain.in_zone import check_inside
from protos.domain.load_term import ColdPath, ColdWay
from protos.domain.residency import allowed_zones, bound_zones, recorded_zones, zone_of
from protos.domain.resources import (
    Adapter,
    Deployment,
    Hold,
    NodeHealth,
    NodeIntent,
    ReplicaState,
    Residency,
    Resource,
    Tier,
)
from tests.support.fleets import MODEL, deployment, model, node, pop, price, replica, view
from tests.support.request_world import RequestWorld

ZONES = ("BR", "EU", "US")
SECRET = b"ef-secret"
DIGEST = hashlib.sha256(SECRET).digest()
FLEETS = 3_000
STEPS = 12


def subset(draw: Random, of: tuple[str, ...] = ZONES) -> tuple[str, ...]:
    return tuple(sorted(one for one in of if draw.random() < 0.5))


@dataclass(frozen=True)
class Truth:
    """What the coordinator knows at one moment."""

    account: Account
    key: ApiKey
    deployment: Deployment

    @property
    def zones(self) -> frozenset[str] | None:
        return bound_zones(self.account, self.key, self.deployment, None)

    def allows(self, zone: str) -> bool:
        return self.zones is None or zone in self.zones


def truths(draw: Random) -> tuple[Truth, Truth]:
    """Return what is true before and after the account is narrowed, as the store writes it."""
    account = Account("acme", zones=subset(draw) if draw.random() < 0.7 else ())
    key_zones = tuple(z for z in subset(draw) if not account.zones or z in account.zones)
    key = ApiKey("k1", DIGEST, "acme", (), 0, zones=key_zones, account_zones=account.zones)
    wanted = tuple(z for z in subset(draw) if not account.zones or z in account.zones)
    row = deployment(zones=wanted, strict=False)
    row = within_account(account.zones, replace(row, continue_streams=True))
    before = Truth(account, key, row)
    if draw.random() < 0.4:  # the deployment alone is narrowed, by an update
        less = subset(draw, row.residency_zones or account.zones or ZONES)
        return before, replace(
            before, deployment=replace(row, residency_zones=less)
        ) if less else before
    smaller = subset(draw, account.zones or ZONES)
    left = narrowed(smaller, row)
    if not smaller or left is None or (key_zones and not set(key_zones) & set(smaller)):
        return before, before  # the store refuses it
    return before, Truth(replace(account, zones=smaller), replace(key, account_zones=smaller), left)


@dataclass
class World:
    """A fleet of agents, each with a table of its own."""

    draw: Random
    sites: dict[str, str] = field(default_factory=dict)
    shared: list[Resource] = field(default_factory=list)

    def __post_init__(self) -> None:
        draw = self.draw
        self.shared = [model(), *(price(tier, 10) for tier in Tier)]
        for number in range(draw.randint(2, 6)):
            name, zone = f"n{number}", draw.choice(ZONES)
            self.sites[name] = zone
            health = NodeHealth.DEAD if draw.random() < 0.15 else NodeHealth.READY
            self.shared += [
                pop(name.upper(), draw.choice(list(Tier)), zone),
                node(name, name.upper(), health),
            ]
            state = ReplicaState.COLD if draw.random() < 0.3 else ReplicaState.READY
            if draw.random() < 0.9:
                there = replica(name, draw.uniform(10.0, 200.0), state=state)
                self.shared.append(replace(there, residency=Residency.DISK))
        self.truths = truths(draw)
        #: Whether each agent knows that the account was narrowed.
        self.knows = {name: draw.random() < 0.5 for name in self.sites}

    def truth_of(self, name: str) -> Truth:
        return self.truths[self.knows[name]]

    def table(self, name: str) -> FleetView:
        """The table of an agent: credentials as its zone gets them."""
        truth, zone = self.truth_of(name), self.sites[name]
        rows: list[Resource] = [*self.shared, truth.deployment]
        for resource in (truth.account, truth.key):
            found = row_for(resource, zone)
            rows += [] if found is None else [found]
        return view(*rows)


@dataclass
class Prompt:
    """One request, followed through the fleet."""

    world: World
    ingress: str
    header: frozenset[str] | None
    #: (node, table of the node, table of the agent that placed it there): true when it was read.
    read: list[tuple[str, Truth, Truth]] = field(default_factory=list)
    refused: str = ""

    def run(self) -> None:
        world, here = self.world, self.ingress
        table = world.table(here)
        headers = {b"authorization": b"Bearer " + SECRET}
        try:
            caller = authenticate(headers, table, 1, lambda: None, here)
        except Misdirected as error:
            self.refused = "head"
            zones = {world.sites[url.split("//")[1].split(".")[0]] for url in error.in_zone}
            truth = world.truth_of(here)  # of the deployment the head says nothing
            assert zones <= (bound_zones(truth.account, truth.key, None, None) or frozenset())
            return
        # the body is read from here on; what it names may narrow further
        truth = world.truth_of(here)
        named = find_deployment(caller, "small", table)
        try:
            check_inside(table, here, bound_zones(caller.account, caller.key, named, None))
        except Misdirected:
            self.refused = "body"
            return
        self.read.append((here, truth, truth))
        zones = bound_zones(caller.account, caller.key, None, self.header)
        pinned = bound_zones(caller.account, caller.key, named, None)
        self.sent = recorded_zones(allowed_zones(pinned or (), self.header))
        self._serve(
            RequestWorld(
                table,
                of=named,
                node_id=here,
                budget_ms=self.world.draw.choice([50.0, 500.0]),
                hedge_ratio=1.0,
                explore_ratio=1.0,
                policy=RequestPolicy(max_wait_ms=1_000_000.0),
            ),
            zones,
        )

    def _serve(self, request: RequestWorld, zones: frozenset[str] | None) -> None:
        draw = self.world.draw
        request.own_engines.loadable[MODEL] = ColdWay(ColdPath.ENGINE, Residency.DISK)
        words = request.begin(zones=zones, key_digest=DIGEST)
        for _ in range(STEPS):
            self._asked(request, words)
            if request.machine.over:
                return
            running = [one.node_id for one in attempts_of(request)]
            self._check_running(running)
            if draw.random() < 0.2:
                words = self._hear(request)
                continue
            if not running:
                words = request.wait(30.0)
                continue
            words = self._happen(request, draw.choice(running))

    def _happen(self, request: RequestWorld, name: str) -> list[str]:
        """Something happens to an attempt: it fails in one way or another, or goes on."""
        attempt, draw = request.attempts[name], self.world.draw
        what = draw.choice(["lost", "refused", "failed", "token", "late", "wait"])
        answering = attempt.first_token_mono_ms is not None
        if what == "token" and not answering and attempt.resumes is None:
            return request.token(name, 10.0)
        if what == "lost" or (what in ("refused", "failed") and answering):
            rest = Rest.TEXT if answering else Rest.UNKNOWN
            return request.lost(name, 1.0, status=200 if answering else 0, rest=rest)
        if what in ("refused", "failed"):
            return request.whole(name, 503 if what == "refused" else 500)
        return request.wait(6_000.0 if what == "late" else 20.0, rest=Rest.UNKNOWN)

    def _hear(self, request: RequestWorld) -> list[str]:
        """Some agent hears of the narrowed account meanwhile."""
        name = self.world.draw.choice(list(self.world.sites))
        self.world.knows[name] = True
        if name != self.ingress:
            return []
        return request.table_becomes(self.world.table(name), Rest.TEXT)

    def _asked(self, request: RequestWorld, words: list[str]) -> None:
        """Let every node that is asked read the request, or refuse it by its own table."""
        queue = list(words)
        while queue:
            verb, _, rest = queue.pop(0).partition(" ")
            if verb == "load" and request.attempts[self.ingress] in attempts_of(request):
                queue += request.resident(rest.removeprefix("at "))
                continue
            if verb != "ask":
                continue
            name = rest.split(" ")[0]
            if name == self.ingress:
                continue  # its own engine, of the prompt that it has read
            if self._taken(name):
                mine = self.world.truth_of(self.ingress)
                self.read.append((name, self.world.truth_of(name), mine))
            elif request.attempts[name] in attempts_of(request):
                queue += request.whole(name, 503)

    def _taken(self, name: str) -> bool:
        headers = {
            ACCOUNT_HEADER: b"acme",
            DEPLOYMENT_HEADER: b"small",
            MODEL_HEADER: MODEL.encode(),
        }
        if self.sent:
            headers[ZONES_HEADER] = ",".join(self.sent).encode()
        table = self.world.table(name)
        try:
            refuse_by_head(headers, self.ingress, name, table)
        except EdgeForgeError:
            return False
        # what the head lets pass, the whole check lets pass too: nothing is read in vain
        read_peer_request(headers, self.ingress, name, table)
        return True

    def _check_running(self, running: list[str]) -> None:
        """What runs is where the table of the agent that placed it allows it now."""
        truth = self.world.truth_of(self.ingress)
        assert not running or truth.allows(self.world.sites[self.ingress]), truth
        for name in running:
            assert truth.allows(self.world.sites[name]), (name, truth)


def attempts_of(request: RequestWorld) -> list[Attempt]:
    return list(request.machine._running.attempts)


def prompts(seed: int) -> Iterator[Prompt]:
    draw = Random(seed)
    world = World(draw)
    for _ in range(2):
        header = frozenset(subset(draw)) or None if draw.random() < 0.4 else None
        yield Prompt(world, draw.choice(list(world.sites)), header)


@pytest.mark.parametrize("part", range(3))
def test_no_prompt_is_read_outside_its_zones_whatever_fails_and_whoever_is_stale(part: int) -> None:
    reads = placed = heads = bodies = 0
    for seed in range(part * FLEETS // 3, (part + 1) * FLEETS // 3):
        for prompt in prompts(seed):
            prompt.run()
            heads += prompt.refused == "head"
            bodies += prompt.refused == "body"
            for name, by_its_table, by_who_placed_it in prompt.read:
                zone = prompt.world.sites[name]
                assert by_its_table.allows(zone), (seed, name)
                assert by_who_placed_it.allows(zone), (seed, name)
                assert by_its_table.allows(prompt.world.sites[prompt.ingress]), (seed, name)
                if name != prompt.ingress and prompt.header is not None:
                    assert zone in prompt.header, (seed, name)
                reads += 1
                placed += name != prompt.ingress
    # the law is not kept by refusing everything
    assert min(reads, placed, heads, bodies) > 30, (reads, placed, heads, bodies)


def holders(draw: Random) -> tuple[PlanInput, FleetView, dict[str, tuple[str, ...]]]:
    """Return a fleet to plan, its table, and the zones that each name may be held in."""
    own, tuned = "acme/own@1", "acme/fr@1"
    models = {MODEL: model(), own: replace(model(own), account_id="acme", weights_bytes=10**9)}
    adapters = {tuned: Adapter(tuned, own, 8, 1_000, b"a" * 32, "acme")}
    account = subset(draw) or ("BR",)
    rows = {
        name: within_account(
            account,
            replace(deployment(name, model=own, adapter=adapter), residency_zones=zones),
        )
        for name, adapter, zones in (
            ("whole", "", tuple(z for z in subset(draw) if z in account)),
            ("tuned", tuned, tuple(z for z in subset(draw) if z in account)),
        )
        if draw.random() < 0.8
    }
    nodes: dict[str, PlanNode] = {}
    shared: list[Resource] = []
    for number in range(draw.randint(2, 7)):
        name, zone, tier = f"n{number}", draw.choice(ZONES), draw.choice(list(Tier))
        intent = draw.choice([NodeIntent.ACTIVE] * 4 + list(NodeIntent))
        shared += [pop(name.upper(), tier, zone), node(name, name.upper(), intent=intent)]
        nodes[name] = PlanNode(
            draw.choice(["vllm"] * 4 + ["none", ""]),
            intent,
            # what an earlier plan gave it, before the account was narrowed
            {
                one: draw.choice(list(Hold))
                for one in (own, f"{own}+{tuned}")
                if draw.random() < 0.5
            },
            name.upper(),
            tier,
            zone,
            alive=draw.random() < 0.8,
            retiring=draw.random() < 0.2,
            hardware=NodeHardware("cuda", 40 * 10**9, "0.32", 2, 32, 4),
        )
    fleet = PlanInput(
        nodes=nodes,
        models=models,
        manifests={},
        deployments=rows,
        placements={},
        adapters=adapters,
        demand={
            (name.upper(), one): draw.choice([0.0, 5.0, 600.0]) for name in nodes for one in rows
        },
    )
    allowed: dict[str, set[str]] = {own: set(), tuned: set()}
    for row in rows.values():
        for one in filter(None, (row.model, row.adapter)):
            allowed[one] |= set(row.residency_zones)
    table = view(*shared, *models.values(), *adapters.values(), *rows.values())
    return fleet, table, {name: tuple(sorted(zones)) for name, zones in allowed.items()}


def test_no_weights_of_a_bound_account_are_planned_pulled_or_passed_on_outside_its_zones() -> None:
    inside = outside = 0
    for seed in range(FLEETS):
        draw = Random(seed)
        fleet, table, allowed = holders(draw)
        plan = plan_replicas(fleet)
        for node_id, draft in plan.nodes.items():
            zone = fleet.nodes[node_id].zone
            for name in {*draft.models, *draft.adapters} & allowed.keys():
                assert zone in allowed[name], (seed, node_id, name)
                inside += 1
            rows = RowMaker().rows(fleet, draft)
            kept = still_allowed(fleet, node_id, rows)  # where an operator has frozen the plan
            assert kept.keys() <= rows.keys()
        for name, zones in allowed.items():
            for node_id in fleet.nodes:
                zone = zone_of(table, node_id)
                if zone in zones:
                    continue
                outside += 1
                assert not may_hold(table, node_id, name), (seed, node_id, name)
                assert not candidates(table, node_id, name), (seed, node_id, name)
                assert is_outside(table, node_id, name) or not zones
                for other in fleet.nodes:
                    assert not is_source(table, other, node_id, name)
                    assert not is_source(table, node_id, other, name)
    assert min(inside, outside) > 1_000

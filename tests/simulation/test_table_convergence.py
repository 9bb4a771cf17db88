"""Coordinator and agents agree in the end, whatever the network and their own restarts do.

A scenario is its seed. Laws, in every one: never two un-acknowledged pushes of one type on a
stream (checked at each push); once faults stop and each table has moved on, all agents hold the
same bytes.
"""

from __future__ import annotations

import pytest

from coordinator.core.push_session import AlarmKind
from protos.domain.routing_table import GUARDED_ABOVE_ROWS
from tests.support.table_world import QUIET, TYPES, Chances, World

#: Enough for a lost push to time out several times over and for its agent to come back.
SETTLE_MS = 30_000.0


def chaos(world: World, duration_ms: float) -> None:
    """Schedule changes, restarts and lost connections at random moments."""
    draw = world.random
    for _ in range(60):
        world.at(draw.uniform(0, duration_ms), lambda: change(world))
    for _ in range(4):
        world.at(draw.uniform(0, duration_ms), lambda: world.disconnect(draw.choice(world.agents)))
        world.at(draw.uniform(0, duration_ms), lambda: draw.choice(world.agents).save())
        world.at(draw.uniform(0, duration_ms), lambda: restart_agent(world))
    world.at(draw.uniform(0, duration_ms), world.restart_coordinator)
    if draw.random() < 0.3:
        world.at(draw.uniform(0, duration_ms), lambda: restore(world))


def change(world: World) -> None:
    """Put, replace and remove a few rows of one table; small ones may vanish wholly."""
    draw = world.random
    type_ = draw.choice(TYPES)
    rows = dict(world.source.tables[type_].rows)
    for key in draw.sample(sorted(rows), k=min(len(rows), draw.choice([0, 0, 1, 3]))):
        del rows[key]
    for _ in range(draw.choice([1, 1, 4])):
        rows[f"row/{draw.randrange(GUARDED_ABOVE_ROWS)}"] = draw.randbytes(4)
    world.source.change(type_, rows)
    world.table_changed(type_)


def restart_agent(world: World) -> None:
    agent = world.random.choice(world.agents)
    world.disconnect(agent)
    agent.restart()


def restore(world: World) -> None:
    world.restart_coordinator()
    world.source.restore()


def settle(world: World) -> None:
    """Faults stop, each table moves on once more, and time passes."""
    world.chances = QUIET
    for type_ in TYPES:
        rows = dict(world.source.tables[type_].rows)
        rows["row/last"] = b"last"
        world.source.change(type_, rows)
        world.table_changed(type_)
    world.run(SETTLE_MS)


def check(seed: int) -> None:
    world = World(seed)
    chaos(world, 20_000.0)
    world.run(20_000.0)
    settle(world)
    assert world.converged(), f"seed {seed} does not converge"
    assert all(link.session.converged for link in world.links.values())
    # In step, nothing is sent any more.
    pushes = world.pushes
    world.run(SETTLE_MS)
    assert world.pushes == pushes


@pytest.mark.parametrize("first_seed", range(0, 200, 20))
def test_they_agree_in_the_end(first_seed: int):
    for seed in range(first_seed, first_seed + 20):
        check(seed)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_they_agree_in_the_end_over_many_seeds():
    for seed in range(1_000, 6_000):
        check(seed)


@pytest.mark.parametrize("seed", range(20))
def test_a_shrunk_table_reaches_all_once_an_operator_forces_it(seed: int):
    world = World(seed, chances=QUIET)
    topology, deployments, _ = TYPES
    world.source.change(topology, {f"row/{index}": b"x" for index in range(100)})
    world.table_changed(topology)
    world.run(SETTLE_MS)
    assert world.converged()
    world.source.change(topology, {"row/0": b"x"})
    world.table_changed(topology)
    world.run(SETTLE_MS)
    assert not world.converged()
    assert [alarm.kind for alarm in world.alarms] == [AlarmKind.TABLE_REFUSED] * len(world.agents)
    # The others are not held up by it.
    world.source.change(deployments, {"row/0": b"y"})
    world.table_changed(deployments)
    world.run(SETTLE_MS)
    assert all(agent.tables[deployments].rows == {"row/0": b"y"} for agent in world.agents)
    world.force(topology)
    world.run(SETTLE_MS)
    assert world.converged()


@pytest.mark.parametrize("seed", range(20))
def test_force_gets_through_a_bad_network(seed: int):
    world = World(seed, chances=Chances(loss=0.2, duplicate=0.2, corrupt=0.2, refuse=0.0))
    world.forces_refused_tables = True
    topology = TYPES[0]
    for size in (200, 10, 300, 40):
        world.source.change(topology, {f"row/{index}": b"%d" % size for index in range(size)})
        world.table_changed(topology)
        world.run(20_000.0)
    world.chances = QUIET
    world.restart_coordinator()
    world.run(SETTLE_MS)
    assert world.converged()

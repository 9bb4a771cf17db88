"""However many requests wait for the same thing, it is loaded once."""

from __future__ import annotations

import asyncio

import pytest

from agent.core.cold_start import ColdPath, ColdStart, ColdWay, Wanted
from agent.loads import Loads
from protos.domain.errors import EdgeForgeError, EngineFailed, Overloaded
from protos.domain.resources import Residency
from tests.support.fleets import MODEL
from tests.support.residents import StandInResidents

FR = Wanted(MODEL, "acme/fr@1")
DE = Wanted(MODEL, "acme/de@1")
WAYS = {one.name: ColdWay(ColdPath.ADAPTER, Residency.DISK) for one in (FR, DE)}


def gated() -> StandInResidents:
    residents = StandInResidents(ways=WAYS)
    residents.gate = asyncio.Event()
    return residents


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_a_thousand_first_requests_cause_one_load() -> None:
    residents = gated()
    loads = Loads(residents)
    told: list[object] = []
    waits = [loads.wait(FR, told.append) for _ in range(1_000)]
    await settled()
    assert (loads.waiting, told) == (1_000, [])
    residents.gate.set()
    await settled()
    assert residents.loads == [FR]
    assert len(told) == 1_000
    assert all(isinstance(one, ColdStart) for one in told)
    assert [wait.began for wait in waits].count(True) == 1
    assert (loads.waiting, loads.loaded) == (0, 1)


async def test_who_gives_up_is_told_nothing_and_the_load_goes_on() -> None:
    residents = gated()
    loads = Loads(residents)
    left, stayed = [], []
    loads.wait(FR, left.append).give_up()
    wait = loads.wait(FR, stayed.append)
    residents.gate.set()
    await settled()
    assert (left, len(stayed), residents.loads) == ([], 1, [FR])
    wait.give_up()
    assert loads.waiting == 0


async def test_a_cancelled_call_ends_its_wait_only() -> None:
    residents = gated()
    loads = Loads(residents)
    gone = asyncio.create_task(loads.enter(FR))
    stays = asyncio.create_task(loads.enter(FR))
    await settled()
    gone.cancel()
    await settled()
    assert loads.waiting == 1
    residents.gate.set()
    endpoint, cold_start, began = await stays
    assert endpoint is not None
    assert endpoint.model == FR.name
    assert cold_start is not None
    assert not began
    assert residents.entered == {FR.name: 1}


async def test_a_call_cancelled_after_it_entered_leaves() -> None:
    residents = StandInResidents(ways=WAYS)
    loads = Loads(residents)
    gone = asyncio.create_task(loads.enter(FR))
    residents.on_enter = gone.cancel
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert residents.entered[FR.name] == 0


async def test_a_failed_load_is_told_to_all_and_tried_again_by_the_next() -> None:
    residents = StandInResidents(ways=WAYS)
    residents.error = EngineFailed("no slot", "retry")
    loads = Loads(residents)
    told: list[object] = []
    loads.wait(FR, told.append)
    with pytest.raises(EngineFailed, match="no slot"):
        await loads.enter(FR)
    assert told == [residents.error]
    residents.error = None
    endpoint, _, began = await loads.enter(FR)
    assert (endpoint is not None, began, len(residents.loads)) == (True, True, 2)


async def test_a_bug_in_a_load_is_an_error_of_those_who_wait() -> None:
    residents = StandInResidents()  # it has no way for what is asked
    with pytest.raises(EdgeForgeError, match="could not be loaded"):
        await Loads(residents).enter(FR)


async def test_what_became_resident_meanwhile_is_not_loaded() -> None:
    residents = StandInResidents(there={MODEL, FR.name}, ways=WAYS)
    endpoint, cold_start, _ = await Loads(residents).enter(FR)
    assert endpoint is not None
    assert (cold_start, residents.loads) == (None, [])


async def test_waits_are_bounded_and_counted() -> None:
    residents = gated()
    loads = Loads(residents, max_waiting=2)
    loads.wait(FR, lambda _: None)
    loads.wait(DE, lambda _: None)
    with pytest.raises(Overloaded):
        loads.wait(FR, lambda _: None)
    assert loads.refused == 1
    residents.gate.set()
    await settled()
    loads.wait(FR, lambda _: None)


async def test_a_stop_tells_those_who_wait() -> None:
    residents = gated()
    loads = Loads(residents)
    told: list[object] = []
    loads.wait(FR, told.append)
    await settled()
    await loads.close()
    assert isinstance(told[0], EngineFailed)

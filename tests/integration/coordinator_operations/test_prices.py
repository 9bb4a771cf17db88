"""The price card end to end: proposed, published, in force by itself, and what it forbids."""

from __future__ import annotations

from dataclasses import replace

import pytest

from coordinator.core.operators import Role
from coordinator.core.price_card import card_of, first_card
from coordinator.core.price_schedule import SETTLE_MS, version_in_force
from coordinator.fleet.price_watch import PriceWatch, adopt_card
from coordinator.operations.actor import Actor
from coordinator.store import deployments, models, prices
from coordinator.store.sqlite.backup import restore
from coordinator.store.store import Store
from protos.domain.errors import Conflict, Forbidden, InvalidRequest, NotFound, StoreUnavailable
from protos.domain.resources import Tier
from tests.support.operations import NODE, actor
from tests.support.stores import DAY_MS, HOUR_MS, MODEL, deployment

ACCOUNT = Actor.of_account("acme")


def card(prompt: int = 25):
    """The default card, with the prompts of tiny models at the edge a little dearer."""
    first = first_card("x", 0)
    lines = (replace(first.lines[0], prompt_nano_usd_per_token=prompt), *first.lines[1:])
    return replace(first, lines=lines)


def in_force(fleet):
    return version_in_force(fleet.store.view())


class Clock:
    """The monotonic clock of a watch."""

    def __init__(self) -> None:
        self.mono_ms = 0.0

    def __call__(self) -> float:
        return self.mono_ms


@pytest.fixture
def mono():
    return Clock()


@pytest.fixture
def watch(fleet, mono):
    return PriceWatch(fleet.store, now_unix_ms=fleet.clock, now_mono_ms=mono)


def passes(fleet, mono, ms):
    fleet.clock.unix_ms += ms
    mono.mono_ms += ms


async def published_for(fleet, ops, valid_from_unix_ms):
    made = await ops.prices.propose(actor(), card(), valid_from_unix_ms=valid_from_unix_ms)
    await ops.prices.publish(actor(), made.card.version)
    return made.card.version


async def test_a_dry_run_keeps_nothing_and_tells_the_differences(fleet, ops):
    told = await ops.prices.propose(actor(), card(), dry_run=True)
    assert (told.card.version, told.against) == (2, 1)
    assert [(one.what, one.percent) for one in told.changes] == [("xs edge prompt", "+4.2 %")]
    assert list(fleet.store.price_cards()) == [1]
    with pytest.raises(InvalidRequest, match="xs: prompt at the edge is 30"):
        await ops.prices.propose(actor(), card(26), dry_run=True)
    with pytest.raises(InvalidRequest, match="xs: prompt at the edge is 30"):
        await ops.prices.propose(actor(), card(26))


async def test_an_operator_proposes_and_only_an_admin_publishes(fleet, ops):
    made = await ops.prices.propose(actor(Role.OPERATOR), card())
    with pytest.raises(Forbidden):
        await ops.prices.publish(actor(Role.OPERATOR), made.card.version)
    assert in_force(fleet) == 1
    await ops.prices.publish(actor(), made.card.version)
    assert in_force(fleet) == 2


async def test_a_card_takes_effect_on_its_date_by_itself(fleet, ops, watch, mono):
    version = await published_for(fleet, ops, fleet.clock() + HOUR_MS)
    shown = await ops.prices.show(ACCOUNT)
    assert (shown.card.version, shown.upcoming.version) == (1, version)
    passes(fleet, mono, HOUR_MS - 1)
    assert await watch.look() == 0
    passes(fleet, mono, 1)
    assert await watch.look() == version
    assert in_force(fleet) == version
    notes = await fleet.notes()
    assert notes[-1][:3] == ("coordinator", "price.in_force", f"price_card/{version}")
    assert await watch.look() == 0, "once"


async def test_a_coordinator_that_was_stopped_over_a_date_catches_up(fleet, ops, mono):
    version = await published_for(fleet, ops, fleet.clock() + HOUR_MS)
    fleet.clock.unix_ms += 7 * DAY_MS
    watch = PriceWatch(fleet.store, now_unix_ms=fleet.clock, now_mono_ms=mono)
    assert await watch.look() == version


async def test_a_clock_a_year_ahead_for_a_while_puts_no_card_in_force(fleet, ops, watch, mono):
    version = await published_for(fleet, ops, fleet.clock() + HOUR_MS)
    fleet.clock.unix_ms += 365 * DAY_MS
    assert await watch.look() == 0
    passes(fleet, mono, SETTLE_MS // 2)
    assert await watch.look() == 0
    fleet.clock.unix_ms -= 365 * DAY_MS
    assert await watch.look() == 0
    passes(fleet, mono, HOUR_MS - SETTLE_MS // 2)
    assert await watch.look() == version


async def test_a_clock_an_hour_back_never_brings_an_older_card_back(fleet, ops, watch, mono):
    version = await published_for(fleet, ops, fleet.clock() + HOUR_MS)
    passes(fleet, mono, HOUR_MS)
    assert await watch.look() == version
    fleet.clock.unix_ms -= HOUR_MS
    assert await watch.look() == 0
    assert in_force(fleet) == version


async def test_a_database_that_cannot_be_written_delays_a_card_and_loses_none(
    fleet, ops, watch, mono, monkeypatch
):
    version = await published_for(fleet, ops, fleet.clock() + HOUR_MS)
    passes(fleet, mono, HOUR_MS)

    async def locked(change, note=None):
        raise StoreUnavailable("the database is locked")

    with monkeypatch.context() as broken:
        broken.setattr(fleet.store, "write", locked)
        with pytest.raises(StoreUnavailable):
            await watch.look()
    assert await watch.look() == version


async def test_what_was_in_force_then_is_found_by_date_and_by_version(fleet, ops, watch, mono):
    began = fleet.clock()
    version = await published_for(fleet, ops, began + HOUR_MS)
    passes(fleet, mono, HOUR_MS)
    await watch.look()
    assert (await ops.prices.show(ACCOUNT, 0, began)).card.version == 1
    assert (await ops.prices.show(ACCOUNT, 0, began + HOUR_MS)).card.version == version
    assert (await ops.prices.show(ACCOUNT, 1)).in_force is False
    with pytest.raises(NotFound, match="no price card was in force"):
        await ops.prices.show(ACCOUNT, 0, began - DAY_MS)
    history = await ops.prices.history(actor())
    assert [(one.card.version, one.in_force) for one in history] == [(2, True), (1, False)]
    assert card_of(fleet.store.price_cards(), 1) is not None


async def test_accounts_see_no_drafts(ops):
    made = await ops.prices.propose(actor(), card())
    assert (await ops.prices.show(actor(), made.card.version)).card == made.card
    with pytest.raises(NotFound):
        await ops.prices.show(ACCOUNT, made.card.version)


async def test_a_card_that_is_published_for_later_bars_an_earlier_one(fleet, ops):
    await published_for(fleet, ops, fleet.clock() + DAY_MS)
    with pytest.raises(InvalidRequest, match="version 2, which takes effect later"):
        await ops.prices.propose(actor(), card())


async def test_a_draft_whose_date_has_passed_is_not_published(fleet, ops):
    made = await ops.prices.propose(actor(), card(), valid_from_unix_ms=fleet.clock() + HOUR_MS)
    fleet.clock.unix_ms += 2 * HOUR_MS
    with pytest.raises(InvalidRequest, match="its date has passed"):
        await ops.prices.publish(actor(), made.card.version)


async def test_of_two_admins_who_publish_one_draft_only_one_does(ops):
    made = await ops.prices.propose(actor(), card())
    await ops.prices.publish(actor(), made.card.version)
    with pytest.raises(Conflict, match="is published already"):
        await ops.prices.publish(actor(name="cy"), made.card.version)


async def register_unpriced(fleet):
    other = replace(MODEL, name="acme/huge@1", size_class="xxl")
    await fleet.store.write(models.register(other, ()))


async def test_nothing_that_is_not_priced_is_deployed(fleet, ops):
    await register_unpriced(fleet)
    wanted = replace(deployment("huge"), model="acme/huge@1")
    says = "acme/huge@1 is not priced: the price card has no line for size class xxl at edge, regi"
    for act in (
        ops.deploys.create(actor(), wanted, [NODE]),
        ops.deployments.apply(actor(), wanted, [NODE]),
        ops.deploys.update(actor(), replace(deployment(), model="acme/huge@1"), [NODE]),
    ):
        with pytest.raises(InvalidRequest, match=says) as raised:
            await act
        assert "edgeforge price propose" in raised.value.hint
    assert "huge" not in fleet.store.view().deployments


async def test_what_a_published_card_will_not_price_is_not_deployed_either(fleet, ops):
    await register_unpriced(fleet)
    lines = [
        replace(line, size_class="xxl")
        for line in first_card("x", 0).lines
        if line.size_class == "xl"
    ]
    await fleet.store.write(prices.put(lines))
    await published_for(fleet, ops, fleet.clock() + DAY_MS)
    with pytest.raises(InvalidRequest, match="version 2 of the price card has no line"):
        await ops.deploys.create(actor(), replace(deployment("huge"), model="acme/huge@1"), [NODE])


async def test_a_card_that_would_leave_a_deployed_model_without_a_price_is_refused(fleet, ops):
    await register_unpriced(fleet)
    unpriced = replace(deployment("huge"), model="acme/huge@1")
    await fleet.store.write(deployments.put(unpriced, [NODE], create_only=True))
    with pytest.raises(InvalidRequest, match=r"size class xxl would have no price .* huge is depl"):
        await ops.prices.propose(actor(), card())


async def test_a_fleet_without_versions_keeps_its_card_and_can_verify_its_records(fleet, ops):
    await fleet.store.write(lambda tx: tx.remove_fact(prices.PriceCardRow.TYPE, "1"))
    assert fleet.store.price_cards() == {}
    before = dict(fleet.store.view().prices)
    assert (await ops.prices.show(ACCOUNT)).card.version == 1
    await adopt_card(fleet.store)
    await adopt_card(fleet.store)
    assert dict(fleet.store.view().prices) == before
    lines, terms = card_of(fleet.store.price_cards(), 1)
    assert terms == fleet.store.view().card["terms"]
    assert {(one.size_class, one.tier): one for one in lines} == before


async def test_a_restored_backup_has_every_version(fleet, ops, tmp_path):
    version = await published_for(fleet, ops, fleet.clock() + HOUR_MS)
    backup = tmp_path / "backup.db"
    await fleet.store.backup(backup)
    restored = tmp_path / "restored" / "coordinator.db"
    restored.parent.mkdir()
    restore(backup, restored, now_unix_ms=fleet.clock())
    store = await Store.open(restored, now_unix_ms=fleet.clock)
    try:
        assert store.price_cards() == fleet.store.price_cards()
        watch = PriceWatch(
            store, now_unix_ms=lambda: fleet.clock() + HOUR_MS, now_mono_ms=lambda: 0.0
        )
        assert await watch.look() == version
        assert store.view().prices["xs", Tier.EDGE].prompt_nano_usd_per_token == 25
    finally:
        await store.close()

"""Which connections a port keeps when there are too many."""

from __future__ import annotations

import random

import pytest

from protos.domain.connection_shares import (
    MIN_STRANGERS,
    REPLACED_AT_ONCE,
    REPLACED_PER_S,
    STRANGERS_PART,
    ConnectionShares,
    Place,
    source_group,
)

LIMIT = 800
STRANGERS = LIMIT // STRANGERS_PART
ATTACKER, CUSTOMER = "192.0.2.66", "192.0.2.1"


def admit(shares: ConnectionShares, group: str, now_mono_ms: float = 0.0) -> Place:
    place = shares.admit(group, now_mono_ms).place
    assert place is not None
    return place


def flooded(limit: int = LIMIT, connects: int = 10_000) -> ConnectionShares:
    """A port that one address has opened connections to and sent nothing."""
    shares = ConnectionShares(limit)
    for _ in range(connects):
        shares.admit(ATTACKER, 0.0)
    return shares


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:0:0:1", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2", True),
        ("", "", True),
        ("no:address", "no:address", True),
    ],
)
def test_v4_counts_by_address_and_v6_by_its_64(one: str, other: str, same: bool) -> None:
    assert (source_group(one) == source_group(other)) is same


def test_ten_thousand_idle_connects_of_one_address_hold_a_part_of_the_port() -> None:
    shares = flooded()
    assert shares.total == shares.strangers == STRANGERS


def test_a_customer_gets_in_while_one_address_floods_and_is_not_evicted_by_it() -> None:
    shares = flooded()
    admission = shares.admit(CUSTOMER, 1.0)
    assert admission.place is not None
    assert admission.evicted is not None
    assert admission.evicted.group == ATTACKER
    for _ in range(10_000):
        shares.admit(ATTACKER, 2.0)
    assert not admission.place.gone


def test_the_oldest_idle_connection_of_the_heaviest_address_ends_first() -> None:
    shares = ConnectionShares(LIMIT)
    first = admit(shares, ATTACKER, 1.0)
    for number in range(STRANGERS // 2):
        admit(shares, CUSTOMER + str(number), 0.0)
    for _ in range(STRANGERS // 2 - 1):
        admit(shares, ATTACKER, 2.0)
    assert shares.admit("192.0.2.9", 3.0).evicted is first


def test_a_stranger_that_is_served_is_not_ended() -> None:
    shares = ConnectionShares(MIN_STRANGERS)
    busy = [admit(shares, ATTACKER) for _ in range(MIN_STRANGERS - 1)]
    for place in busy:
        place.busy = True
    idle = admit(shares, ATTACKER)
    assert shares.admit(CUSTOMER, 1.0).evicted is idle
    assert not any(place.gone for place in busy)


def test_nobody_is_ended_for_a_newcomer_when_all_are_served() -> None:
    shares = ConnectionShares(4)
    for _ in range(4):
        admit(shares, CUSTOMER).busy = True
    admission = shares.admit(CUSTOMER, 0.0)
    assert admission.place is None
    assert admission.evicted is None


def test_an_idle_connection_ends_also_when_the_heaviest_address_is_busy_throughout() -> None:
    """Such as a proxy whose connections are all being served."""
    shares = ConnectionShares(LIMIT)
    served = []
    for _ in range(LIMIT - 2):
        shares.show(place := admit(shares, "203.0.113.1"))
        place.busy = True
        served.append(place)
    for group in ("192.0.2.1", "192.0.2.2"):
        shares.show(admit(shares, group))
    admission = shares.admit("198.51.100.9", 5_000.0)
    assert admission.place is not None
    assert admission.evicted is not None
    assert admission.evicted.group == "192.0.2.1"
    assert not any(place.gone for place in served)


def test_an_idle_connection_is_found_among_many_busy_ones_of_its_address() -> None:
    shares = ConnectionShares(LIMIT)
    places = []
    for _ in range(LIMIT):
        places.append(place := admit(shares, "203.0.113.1"))
        shares.show(place)
        place.busy = True
    places[-1].busy = False
    looks = [shares.admit("198.51.100.9", 5_000.0).evicted for _ in range(LIMIT)]
    assert places[-1] in looks


def test_known_connections_may_fill_the_port_and_strangers_end_before_them() -> None:
    shares = ConnectionShares(LIMIT)
    known = []
    for _ in range(LIMIT - STRANGERS):
        place = admit(shares, CUSTOMER)
        shares.show(place)
        known.append(place)
    for _ in range(STRANGERS + 500):
        shares.admit(ATTACKER, 0.0)
    assert shares.total == LIMIT
    assert not any(place.gone for place in known)


def test_who_arrives_at_a_port_full_of_known_connections_gets_a_moment_to_show_a_key() -> None:
    shares = ConnectionShares(LIMIT)
    for number in range(LIMIT):
        place = admit(shares, CUSTOMER, float(number))
        place.idle_since_mono_ms = float(number)
        shares.show(place)
    newcomer = shares.admit("192.0.2.2", 1e6)
    assert newcomer.evicted is not None
    assert newcomer.evicted.idle_since_mono_ms == 0.0, "idle for longest"
    for _ in range(10):
        shares.admit(ATTACKER, 1e6)
    assert newcomer.place is not None
    assert not newcomer.place.gone


def test_an_address_that_floods_is_refused_rather_than_its_own_connections_replaced() -> None:
    shares = flooded(connects=STRANGERS)
    admitted = sum(shares.admit(ATTACKER, 1_000.0).place is not None for _ in range(5_000))
    assert admitted == REPLACED_AT_ONCE
    assert shares.admit(CUSTOMER, 1_000.0).place is not None, "another address is not refused"
    later = 1_000.0 + 1_000.0 * REPLACED_AT_ONCE / REPLACED_PER_S
    assert shares.admit(ATTACKER, later).place is not None, "who shares the address gets in"


def test_leaving_twice_and_showing_after_leaving_change_nothing() -> None:
    shares = ConnectionShares(LIMIT)
    place = admit(shares, CUSTOMER)
    shares.leave(place)
    shares.leave(place)
    shares.show(place)
    assert shares.total == 0
    known = admit(shares, CUSTOMER)
    shares.show(known)
    shares.show(known)
    assert (shares.total, shares.strangers) == (1, 0)
    shares.leave(known)
    assert shares.total == 0


@pytest.mark.parametrize("seed", range(5))
def test_counts_stay_right_and_limits_hold_whatever_happens(seed: int) -> None:
    draw = random.Random(seed)
    shares = ConnectionShares(64)
    places: list[Place] = []
    for step in range(5_000):
        places = [place for place in places if not place.gone]
        match draw.randrange(5):
            case 0 | 1 | 2:
                admission = shares.admit(str(draw.randrange(6)), float(step))
                if admission.evicted is not None:
                    assert admission.evicted.gone
                    assert not admission.evicted.busy
                if admission.place is not None:
                    places.append(admission.place)
            case 3 if places:
                one = draw.choice(places)
                if draw.random() < 0.3:
                    shares.show(one)
                one.busy = draw.random() < 0.5
            case 4 if places:
                shares.leave(draw.choice(places))
        open_now = [place for place in places if not place.gone]
        assert shares.total == len(open_now) <= 64
        assert shares.strangers == sum(not place.known for place in open_now) <= MIN_STRANGERS

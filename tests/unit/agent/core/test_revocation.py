"""What a new table takes away from requests in progress, and what it does not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.revocation import may_revoke, revoked
from protos.domain.customers import Account, AccountState, ApiKey, ForeignKey
from protos.domain.errors import Misdirected, NotFound, Unauthenticated
from protos.domain.fleet_view import with_changes
from protos.domain.resources import NodeIntent, Pop, Resource, Tier
from tests.support.fleets import deployment, node, pop, price, replica, view

KEY = ApiKey("k1", b"d" * 32, "acme", (), 0)
TABLE = view(pop("NEAR"), node("near", "NEAR"), Account("acme"), KEY, deployment())


def after(*removed: Resource, put: tuple[Resource, ...] = ()):
    return revoked(with_changes(TABLE, removed, put), KEY.digest, "acme", "small", "near")


def test_what_the_table_still_has_goes_on() -> None:
    assert after() is None


@pytest.mark.parametrize(
    ("gone", "kind"),
    [(KEY, Unauthenticated), (Account("acme"), Unauthenticated), (deployment(), NotFound)],
    ids=["key", "account", "deployment"],
)
def test_a_removed_key_account_or_deployment_is_taken_from_its_requests(
    gone: Resource, kind: type
) -> None:
    assert type(after(gone)) is kind


def test_a_name_that_another_account_has_taken_over_is_not_the_same_deployment() -> None:
    other = replace(deployment(), account_id="other")
    assert isinstance(after(put=(Account("other"), other)), NotFound)


def test_a_key_that_expires_takes_nothing_from_what_it_began() -> None:
    assert after(put=(replace(KEY, expires_unix_ms=1),)) is None


@pytest.mark.parametrize("state", list(AccountState))
def test_an_account_that_is_limited_or_suspended_keeps_what_runs(state: AccountState) -> None:
    assert after(put=(Account("acme", state=state),)) is None


@pytest.mark.parametrize(
    "put",
    [
        node("near", "NEAR", intent=NodeIntent.DRAINING),
        pop("OTHER"),
        Account("other"),
        replace(KEY, id="k2", digest=b"e" * 32),
        deployment("other"),
    ],
    ids=["node", "pop", "account", "key", "deployment"],
)
def test_a_change_of_what_requests_depend_on_is_looked_at(put: Resource) -> None:
    assert may_revoke(TABLE, with_changes(TABLE, (), (put,)))


def test_reports_of_replicas_and_prices_are_not_looked_at() -> None:
    assert not may_revoke(TABLE, with_changes(TABLE, (), (replica("near"), price(Tier.EDGE, 1))))
    assert not may_revoke(TABLE, TABLE)


@pytest.mark.parametrize(
    ("removed", "put"),
    [
        ((), Account("acme", zones=("BR",))),
        ((), replace(KEY, zones=("BR",))),
        ((), deployment(zones=("BR",))),
        ((KEY,), ForeignKey("k1", KEY.digest, ("BR",))),
        ((), pop("NEAR", zone="EU")),
    ],
    ids=["account", "key", "deployment", "the key is foreign here now", "the site has moved"],
)
def test_a_request_whose_zones_were_narrowed_is_read_no_further_here(
    removed: tuple[Resource, ...], put: Resource
) -> None:
    home = with_changes(TABLE, (), (deployment(zones=("US",)),)) if isinstance(put, Pop) else TABLE
    changed = with_changes(home, removed, (put,))
    assert isinstance(revoked(changed, KEY.digest, "acme", "small", "near"), Misdirected)
    assert may_revoke(home, changed)


def test_zones_that_still_have_this_node_among_them_take_nothing_away() -> None:
    assert after(put=(Account("acme", zones=("BR", "US")), deployment(zones=("US",)))) is None

"""What another agent may claim: its account and deployment exist, and belong together."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.core.peer_request import (
    ACCOUNT_HEADER,
    ADAPTER_HEADER,
    DEPLOYMENT_HEADER,
    LOAD_HEADER,
    MODEL_HEADER,
    STALE_CODE,
    ZONES_HEADER,
    PeerRequest,
    check_peer_request,
    read_peer_request,
    refuse_by_head,
)
from protos.domain.customers import Account
from protos.domain.errors import Conflict, EdgeForgeError, Forbidden, NoReplica
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.resources import Adapter
from tests.support.fleets import MODEL, deployment, model, node, pop, view

OTHER = replace(deployment("theirs"), account_id="other")
HERE = "near"
FLEET = view(
    pop("NEAR", zone="US"),
    pop("FAR", zone="BR"),
    node("near", "NEAR"),
    node("far", "FAR"),
    node("far-2", "FAR"),
    model(),
    Account("acme"),
    Account("other"),
    deployment(),
    OTHER,
    deployment("brazilian", zones=("BR",)),
    replace(deployment("pinned"), pins=frozenset({"far"})),
)
HEADERS = {ACCOUNT_HEADER: b"acme", DEPLOYMENT_HEADER: b"small", MODEL_HEADER: MODEL.encode()}


def read(changes: dict[bytes, bytes], table: FleetView = FLEET, asking: str = "far") -> PeerRequest:
    return read_peer_request(HEADERS | changes, asking, HERE, table)


def test_a_request_of_an_agent_of_ours_is_read() -> None:
    assert read({}) == PeerRequest("far", "acme", "small", MODEL)


@pytest.mark.parametrize("header", [ACCOUNT_HEADER, DEPLOYMENT_HEADER, MODEL_HEADER])
@pytest.mark.parametrize("value", [b"", b"\xff", b"a" * 257])
def test_a_request_without_its_account_deployment_or_model_is_forbidden(
    header: bytes, value: bytes
) -> None:
    with pytest.raises(Forbidden):
        read({header: value})
    with pytest.raises(Forbidden):
        read_peer_request({k: v for k, v in HEADERS.items() if k != header}, "far", HERE, FLEET)


def test_another_accounts_deployment_is_forbidden() -> None:
    with pytest.raises(Forbidden):
        read({DEPLOYMENT_HEADER: b"theirs"})
    with pytest.raises(Forbidden):
        read({ACCOUNT_HEADER: b"other"})


def test_a_node_that_is_not_in_the_table_is_forbidden() -> None:
    with pytest.raises(Forbidden):
        read({}, asking="gone")


@pytest.mark.parametrize(
    "changes",
    [
        {ACCOUNT_HEADER: b"nobody"},
        {DEPLOYMENT_HEADER: b"nothing"},
        {DEPLOYMENT_HEADER: b"brazilian"},
        {DEPLOYMENT_HEADER: b"pinned"},
    ],
    ids=["account", "deployment", "zone", "pins"],
)
def test_what_a_newer_or_older_table_may_explain_is_refused_so_that_another_node_is_asked(
    changes: dict[bytes, bytes],
) -> None:
    with pytest.raises(NoReplica):
        read(changes)


@pytest.mark.parametrize("name", [b"brazilian", b"pinned"])
def test_a_deployment_is_served_in_its_own_zones_and_where_it_is_pinned(name: bytes) -> None:
    read_peer_request(HEADERS | {DEPLOYMENT_HEADER: name}, "far-2", "far", FLEET)


BRAZILIAN = {DEPLOYMENT_HEADER: b"brazilian"}
BOUND = with_changes(FLEET, (), (Account("acme", zones=("BR",)),))


@pytest.mark.parametrize(
    ("changes", "asking", "here", "table"),
    [
        (BRAZILIAN, "far", "near", FLEET),
        (BRAZILIAN, "near", "far", FLEET),
        ({}, "far", "near", BOUND),
        ({}, "near", "far", BOUND),
        ({ZONES_HEADER: b"BR"}, "far", "near", FLEET),
        ({}, "far", "near", with_changes(FLEET, [Account("acme")], ())),
    ],
    ids=["serves", "asks", "account serves", "account asks", "key or header", "unknown account"],
)
def test_outside_its_zones_a_request_is_refused_by_its_head_whoever_asks(
    changes: dict[bytes, bytes], asking: str, here: str, table: FleetView
) -> None:
    with pytest.raises(NoReplica):
        refuse_by_head(HEADERS | changes, asking, here, table)
    with pytest.raises(NoReplica):
        read_peer_request(HEADERS | changes, asking, here, table)


def test_within_its_zones_a_request_is_read() -> None:
    for changes, table in (
        (BRAZILIAN, FLEET),
        ({}, BOUND),
        ({ZONES_HEADER: b"EU,BR"}, BOUND),
    ):
        refuse_by_head(HEADERS | changes, "far-2", "far", table)
        read_peer_request(HEADERS | changes, "far-2", "far", table)


def test_a_header_alone_narrows_where_it_is_served_and_not_who_may_ask() -> None:
    asked = read_peer_request(HEADERS | {ZONES_HEADER: b"BR"}, "near", "far", FLEET)
    assert asked.zones == {"BR"}


@pytest.mark.parametrize("value", [b"", b"br", b"BR,,US", b"BR, US", b"\xff", b"B" * 300])
def test_malformed_zones_are_forbidden(value: bytes) -> None:
    with pytest.raises(Forbidden):
        refuse_by_head(HEADERS | {ZONES_HEADER: value}, "far", HERE, FLEET)


def test_a_zone_is_that_of_the_table_and_a_node_without_one_is_in_none() -> None:
    homeless = with_changes(FLEET, [pop("FAR", zone="BR")], ())
    with pytest.raises(NoReplica):
        refuse_by_head(HEADERS | BRAZILIAN, "far-2", "far", homeless)


def test_a_running_request_ends_where_its_account_may_be_served_no_more() -> None:
    claimed = read({})
    with pytest.raises(NoReplica):
        check_peer_request(claimed, HERE, BOUND)


@pytest.mark.parametrize(
    "gone",
    [node("far", "FAR"), Account("acme"), deployment()],
    ids=lambda one: str(one)[:9],
)
def test_a_claim_is_no_longer_valid_once_its_node_account_or_deployment_has_left_the_table(
    gone: object,
) -> None:
    claimed = read({})
    check_peer_request(claimed, HERE, FLEET)
    elsewhere = replace(deployment(), pins=frozenset({"far"}))
    check_peer_request(claimed, HERE, with_changes(FLEET, (), (elsewhere,)))
    with pytest.raises(EdgeForgeError):
        check_peer_request(claimed, HERE, with_changes(FLEET, (gone,), ()))  # type: ignore[arg-type]


FR, DE, THEIRS = "acme/fr@1", "acme/de@1", "other/x@1"
TUNED = with_changes(
    FLEET,
    (),
    (
        deployment("tuned", adapter=FR),
        Adapter(FR, MODEL, 8, 1, b"a" * 32, "acme"),
        Adapter(DE, MODEL, 8, 1, b"a" * 32),
        Adapter(THEIRS, MODEL, 8, 1, b"a" * 32, "other"),
    ),
)
ASKS_TUNED = {DEPLOYMENT_HEADER: b"tuned", ADAPTER_HEADER: FR.encode()}


def test_a_request_for_an_adapter_names_it_and_whether_it_may_be_loaded() -> None:
    assert read(ASKS_TUNED, TUNED) == PeerRequest("far", "acme", "tuned", MODEL, FR)
    loads = read(ASKS_TUNED | {LOAD_HEADER: b"1"}, TUNED)
    assert loads == PeerRequest("far", "acme", "tuned", MODEL, FR, may_load=True)


@pytest.mark.parametrize(
    ("deployed", "adapter"),
    [(b"tuned", THEIRS), (b"small", THEIRS), (b"tuned", "acme/unknown@1"), (b"small", "x" * 200)],
)
def test_an_adapter_that_the_deployment_does_not_name_is_forbidden(
    deployed: bytes, adapter: str
) -> None:
    with pytest.raises(Forbidden, match="does not name adapter"):
        read({DEPLOYMENT_HEADER: deployed, ADAPTER_HEADER: adapter.encode()}, TUNED)


@pytest.mark.parametrize("value", [b"", b"\xff", b"a" * 257])
def test_a_malformed_adapter_is_forbidden(value: bytes) -> None:
    with pytest.raises(Forbidden):
        read(ASKS_TUNED | {ADAPTER_HEADER: value}, TUNED)


@pytest.mark.parametrize(
    "changes",
    [
        {MODEL_HEADER: b"acme/other@1"},
        {DEPLOYMENT_HEADER: b"tuned"},
        {DEPLOYMENT_HEADER: b"tuned", ADAPTER_HEADER: DE.encode()},
    ],
    ids=["model", "bare base", "another adapter of the account"],
)
def test_what_an_update_of_the_deployment_explains_is_placed_again(
    changes: dict[bytes, bytes],
) -> None:
    with pytest.raises(Conflict) as refused:
        read(changes, TUNED)
    assert refused.value.code == STALE_CODE


def test_a_running_request_outlives_an_update_of_its_deployment() -> None:
    claimed = read(ASKS_TUNED, TUNED)
    updated = with_changes(TUNED, (), (deployment("tuned", model="acme/other@1"),))
    check_peer_request(claimed, HERE, updated)
    with pytest.raises(Conflict):
        read(ASKS_TUNED, updated)

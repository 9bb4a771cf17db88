"""Keys, and the deployments that they may call."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace

import pytest

from agent.gateway.authentication import Caller, authenticate, find_deployment
from agent.link.status import CredentialsAge
from protos.domain.customers import Account, ApiKey, ForeignKey
from protos.domain.errors import InvalidRequest, LinkDown, Misdirected, NotFound, Unauthenticated
from protos.domain.resources import Resource
from tests.support.fleets import MODEL, deployment, model, node, pop, view

NOW_UNIX_MS = 1_000
SECRET = b"ef-secret"


def key(
    *, secret: bytes = SECRET, account: str = "acme", only: tuple[str, ...] = (), ends: int = 0
):
    return ApiKey("k1", hashlib.sha256(secret).digest(), account, only, ends)


def sign_in(
    header: bytes | None, *keys: ApiKey, require: Callable[[], None] = lambda: None
) -> Caller:
    headers = {} if header is None else {b"authorization": header}
    world = view(Account("acme"), *keys)
    return authenticate(headers, world, NOW_UNIX_MS, require, "gru-1")


@pytest.mark.parametrize(
    "header", [b"Bearer ef-secret", b"bearer  ef-secret ", b"BEARER ef-secret"]
)
def test_a_valid_key_names_its_account(header: bytes) -> None:
    assert sign_in(header, key()).account.id == "acme"


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic ef-secret",
        b"ef-secret",
        b"Bearer other",
        b"Bearer \xff\xfe",
        b"Bearer " + b"x" * 513,
    ],
)
def test_anything_but_a_valid_key_is_401(header: bytes | None) -> None:
    with pytest.raises(Unauthenticated) as caught:
        sign_in(header, key())
    assert caught.value.http_status == 401


@pytest.mark.parametrize(
    "beside", [None, b"", b"Bearer", b"Bearer  ", b"Basic dXNlcjpwYXNz", b"ef-secret"]
)
def test_x_api_key_is_a_key_without_a_bearer_token_beside_it(beside: bytes | None) -> None:
    world = view(Account("acme"), key())
    headers = {b"x-api-key": b" ef-secret "}
    if beside is not None:
        headers[b"authorization"] = beside
    assert authenticate(headers, world, NOW_UNIX_MS, lambda: None, "gru-1").account.id == "acme"


@pytest.mark.parametrize(
    "headers",
    [
        {b"x-api-key": b""},
        {b"x-api-key": b"other"},
        {b"x-api-key": b"x" * 513},
        {b"x-api-key": b"Bearer ef-secret"},
        {b"x-api-key": b"ef-secret", b"authorization": b"Bearer other"},
    ],
    ids=["empty", "unknown", "long", "with-a-scheme", "another-bearer-token"],
)
def test_anything_but_a_valid_x_api_key_is_401(headers: dict[bytes, bytes]) -> None:
    world = view(Account("acme"), key())
    with pytest.raises(Unauthenticated):
        authenticate(headers, world, NOW_UNIX_MS, lambda: None, "gru-1")


def test_a_key_ends_at_its_millisecond() -> None:
    assert sign_in(b"Bearer ef-secret", key(ends=NOW_UNIX_MS + 1))
    with pytest.raises(Unauthenticated, match="expired"):
        sign_in(b"Bearer ef-secret", key(ends=NOW_UNIX_MS))


def test_a_key_whose_account_is_gone_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        sign_in(b"Bearer ef-secret", key(account="gone"))


@pytest.mark.parametrize("header", [b"Bearer ef-secret", b"Bearer other"])
def test_a_cut_off_site_answers_503_with_the_age_and_not_401(header: bytes) -> None:
    age = CredentialsAge(lambda: 0.0, max_age_s=3_600.0)
    with pytest.raises(LinkDown, match="no table of keys yet"):
        sign_in(header, key(), require=age.require_usable)
    age.restore(1, 1 + 2 * 3_600_000)
    with pytest.raises(LinkDown, match=r"cut off from the coordinator for 2\.0 hours") as refused:
        sign_in(header, key(), require=age.require_usable)
    assert refused.value.http_status == 503
    assert refused.value.retryable
    assert refused.value.code == "site_cut_off"
    age.confirm()
    age.require_usable()


def test_a_digest_is_no_key() -> None:
    with pytest.raises(Unauthenticated):
        sign_in(b"Bearer " + hashlib.sha256(SECRET).hexdigest().encode(), key())


@pytest.mark.parametrize("name", ["nobody", "x" * 100_000, "acme/other@1", MODEL + " "])
def test_an_unknown_model_is_404_and_is_not_echoed_at_length(name: str) -> None:
    caller = Caller(key(), Account("acme"))
    with pytest.raises(NotFound) as caught:
        find_deployment(caller, name, view(model(), deployment("small")))
    assert caught.value.code == "model_not_found"
    assert len(caught.value.message) < 200


@pytest.mark.parametrize("name", [None, "", 5, True, [], {}, ["x"] * 9_999])
def test_a_missing_model_and_one_of_a_wrong_type_are_400_that_name_the_parameter(
    name: object,
) -> None:
    caller = Caller(key(), Account("acme"))
    with pytest.raises(InvalidRequest, match="model") as caught:
        find_deployment(caller, name, view(model(), deployment("small")))
    assert (caught.value.http_status, caught.value.param) == (400, "model")
    assert "NoneType" not in caught.value.message


def test_the_models_own_name_is_the_callers_first_deployment_of_it() -> None:
    others = replace(deployment("a-first"), account_id="other")
    world = view(model(), others, deployment("small"), deployment("b-second"))
    caller = Caller(key(), Account("acme"))
    assert find_deployment(caller, MODEL, world).name == "b-second"
    narrowed = Caller(key(only=("small",)), Account("acme"))
    assert find_deployment(narrowed, MODEL, world).name == "small"
    stranger = Caller(key(account="third"), Account("third"))
    with pytest.raises(NotFound):
        find_deployment(stranger, MODEL, world)


def test_a_deployment_that_is_called_as_a_model_comes_first() -> None:
    world = view(model(), deployment(MODEL, model="acme/other@1"), deployment("a-small"))
    caller = Caller(key(), Account("acme"))
    assert find_deployment(caller, MODEL, world).name == MODEL


def test_another_accounts_model_looks_as_if_it_did_not_exist() -> None:
    world = view(deployment("small"))
    stranger = Caller(key(account="other"), Account("other"))
    errors = []
    for name in ("small", "nosuch"):
        with pytest.raises(NotFound) as caught:
            find_deployment(stranger, name, world)
        errors.append(caught.value.message.replace(name, "?"))
    assert errors[0] == errors[1]


def test_a_key_made_for_some_deployments_calls_only_those() -> None:
    caller = Caller(key(only=("small",)), Account("acme"))
    world = view(deployment("small"), deployment("large"))
    assert find_deployment(caller, "small", world).name == "small"
    with pytest.raises(NotFound):
        find_deployment(caller, "large", world)


SITES = (pop("GRU", zone="BR"), pop("IAD", zone="US"), node("gru-1", "GRU"), node("iad-1", "IAD"))


def at_node(node_id: str, *rows: Resource) -> Caller:
    return authenticate(
        {b"authorization": b"Bearer ef-secret"},
        view(*SITES, *rows),
        NOW_UNIX_MS,
        lambda: None,
        node_id,
    )


@pytest.mark.parametrize(
    ("account_zones", "key_zones"), [(("BR",), ()), ((), ("BR",)), (("BR", "EU"), ("BR", "US"))]
)
def test_a_key_is_refused_outside_the_zones_of_account_and_key(
    account_zones: tuple[str, ...], key_zones: tuple[str, ...]
) -> None:
    rows = (Account("acme", zones=account_zones), replace(key(), zones=key_zones))
    assert at_node("gru-1", *rows).account.id == "acme"
    with pytest.raises(Misdirected) as caught:
        at_node("iad-1", *rows)
    assert caught.value.in_zone == ("http://gru-1.test:8080",)


def test_a_key_of_which_only_the_zones_are_known_here_is_misdirected_and_not_unknown() -> None:
    digest = hashlib.sha256(SECRET).digest()
    with pytest.raises(Misdirected) as caught:
        at_node("iad-1", ForeignKey("k1", digest, ("BR",), NOW_UNIX_MS + 1))
    assert caught.value.in_zone == ("http://gru-1.test:8080",)
    with pytest.raises(Unauthenticated, match="expired"):
        at_node("iad-1", ForeignKey("k1", digest, ("BR",), NOW_UNIX_MS))
    with pytest.raises(Unauthenticated, match="incorrect"):
        at_node("iad-1", ForeignKey("k1", b"x" * 32, ("BR",)))


def test_an_agent_that_is_in_no_zone_of_the_table_reads_nothing_that_is_bound() -> None:
    with pytest.raises(Misdirected):
        at_node("gone-1", Account("acme", zones=("BR",)), key())

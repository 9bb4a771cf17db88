"""Who may call what."""

from __future__ import annotations

import hashlib

import pytest

from agent.gateway.authentication import Caller, authenticate, find_deployment
from protos.domain.errors import NotFound, Unauthenticated
from protos.domain.resources import Account, ApiKey
from tests.support.fleets import deployment, view

NOW_UNIX_MS = 1_000
SECRET = b"ef-secret"


def key(
    *, secret: bytes = SECRET, account: str = "acme", only: tuple[str, ...] = (), ends: int = 0
):
    return ApiKey("k1", hashlib.sha256(secret).digest(), account, only, ends)


def sign_in(header: bytes | None, *keys: ApiKey, usable: bool = True) -> Caller:
    headers = {} if header is None else {b"authorization": header}
    world = view(Account("acme", "salt"), *keys)
    return authenticate(headers, world, NOW_UNIX_MS, lambda: usable)


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


def test_anthropics_header_names_a_key_where_it_is_taken() -> None:
    world = view(Account("acme", "salt"), key())
    headers = {b"x-api-key": b"ef-secret"}
    caller = authenticate(headers, world, NOW_UNIX_MS, lambda: True, takes_x_api_key=True)
    assert caller.account.id == "acme"
    with pytest.raises(Unauthenticated):
        authenticate(headers, world, NOW_UNIX_MS, lambda: True)
    for wrong in (
        {b"x-api-key": b""},
        {b"x-api-key": b"x" * 513},
        headers | {b"authorization": b"Bearer other"},
    ):
        with pytest.raises(Unauthenticated):
            authenticate(wrong, world, NOW_UNIX_MS, lambda: True, takes_x_api_key=True)


def test_a_key_ends_at_its_millisecond() -> None:
    assert sign_in(b"Bearer ef-secret", key(ends=NOW_UNIX_MS + 1))
    with pytest.raises(Unauthenticated, match="expired"):
        sign_in(b"Bearer ef-secret", key(ends=NOW_UNIX_MS))


def test_a_key_whose_account_is_gone_is_refused() -> None:
    with pytest.raises(Unauthenticated):
        sign_in(b"Bearer ef-secret", key(account="gone"))


def test_a_site_cut_off_for_too_long_trusts_no_key() -> None:
    with pytest.raises(Unauthenticated, match="cut off"):
        sign_in(b"Bearer ef-secret", key(), usable=False)


def test_a_digest_is_no_key() -> None:
    with pytest.raises(Unauthenticated):
        sign_in(b"Bearer " + hashlib.sha256(SECRET).hexdigest().encode(), key())


@pytest.mark.parametrize(
    "name", [None, 5, True, [], {}, "", "nobody", "x" * 100_000, ["x"] * 9_999]
)
def test_an_unknown_model_of_any_type_is_404_and_is_not_echoed_at_length(name: object) -> None:
    caller = Caller(key(), Account("acme", "salt"))
    with pytest.raises(NotFound) as caught:
        find_deployment(caller, name, view(deployment("small")))
    assert caught.value.code == "model_not_found"
    assert len(caught.value.message) < 200


def test_another_accounts_model_looks_as_if_it_did_not_exist() -> None:
    world = view(deployment("small"))
    stranger = Caller(key(account="other"), Account("other", "salt"))
    errors = []
    for name in ("small", "nosuch"):
        with pytest.raises(NotFound) as caught:
            find_deployment(stranger, name, world)
        errors.append(caught.value.message.replace(name, "?"))
    assert errors[0] == errors[1]


def test_a_key_made_for_some_deployments_calls_only_those() -> None:
    caller = Caller(key(only=("small",)), Account("acme", "salt"))
    world = view(deployment("small"), deployment("large"))
    assert find_deployment(caller, "small", world).name == "small"
    with pytest.raises(NotFound):
        find_deployment(caller, "large", world)

"""Paths and networks that a key is limited to."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.formats import FORMATS
from protos.domain.customers import ApiKey
from protos.domain.errors import Forbidden, InvalidRequest
from protos.domain.key_scopes import (
    ENDPOINTS,
    MAX_ORIGINS,
    check_endpoints,
    check_origins,
    check_scopes,
    is_within,
)


def key(endpoints: tuple[str, ...] = (), origins: tuple[str, ...] = ()) -> ApiKey:
    return ApiKey("k", b"d" * 32, "acme", (), 0, endpoints=endpoints, origins=origins)


def test_a_key_can_be_limited_to_each_endpoint_that_agents_serve():
    assert sorted(ENDPOINTS) == sorted(FORMATS)


def test_endpoints_are_kept_in_order_and_once():
    assert check_endpoints(["/v1/messages", "/v1/embeddings", "/v1/messages"]) == (
        "/v1/embeddings",
        "/v1/messages",
    )


@pytest.mark.parametrize("text", ["/v1/models", "v1/embeddings", "/v1/embeddings/", "", "/" * 99])
def test_an_endpoint_that_is_not_served_is_refused(text):
    with pytest.raises(InvalidRequest, match="is no endpoint"):
        check_endpoints([text])


@pytest.mark.parametrize(
    ("given_text", "kept"),
    [
        ("203.0.113.7", "203.0.113.7/32"),
        (" 203.0.113.0/24 ", "203.0.113.0/24"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("::ffff:203.0.113.0/120", "203.0.113.0/24"),
        ("::ffff:203.0.113.7", "203.0.113.7/32"),
    ],
)
def test_networks_are_kept_in_one_spelling(given_text, kept):
    assert check_origins([given_text]) == (kept,)


@pytest.mark.parametrize("text", ["", "203.0.113.7/24", "host.example", "1.2.3", "10.0.0.0/33"])
def test_what_is_no_network_is_refused(text):
    with pytest.raises(InvalidRequest, match="is no network"):
        check_origins([text])


def test_more_networks_than_a_key_may_have_are_refused():
    with pytest.raises(InvalidRequest, match="more than 32"):
        check_origins(f"10.0.{one}.0/24" for one in range(MAX_ORIGINS + 1))


def test_a_key_without_scopes_may_be_used_for_everything_from_everywhere():
    check_scopes(key(), "/v1/messages", "")


def test_a_key_of_one_endpoint_opens_no_other_and_may_list_models():
    limited = key(endpoints=("/v1/embeddings",))
    check_scopes(limited, "/v1/embeddings", "192.0.2.1")
    check_scopes(limited, "", "192.0.2.1")
    with pytest.raises(Forbidden, match="not for /v1/messages") as caught:
        check_scopes(limited, "/v1/messages", "192.0.2.1")
    assert caught.value.code == "endpoint_not_allowed"


@pytest.mark.parametrize("host", ["203.0.113.9", "::ffff:203.0.113.9", "2001:db8:1::7%eth0"])
def test_a_key_may_be_used_from_its_networks(host):
    check_scopes(key(origins=("2001:db8::/32", "203.0.113.0/24")), "", host)


@pytest.mark.parametrize("host", ["", "203.0.114.9", "::1", "127.0.0.1", "not an address"])
def test_a_key_may_not_be_used_from_elsewhere(host):
    with pytest.raises(Forbidden, match="may not be used from") as caught:
        check_scopes(key(origins=("2001:db8::/32", "203.0.113.0/24")), "", host)
    assert caught.value.code == "origin_not_allowed"


addresses = st.ip_addresses()
prefixes = st.integers(0, 128)


@given(addresses, addresses, prefixes)
def test_membership_is_that_of_the_network_law(inside, other, prefix):
    bits = min(prefix, inside.max_prefixlen)
    network = ipaddress.ip_network((inside, bits), strict=False)
    origins = check_origins([str(network)])
    kept = ipaddress.ip_network(origins[0])
    plain = getattr(inside, "ipv4_mapped", None) or inside
    if kept.version == plain.version:
        assert is_within(str(inside), origins)
    expected = getattr(other, "ipv4_mapped", None) or other
    assert is_within(str(other), origins) == (expected.version == kept.version and expected in kept)

"""Hosts and addresses that can be listened on and dialled."""

from __future__ import annotations

import pytest

from protos.domain.addresses import (
    address_problem,
    host_problem,
    is_loopback,
    is_unspecified,
    join_address,
    split_address,
    url_problem,
)


@pytest.mark.parametrize("host", ["10.0.0.5", "::1", "gru-1", "gru-1.example", "x_y"])
def test_a_host_is_an_address_or_a_name(host):
    assert host_problem(host) == ""


@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("[::1]", "write '::1'"),
        ("gru-1:7443", "write 'gru-1'"),
        ("", "neither"),
        ("a b", "neither"),
        ("-a", "neither"),
        ("a" * 254, "neither"),
        ("a/b", "neither"),
        ("::g", "neither"),
    ],
)
def test_what_is_no_host_is_refused_with_the_right_value_where_there_is_one(host, said):
    assert said in host_problem(host)


@pytest.mark.parametrize("host", ["10.0.0.5", "::1", "gru-1.example"])
def test_joined_and_split_an_address_is_the_same(host):
    assert split_address(join_address(host, 7443)) == (host, 7443)
    assert address_problem(join_address(host, 7443)) == ""


@pytest.mark.parametrize(
    "text", ["gru-1", "gru-1:", "gru-1:0", "gru-1:65536", ":80", "::1:80", "[gru-1]:80", "x:\uff18"]
)
def test_what_is_no_address_is_refused(text):
    assert split_address(text) is None
    assert address_problem(text)


@pytest.mark.parametrize("text", ["0.0.0.0:80", "[::]:80"])
def test_an_address_of_every_interface_cannot_be_dialled(text):
    assert "cannot be dialled" in address_problem(text)


def test_unspecified_and_loopback_are_known_in_every_notation():
    assert all(is_unspecified(host) for host in ("0.0.0.0", "::", "0:0:0:0:0:0:0:0"))
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"))
    assert not is_unspecified("gru-1")
    assert not is_loopback("gru-1")


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "https://api.example", "http://[::1]:80"])
def test_a_url_that_clients_can_call(url):
    assert url_problem(url) == ""


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example",
        "ftp://x",
        "http://",
        "http://0.0.0.0:80",
        "http://[::]:8080",
        "http://:::8080",
        "http://a:b@x",
        "http://x?y",
        "http://x#y",
        "http://x:99999",
        "http://x:0",
        "http://" + "a" * 3_000,
    ],
)
def test_a_url_that_nobody_can_call(url):
    assert url_problem(url)

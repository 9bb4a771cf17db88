"""Which web pages may read responses."""

from __future__ import annotations

import pytest

from agent.gateway.cors import Cors

APP = b"https://app.example.com"


def test_an_allowed_origin_gets_its_headers_and_no_other_does() -> None:
    cors = Cors(["https://app.example.com", "http://localhost:3000"])
    headers = dict(cors.headers_for(APP))
    assert headers[b"access-control-allow-origin"] == APP
    assert headers[b"vary"] == b"origin"
    assert b"x-request-id" in headers[b"access-control-expose-headers"]
    assert b"access-control-allow-credentials" not in headers
    assert dict(cors.headers_for(b"http://localhost:3000"))


@pytest.mark.parametrize(
    "origin",
    [b"null", b"", b"https://app.example.com.evil.test", b"http://app.example.com", APP + b":8443"],
)
def test_a_similar_origin_is_another_one(origin: bytes) -> None:
    assert Cors(["https://app.example.com"]).headers_for(origin) == ()


def test_a_star_allows_every_origin_and_repeats_none() -> None:
    for origin in (APP, b"null", b"x\xff"):
        headers = dict(Cors(["*"]).headers_for(origin))
        assert headers[b"access-control-allow-origin"] == b"*"
        assert headers[b"vary"] == b"origin"


def test_headers_are_made_once() -> None:
    cors = Cors(["https://app.example.com"])
    assert cors.headers_for(APP) is cors.headers_for(APP)

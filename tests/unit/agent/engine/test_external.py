"""What is and what is not the URL of somebody else's engine."""

from __future__ import annotations

import pytest

from agent.engine.external import parse_engine_url
from protos.domain.errors import ConfigInvalid


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://10.0.0.7:8000", "10.0.0.7", 8000),
        ("http://10.0.0.7:8000/v1", "10.0.0.7", 8000),
        ("http://10.0.0.7:8000/v1/", "10.0.0.7", 8000),
        ("https://engine.example", "engine.example", None),
        ("http://[::1]:9/", "::1", 9),
    ],
)
def test_an_origin_with_or_without_v1(url: str, host: str, port: int | None) -> None:
    parts = parse_engine_url(url)
    assert (parts.hostname, parts.port) == (host, port)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "engine:8000",
        "ftp://engine",
        "http://",
        "http://engine:0",
        "http://engine:99999",
        "http://engine:x",
        "http://engine/openai",
        "http://engine/v1?key=1",
        "http://engine/#x",
        "unix:///run/e.sock",
    ],
)
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(ConfigInvalid, match="engine URL"):
        parse_engine_url(url)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigInvalid) as caught:
        parse_engine_url("http://me:hunter2@engine:8000")
    assert "hunter2" not in str(caught.value)

"""The path of a request, however its target is spelled."""

from __future__ import annotations

import pytest

from agent.relay.request_target import request_path
from protos.domain.errors import InvalidRequest

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    "target",
    [
        b"/v1/chat/completions",
        b"/v1/chat/completions?api-version=1",
        b"/v1/chat/completions/",
        b"/v1/chat/completions/?a=/",
        b"/v1/%63hat/completions",
        b"/v1%2Fchat%2fcompletions",
        b"http://host/v1/chat/completions",
        b"HTTPS://[::1]:8080/v1/%63hat/completions/?x=y",
    ],
)
def test_every_spelling_of_a_path_is_that_path(target: bytes) -> None:
    assert request_path(target) == CHAT


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/", "/"),
        (b"http://host", "/"),
        (b"http://host?x", "/"),
        (b"*", "*"),
        (b"host:443", "host:443"),
        (b"//v1/chat/completions", "//v1/chat/completions"),
        (b"/v1/chat/completions//", "/v1/chat/completions/"),
        (b"/v1/models/a%20b%C3%A9", "/v1/models/a b\u00e9"),
        (b"http://a/http://b/v1/models", "/http://b/v1/models"),
    ],
)
def test_other_targets_keep_what_they_say(target: bytes, path: str) -> None:
    assert request_path(target) == path


def test_an_escape_is_decoded_once() -> None:
    assert request_path(b"/v1/%2563hat") == "/v1/%63hat"


def test_a_path_is_never_resolved() -> None:
    """Compared with known routes, it names none of them."""
    assert request_path(b"/v1/models/../chat/completions") == "/v1/models/../chat/completions"
    assert request_path(b"/v1/%2e%2e/pause") == "/v1/../pause"


@pytest.mark.parametrize(
    "target",
    [b"/%", b"/%6", b"/v1/%zz", b"/%%41", b"/%ff", b"/a%00", b"/a%0d%0ab", b"/\xe9", b"/%7f"],
)
def test_a_broken_escape_is_400(target: bytes) -> None:
    with pytest.raises(InvalidRequest):
        request_path(target)

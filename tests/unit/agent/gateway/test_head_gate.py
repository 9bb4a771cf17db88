"""A caller is looked at again behind its body."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from agent.gateway.head_gate import HeadGate, caller_of
from agent.relay.messages import Request
from protos.domain.errors import Unauthenticated
from protos.domain.fleet_view import with_changes
from tests.support.in_process_gateway import SECRET, gateway_context, table

ENDS_UNIX_MS = 1_000_000


@pytest.mark.parametrize(("ends_unix_ms", "is_known"), [(0, True), (ENDS_UNIX_MS, False)])
def test_a_key_that_expires_while_its_body_comes_is_refused(ends_unix_ms, is_known):
    view = table({"near": 20.0})
    key = view.keys[hashlib.sha256(SECRET.encode()).digest()]
    view = with_changes(view, (), (replace(key, expires_unix_ms=ends_unix_ms),))
    now = [ENDS_UNIX_MS - 1]
    gateway = replace(gateway_context(view), now_unix_ms=lambda: now[0])
    request = Request(
        method="POST",
        target=b"/v1/chat/completions",
        headers={b"authorization": b"Bearer " + SECRET.encode()},
        body=b"",
        keep_alive=True,
        first_byte_mono_ms=0.0,
    )
    HeadGate(gateway, 1_000, lambda *_: None).admit(request, None)
    assert caller_of(request, gateway, view).key.id == key.id
    now[0] = ENDS_UNIX_MS
    if is_known:
        assert caller_of(request, gateway, view).key.id == key.id
        return
    with pytest.raises(Unauthenticated, match="expired"):
        caller_of(request, gateway, view)

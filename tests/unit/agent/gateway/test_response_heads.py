"""What a peer's answer says beside the answer."""

from __future__ import annotations

import pytest

from agent.core.peer_load import PeerLoad
from agent.gateway.response_heads import load_of


@pytest.mark.parametrize(
    ("value", "load"),
    [
        (b"in_flight=3;queued=1;fill=0.250", PeerLoad(3, 1, 0.25, False)),
        (b"in_flight=3;queued=0;draining=1", PeerLoad(3, 0, None, True)),
        (b"in_flight=3;queued=0;draining=yes", PeerLoad(3, 0, None, False)),
        (b"queued=2;newer=thing", PeerLoad(0, 2, None, False)),
        (b"fill=nan", PeerLoad(0, 0, None, False)),
        (b"", PeerLoad(0, 0, None, False)),
        (b"in_flight=many", None),
    ],
)
def test_a_peers_load_and_whether_it_drains_are_read_from_its_answer(value, load):
    assert load_of([(b"content-type", b"x"), (b"x-edgeforge-load", value)]) == load


def test_an_answer_without_a_load_says_nothing():
    assert load_of([(b"content-type", b"x")]) is None

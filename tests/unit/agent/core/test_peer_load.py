"""The load that a node reports."""

from __future__ import annotations

from agent.core.peer_load import PeerLoad


def test_by_default_a_node_does_not_drain_and_its_fill_may_be_missing() -> None:
    load = PeerLoad(3, 1, None)
    assert not load.draining
    assert load == PeerLoad(in_flight=3, queued=1, fill_ratio=None, draining=False)
    assert load != PeerLoad(3, 1, 0.0)

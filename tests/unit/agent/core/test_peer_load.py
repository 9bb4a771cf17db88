"""How loaded a node reports to be."""

from __future__ import annotations

from agent.core.peer_load import PeerLoad


def test_a_node_drains_only_when_it_says_so_and_its_fill_may_be_unsaid() -> None:
    load = PeerLoad(3, 1, None)
    assert not load.draining
    assert load == PeerLoad(in_flight=3, queued=1, fill_ratio=None, draining=False)
    assert load != PeerLoad(3, 1, 0.0)

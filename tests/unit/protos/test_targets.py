"""A node that was never connected to is described by nothing but its row in the table."""

from __future__ import annotations

from protos.domain.targets import UNKNOWN_TARGET


def test_an_unknown_target_claims_nothing() -> None:
    assert UNKNOWN_TARGET.ready_models is None
    assert UNKNOWN_TARGET.loadable is None
    assert UNKNOWN_TARGET.rtt_ms_p50 is None
    assert not UNKNOWN_TARGET.warm
    assert not UNKNOWN_TARGET.ejected

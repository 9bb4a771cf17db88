"""What `edgeforge node` says of a host's certificate, clock and twins."""

from __future__ import annotations

import pytest

from coordinator.cli.node import _certificate, _clock, link_of
from protos.v1 import admin_pb2

DAY_S = 86_400.0


def info(**fields: object) -> admin_pb2.NodeInfo:
    return admin_pb2.NodeInfo(connected=True, certificate_age_s=0.5 * DAY_S, **fields)


def test_a_certificate_is_shown_with_its_days_left_and_why_it_is_not_renewed() -> None:
    assert _certificate(info(certificate_remaining_s=29.5 * DAY_S)) == (
        "made 0.5 days ago, 29.5 days left"
    )
    failing = info(certificate_remaining_s=3 * DAY_S, renewal_error="No space left on device")
    assert _certificate(failing).endswith("3.0 days left; not renewed: No space left on device")
    assert _certificate(info()) == "made 0.5 days ago", "an older agent does not report the rest"


@pytest.mark.parametrize(
    ("offset_ms", "said"),
    [
        (2_500.0, "2.5 s behind the coordinator's"),
        (-86_400_000.0, "86400.0 s ahead of the coordinator's"),
    ],
)
def test_a_hosts_clock_is_shown_beside_the_coordinators(offset_ms: float, said: str) -> None:
    assert _clock(info(clock_offset_ms=offset_ms)) == said


def test_two_hosts_with_one_identity_are_shown_with_both_addresses() -> None:
    assert link_of(info()) == "connected"
    assert link_of(info(twin="192.0.2.1 and 192.0.2.2")).endswith("192.0.2.1 and 192.0.2.2")

"""Signatures of our webhooks, as receivers check them."""

from __future__ import annotations

import pytest

from coordinator.core import webhook_signature
from protos.domain.errors import Unauthenticated

BODY = b'{"id":"1"}'
SIGNED = webhook_signature.sign("secret", BODY, 1_000)


def test_a_signature_is_over_the_time_and_the_body():
    webhook_signature.verify("secret", BODY, SIGNED, 1_299)


@pytest.mark.parametrize(
    ("secret", "body", "header", "now"),
    [
        ("other", BODY, SIGNED, 1_000),
        ("secret", BODY + b" ", SIGNED, 1_000),
        ("secret", BODY, SIGNED.replace("t=1000", "t=1001"), 1_000),
        ("secret", BODY, SIGNED, 1_301),
        ("secret", BODY, SIGNED, 699),
        ("secret", BODY, "", 1_000),
        ("secret", BODY, "t=x,v1=", 1_000),
        ("secret", BODY, "t=" + "9" * 5_000, 1_000),
        ("secret", BODY, "t=1000,v1=\u00e9", 1_000),
    ],
)
def test_forged_changed_and_replayed_webhooks_are_refused(secret, body, header, now):
    with pytest.raises(Unauthenticated):
        webhook_signature.verify(secret, body, header, now)

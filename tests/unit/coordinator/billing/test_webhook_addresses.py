"""Addresses that alerts are not sent to."""

from __future__ import annotations

import pytest

from coordinator.billing.webhooks import check_url
from protos.domain.errors import InvalidRequest


@pytest.mark.parametrize(
    "url",
    [
        "http://acme.example/hook",
        "https://127.0.0.1/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:10.0.0.1]/",
        "https://2130706433/",
        "https://0x7f000001/",
        "https://127.1/",
        "https://user:pw@acme.example/",
        "ftp://acme.example/",
        "https:///hook",
        "https://acme.example:0/",
        "https://acme.example/\nX: y",
        "https://" + "a" * 1_000 + ".example/",
    ],
)
def test_private_plain_and_malformed_addresses_of_webhooks_are_refused(url):
    with pytest.raises(InvalidRequest):
        check_url(url, allow_private=False)


def test_a_public_https_address_is_kept():
    url = "https://hooks.acme.example:8443/a?b=c"
    assert check_url(url, allow_private=False) == url


def test_a_closed_network_may_allow_its_own():
    assert check_url("http://127.0.0.1:8080/hook", allow_private=True)

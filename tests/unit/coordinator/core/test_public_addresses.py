from __future__ import annotations

import pytest

from coordinator.core.public_addresses import refusal_of

PRIVATE = [
    "127.0.0.1",
    "127.8.8.8",
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "100.100.100.200",
    "192.0.0.192",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "fd00:ec2::254",
    "fec0::1",
    "ff02::1",
    "64:ff9b::7f00:1",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001:0:4136:e378::",
    "2001:db8::1",
]
PUBLIC = ["1.1.1.1", "18.164.1.1", "::ffff:1.1.1.1", "2606:4700:4700::1111", "172.32.0.1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_a_private_address_is_refused(address):
    assert "not a public address" in refusal_of(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address_is_allowed(address):
    assert refusal_of(address) == ""


@pytest.mark.parametrize("text", ["localhost", "", "127.1", "0x7f000001", "2130706433", "1.1.1.1 "])
def test_what_is_no_address_is_refused(text):
    assert "is no IP address" in refusal_of(text)

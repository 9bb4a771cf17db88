"""Which addresses a customer may have the coordinator connect to: those of the public Internet."""

from __future__ import annotations

import ipaddress

#: Ranges that ``is_global`` lets pass, or that reach into a private network by translation.
_REFUSED = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "169.254.0.0/16",  # link-local, and the clouds' metadata
        "192.0.0.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "198.18.0.0/15",
        "224.0.0.0/4",
        "240.0.0.0/4",
        "64:ff9b::/96",  # NAT64
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",  # Teredo and others
        "2002::/16",  # 6to4
        "3fff::/20",
        "fc00::/7",
        "fe80::/10",
        "fec0::/10",
        "ff00::/8",
    )
)


def refusal_of(address: str) -> str:
    """Return why an IP address may not be connected to; empty: it may.

    IPv4 in IPv6 is judged as the IPv4 address that it is.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return f"{address[:60]!a} is no IP address"
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif int(ip) >> 32 == 0:  # IPv4-compatible, loopback and unspecified
            return f"{ip} is not a public address"
    if not ip.is_global or any(ip.version == net.version and ip in net for net in _REFUSED):
        return f"{ip} is not a public address"
    return ""

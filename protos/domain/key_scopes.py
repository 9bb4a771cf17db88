"""What a key is limited to beside its deployments: paths of the API, networks of its callers."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable
from typing import TYPE_CHECKING

from protos.domain.errors import Forbidden, InvalidRequest

if TYPE_CHECKING:
    from protos.domain.customers import ApiKey

#: Every path that a key can be limited to.
ENDPOINTS = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/responses",
)
#: Networks of one key.
MAX_ORIGINS = 32
#: Sets of networks that are kept parsed.
_KEPT = 4_096

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def check_endpoints(endpoints: Iterable[str]) -> tuple[str, ...]:
    """Return paths in order, each once. Raises: InvalidRequest for one that is not served."""
    asked = sorted(set(endpoints))
    unknown = [one for one in asked if one not in ENDPOINTS]
    if unknown:
        raise InvalidRequest(
            f"{unknown[0][:80]!r} is no endpoint of the API", f"there are {', '.join(ENDPOINTS)}"
        )
    return tuple(asked)


def check_origins(origins: Iterable[str]) -> tuple[str, ...]:
    """Return networks as CIDR in order, each once; an address is a network of itself.

    Raises: InvalidRequest for what is no network, and for too many.
    """
    found = sorted({str(_network(one)) for one in origins})
    if len(found) > MAX_ORIGINS:
        raise InvalidRequest(
            f"{len(found)} networks are more than {MAX_ORIGINS}", "name larger networks"
        )
    return tuple(found)


def check_scopes(key: ApiKey, path: str, host: str) -> None:
    """Check where a request with ``key`` goes and where it comes from.

    ``path`` is empty for what every key may read; ``host`` is the address of the connection.
    Raises: Forbidden.
    """
    if key.endpoints and path and path not in key.endpoints:
        raise Forbidden(
            f"this API key is not for {path}",
            f"it opens {', '.join(key.endpoints)}",
            code="endpoint_not_allowed",
        )
    if key.origins and not is_within(host, key.origins):
        raise Forbidden(
            f"this API key may not be used from {host or 'an unknown address'}",
            "use it from a network that it was made for, or ask for another key",
            code="origin_not_allowed",
        )


def is_within(host: str, origins: tuple[str, ...]) -> bool:
    """Whether an address is in one of the networks. One that cannot be read is in none."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    found = address if mapped is None else mapped
    return any(found in network for network in _networks(origins))


@functools.lru_cache(_KEPT)
def _networks(origins: tuple[str, ...]) -> tuple[_Network, ...]:
    return tuple(ipaddress.ip_network(one) for one in origins)


def _network(text: str) -> _Network:
    try:
        network = ipaddress.ip_network(text.strip())
    except ValueError as error:
        raise InvalidRequest(
            f"{text[:80]!r} is no network: {error}", "write it as 203.0.113.0/24 or 2001:db8::/32"
        ) from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is not None and network.prefixlen >= 96:
        return ipaddress.ip_network(f"{mapped}/{network.prefixlen - 96}")
    return network

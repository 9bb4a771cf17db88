"""The sections of the configuration about the hub's protocol and the hub that hf:// names."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.sections.public_listener import (
    PublicListener,
    check_public_listener,
    origin_problem,
)
from protos.domain.settings import published_port, setting


@dataclass(frozen=True, slots=True)
class HubSection(PublicListener):
    """``[hub]``: the registry by the Hugging Face hub's protocol, for the keys of accounts."""

    #: TCP port to listen on.
    port: int = published_port(7405)


@dataclass(frozen=True, slots=True)
class UpstreamSection:
    """``[upstream]``: the hub that hf:// names."""

    #: Origin of the hub.
    endpoint: str = setting("https://huggingface.co")
    #: The endpoint itself may be at a private address, and may be plain HTTP. What it leads to
    #: stays refused unless it is public.
    allow_private_endpoint: bool = setting(False)
    #: Authorities in PEM for the hub's certificate; empty: those of the system.
    ca_file: str = setting("")
    #: How often tracked repositories are looked at.
    poll_s: float = setting(900.0, at_least=1)


def check_hub(hub: HubSection) -> list[str]:
    """Return mistakes between keys that are valid one by one."""
    return check_public_listener("hub", hub)


def check_upstream(upstream: UpstreamSection) -> list[str]:
    """Return mistakes between keys that are valid one by one."""
    if problem := origin_problem(upstream.endpoint):
        return [f"upstream.endpoint: {problem}"]
    if not upstream.endpoint.startswith("https://") and not upstream.allow_private_endpoint:
        return ["upstream.endpoint: is plain HTTP; allow_private_endpoint = true allows that"]
    return []

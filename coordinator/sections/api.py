"""The section of the configuration about the customers' API."""

from __future__ import annotations

from dataclasses import dataclass

from coordinator.sections.public_listener import PublicListener, check_public_listener
from protos.domain.settings import published_port, setting

SIGN_UP_MODES = ("closed", "invite", "open")


@dataclass(frozen=True, slots=True)
class ApiSection(PublicListener):
    """``[api]``: what customers do themselves, over HTTP with tokens of members."""

    #: TCP port to listen on.
    port: int = published_port(7406)
    #: Who may make an account: nobody, holders of an operator's invitation, or anybody.
    signup: str = setting("closed", choices=SIGN_UP_MODES)


def check_api(api: ApiSection) -> list[str]:
    """Return mistakes between keys that are valid one by one."""
    return check_public_listener("api", api)

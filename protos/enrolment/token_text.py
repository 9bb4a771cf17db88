"""Tokens as they are handed over: ``<prefix>.<ca-sha256>.<id>.<secret>``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from protos.domain.errors import InvalidRequest

PREFIX_OF_NODE = "EF1"
PREFIX_OF_OPERATOR = "EFO1"

_TOKEN = re.compile(
    r"([A-Z0-9]{1,8})\.([0-9a-f]{64})\.([A-Za-z0-9_-]{1,64})\.([A-Za-z0-9_-]{16,128})"
)
_MADE_BY = {
    PREFIX_OF_NODE: "edgeforge node token create",
    PREFIX_OF_OPERATOR: "edgeforge operator invite",
}
_USED_BY = {
    PREFIX_OF_NODE: "edgeforge-agent enroll",
    PREFIX_OF_OPERATOR: "edgeforge login",
}


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """The parts of a token."""

    ca_sha256: str
    id: str
    secret: str = field(repr=False)

    def __repr__(self) -> str:
        return f"EnrolmentToken(id={self.id!r})"


def token_text(prefix: str, ca_sha256_hex: str, token_id: str, secret: str) -> str:
    """Return a token as it is handed over."""
    return f"{prefix}.{ca_sha256_hex}.{token_id}.{secret}"


def parse_token(text: str, prefix: str) -> EnrolmentToken:
    """Parse a token of one prefix. Raises: InvalidRequest, without the token in its text."""
    match = _TOKEN.fullmatch(text.strip())
    if match is not None and match[1] == prefix:
        return EnrolmentToken(*match.groups()[1:])
    if match is not None and match[1] in _USED_BY:
        raise InvalidRequest(
            f"this token is for another command: {_USED_BY[match[1]]}",
            f"make the right one with: {_MADE_BY[prefix]}",
        )
    raise InvalidRequest(
        "this is no enrolment token",
        f"it looks like {prefix}.<digest>.<id>.<secret>; make one with: {_MADE_BY[prefix]}",
    )

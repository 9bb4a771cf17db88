"""The party that a certificate names: one node, one operator or one coordinator.

Every listener and every dialler uses this rule on the certificate that TLS has verified, so that
all of them take a certificate for the same party.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass

from protos.domain.errors import InvalidRequest, Unauthenticated
from protos.domain.ids import check_node_id, check_person

_SCHEME = "edgeforge:"
_PREFIX = "edgeforge://"


class PartyKind(enum.StrEnum):
    """What kind of party a certificate names."""

    NODE = "node"
    OPERATOR = "operator"
    COORDINATOR = "coordinator"


@dataclass(frozen=True, slots=True)
class Party:
    """Who a certificate belongs to; its text is such as ``node/gru-1``."""

    kind: PartyKind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


def party_of(uris: Iterable[str]) -> Party:
    """Return the party that a certificate's URI names say. Raises: Unauthenticated.

    Exactly one of them may have our scheme, in any spelling; URIs of other schemes do not matter.
    """
    own = [uri for uri in uris if uri[: len(_SCHEME)].lower() == _SCHEME]
    if len(own) != 1:
        raise Unauthenticated("the certificate does not name exactly one party")
    kind, separator, name = own[0].removeprefix(_PREFIX).partition("/")
    if not own[0].startswith(_PREFIX) or not separator:
        raise Unauthenticated("the certificate names no party of a fleet")
    try:
        party = Party(PartyKind(kind), name)
        check = check_node_id if party.kind is PartyKind.NODE else check_person
        check(name)
    except (ValueError, InvalidRequest) as error:
        raise Unauthenticated("the certificate names no party of a fleet") from error
    return party


def node_of(uris: Iterable[str]) -> str:
    """Return the node that a certificate names. Raises: Unauthenticated for any other party."""
    party = party_of(uris)
    if party.kind is not PartyKind.NODE:
        raise Unauthenticated(f"the certificate names {party}, not a node")
    return party.name

"""Calls for quota and their messages."""

from __future__ import annotations

from protos.domain.errors import InvalidRequest
from protos.domain.quota import (
    MAX_AMOUNT,
    MAX_ASKS,
    LeaseAnswer,
    LeaseAsk,
    LeaseCall,
    LeaseGrant,
    QuotaKind,
    QuotaName,
)
from protos.v1 import quota_pb2 as q

_KIND_TO_WIRE = {kind: q.QuotaKind.Value(f"QUOTA_KIND_{kind.name}") for kind in QuotaKind}
_KIND_FROM_WIRE: dict[int, QuotaKind] = {wire: kind for kind, wire in _KIND_TO_WIRE.items()}
_MAX_BOOT_ID_CHARS = 64
_MAX_ACCOUNT_ID_CHARS = 256
_DIGEST_BYTES = (0, 32)


def call_to_wire(call: LeaseCall) -> q.LeaseRequest:
    """Return the message of ``call``."""
    return q.LeaseRequest(
        boot_id=call.boot_id,
        seq=call.seq,
        asks=[
            q.LeaseAsk(
                kind=_KIND_TO_WIRE[ask.name.kind],
                account_id=ask.name.account_id,
                key_digest=ask.name.key_digest,
                held=_bounded(ask.held),
                in_use=_bounded(max(0, ask.in_use)),
                least=_bounded(max(0, ask.least)),
                need=_bounded(max(0, ask.need)),
                want=_bounded(max(0, ask.want)),
                cut_off=_bounded(max(0, ask.cut_off)),
            )
            for ask in call.asks
        ],
    )


def call_from_wire(message: q.LeaseRequest) -> LeaseCall:
    """Return the call. Raises: InvalidRequest. What an agent of a newer version adds is left out.

    Every ask keeps its place: a grant names its ask by number.
    """
    if not 0 < len(message.boot_id) <= _MAX_BOOT_ID_CHARS:
        raise InvalidRequest("a call for quota needs the id of the agent's run")
    if len(message.asks) > MAX_ASKS:
        raise InvalidRequest(f"a call for quota has at most {MAX_ASKS} asks")
    return LeaseCall(message.boot_id, message.seq, tuple(map(_ask_from_wire, message.asks)))


def _ask_from_wire(ask: q.LeaseAsk) -> LeaseAsk:
    kind = _KIND_FROM_WIRE.get(ask.kind)
    if kind is None:
        raise InvalidRequest(f"unknown kind of quota {ask.kind}")
    if len(ask.key_digest) not in _DIGEST_BYTES or len(ask.account_id) > _MAX_ACCOUNT_ID_CHARS:
        raise InvalidRequest("a quota is of an account or of a key")
    amounts = (ask.held, ask.in_use, ask.least, ask.need, ask.want, ask.cut_off)
    if not all(-MAX_AMOUNT <= amount <= MAX_AMOUNT for amount in amounts):
        raise InvalidRequest("an amount of quota is too large")
    return LeaseAsk(QuotaName(kind, ask.account_id, ask.key_digest), *amounts)


def answer_to_wire(answer: LeaseAnswer, call: LeaseCall) -> q.LeaseResponse:
    """Return the message that answers ``call``."""
    places = {ask.name: place for place, ask in enumerate(call.asks)}
    return q.LeaseResponse(
        epoch=answer.epoch,
        seq=answer.seq,
        lease_ms=round(answer.lease_ms),
        renew_ms=round(answer.renew_ms),
        settling_ms=round(answer.settling_ms),
        grants=[
            q.LeaseGrant(
                ask=places[grant.name],
                granted=_bounded(grant.granted),
                limit=_bounded(grant.limit),
                left=_bounded(max(0, grant.left)),
                cut_off=_bounded(max(0, grant.cut_off)),
            )
            for grant in answer.grants
        ],
    )


def answer_from_wire(message: q.LeaseResponse, call: LeaseCall) -> LeaseAnswer:
    """Return the answer to ``call``. Raises: InvalidRequest."""
    if any(grant.ask >= len(call.asks) for grant in message.grants):
        raise InvalidRequest("a grant answers no ask")
    grants = (
        LeaseGrant(call.asks[grant.ask].name, grant.granted, grant.limit, grant.left, grant.cut_off)
        for grant in message.grants
    )
    return LeaseAnswer(
        epoch=message.epoch,
        seq=message.seq,
        lease_ms=float(message.lease_ms),
        renew_ms=float(max(1, message.renew_ms)),
        settling_ms=float(message.settling_ms),
        grants=tuple(grants),
    )


def _bounded(amount: int) -> int:
    return max(-MAX_AMOUNT, min(amount, MAX_AMOUNT))

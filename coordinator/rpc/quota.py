"""The quota service on the fleet listener: leases of the limits of accounts and keys.

The node is the one of the certificate; quotas are those of rows that exist.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.core.rate_limit import RateLimit
from coordinator.rpc.identity import peer_identity
from protos.domain.errors import Overloaded
from protos.domain.quota import MAX_AMOUNT, QuotaKind, QuotaName
from protos.v1 import quota_pb2_grpc
from protos.wire.quota import answer_to_wire, call_from_wire

if TYPE_CHECKING:
    from coordinator.core.quota_shares import QuotaShares
    from coordinator.rpc.identity import Context
    from protos.domain.fleet_view import FleetView
    from protos.v1 import quota_pb2

#: Calls of one node: an agent makes one at a time, and pauses between them.
_CALLS_PER_S = 20.0
_CALLS_BURST = 100.0


class QuotaService(quota_pb2_grpc.QuotaServicer):
    """Answers agents from the shares in memory; nothing is written.

    ``remaining_of`` returns how many nano-USD an account may still spend, from its settled
    spending; None: no bound. It must count each usage record before that record is acknowledged.
    """

    def __init__(
        self,
        shares: QuotaShares,
        view: Callable[[], FleetView],
        remaining_of: Callable[[str], int | None],
        now_mono_ms: Callable[[], float],
    ) -> None:
        self._shares = shares
        self._view = view
        self._remaining_of = remaining_of
        self._now_mono_ms = now_mono_ms
        self._calls = RateLimit(per_s=_CALLS_PER_S, burst=_CALLS_BURST)
        #: The rows at the start, while agents may hold leases from before.
        self._first_view: FleetView | None = view()

    async def Lease(
        self, request: quota_pb2.LeaseRequest, context: Context
    ) -> quota_pb2.LeaseResponse:
        """Grant what the calling node may hold. Raises: InvalidRequest, Conflict, Overloaded."""
        node_id = peer_identity(context).name
        now_mono_ms = self._now_mono_ms()
        wait_s = self._calls.take(node_id, now_mono_ms)
        if wait_s > 0.0:
            raise Overloaded("too many calls for quota", "renew less often", retry_after_s=wait_s)
        call = call_from_wire(request)
        view = self._view()
        if self._shares.is_settled(now_mono_ms):
            self._first_view = None
        answer = self._shares.handle(
            node_id,
            call,
            lambda name: capacity_of(name, view, self._remaining_of),
            self._was_there,
            now_mono_ms,
            nodes=len(view.nodes),
        )
        return answer_to_wire(answer, call)

    def _was_there(self, name: QuotaName) -> bool:
        first = self._first_view
        return first is not None and capacity_of(name, first, lambda account: 0) is not None


def capacity_of(
    name: QuotaName, view: FleetView, remaining_of: Callable[[str], int | None]
) -> int | None:
    """Return the fleet's limit of ``name``, or what remains of money; None: there is none."""
    account = view.accounts.get(name.account_id)
    if account is None:
        return None
    if name.kind is QuotaKind.MONEY:
        if name.key_digest or not account.funded:
            return None
        remaining = remaining_of(account.id)
        return MAX_AMOUNT if remaining is None else remaining
    limits = account.limits
    if name.key_digest:
        key = view.keys.get(name.key_digest)
        if key is None or key.account_id != account.id:
            return None
        limits = key.limits
    if name.kind is QuotaKind.REQUESTS:
        return limits.requests_per_minute or None
    if name.kind is QuotaKind.TOKENS:
        return limits.tokens_per_minute or None
    return limits.max_concurrent_sequences or None

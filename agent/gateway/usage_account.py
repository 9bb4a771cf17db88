"""The usage record of one request: written once, and how its end reached the client."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent.core.request.usage import usage_record
from protos.domain.usage_record import UsageCause

if TYPE_CHECKING:
    from agent.core.request.context import RequestContext
    from agent.core.request.log import RequestLog
    from agent.gateway.context import GatewayContext
    from agent.relay.client_answer import ClientAnswer
    from agent.relay.server import ServerConnection
    from protos.domain.pricing import Usage

_log = logging.getLogger(__name__)


class UsageAccount:
    """Holds the space that was reserved for the record until it is written, or given back."""

    __slots__ = ("_context", "_gateway", "_log", "_number", "_said", "was_cut")

    def __init__(self, gateway: GatewayContext, context: RequestContext, log: RequestLog) -> None:
        self._gateway = gateway
        self._context = context
        self._log = log
        #: Of the record in the spool; None: it is not written.
        self._number: int | None = None
        #: Whether it has been said how the answer ended.
        self._said = False
        #: Whether this agent has ended the request before its time.
        self.was_cut = False

    @property
    def written(self) -> bool:
        """Whether the record has been given to the meter."""
        return self._number is not None

    def write(self, on_durable: Callable[[], None]) -> None:
        """Write the record; ``on_durable`` is called once it is on disk. Hot."""
        gateway = self._gateway
        offset_ms = gateway.clock_offset_ms()
        record = usage_record(self._log, self._context, gateway.pop_id, offset_ms)
        self._number = gateway.meter.record(record, on_durable)
        self._log.recorded = True

    def ended(self, client: ServerConnection) -> None:
        """The end of the answer has been written: say so once it has left this process. Hot."""
        if self._log.cause is UsageCause.COMPLETE:
            client.when_sent(self._on_sent)

    def _on_sent(self, whole: bool) -> None:
        if whole:
            self._say(UsageCause.COMPLETE)
        else:
            self.not_seen()

    def not_seen(self) -> None:
        """Say that the client has not got the end of an answer that is on record as complete."""
        self._say(UsageCause.CUT_SHORT if self.was_cut else UsageCause.CLIENT_GONE)

    def _say(self, cause: UsageCause) -> None:
        number = self._number
        if number is not None and not self._said and self._log.cause is UsageCause.COMPLETE:
            self._said = True
            self._gateway.meter.seen(number, cause)

    def let_go(self) -> None:
        """Give back the space of a request that leaves no record."""
        if self._number is None:
            self._gateway.meter.release()

    def compare(self, answer: ClientAnswer, counted: Usage) -> None:
        """Compare our count of a peer's whole answer with its agent's, and log a difference.

        Not of a continued stream, which is the work of two, nor of a count that is not believed.
        """
        attempt, check, served = answer.attempt, self._context.usage_check, answer.served
        if served is None or attempt.place is not None or attempt.resumes is not None:
            return
        node_id, trace_id = attempt.node_id, self._log.trace_id
        if check is not None and node_id in check.exceeded_by:
            return
        now_mono_ms = self._gateway.now_mono_ms()
        found = self._gateway.served.compare(node_id, trace_id, counted, served, now_mono_ms)
        if found is not None:
            _log.warning(
                "counts differ node=%s trace_id=%s billed_tokens=%d served_tokens=%d answers=%d",
                node_id,
                trace_id,
                found.billed_tokens,
                found.served_tokens,
                found.answers,
            )

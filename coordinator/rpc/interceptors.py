"""Interceptors of every RPC: translation of errors to statuses, and authentication."""

from __future__ import annotations

import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
from grpc import aio

from coordinator.core.rate_limit import RateLimit
from coordinator.rpc.identity import Identity, IdentityKind, peer_address, peer_identity
from coordinator.store.records import AuditNote
from protos.domain.errors import (
    EdgeForgeError,
    Forbidden,
    StoreUnavailable,
    Unauthenticated,
    removed,
)
from protos.domain.log_rate import LogRate
from protos.wire.errors import error_details, error_to_metadata

if TYPE_CHECKING:
    from coordinator.rpc.identity import Context
    from coordinator.rpc.running_calls import RunningCalls

    Handler = grpc.RpcMethodHandler[Any, Any]
    Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]
    Around = Callable[[Context], AbstractAsyncContextManager[None]]

_log = logging.getLogger(__name__)

_STRANGER = "anonymous@"
_SAME_PER_S = 1 / 3_600
_UNKNOWN_NODE_HINT = "is this its fleet's coordinator, and its database complete? else enrol again"


class ErrorInterceptor(aio.ServerInterceptor):
    """Translates an EdgeForgeError to its status; any other error to INTERNAL, with a traceback.

    First in the list of interceptors, so that it sees what the others raise. Refusals of callers
    who can be anybody are logged a few times a minute, of each method and error.
    """

    def __init__(self, now_mono_ms: Callable[[], float] | None = None) -> None:
        """``now_mono_ms`` limits the log; None, where every caller is known, does not."""
        self._now_mono_ms = now_mono_ms
        self._rate = LogRate()

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Wrap the handler of one call."""
        method = handler_call_details.method

        @asynccontextmanager
        async def translated(context: Context) -> AsyncIterator[None]:
            try:
                yield
            except aio.AbortError:
                raise
            except EdgeForgeError as error:
                self._log_refusal(method, error)
                code = grpc.StatusCode[error.grpc_code]
                await context.abort(code, error_details(error), error_to_metadata(error))
            except Exception:
                _log.exception("rpc failed method=%s", method)
                bug = EdgeForgeError("internal error", "the coordinator's log has the traceback")
                await context.abort(
                    grpc.StatusCode.INTERNAL, error_details(bug), error_to_metadata(bug)
                )

        return _wrapped(await continuation(handler_call_details), translated)

    def _log_refusal(self, method: str, error: EdgeForgeError) -> None:
        kind, more = type(error).__name__, ""
        if self._now_mono_ms is not None:
            left_out = self._rate.take(f"{method} {kind}", self._now_mono_ms())
            if left_out is None:
                return
            more = f" left_out={left_out}"
        _log.info("rpc refused method=%s error=%s%s: %s", method, kind, more, error)


class IdentityInterceptor(aio.ServerInterceptor):
    """Admits only callers of certain kinds, on every RPC; refusals are logged and audited."""

    def __init__(
        self,
        kinds: Collection[IdentityKind],
        *,
        audit: Callable[[AuditNote], Awaitable[None]],
        now_mono_ms: Callable[[], float],
        is_known: Callable[[Identity], bool] = lambda identity: True,
        was_removed: Callable[[Identity], bool] = lambda identity: False,
        unknown_hint: str = _UNKNOWN_NODE_HINT,
        calls: RunningCalls | None = None,
    ) -> None:
        """``audit`` appends to the audit; ``is_known`` returns False for those not enrolled now.

        ``was_removed`` tells nodes that were from those that this database has never known: only
        the former are told to serve no longer. ``unknown_hint`` tells the latter, and operators,
        what to do; ``calls`` counts the calls of everybody else.
        """
        self._unknown_hint = unknown_hint
        self._calls = calls
        self._kinds = frozenset(kinds)
        self._audit = audit
        self._now_mono_ms = now_mono_ms
        self._is_known = is_known
        self._was_removed = was_removed
        #: Repeated refusals of one caller do not fill the audit.
        self._audited = RateLimit(per_s=0.1, burst=10)
        #: Of a caller with a certificate, the same refusal: such as a removed node's, which goes
        #: on asking for ever, among the acts of operators.
        self._logged = LogRate()
        self._repeated = RateLimit(per_s=_SAME_PER_S, burst=1)

    async def intercept_service(
        self, continuation: Continuation, handler_call_details: grpc.HandlerCallDetails
    ) -> Handler | None:
        """Wrap the handler of one call."""
        method = handler_call_details.method

        @asynccontextmanager
        async def admitted(context: Context) -> AsyncIterator[None]:
            identity = await self._admit(context, method)
            if self._calls is None:
                yield
                return
            with self._calls.running(identity.name):
                yield

        return _wrapped(await continuation(handler_call_details), admitted)

    async def _admit(self, context: Context, method: str) -> Identity:
        actor = f"{_STRANGER}{peer_address(context)}"
        try:
            identity = peer_identity(context)
            actor = str(identity)
            if identity.kind not in self._kinds:
                allowed = " or ".join(sorted(self._kinds))
                raise Forbidden(f"{identity} may not do this", f"use a certificate of: {allowed}")
            if not self._is_known(identity):
                raise self._not_enrolled(identity)
        except (Unauthenticated, Forbidden) as error:
            kind = f"{method} {type(error).__name__}"
            if (left_out := self._logged.take(kind, self._now_mono_ms())) is not None:
                text = "rpc refused method=%s caller=%s left_out=%d: %s"
                _log.warning(text, method, actor, left_out, error)
            if self._is_audited(actor, f"{actor} {method} {error.message}"):
                await self._note(AuditNote(actor, "rpc.refused", method, error.message))
            raise
        return identity

    def _is_audited(self, actor: str, refusal: str) -> bool:
        now_mono_ms = self._now_mono_ms()
        if not actor.startswith(_STRANGER) and self._repeated.take(refusal, now_mono_ms) > 0.0:
            return False
        return self._audited.take(actor, now_mono_ms) == 0.0

    def _not_enrolled(self, identity: Identity) -> Forbidden:
        if self._was_removed(identity):
            return removed(str(identity))
        return Forbidden(f"{identity} is unknown here", self._unknown_hint)

    async def _note(self, note: AuditNote) -> None:
        try:
            await self._audit(note)
        except StoreUnavailable as error:
            _log.error("refusal not audited caller=%s: %s", note.actor, error)


def _wrapped(handler: Handler | None, around: Around) -> Handler | None:
    """Return ``handler`` run inside ``around``; None (no such method) stays None."""
    if handler is None:
        return None
    make, inner = _shape(handler)
    wrapper: Callable[..., Any]
    if inspect.isasyncgenfunction(inner):

        async def generating(request: object, context: Context) -> AsyncIterator[object]:
            async with around(context):
                async for response in inner(request, context):
                    yield response

        wrapper = generating
    else:

        async def answering(request: object, context: Context) -> object:
            async with around(context):
                return await inner(request, context)

        wrapper = answering
    return make(
        wrapper,
        request_deserializer=handler.request_deserializer,
        response_serializer=handler.response_serializer,
    )


def _shape(handler: Handler) -> tuple[Callable[..., Handler], Callable[..., Any]]:
    if handler.request_streaming and handler.response_streaming:
        make, inner = grpc.stream_stream_rpc_method_handler, handler.stream_stream
    elif handler.request_streaming:
        make, inner = grpc.stream_unary_rpc_method_handler, handler.stream_unary
    elif handler.response_streaming:
        make, inner = grpc.unary_stream_rpc_method_handler, handler.unary_stream
    else:
        make, inner = grpc.unary_unary_rpc_method_handler, handler.unary_unary
    assert inner is not None
    return make, inner

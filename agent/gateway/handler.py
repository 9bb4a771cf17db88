"""Handles one generation request: authenticates, checks, runs its machine, logs the result."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent.core.account_limits import LeaseWanted
from agent.core.in_flight_shares import InFlightShares
from agent.core.prefixes import BLOCK_BYTES, MAX_HASHED_BYTES, NO_BLOCKS, prompt_blocks
from agent.core.request.context import RequestContext
from agent.core.request.log import RequestLog
from agent.core.request.machine import RequestMachine
from agent.formats.asked_tokens import MEDIA_MARKS
from agent.formats.body import read_body
from agent.formats.errors import internal_error
from agent.formats.json_size import COUNTED_FROM_BYTES
from agent.gateway.account_use import begin_use, end_use
from agent.gateway.authentication import find_deployment
from agent.gateway.head_gate import caller_of
from agent.gateway.request_headers import parse_budget_ms, parse_zones
from agent.gateway.runner import RequestRunner
from agent.relay.large_bodies import contains, fields_of_large, give_way
from protos.domain.errors import EdgeForgeError, Misdirected, NoReplica
from protos.domain.in_zone import check_inside
from protos.domain.residency import allowed_zones, bound_zones, is_pinned, recorded_zones
from protos.domain.resources import SlaTier

if TYPE_CHECKING:
    from agent.formats import ApiFormat
    from agent.gateway.authentication import Caller
    from agent.gateway.context import GatewayContext
    from agent.gateway.stats import GatewayStats
    from agent.relay.messages import Request
    from agent.relay.server import ServerConnection
    from protos.domain.fleet_view import FleetView

_log = logging.getLogger(__name__)


class GenerationHandler:
    """Serves generation requests; one ``serve`` call a request."""

    def __init__(self, gateway: GatewayContext, stats: GatewayStats) -> None:
        self._gateway = gateway
        self._caps = gateway.caps
        self._shares = InFlightShares(gateway.limits.max_in_flight)
        self.stats = stats
        self.draining = False

    async def serve(self, api: ApiFormat, request: Request, client: ServerConnection) -> None:
        """Answer ``request``. Cancelled when the client disconnects, which aborts the engine."""
        gateway, stats = self._gateway, self.stats
        jumps_before = gateway.clocks.jumps
        log = self._begin_log(api, request)
        stats.requests += 1
        stats.in_flight += 1
        runner = None
        try:
            is_large = len(request.body) >= COUNTED_FROM_BYTES
            try:
                if is_large:
                    runner = await self._admit_large(api, request, client, log)
                else:
                    runner = self._admit(api, request, client, log)
            except LeaseWanted:  # an account that is new here, or suddenly busier
                runner = await self._admit_later(api, request, client, log)
            try:
                if is_large:
                    await _write_ahead(runner)
                await runner.run()
            finally:
                runner.account.let_go()
                self._shares.leave(log.account)
                end_use(gateway, runner, log)
        except EdgeForgeError as error:
            self._answer_error(api, request, client, log, error)
        except asyncio.CancelledError:
            log.client_gone = True
            raise
        except Exception:
            _log.exception("request failed trace_id=%s", log.trace_id)
            if runner is not None and runner.started:
                client.abort()
            else:
                self._answer_error(api, request, client, log, internal_error())
        finally:
            stats.in_flight -= 1
            self._finish(log, jumps_before)

    def cut_short(self, error: EdgeForgeError) -> int:
        """End every request in progress with ``error``; return how many there were."""
        return self._gateway.running.cut_short(error)

    def refused_by_head(self, api: ApiFormat, request: Request, error: EdgeForgeError) -> None:
        """Count and record a request whose body was not read; its connection answers it."""
        jumps_before = self._gateway.clocks.jumps
        log = self._begin_log(api, request)
        self.stats.requests += 1
        log.refused(error)
        self._finish(log, jumps_before)

    def _begin_log(self, api: ApiFormat, request: Request) -> RequestLog:
        gateway = self._gateway
        unix_ms, mono_ms = gateway.now_unix_ms(), gateway.now_mono_ms()
        gateway.clocks.read(unix_ms, mono_ms)
        first_byte_mono_ms = request.first_byte_mono_ms
        log = RequestLog(
            request.trace_id,
            unix_ms - int(mono_ms - first_byte_mono_ms),
            api.path,
            first_byte_mono_ms,
            mono_ms,
            request.client_request_id,
        )
        log.last_mile_ms = request.last_mile_ms
        return log

    async def _admit_later(
        self, api: ApiFormat, request: Request, client: ServerConnection, log: RequestLog
    ) -> RequestRunner:
        """Admit the request once the coordinator has been asked for quota, or refuse it.

        It waits twice if it has what it lacked, and now lacks something else.
        """
        try:
            return await self._admit_after_wait(api, request, client, log, may_wait=True)
        except LeaseWanted:
            return await self._admit_after_wait(api, request, client, log, may_wait=False)

    async def _admit_after_wait(
        self,
        api: ApiFormat,
        request: Request,
        client: ServerConnection,
        log: RequestLog,
        *,
        may_wait: bool,
    ) -> RequestRunner:
        await self._gateway.wait_for_quota()
        if len(request.body) >= COUNTED_FROM_BYTES:
            return await self._admit_large(api, request, client, log, may_wait=may_wait)
        return self._admit(api, request, client, log, may_wait=may_wait)

    async def _admit_large(
        self,
        api: ApiFormat,
        request: Request,
        client: ServerConnection,
        log: RequestLog,
        *,
        may_wait: bool = True,
    ) -> RequestRunner:
        """Do as ``_admit`` in several steps, between which the event loop serves others."""
        caller_of(request, self._gateway, self._gateway.state.view())
        self._check_open()
        fields = await fields_of_large(request.body)
        has_media = await contains(request.body, MEDIA_MARKS)
        return self._admit(api, request, client, log, fields, has_media, may_wait=may_wait)

    def _admit(
        self,
        api: ApiFormat,
        request: Request,
        client: ServerConnection,
        log: RequestLog,
        fields: dict[str, object] | None = None,
        has_media: bool | None = None,
        *,
        may_wait: bool = True,
    ) -> RequestRunner:
        """Return the request's runner. ``fields`` are its body's, if it is parsed already.

        ``has_media``: see ``GenerationBody``.
        Raises: EdgeForgeError if the request is not admitted; LeaseWanted if it ``may_wait``.
        """
        view = self._gateway.state.view()
        caller = caller_of(request, self._gateway, view)
        log.account = caller.account.id
        self._check_open()
        self._shares.enter(log.account)
        try:
            runner = self._runner_of(api, request, client, log, caller, view, fields, has_media)
            self._reserve(caller, runner, request.body, log.authed_mono_ms or 0.0, may_wait)
            return runner
        except BaseException:
            self._shares.leave(log.account)
            raise

    def _reserve(
        self,
        caller: Caller,
        runner: RequestRunner,
        sent: bytes,
        now_mono_ms: float,
        may_wait: bool,
    ) -> None:
        """Reserve the space of its record, and what its limits count it for; both or nothing."""
        meter = self._gateway.meter
        meter.reserve()
        try:
            begin_use(self._gateway, caller, runner, sent, now_mono_ms, may_wait=may_wait)
        except BaseException:
            meter.release()
            raise

    def _runner_of(
        self,
        api: ApiFormat,
        request: Request,
        client: ServerConnection,
        log: RequestLog,
        caller: Caller,
        view: FleetView,
        fields: dict[str, object] | None,
        has_media: bool | None,
    ) -> RequestRunner:
        """Return what answers the request of ``caller``. Raises: EdgeForgeError."""
        gateway = self._gateway
        body = read_body(request.body, api, caps=self._caps, fields=fields)
        body.has_media = has_media
        deployment = find_deployment(caller, body.model, view)
        header = parse_zones(request.headers)
        account, key = caller.account, caller.key
        has_pins = is_pinned(account, key, deployment)
        if has_pins or header is not None:  # most requests are bound to nothing
            pinned = bound_zones(account, key, deployment, None)
            check_inside(view, gateway.state.node_id, pinned)
            # where the header leaves no zone at all, what is kept of the request is still bound
            log.zones = recorded_zones(allowed_zones(pinned or (), header) or pinned)
        log.deployment, log.stream = deployment.name, body.stream
        log.model, log.sla = deployment.model, deployment.sla_tier
        log.budget_ms = parse_budget_ms(request.headers, deployment.ttft_budget_ms)
        blocks = NO_BLOCKS
        if len(request.body) >= BLOCK_BYTES:  # a smaller body has no whole block
            prompt = api.prompt_prefix(body.fields, None if fields is None else MAX_HASHED_BYTES)
            size_bytes = len(prompt if fields is None else request.body)
            name = deployment.adapter or deployment.model  # an adapter's cache is its own
            blocks = prompt_blocks(prompt, name, log.account, size_bytes)
        context = RequestContext(
            view=view,
            account=log.account,
            key_digest=caller.key.digest,
            deployment=deployment,
            stream=body.stream,
            embeds=api.embeds,
            needs_tool_parser=body.needs_tool_parser,
            prompt_tokens=body.prompt_tokens_estimate,
            body_bytes=len(request.body),
            budget_ms=log.budget_ms,
            last_mile_ms=request.last_mile_ms,
            first_byte_mono_ms=request.first_byte_mono_ms,
            zones=bound_zones(account, key, None, header),
            blocks=blocks,
            sequences=body.sequences,
            free_ends=body.free_ends,
            tells_prompt=body.tells_prompt,
            max_answer_tokens=body.max_answer_tokens,
            key_id=key.id,
            is_pinned=has_pins,
            bound_zones=log.zones,
            service_tier=body.service_tier,
        )
        log.authed_mono_ms = gateway.now_mono_ms()
        self.stats.demand.note(deployment.name, log.authed_mono_ms)
        machine = RequestMachine(gateway.state, context, gateway.policy, log)
        return RequestRunner(gateway, client, request, body, context, machine, log)

    def _check_open(self) -> None:
        """Raises: NoReplica if no further request is admitted."""
        if self.draining:
            raise NoReplica("this site is draining", "try again: another site answers then")

    def _answer_error(
        self,
        api: ApiFormat,
        request: Request,
        client: ServerConnection,
        log: RequestLog,
        error: EdgeForgeError,
    ) -> None:
        """Answer a request that was not admitted."""
        log.refused(error)
        if isinstance(error, Misdirected):  # the address of another agent, and nothing is kept
            log.forget()
            request.keep_alive = False
        status, headers, body = api.render_error(error)
        client.respond(request, status, headers, body)

    def _finish(self, log: RequestLog, jumps_before: int) -> None:
        gateway = self._gateway
        mono_ms = gateway.now_mono_ms()
        log.took_ms = mono_ms - log.first_byte_mono_ms
        jumps = gateway.clocks.read(gateway.now_unix_ms(), mono_ms)
        log.clock_jumped = jumps != jumps_before
        self.stats.finished(log)
        if log.shed and log.deployment:
            gateway.meter.shed(log.account, log.deployment, log.model, SlaTier(log.sla))
        gateway.records.add(log)
        finished = log.finish((gateway.state.node_id, gateway.pop_id))
        if log.account:  # unauthenticated requests must not evict customers' traces
            gateway.traces(finished.trace, log.matters)


async def _write_ahead(runner: RequestRunner) -> None:
    """Write a large body for its first target in a step of its own. Raises: InvalidRequest."""
    await give_way()
    runner.write_ahead()
    await give_way()

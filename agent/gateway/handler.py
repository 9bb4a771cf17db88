"""Handles one generation request: authenticates, checks, runs its machine, logs the result."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent.core.prefixes import BLOCK_BYTES, NO_BLOCKS, prompt_blocks
from agent.core.request.context import RequestContext
from agent.core.request.log import RequestLog
from agent.core.request.machine import RequestMachine
from agent.formats.body import BodyCaps, read_body
from agent.formats.errors import internal_error
from agent.gateway.authentication import authenticate, find_deployment
from agent.gateway.request_headers import parse_budget_ms, parse_zones
from agent.gateway.runner import RequestRunner
from protos.domain.errors import EdgeForgeError, NoReplica, Overloaded

if TYPE_CHECKING:
    from agent.formats import ApiFormat
    from agent.gateway.context import GatewayContext
    from agent.gateway.stats import GatewayStats
    from agent.relay.messages import Request
    from agent.relay.server import ServerConnection

_log = logging.getLogger(__name__)


class GenerationHandler:
    """Serves generation requests; one ``serve`` call a request."""

    def __init__(self, gateway: GatewayContext, stats: GatewayStats) -> None:
        self._gateway = gateway
        limits = gateway.limits
        self._caps = BodyCaps(limits.max_n, limits.max_prompt_logprobs, limits.max_inputs)
        self.stats = stats
        self.draining = False
        self._running: set[RequestRunner] = set()

    async def serve(self, api: ApiFormat, request: Request, client: ServerConnection) -> None:
        """Answer ``request``. Cancelled when the client disconnects, which aborts the engine."""
        gateway, stats = self._gateway, self.stats
        unix_ms, mono_ms = gateway.now_unix_ms(), gateway.now_mono_ms()
        jumps_before = gateway.clocks.jumps
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
        stats.requests += 1
        stats.in_flight += 1
        runner = None
        try:
            runner = self._admit(api, request, client, log, unix_ms)
            self._running.add(runner)
            await runner.run()
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
            if runner is not None:
                self._running.discard(runner)
            self._finish(log, jumps_before)

    def cut_short(self, error: EdgeForgeError) -> int:
        """End every request in progress with ``error``; return how many there were."""
        running = list(self._running)
        for runner in running:
            runner.cut_short(error)
        return len(running)

    def _admit(
        self,
        api: ApiFormat,
        request: Request,
        client: ServerConnection,
        log: RequestLog,
        now_unix_ms: int,
    ) -> RequestRunner:
        """Return the request's runner. Raises: EdgeForgeError if the request is not admitted."""
        gateway, limits = self._gateway, self._gateway.limits
        view = gateway.state.view()
        caller = authenticate(request.headers, view, now_unix_ms, gateway.require_credentials)
        log.account = caller.account.id
        if self.draining:
            raise NoReplica("this site is draining", "try again: another site answers then")
        if self.stats.in_flight > limits.max_in_flight:
            raise Overloaded("too many requests in progress here", retry_after_s=1.0)
        salt = caller.account.cache_salt
        body = read_body(request.body, api, cache_salt=salt, caps=self._caps)
        deployment = find_deployment(caller, body.model, view)
        log.deployment, log.stream = deployment.name, body.stream
        log.model, log.sla = deployment.model, deployment.sla_tier
        log.budget_ms = parse_budget_ms(request.headers, deployment.ttft_budget_ms)
        blocks = NO_BLOCKS
        if len(request.body) >= BLOCK_BYTES:  # a smaller body has no whole block
            blocks = prompt_blocks(api.prompt_prefix(body.fields), deployment.model, salt)
        context = RequestContext(
            view=view,
            account=log.account,
            deployment=deployment,
            stream=body.stream,
            embeds=api.embeds,
            needs_tool_parser=body.needs_tool_parser,
            prompt_tokens=body.prompt_tokens_estimate,
            body_bytes=len(request.body),
            budget_ms=log.budget_ms,
            last_mile_ms=request.last_mile_ms,
            first_byte_mono_ms=request.first_byte_mono_ms,
            zones=parse_zones(request.headers),
            blocks=blocks,
        )
        log.authed_mono_ms = gateway.now_mono_ms()
        machine = RequestMachine(gateway.state, context, gateway.policy, log)
        return RequestRunner(gateway, client, request, body, context, machine, log)

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
        status, headers, body = api.render_error(error)
        client.respond(request, status, headers, body)

    def _finish(self, log: RequestLog, jumps_before: int) -> None:
        gateway = self._gateway
        mono_ms = gateway.now_mono_ms()
        log.took_ms = mono_ms - log.first_byte_mono_ms
        jumps = gateway.clocks.read(gateway.now_unix_ms(), mono_ms)
        log.clock_jumped = jumps != jumps_before
        self.stats.finished(log)
        gateway.records.add(log)
        finished = log.finish((gateway.state.node_id, gateway.pop_id))
        if log.account:  # unauthenticated requests must not evict customers' traces
            gateway.traces(finished.trace, log.matters)

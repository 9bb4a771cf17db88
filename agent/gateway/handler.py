"""The way of a request: authenticate, check, place, try, answer, record."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent.core.promises import shed_by
from agent.core.routes import GENERATION_PATHS
from agent.gateway.attempts import Attempts
from agent.gateway.authentication import authenticate, find_deployment
from agent.gateway.body_policy import read_body
from agent.gateway.body_rules import BodyCaps
from agent.gateway.context import GatewayContext, GatewayStats
from agent.gateway.errors import internal_error, render_error
from agent.gateway.records import RequestRecord
from agent.gateway.request_headers import parse_budget_ms, parse_zones
from agent.gateway.trail import Finished, Trail
from protos.domain.errors import EdgeForgeError, NoReplica, Overloaded

if TYPE_CHECKING:
    from agent.gateway.targets import EnginePools
    from agent.relay.messages import Request
    from agent.relay.server import ServerConnection

_log = logging.getLogger(__name__)


class GenerationHandler:
    """Serves generation requests; one ``serve`` call a request."""

    def __init__(self, around: GatewayContext, pools: EnginePools) -> None:
        self._around = around
        self._pools = pools
        limits = around.limits
        self._caps = BodyCaps(limits.max_n, limits.max_prompt_logprobs, limits.max_inputs)
        self.stats = GatewayStats()
        self.draining = False

    async def serve(self, request: Request, client: ServerConnection) -> None:
        """Answer ``request``. Cancelled when the client goes away, which aborts the engine."""
        around = self._around
        stats = self.stats
        unix_ms, mono_ms = around.now_unix_ms(), around.now_mono_ms()
        trail = Trail(request, mono_ms, around.clocks.jumps)
        around.clocks.look(unix_ms, mono_ms)
        began_unix_ms = unix_ms - int(mono_ms - request.first_byte_mono_ms)
        record = RequestRecord(request.trace_id, began_unix_ms, request.path)
        stats.requests += 1
        stats.in_flight += 1
        try:
            await self._serve(client, record, trail)
        except EdgeForgeError as error:
            self._answer_error(request, client, record, error)
        except asyncio.CancelledError:
            record.client_gone = True
            stats.clients_gone += 1
            raise
        except Exception:
            _log.exception("request failed trace_id=%s", record.trace_id)
            self._answer_error(request, client, record, internal_error())
        finally:
            stats.in_flight -= 1
            self._finish(record, trail)

    def _finish(self, record: RequestRecord, trail: Trail) -> None:
        around = self._around
        mono_ms = around.now_mono_ms()
        record.took_ms = mono_ms - trail.request.first_byte_mono_ms
        jumps = around.clocks.look(around.now_unix_ms(), mono_ms)
        record.clock_jumped = jumps != trail.jumps_before
        record.last_mile_ms = trail.request.last_mile_ms
        self._count(record)
        around.records.add(record)
        if not record.account:
            return  # strangers must not push customers' traces out of the ring
        finished = Finished(record, trail, (around.node_id, around.pop_id))
        around.traces(finished.trace, finished.matters)

    def _count(self, record: RequestRecord) -> None:
        if record.deployment and not record.shed:
            promises = self.stats.promises.of(record.sla)
            promises.admitted += 1
            if (felt_ms := record.felt_ttft_ms) is not None:
                promises.first_token(felt_ms, record.budget_ms)

    async def _serve(self, client: ServerConnection, record: RequestRecord, trail: Trail) -> None:
        around, limits, request = self._around, self._around.limits, trail.request
        view, api = around.view(), GENERATION_PATHS[request.path]
        caller = authenticate(
            request.headers,
            view,
            around.now_unix_ms(),
            around.credentials_usable,
        )
        record.account = caller.account.id
        if self.draining:
            raise NoReplica("this site is draining", "try again: another site answers then")
        if self.stats.in_flight > limits.max_in_flight:
            raise Overloaded("too many requests in progress here", retry_after_s=1.0)
        body = read_body(
            request.body,
            api,
            cache_salt=caller.account.cache_salt,
            caps=self._caps,
        )
        deployment = find_deployment(caller, body.model, view)
        record.deployment, record.stream = deployment.name, body.stream
        record.sla = deployment.sla_tier
        record.budget_ms = parse_budget_ms(request.headers, deployment.ttft_budget_ms)
        trail.model = deployment.model
        trail.authed_mono_ms = around.now_mono_ms()
        attempts = Attempts(
            around, self._pools, self.stats, client, record, trail, body, deployment
        )
        await attempts.run(parse_zones(request.headers))

    def _answer_error(
        self,
        request: Request,
        client: ServerConnection,
        record: RequestRecord,
        error: EdgeForgeError,
    ) -> None:
        self.stats.errors += 1
        record.status, record.error = error.http_status, error.message
        if (reason := shed_by(error)) is not None:
            record.shed = reason
            self.stats.promises.of(record.sla).shed[reason] += 1
        status, headers, body = render_error(error, request.path)
        client.respond(request, status, headers, body)

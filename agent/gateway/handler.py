"""The way of a request: authenticate, check, place, try, answer, record."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from agent.gateway.attempts import Attempts
from agent.gateway.authentication import authenticate, find_deployment
from agent.gateway.body_policy import read_body
from agent.gateway.errors import internal_error, render_error
from agent.gateway.records import RequestRecord
from agent.gateway.request_headers import parse_budget_ms, parse_zones
from agent.gateway.surroundings import GatewayStats, Surroundings
from protos.domain.errors import EdgeForgeError, NoReplica, Overloaded

if TYPE_CHECKING:
    from agent.gateway.targets import EnginePools
    from agent.relay.messages import Request
    from agent.relay.server import ServerConnection

_log = logging.getLogger(__name__)


class GenerationHandler:
    """Serves generation requests; one ``serve`` call a request."""

    def __init__(self, around: Surroundings, pools: EnginePools) -> None:
        self._around = around
        self._pools = pools
        self.stats = GatewayStats()
        self.draining = False

    async def serve(self, request: Request, client: ServerConnection) -> None:
        """Answer ``request``. Cancelled when the client goes away, which aborts the engine."""
        around = self._around
        stats = self.stats
        record = RequestRecord(around.trace_id(), around.now_unix_ms(), request.path)
        stats.requests += 1
        stats.in_flight += 1
        try:
            await self._serve(request, client, record)
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
            record.took_ms = around.now_mono_ms() - request.first_byte_mono_ms
            around.records.add(record)

    async def _serve(
        self, request: Request, client: ServerConnection, record: RequestRecord
    ) -> None:
        around, limits = self._around, self._around.limits
        view = around.view()
        caller = authenticate(
            request.headers, view, around.now_unix_ms(), around.credentials_usable
        )
        record.account = caller.account.id
        if self.draining:
            raise NoReplica("this site is draining", "try again: another site answers then")
        if self.stats.in_flight > limits.max_in_flight:
            raise Overloaded("too many requests in progress here", retry_after_s=1.0)
        body = read_body(
            request.body,
            cache_salt=caller.account.cache_salt,
            max_n=limits.max_n,
            max_prompt_logprobs=limits.max_prompt_logprobs,
        )
        deployment = find_deployment(caller, body.model, view)
        record.deployment, record.stream = deployment.name, body.stream
        record.budget_ms = parse_budget_ms(request.headers, deployment.ttft_budget_ms)
        attempts = Attempts(
            around, self._pools, self.stats, request, client, record, body, deployment
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
        status, headers, body = render_error(error)
        headers.append((b"x-edgeforge-trace-id", record.trace_id.encode()))
        client.respond(request, status, headers, body)

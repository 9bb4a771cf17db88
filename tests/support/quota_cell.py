"""The coordinator's quota service on a real socket with mutual TLS, and links of agents to it."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
from grpc import aio

from agent.clock import now_mono_ms
from agent.core.account_limits import AccountLimits, LeaseWanted, Use
from agent.core.money_leases import CostBound
from agent.core.quota_calls import QuotaCalls
from agent.link.certified_key import Issued, save_issued
from agent.link.channel import node_channel
from agent.link.identity import load_stored
from agent.link.quota import QuotaLink
from coordinator.ca.authority import CertificateAuthority
from coordinator.clock import now_unix_ms
from coordinator.core.quota_shares import QuotaShares
from coordinator.rpc.identity import IdentityKind
from coordinator.rpc.interceptors import ErrorInterceptor, IdentityInterceptor
from coordinator.rpc.quota import QuotaService
from protos.domain.customers import Account, ApiKey
from protos.domain.errors import EdgeForgeError
from protos.domain.fleet_view import FleetView, with_changes
from protos.v1.quota_pb2_grpc import add_QuotaServicer_to_server
from tests.support.certificates import p256_key, private_pem, request_der

KEY = ApiKey("k1", hashlib.sha256(b"k1").digest(), "acme", (), 0)


async def _ignore(_note: object) -> None:
    return None


class QuotaCoordinator:
    """``view`` and ``remaining`` are what its database would say."""

    def __init__(self, folder: Path, account: Account, remaining: int | None = None) -> None:
        self.authority = CertificateAuthority.create(folder / "ca", now_unix_ms=now_unix_ms)
        self.view = with_changes(FleetView(), (), (account, KEY))
        self.remaining = remaining
        self.known = True
        self.service: QuotaService | None = None
        self._server: aio.Server | None = None
        self.port = 0

    def set_account(self, **fields: object) -> Account:
        account = replace(self.view.accounts["acme"], **fields)
        self.view = with_changes(self.view, (), (account,))
        return account

    async def start(self) -> None:
        key, chain = self.authority.new_coordinator("quota")
        credentials = grpc.ssl_server_credentials(
            [(key, chain)], self.authority.bundle_pem, require_client_auth=True
        )
        nodes_only = IdentityInterceptor(
            {IdentityKind.NODE},
            audit=_ignore,
            now_mono_ms=now_mono_ms,
            is_known=lambda _identity: self.known,
        )
        self._server = aio.server(
            interceptors=[ErrorInterceptor(), nodes_only], options=(("grpc.so_reuseport", 0),)
        )
        self.service = QuotaService(
            QuotaShares(now_unix_ms(), now_mono_ms()),
            lambda: self.view,
            lambda _account: self.remaining,
            now_mono_ms,
        )
        add_QuotaServicer_to_server(self.service, self._server)
        self.port = self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None


@dataclass
class QuotaAgent:
    """One agent's limits and link. ``ask`` does what the handler does for a request."""

    limits: AccountLimits
    link: QuotaLink
    account: Account
    task: asyncio.Task[None] | None = None
    waits_ms: list[float] = field(default_factory=list)

    def start(self) -> None:
        self.task = asyncio.get_running_loop().create_task(self.link.run())

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)

    async def ask(self, *, cost: int = 0, tokens: int = 10) -> Use:
        """Admit a request that may cost ``cost``. Raises: as ``AccountLimits.begin``."""
        began_ms = now_mono_ms()
        for waits in (True, True, False):
            try:
                use = self.limits.begin(
                    self.account,
                    KEY,
                    1,
                    float(tokens),
                    now_mono_ms(),
                    bound=CostBound(cost, 0, 1, 0) if self.account.funded else None,
                    may_wait=waits,
                )
            except LeaseWanted:
                await self.link.wait()
                continue
            assert use is not None
            self.waits_ms.append(now_mono_ms() - began_ms)
            return use
        raise AssertionError

    async def ask_or_code(self, **fields: int) -> str:
        """Return "ok", or the code of the refusal."""
        try:
            self.limits.check_head(self.account, now_mono_ms())
            await self.ask(**fields)
        except EdgeForgeError as error:
            return error.code or type(error).__name__
        return "ok"


def quota_agent(coordinator: QuotaCoordinator, node_id: str, folder: Path) -> QuotaAgent:
    """Return an agent with an identity of its own; not started."""
    key = p256_key()
    issued = Issued(
        coordinator.authority.issue_node(node_id, request_der(key)).pem,
        coordinator.authority.bundle_pem,
        node_id=node_id,
        pop_id="GRU",
        fleet_address=f"127.0.0.1:{coordinator.port}",
    )
    save_issued(folder, private_pem(key), issued)
    stored = load_stored(folder)
    calls = QuotaCalls(f"boot-of-{node_id}")
    link = QuotaLink(
        calls,
        lambda: node_channel(f"127.0.0.1:{coordinator.port}", stored),
        now_mono_ms=now_mono_ms,
        draw=lambda: 0.5,
    )
    limits = AccountLimits(calls)
    return QuotaAgent(limits, link, coordinator.view.accounts["acme"])

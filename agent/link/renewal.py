"""Renews the node's certificate about daily; it is valid for weeks."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.core.samples import Sample, Samples
from agent.link.identity import StoredIdentity, load_identity
from protos.domain.errors import ConfigInvalid, LinkDown
from protos.v1 import fleet_pb2, fleet_pb2_grpc

if TYPE_CHECKING:
    from grpc import aio

    from agent.core.renewal import RenewalMachine

_log = logging.getLogger(__name__)

#: How often it is decided whether to renew.
CHECK_INTERVAL_S = 60.0
_TIMEOUT_S = 30.0


async def renew(
    make_channel: Callable[[], aio.Channel], folder: Path, held: StoredIdentity
) -> StoredIdentity:
    """Fetch a certificate for a new key and save it.

    Raises: EdgeForgeError; OSError when the disk does not take it.
    """
    # Imported on use: the module is large and needed once a day.
    from agent.link.certified_key import Issued, obtain

    old = held.identity
    if load_identity(folder).owner != old.owner:
        raise ConfigInvalid(
            [f"{folder} holds the identity of another node than {old.node_id}, which runs"],
            "restart this agent, so that it becomes that node",
        )

    async def ask(csr_der: bytes) -> Issued:
        async with make_channel() as channel:
            stub = fleet_pb2_grpc.FleetStub(channel)
            answer = await stub.Renew(fleet_pb2.RenewRequest(csr_der=csr_der), timeout=_TIMEOUT_S)
        return Issued(
            answer.certificate_pem,
            answer.ca_bundle_pem,
            node_id=old.node_id,
            pop_id=old.pop_id,
            fleet_address=old.fleet_address,
            fleet_id=old.fleet_id,
        )

    return await obtain(folder, ask, unlike=held.key_pem)


@dataclass(slots=True)
class Renewal:
    """Decides each minute whether to renew, and does it; a failure is said and retried."""

    machine: RenewalMachine
    make_channel: Callable[[], aio.Channel]
    folder: Path
    held: Callable[[], StoredIdentity]
    on_renewed: Callable[[StoredIdentity], None]
    #: The coordinator's clock, as this host knows it.
    now_unix_ms: Callable[[], int]
    now_mono_ms: Callable[[], float]
    draw: Callable[[], float]
    check_interval_s: float = CHECK_INTERVAL_S
    attempts_failed: int = 0

    async def run(self) -> None:
        """Renew until cancelled."""
        while True:
            await self.step()
            await asyncio.sleep(self.check_interval_s)

    async def step(self) -> None:
        """Renew if it is due. Nothing that fails ends the renewal."""
        machine = self.machine
        try:
            not_after_unix_ms = self.held().identity.not_after_unix_ms
            if not machine.due(not_after_unix_ms, self.now_unix_ms(), self.now_mono_ms()):
                return
            stored = await renew(self.make_channel, self.folder, self.held())
            machine.renewed(self.now_mono_ms(), self.draw())
            _log.info("certificate renewed not_after_unix_ms=%d", stored.identity.not_after_unix_ms)
            self.on_renewed(stored)
        except Exception as error:
            self.attempts_failed += 1
            machine.failed(str(error) or type(error).__name__, self.now_mono_ms(), self.draw())
            quiet = isinstance(error, LinkDown)
            _log.log(
                logging.INFO if quiet else logging.ERROR,
                "certificate not renewed, trying again later failures_in_a_row=%d reason=%s",
                *(machine.failures, machine.last_error),
            )

    def samples(self, _now_mono_ms: float) -> Samples:
        """Yield how many attempts have failed."""
        yield Sample(
            "edgeforge_certificate_renewals_failed",
            "Attempts to renew this node's certificate that failed.",
            self.attempts_failed,
            counter=True,
        )

"""A certificate renewed over real mutual TLS."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.clock import now_mono_ms, now_unix_ms
from agent.core.renewal import RenewalMachine
from agent.link import certified_key
from agent.link.channel import node_channel
from agent.link.identity import (
    FILE,
    PENDING_KEY,
    StoredIdentity,
    load_identity,
    load_stored,
    save_identity,
)
from agent.link.renewal import Renewal, renew
from protos.domain.certificates import DAY_MS
from tests.support.scripted_coordinator import NODE_ID, ScriptedCoordinator
from tests.support.waiting import wait_until_async


@pytest.fixture
async def coordinator(tmp_path: Path) -> AsyncIterator[ScriptedCoordinator]:
    coordinator = ScriptedCoordinator(tmp_path)
    await coordinator.start()
    coordinator.enrol(tmp_path / "identity")
    try:
        yield coordinator
    finally:
        await coordinator.stop()


class Renewing:
    """A renewal that looks every 10 ms, on clocks that a test sets."""

    def __init__(self, coordinator: ScriptedCoordinator, folder: Path) -> None:
        self.unix_ms = float(now_unix_ms())
        self.mono_ms = now_mono_ms()
        self.held = load_stored(folder)
        self.renewals = 0
        self.renewal = Renewal(
            RenewalMachine(0.5),
            lambda: node_channel(coordinator.address, self.held),
            folder,
            held=lambda: self.held,
            on_renewed=self._renewed,
            now_unix_ms=lambda: int(self.unix_ms),
            now_mono_ms=lambda: self.mono_ms,
            draw=lambda: 0.5,
            check_interval_s=0.01,
        )

    def _renewed(self, stored: StoredIdentity) -> None:
        self.held = stored
        self.renewals += 1


@contextlib.asynccontextmanager
async def running(renewal: Renewal) -> AsyncIterator[None]:
    task = asyncio.create_task(renewal.run())
    try:
        yield
    finally:
        assert not task.done(), "the renewal has ended"
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_renewed_certificate_has_a_new_key_and_the_old_name(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    folder = tmp_path / "identity"
    before = load_stored(folder)
    stored = await renew(lambda: node_channel(coordinator.address, before), folder, before)
    assert stored.identity.node_id == NODE_ID
    assert load_identity(folder) == stored.identity
    assert stored.key_pem != before.key_pem
    assert (folder / FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == [FILE]
    again = await renew(lambda: node_channel(coordinator.address, stored), folder, stored)
    assert again.identity.node_id == NODE_ID


async def test_a_pending_key_that_is_in_use_already_is_not_used_again(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    folder = tmp_path / "identity"
    before = load_stored(folder)
    (folder / PENDING_KEY).write_bytes(before.key_pem)
    stored = await renew(lambda: node_channel(coordinator.address, before), folder, before)
    assert stored.key_pem != before.key_pem


async def test_a_host_that_started_with_a_late_clock_renews_once_the_clock_is_right(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    host = Renewing(coordinator, tmp_path / "identity")
    host.unix_ms -= 31 * DAY_MS
    async with running(host.renewal):
        host.unix_ms += (31 + 2) * DAY_MS
        await wait_until_async(lambda: host.renewals == 1, 30, "a renewal")
    assert load_stored(tmp_path / "identity") == host.held


async def test_a_full_disk_delays_the_renewal_and_does_not_end_it(
    coordinator: ScriptedCoordinator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    host = Renewing(coordinator, tmp_path / "identity")
    host.unix_ms += 2 * DAY_MS
    full = OSError(errno.ENOSPC, "No space left on device")

    def refuse(*_args: object, **_facts: object) -> StoredIdentity:
        raise full

    with caplog.at_level(logging.ERROR), monkeypatch.context() as patched:
        patched.setattr(certified_key, "save_identity", refuse)
        async with running(host.renewal):
            await wait_until_async(lambda: host.renewal.attempts_failed == 1, 30, "a failure")
    assert "No space left on device" in host.renewal.machine.last_error
    assert "No space left on device" in caplog.text
    monkeypatch.setattr(certified_key, "save_identity", save_identity)
    async with running(host.renewal):
        host.mono_ms += 3_600_000.0
        await wait_until_async(lambda: host.renewals == 1, 30, "a renewal")
    assert host.renewal.machine.last_error == ""
    assert coordinator.renewals == 2


async def test_an_identity_replaced_under_a_running_agent_is_left_alone(
    coordinator: ScriptedCoordinator, tmp_path: Path
) -> None:
    folder = tmp_path / "identity"
    host = Renewing(coordinator, folder)
    host.unix_ms += 2 * DAY_MS
    other = host.held.identity.__class__("gru-2", "GRU", coordinator.address, 0, 0, "fleet")
    save_identity(folder, other, key_pem=b"k", cert_pem=b"c", ca_pem=b"a")
    await host.renewal.step()
    assert "restart this agent" in host.renewal.machine.last_error
    assert load_identity(folder) == other
    assert coordinator.renewals == 0

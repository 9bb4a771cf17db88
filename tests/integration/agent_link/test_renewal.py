"""A certificate renewed over real mutual TLS."""

from __future__ import annotations

from pathlib import Path

from agent.link.channel import node_channel
from agent.link.identity import KEY, PENDING_KEY, load_identity
from agent.link.renewal import renew, renewal_due_ms
from tests.support.scripted_coordinator import NODE_ID, ScriptedCoordinator


async def test_a_renewed_certificate_has_a_new_key_and_the_old_name(tmp_path: Path) -> None:
    coordinator = ScriptedCoordinator(tmp_path)
    await coordinator.start()
    folder = tmp_path / "identity"
    coordinator.enrol(folder)
    before = (folder / KEY).read_bytes()
    identity = await renew(lambda: node_channel(coordinator.address, folder), folder)
    assert identity.node_id == NODE_ID
    assert load_identity(folder) == identity
    assert (folder / KEY).read_bytes() != before
    assert (folder / KEY).stat().st_mode & 0o777 == 0o600
    assert not (folder / PENDING_KEY).exists()
    again = await renew(lambda: node_channel(coordinator.address, folder), folder)
    assert again.node_id == NODE_ID
    await coordinator.stop()


def test_renewal_is_due_about_a_day_after_issue_and_jittered() -> None:
    from agent.link.identity import Identity

    day_ms = 86_400_000
    identity = Identity(NODE_ID, "GRU", "x:1", 0, 30 * day_ms)
    assert renewal_due_ms(identity, 0, 0.0) == 0.9 * day_ms
    assert renewal_due_ms(identity, 0, 1.0) == 1.1 * day_ms
    assert renewal_due_ms(identity, 3 * day_ms, 0.5) == 0.0

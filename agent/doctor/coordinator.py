"""The coordinator, asked with this node's certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.clock import now_unix_ms
from agent.doctor.finding import Finding
from agent.link.check import ask_coordinator
from agent.link.identity import load_stored
from protos.domain.addresses import join_address
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from agent.config import AgentConfig
    from agent.link.check import CoordinatorView

#: Records and certificates suffer above; deadlines never, since they are monotonic.
_MAX_OFFSET_MS = 60_000.0
_NOTABLE_OFFSET_MS = 1_000.0
_TIMEOUT_MS = 5_000.0
_CLOCK_STEP = "set the clock: a time service such as chrony or systemd-timesyncd keeps it"


async def check_coordinator(config: AgentConfig) -> list[Finding]:
    """Log in to the coordinator; compare clocks and the address that peers dial."""
    try:
        stored = load_stored(config.identity_dir)
    except EdgeForgeError:
        return [Finding("coordinator", False, "not asked: this host is not enrolled", "enrol it")]
    address = config.coordinator.fleet_address or stored.identity.fleet_address
    began_unix_ms = now_unix_ms()
    try:
        view = await ask_coordinator(address, stored, _TIMEOUT_MS)
    except EdgeForgeError as error:
        step = error.hint or "check the address and the firewall; clients are served meanwhile"
        return [Finding("coordinator", False, f"{address}: {error.message}", step)]
    middle_unix_ms = (began_unix_ms + now_unix_ms()) / 2
    return [
        Finding("coordinator", True, f"{address} knows {view.node_id}"),
        _clock(view.unix_ms - middle_unix_ms),
        _peer_address(config, view),
    ]


def _clock(offset_ms: float) -> Finding:
    side = "behind" if offset_ms > 0 else "ahead of"
    found = f"{abs(offset_ms) / 1_000:.1f} s {side} the coordinator's"
    if abs(offset_ms) >= _MAX_OFFSET_MS:
        return Finding("clock", False, found, _CLOCK_STEP)
    step = _CLOCK_STEP if abs(offset_ms) >= _NOTABLE_OFFSET_MS else ""
    return Finding("clock", True, found, step)


def _peer_address(config: AgentConfig, view: CoordinatorView) -> Finding:
    host, port = config.peer_address
    configured = join_address(host, port) if port else host
    if not view.peer_host:
        return Finding("peer address", True, f"{configured}, not told yet", "start the agent")
    told = join_address(view.peer_host, view.peer_port)
    if view.dial_failure:
        step = "set peer.advertise_host and advertise_port to what other hosts can dial"
        failed = f"{view.dialled_by} cannot reach {told}: {view.dial_failure}"
        return Finding("peer address", False, failed, step)
    if port and told != configured:
        step = "restart the agent, which tells it anew"
        return Finding("peer address", True, f"the fleet dials {told}, not {configured}", step)
    reached = f", reached by {view.dialled_by}" if view.dialled_by else ", dialled by nobody yet"
    return Finding("peer address", True, told + reached)

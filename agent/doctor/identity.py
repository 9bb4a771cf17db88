"""The node's certificate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.clock import now_unix_ms
from agent.doctor.finding import Finding
from agent.link.identity import load_identity
from agent.link.removal import removed_because
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from agent.config import AgentConfig

_DAY_MS = 86_400_000
#: Certificates are renewed daily; one with fewer days left than this was not, for weeks.
_FEW_DAYS = 14
_MAX_AHEAD_S = 300.0


def check_identity(config: AgentConfig) -> Finding:
    """Check that this host is enrolled and its certificate is valid for long enough."""
    try:
        identity = load_identity(config.identity_dir)
    except EdgeForgeError as error:
        return Finding("identity", False, error.message, error.hint)
    if removed_because(config.identity_dir, identity.owner):
        step = "enrol this host again: edgeforge-agent enroll"
        return Finding("identity", False, f"{identity.node_id} has been removed", step)
    now = now_unix_ms()
    days = (identity.not_after_unix_ms - now) / _DAY_MS
    found = f"{identity.node_id} in {identity.pop_id}, certificate for {days:.1f} more days"
    if days <= 0:
        return Finding("identity", False, "the certificate has expired", "enrol this host again")
    if (ahead_s := (identity.issued_unix_ms - now) / 1_000) > _MAX_AHEAD_S:
        step = "set this host's clock: it is behind the coordinator's"
        return Finding("identity", False, f"issued {ahead_s:.0f} s in the future", step)
    step = "" if days > _FEW_DAYS else "it should be renewed daily: see the agent's log"
    return Finding("identity", True, found, step)

"""Records of usage: their folder, and the coordinator's services that count them."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from agent.clock import now_unix_ms
from agent.doctor.finding import Finding
from agent.link.check import ask_usage_services
from agent.link.identity import load_stored
from agent.spool.folders import QUARANTINE, find_spools
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from agent.config import AgentConfig

_TIMEOUT_MS = 5_000.0
_MIB = 1024 * 1024
#: What is allocated ahead for each request in progress, and files at work.
_REQUEST_BYTES, _SEGMENTS = 1_024, 2


def check_usage_folder(config: AgentConfig) -> Finding:
    """Check that records can be written, and whether some are left or cannot be read."""
    folder = config.usage_dir
    there = folder
    while not there.exists():
        there = there.parent
    if not os.access(there, os.W_OK | os.X_OK):
        step = f"give {there} to the user of the agent, or set usage.folder"
        return Finding("usage records", False, f"{there} cannot be written", step)
    free = shutil.disk_usage(there).free
    need = _SEGMENTS * config.usage.segment_bytes + _REQUEST_BYTES * config.limits.max_in_flight
    found = f"{free / _MIB:.0f} MiB free at {folder}"
    if free < need:
        step = f"free at least {need / _MIB:.0f} MiB: billable requests are refused until then"
        return Finding("usage records", False, found, step)
    try:
        spools = len(find_spools(folder))
        held = folder / QUARANTINE
        damaged = len(os.listdir(held)) if held.is_dir() else 0
    except OSError as error:
        return Finding("usage records", False, f"{folder}: {error.strerror}", "chown it")
    found += f"; {spools} spools" if spools else ""
    if damaged:
        step = "keep them, and compare with edgeforge usage quarantine"
        return Finding("usage records", True, f"{found}; {damaged} files in quarantine", step)
    step = ""
    if free < config.usage.quota_bytes:
        step = "less is free than usage.quota_bytes: the disk is full before the quota is"
    return Finding("usage records", True, found, step)


async def check_usage_link(config: AgentConfig) -> Finding:
    """Check that the coordinator counts usage and grants quota to this node."""
    try:
        stored = load_stored(config.identity_dir)
    except EdgeForgeError:
        return Finding("usage link", False, "not asked: this host is not enrolled", "enrol it")
    address = config.coordinator.fleet_address or stored.identity.fleet_address
    try:
        await ask_usage_services(address, stored, now_unix_ms(), _TIMEOUT_MS)
    except EdgeForgeError as error:
        step = error.hint or "records wait on disk meanwhile, and limits go on by their last share"
        return Finding("usage link", False, f"{address}: {error.message}", step)
    return Finding("usage link", True, f"{address} counts usage and grants quota")

"""All checks, in the order in which they are shown."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from agent.admin.client import ask_agent
from agent.doctor.coordinator import check_coordinator
from agent.doctor.finding import Finding
from agent.doctor.host import (
    check_disk,
    check_engine,
    check_gpu,
    check_open_files,
    check_sockets,
    check_user,
)
from agent.doctor.identity import check_identity
from agent.doctor.listeners import check_client_tls, check_ports
from agent.doctor.usage import check_usage_folder, check_usage_link
from protos.build_info import build_info
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from agent.config import AgentConfig


def run_checks(config: AgentConfig) -> list[Finding]:
    """Run every check, without changing anything; some seconds where something does not answer."""
    return asyncio.run(_run(config))


async def _run(config: AgentConfig) -> list[Finding]:
    running = _is_running(config)
    state = "runs" if running else "does not run"
    return [
        Finding("build", True, f"{build_info()}; the agent {state}"),
        check_user(config),
        check_identity(config),
        *await check_coordinator(config),
        check_client_tls(config),
        check_ports(config, running=running),
        check_sockets(config),
        check_engine(config),
        await check_gpu(config),
        check_disk(config),
        check_usage_folder(config),
        await check_usage_link(config),
        check_open_files(config),
    ]


def _is_running(config: AgentConfig) -> bool:
    try:
        ask_agent(config.admin_socket, "GET", "/status")
    except EdgeForgeError:
        return False
    return True

"""``edgeforge-agent doctor``: checks this host, with a next step for each failed check."""

from __future__ import annotations

import resource
import shutil
import socket
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agent.clock import now_unix_ms
from agent.engine.external import parse_engine_url
from agent.engine.process import require_engine_environment
from agent.link.identity import load_identity
from protos.build_info import build_info
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from agent.config import AgentConfig

_MIN_FREE_BYTES = 5 * 1024**3
_MIN_OPEN_FILES = 4_096
_CONNECT_TIMEOUT_S = 3.0
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check, and the next step when it failed."""

    check: str
    ok: bool
    found: str
    next_step: str = ""

    def as_json(self) -> dict[str, object]:
        return asdict(self)


def run_checks(config: AgentConfig) -> list[Finding]:
    """Run every check, without changing anything."""
    checks: tuple[Callable[[AgentConfig], Finding], ...] = (
        _build,
        _identity,
        _coordinator,
        _engine,
        _ports,
        _disk,
        _open_files,
    )
    return [check(config) for check in checks]


def _build(_config: AgentConfig) -> Finding:
    return Finding("build", True, str(build_info()))


def _identity(config: AgentConfig) -> Finding:
    try:
        identity = load_identity(config.identity_dir)
    except EdgeForgeError as error:
        return Finding("identity", False, error.message, error.hint)
    days = (identity.not_after_unix_ms - now_unix_ms()) // _DAY_MS
    if days < 0:
        return Finding("identity", False, "the certificate has expired", "enrol this host again")
    return Finding("identity", True, f"{identity.node_id}, certificate for {days} more days")


def _coordinator(config: AgentConfig) -> Finding:
    try:
        address = config.coordinator.fleet_address
        address = address or load_identity(config.identity_dir).fleet_address
    except EdgeForgeError:
        address = config.coordinator.enrolment_address
    if not address:
        step = "set coordinator.enrolment_address"
        return Finding("coordinator", False, "no address is known", step)
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S):
            return Finding("coordinator", True, f"{address} answers")
    except OSError as error:
        step = "check the address and the firewall; clients are served meanwhile"
        return Finding("coordinator", False, f"{address}: {error}", step)


def _engine(config: AgentConfig) -> Finding:
    engine = config.engine
    try:
        if engine.kind == "vllm":
            require_engine_environment(Path(engine.venv).absolute())
            return Finding("engine", True, f"vLLM environment {engine.venv}")
        if engine.kind == "external":
            parts = parse_engine_url(engine.url)
            port = parts.port or (443 if parts.scheme == "https" else 80)
            with socket.create_connection((parts.hostname or "", port), _CONNECT_TIMEOUT_S):
                return Finding("engine", True, f"{engine.url} answers")
    except EdgeForgeError as error:
        return Finding("engine", False, error.message, error.hint)
    except OSError as error:
        return Finding("engine", False, f"{engine.url}: {error}", "start the external server")
    return Finding("engine", True, "none: everything is placed on other nodes")


def _ports(config: AgentConfig) -> Finding:
    wanted = {
        "client.port": (config.client.host, config.client.port),
        "peer.port": (config.peer.host, config.peer.port),
        "metrics.port": (config.metrics.host, config.metrics.port),
    }
    taken = [name for name, address in wanted.items() if not _is_free(*address)]
    if taken:
        step = "expected while the agent runs; else stop who holds them or choose others"
        return Finding("ports", False, f"in use: {', '.join(taken)}", step)
    return Finding("ports", True, "all free")


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
        except OSError:
            return False
    return True


def _disk(config: AgentConfig) -> Finding:
    folder = config.state_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / 1024**3:.1f} GiB free at {folder}"
    step = "" if free >= _MIN_FREE_BYTES else "free at least 5 GiB: models are kept there"
    return Finding("disk", free >= _MIN_FREE_BYTES, found, step)


def _open_files(config: AgentConfig) -> Finding:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = max(_MIN_OPEN_FILES, config.client.max_connections)
    ok = limit == resource.RLIM_INFINITY or limit >= needed
    step = "" if ok else f"raise it to {needed}: ulimit -n, or LimitNOFILE in the unit"
    return Finding("open files", ok, f"limit {limit}", step)

"""The host itself: who owns the state, sockets, engine, GPUs, disk, open files."""

from __future__ import annotations

import itertools
import os
import pwd
import resource
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from agent.admin.server import MAX_SOCKET_PATH_BYTES
from agent.doctor.finding import Finding
from agent.engine.external import parse_engine_url
from agent.engine.process import EnginePaths, require_engine_environment
from agent.gpu.process import ReaderBroken, ReaderChild, ReaderRefused
from agent.gpu.reader import NONE, chosen_kind
from agent.open_files import wanted_descriptors
from protos.domain.errors import EdgeForgeError

if TYPE_CHECKING:
    from agent.config import AgentConfig

_MIN_FREE_BYTES = 5 * 1024**3
_MIN_OPEN_FILES = 4_096
_CONNECT_TIMEOUT_S = 3.0
#: The user of packaging/systemd's units.
_SERVICE_USER = "edgeforge"
#: Files looked at for their owner; a store of models has few, an engine's caches many.
_MAX_FILES = 5_000


def check_user(config: AgentConfig) -> Finding:
    """Check that one user owns the state folder and everything in it, and can read it."""
    folder = config.state_dir
    if not folder.exists():
        return Finding("user", True, f"{folder} does not exist yet")
    uid = folder.stat().st_uid
    owner = _user_name(uid)
    strangers = [path for path in _files(folder) if path.lstat().st_uid != uid]
    mend = f"chown -R {owner}: {folder}"
    if strangers:
        other = _user_name(strangers[0].lstat().st_uid)
        found = f"{folder} is {owner}'s, {strangers[0]} is {other}'s"
        return Finding("user", False, found, mend)
    if os.geteuid() not in (uid, 0):
        found = f"{folder} is {owner}'s, this is {_user_name(os.geteuid())}"
        return Finding("user", False, found, f"run this as {owner}")
    if uid == 0 and _has_user(_SERVICE_USER):
        step = f"chown -R {_SERVICE_USER}: {folder}, if the service runs as that user"
        return Finding("user", True, f"{folder} is root's", step)
    return Finding("user", True, f"{folder} is {owner}'s")


def check_sockets(config: AgentConfig) -> Finding:
    """Check that the paths of the Unix sockets are short enough."""
    admin = config.admin_socket
    size_bytes = len(os.fsencode(admin))
    if size_bytes > MAX_SOCKET_PATH_BYTES:
        step = f"a Unix socket's may have {MAX_SOCKET_PATH_BYTES}: set admin.socket"
        return Finding("sockets", False, f"{admin} has a path of {size_bytes} bytes", step)
    if config.engine.kind == "vllm":
        try:
            EnginePaths(config.state_dir.absolute() / "engine").check()
        except EdgeForgeError as error:
            return Finding("sockets", False, str(error.message), error.hint)
    return Finding("sockets", True, f"{admin}")


def check_engine(config: AgentConfig) -> Finding:
    """Check that the engine can be started, or that the external one answers."""
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


async def check_gpu(config: AgentConfig) -> Finding:
    """Take one reading of the accelerators."""
    try:
        kind = chosen_kind(config.gpu.kind)
    except EdgeForgeError as error:
        return Finding("accelerators", False, error.message, error.hint)
    if kind == NONE:
        return Finding("accelerators", True, "not watched: gpu.kind is none")
    child = ReaderChild(kind)
    try:
        readings = await child.read(config.gpu.deadline_ms)
    except ReaderRefused as error:
        step = "install the library beside the agent; the engine is served unwatched until then"
        return Finding("accelerators", True, f"{kind}: {error}", step)
    except ReaderBroken as error:
        return Finding("accelerators", False, f"{kind}: {error}", "check the driver: dmesg")
    finally:
        await child.kill()
    lost = [one.id for one in readings if one.lost]
    if lost:
        return Finding("accelerators", False, f"lost: {', '.join(lost)}", "reset or replace it")
    names = ", ".join(f"{one.index} {one.name}" for one in readings)
    return Finding("accelerators", True, f"{kind}: {names or 'none found'}")


def check_disk(config: AgentConfig) -> Finding:
    """Check the free space where models are kept."""
    folder = config.state_dir
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    found = f"{free / 1024**3:.1f} GiB free at {folder}"
    step = "" if free >= _MIN_FREE_BYTES else "free at least 5 GiB: models are kept there"
    return Finding("disk", free >= _MIN_FREE_BYTES, found, step)


def check_open_files(config: AgentConfig) -> Finding:
    """Check how far an agent that is started alike may raise its limit of open files."""
    _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = max(_MIN_OPEN_FILES, config.client.max_connections)  # with fewer its ports are small
    ok = limit == resource.RLIM_INFINITY or limit >= least
    wanted = wanted_descriptors(config).needed
    step = "" if ok else f"raise it to {wanted}: ulimit -n, or LimitNOFILE in the unit"
    return Finding("open files", ok, f"limit {limit}", step)


def _files(folder: Path) -> list[Path]:
    """Return what is in ``folder``, without following links; unreadable folders are left out."""
    found = (
        Path(root, name)
        for root, folders, files in os.walk(folder)
        for name in [*folders, *files]
        if Path(root, name).is_symlink() or Path(root, name).exists()
    )
    return list(itertools.islice(found, _MAX_FILES))


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True

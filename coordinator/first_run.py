"""`init`: makes authority, first operator and database with the default price card, or nothing."""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from coordinator.ca.authority import CertificateAuthority
from coordinator.core.price_card import CARD_VERSION, first_card
from coordinator.host_operators import PROFILE, admin_of, write_operator
from coordinator.store import operators, prices
from coordinator.store.records import AuditNote
from coordinator.store.store import Store
from protos.domain.errors import ConfigInvalid, Conflict, StoreUnavailable
from protos.domain.ids import check_person
from protos.host.files import make_private_folder, sync_folder
from protos.host.ownership import as_owner_of, keep_owner

if TYPE_CHECKING:
    from coordinator.config import CoordinatorConfig
    from coordinator.core.operators import Operator

_STAGING = ".init-"
#: What is made beside the database, and moved before it.
_PARTS = ("ca", "operators", "blobs")


@dataclass(frozen=True, slots=True)
class FirstRun:
    """What `init` made."""

    ca_sha256_hex: str
    operator: str
    profile: Path


async def initialise(
    config: CoordinatorConfig,
    operator: str,
    *,
    user: str = "",
    now_unix_ms: Callable[[], int],
) -> FirstRun:
    """Make everything that `serve` needs.

    It is made in a folder beside the final one and moved at the end, the database last, so that an
    interrupted run leaves nothing that `serve` accepts, and the next one begins anew. The state
    folder is given to ``user`` first, if one is named. Raises: Conflict if there is something
    already; InvalidRequest for a name; ConfigInvalid, StoreUnavailable.
    """
    check_person(operator)
    state_dir = config.state_dir
    try:
        with as_owner_of(state_dir):
            _undo_interrupted(state_dir, config.database.name)
            check_untouched(config)
        keep_owner(state_dir, user)
        with as_owner_of(state_dir):
            make_private_folder(state_dir)
            staging = Path(tempfile.mkdtemp(prefix=_STAGING, dir=state_dir))
    except OSError as error:
        raise ConfigInvalid(
            [f"coordinator.state_dir: cannot write in {state_dir}: {error.strerror}"]
        ) from error
    with as_owner_of(state_dir):
        ca_sha256_hex = await _make_all(config, operator, staging, now_unix_ms)
    return FirstRun(
        ca_sha256_hex=ca_sha256_hex,
        operator=operator,
        profile=config.operators_dir / operator / PROFILE,
    )


async def _make_all(
    config: CoordinatorConfig, operator: str, staging: Path, now_unix_ms: Callable[[], int]
) -> str:
    """Make everything in ``staging``, move it, and return the authority's digest."""
    state_dir = config.state_dir
    try:
        authority = CertificateAuthority.create(staging / "ca", now_unix_ms=now_unix_ms)
        made = write_operator(config, authority, operator, staging / "operators" / operator)
        admin = admin_of(operator, made, now_unix_ms())
        await _make_database(staging / config.database.name, admin, now_unix_ms)
        (staging / "blobs").mkdir(mode=0o700)
        for name in (*_PARTS, config.database.name):
            (staging / name).rename(state_dir / name)
        sync_folder(state_dir)
    except OSError as error:
        raise StoreUnavailable(f"cannot write in {state_dir}: {error.strerror}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return authority.sha256_hex


def _undo_interrupted(state_dir: Path, database: str) -> None:
    """Delete what a killed run has left: parts that it had moved before their database.

    Such a run is known by its folder, which still holds the database. Raises: OSError.
    """
    for staging in state_dir.glob(f"{_STAGING}*"):
        if (staging / database).exists():
            moved = [name for name in _PARTS if not (staging / name).exists()]
            for name in moved:
                shutil.rmtree(state_dir / name, ignore_errors=True)
        shutil.rmtree(staging)


def check_untouched(config: CoordinatorConfig) -> None:
    """Raises: Conflict naming what exists already."""
    there = [
        path.name
        for path in (config.database, config.ca_dir, config.operators_dir, config.blobs_dir)
        if path.exists()
    ]
    if there:
        raise Conflict(
            f"{config.state_dir} holds {', '.join(there)} already",
            "a coordinator is never overwritten: choose another state_dir, or `serve` this one",
            retryable=False,
        )


def check_ports_free(config: CoordinatorConfig) -> None:
    """Raises: ConfigInvalid naming every address that cannot be listened on."""
    problems = []
    for section, (host, port) in config.listeners().items():
        try:
            _try_bind(host, port)
        except OSError as error:
            problems.append(f"{section}: cannot listen on {host} port {port}: {error.strerror}")
    if problems:
        raise ConfigInvalid(problems, "stop what holds the port, or choose another one")


def _try_bind(host: str, port: int) -> None:
    (family, kind, protocol, _, address), *_ = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    with socket.socket(family, kind, protocol) as probe:
        # As the listeners do, since connections of an earlier process may be in TIME_WAIT.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen()


async def _make_database(path: Path, admin: Operator, now_unix_ms: Callable[[], int]) -> None:
    store = await Store.open(path, now_unix_ms=now_unix_ms)
    try:
        note = AuditNote(
            "coordinator", "init", f"operator/{admin.name}", f"price_card={CARD_VERSION}"
        )
        await store.write(operators.put(admin))
        await store.write(prices.begin(first_card("coordinator", now_unix_ms())), note)
    finally:
        await store.close()
    # Closing has merged the write-ahead log into the file; only the file is moved.
    for beside in ("-wal", "-shm", ".lock"):
        path.with_name(path.name + beside).unlink(missing_ok=True)

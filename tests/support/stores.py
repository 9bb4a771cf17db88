"""A coordinator's state for tests: a clock that is set, sample things, a database in memory."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from coordinator.store import audit, tokens
from coordinator.store.records import (
    AuditNote,
    AuditQuery,
    NodeRegistration,
    Purpose,
    TokenRecord,
)
from coordinator.store.sqlite.migrations import migrate
from coordinator.store.sqlite.transactions import Seat, follow, load, run_transaction, take_seat
from protos.domain.customers import ApiKey
from protos.domain.resources import (
    Deployment,
    EngineProfile,
    Model,
    ModelFile,
    ModelSource,
    Pop,
    Replica,
    ReplicaState,
    SlaTier,
    Tier,
)

if TYPE_CHECKING:
    from coordinator.store.connection import Connection
    from coordinator.store.fact_tables import FactTables
    from coordinator.store.memory import Memory, Tail
    from coordinator.store.projection import Projection
    from coordinator.store.records import AuditRecord
    from coordinator.store.store import Store
    from coordinator.store.transaction import Write

T = TypeVar("T")

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
START_UNIX_MS = 1_790_000_000_000

GRU = Pop("GRU", Tier.EDGE, "BR", "São Paulo", -23.55, -46.63)
IAD = Pop("IAD", Tier.CENTRAL, "US", "Ashburn", 39.04, -77.49)
PROFILE = EngineProfile(
    first_token_ms_p99=40.0, prefill_ms_per_token=0.5, max_parallel=4, tokens_per_s=400.0
)
MODEL = Model("acme/m@1", ModelSource.MANAGED, "llama", "xs", 8_192, 270_000_000, b"m" * 32)
FILES = (
    ModelFile("config.json", b"c" * 32, 700),
    ModelFile("model.safetensors", b"w" * 32, 270_000_000),
)


class SetClock:
    """A wall clock that changes only when it is set."""

    def __init__(self, unix_ms: int = START_UNIX_MS) -> None:
        self.unix_ms = unix_ms

    def __call__(self) -> int:
        return self.unix_ms


class SqliteTransactions:
    """SQLite without threads; in memory unless a path is named."""

    def __init__(self, path: Path | None, now_unix_ms: int) -> None:
        self.path = path
        self.connection = sqlite3.connect(path or ":memory:", isolation_level=None)
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = OFF")
        migrate(self.connection, now_unix_ms)
        self._seat = Seat()
        take_seat(self.connection, self._seat)

    def load(self) -> Memory:
        """Read everything."""
        return load(self.connection, self._seat)

    def run(
        self, change: Write[T], note: AuditNote | None, now_unix_ms: int
    ) -> tuple[T, Tail | Memory | None]:
        """Commit one change."""
        return run_transaction(self.connection, self._seat, now_unix_ms, change, note)

    @contextmanager
    def reader(self) -> Iterator[Callable[[Memory | None], Memory]]:
        """Provide what brings a memory, or a new one, up to date over a read-only connection."""
        uri = f"file:{self.path}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as connection:

            def caught_up(memory: Memory | None) -> Memory:
                if memory is None:
                    return load(connection, Seat())
                follow(connection, memory)
                return memory

            yield caught_up


#: Each runs the store's suites.
BACKENDS = {"sqlite": SqliteTransactions}


class MemoryStore:
    """The store's transactions without threads, published after each commit."""

    def __init__(self, backend: str = "sqlite", path: Path | None = None) -> None:
        self.clock = SetClock()
        self.backend = BACKENDS[backend](path, self.clock())
        self.memory = self.backend.load()

    @property
    def connection(self) -> Connection:
        """For questions."""
        return self.backend.connection

    @property
    def projection(self) -> Projection:
        """The tables for agents."""
        return self.memory.projection

    @property
    def facts(self) -> FactTables:
        """What the coordinator alone knows."""
        return self.memory.facts

    def write(self, change: Write[T], note: AuditNote | None = None) -> T:
        """Commit one change and publish it."""
        result, news = self.backend.run(change, note, self.clock())
        if news is not None:
            self.memory.take(news)
        return result

    def reloaded(self) -> Memory:
        """Return what a restarted coordinator would have in memory."""
        return self.backend.load()

    def close(self) -> None:
        """Close the database."""
        self.backend.connection.close()


def registration(node_id: str, engine_kind: str = "vllm") -> NodeRegistration:
    """Return what a node on this machine reports of itself."""
    return NodeRegistration(
        node_id=node_id,
        peer_host="10.0.0.1",
        peer_port=7443,
        client_url=f"https://{node_id}",
        engine_kind=engine_kind,
        profile=PROFILE,
        agent_version="0.1.0",
    )


def replica(node_id: str, model: str = MODEL.name, generation: int = 1) -> Replica:
    """Return a ready replica."""
    return Replica(node_id, model, ReplicaState.READY, PROFILE, generation)


def deployment(name: str = "chat", account_id: str = "acme", model: str = MODEL.name) -> Deployment:
    """Return a deployment that may run anywhere."""
    return Deployment(name, account_id, model, "", 80, SlaTier.REALTIME, (), strict=False)


def api_key(key_id: str, account_id: str = "acme", deployments: tuple[str, ...] = ()) -> ApiKey:
    """Return a key whose digest follows from its id."""
    return ApiKey(key_id, hashlib.sha256(key_id.encode()).digest(), account_id, deployments, 0)


def token_record(
    token_id: str, node_id: str = "", pop_id: str = "GRU", ttl_ms: int = HOUR_MS
) -> TokenRecord:
    """Return a token of the secret ``secret-<id>``, made at START_UNIX_MS."""
    return TokenRecord(
        id=token_id,
        secret_sha256=hashlib.sha256(f"secret-{token_id}".encode()).digest(),
        purpose=Purpose.NODE,
        name=node_id,
        expires_unix_ms=START_UNIX_MS + ttl_ms,
        pop_id=pop_id,
    )


async def audited(store: Store, limit: int, *, strangers: bool = False) -> list[AuditRecord]:
    """Return the newest entries of the audit, newest first."""
    page = await store.read(audit.page(AuditQuery(limit, strangers=strangers)))
    return list(page.entries)


async def enrol(store: Store, node_id: str, pop_id: str = "GRU") -> None:
    """Enrol a node without certificates and listeners."""
    token_id = secrets.token_hex(8)
    await store.write(
        tokens.create(
            TokenRecord(
                token_id,
                b"s" * 32,
                Purpose.NODE,
                node_id,
                START_UNIX_MS + 100 * 365 * DAY_MS,
                pop_id,
            )
        )
    )
    await store.write(
        tokens.redeem(
            token_id,
            Purpose.NODE,
            public_key_sha256=b"k" * 32,
            certificate_pem=b"PEM",
            serial=secrets.randbits(150),
            not_after_unix_ms=START_UNIX_MS + 30 * DAY_MS,
            actor="anonymous@127.0.0.1",
        )
    )

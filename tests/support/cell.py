"""A few agents' data planes in this process: real ports, mutual TLS and probes between them.

Engines stand in: one fake engine a node, and residents that load in the time that the test says.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import datetime
import hashlib
import json
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from aiohttp import ClientSession, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from agent.config_file import load_config
from agent.core.cold_start import ColdPath, ColdStart, Wanted
from agent.core.descriptors import Descriptors
from agent.core.engine_status import EngineEndpoint, EngineState, EngineStatus
from agent.data_plane import DataPlane
from agent.drain_state import DrainState
from agent.link.identity import Identity
from agent.peers.tls import NODE_DNS_SUFFIX
from protos.domain.customers import Account, ApiKey
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.resources import Resource
from tests.support.certificates import fleet_signed_pem, p256_key, private_pem
from tests.support.fake_engine import Behaviour, FakeEngine, Record
from tests.support.meters import KeptMeter
from tests.support.residents import StandInResidents
from tests.support.waiting import wait_until_async

SECRET = "ef-secret"
KEY = ApiKey("k1", hashlib.sha256(SECRET.encode()).digest(), "acme", (), 0)
PROBE_MS = 200
#: A model stays in an engine for so long at least.
MIN_RESIDENCE_S = 0.02


class ManyNames(FakeEngine):
    """A fake engine that answers for every name that is in it, as vLLM does for adapters."""

    def __init__(self, holds: Callable[[str], bool]) -> None:
        super().__init__("")
        self._holds = holds

    async def answer(
        self, request: web.Request, record: Record, behaviour: Behaviour
    ) -> web.StreamResponse:
        name = record.body.get("model", "")
        as_asked = copy.copy(self)
        as_asked.model = name if self._holds(name) else "(nothing)"
        return await FakeEngine.answer(as_asked, request, record, behaviour)


class CellResidents(StandInResidents):
    """Residents of one engine: a swap lets the requests of the model before it end first."""

    engine_kind = "vllm"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.port = 0
        self.generation = 1
        self.swaps = 0
        self._swapping = asyncio.Lock()
        self._resident_s = 0.0
        #: What the engine holds still while its requests end.
        self._leaving: set[str] = set()
        self._running: dict[Wanted, asyncio.Task[ColdStart]] = {}

    @property
    def engine_status(self) -> EngineStatus:
        return EngineStatus(EngineState.READY, None, self.generation, 0, 0.0, None, 1)

    def served_name(self, name: str) -> str:
        """Adapters have another name in the engine than in the registry."""
        return f"{name}+digest"

    def holds(self, served: str) -> bool:
        return served.removesuffix("+digest") in self.there | self._leaving

    def endpoint_for(self, model: str, adapter: str = "") -> EngineEndpoint | None:
        name = adapter or model
        if name not in self.there or model not in self.there:
            return None
        served = self.served_name(name)
        return EngineEndpoint(
            served, None, "127.0.0.1", self.port, False, True, False, self.generation
        )

    async def make_resident(self, model: str, adapter: str = "") -> ColdStart:
        wanted = Wanted(model, adapter)
        task = self._running.get(wanted)
        if task is None:
            task = self._running[wanted] = asyncio.ensure_future(self._load(wanted))
            task.add_done_callback(lambda _: self._running.pop(wanted))
        return await asyncio.shield(task)

    async def _load(self, wanted: Wanted) -> ColdStart:
        if self.ways[wanted.name][0] is not ColdPath.SWAP:
            return await super().make_resident(*wanted)
        async with self._swapping:
            left_s = self._resident_s + MIN_RESIDENCE_S - time.monotonic()
            await asyncio.sleep(max(0.0, left_s))
            before, self.there = self.there, set()
            self._leaving = before
            served = {self.served_name(name) for name in before}
            await wait_until_async(lambda: not any(self.entered[one] for one in served), 30, "ends")
            self._leaving = set()
            self.swaps += 1
            self.generation += 1
            for name in before:
                self.ways[name] = self.ways[wanted.name]
            start = await super().make_resident(*wanted)
            self._resident_s = time.monotonic()
            return start


class Cell:
    """The nodes by name; ``view`` is the table of all of them."""

    def __init__(self) -> None:
        self.view = FleetView()
        self.planes: dict[str, DataPlane] = {}
        #: ``CellResidents``, or ``cell_host.CellHost`` with the product's own replicas.
        self.residents: dict[str, Any] = {}
        self.engines: dict[str, ManyNames] = {}

    def change(self, *rows: Resource, removed: tuple[Resource, ...] = ()) -> None:
        """Change the table of every node at once."""
        self.view = with_changes(self.view, removed, rows)
        for plane in self.planes.values():
            plane.on_view_changed(self.view)

    def url(self, node_id: str) -> str:
        return f"http://127.0.0.1:{self.planes[node_id].client_port.port}"

    async def chat(
        self, session: ClientSession, node_id: str, model: str, *, stream: bool = False
    ) -> tuple[int, dict[str, str], str]:
        """Ask ``node_id`` for a chat completion; return status, headers and body."""
        asked = {"model": model, "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
        signed = {"authorization": f"Bearer {SECRET}"}
        path = f"{self.url(node_id)}/v1/chat/completions"
        async with session.post(path, json=asked, headers=signed) as response:
            names = {name.lower(): value for name, value in response.headers.items()}
            return response.status, names, await response.text()

    def traces(self, node_id: str) -> list[dict[str, object]]:
        """Return what the node's records say of its latest requests."""
        return self.planes[node_id].records.latest_json(1_000)

    async def probed(self) -> None:
        """Let every node probe every other once."""
        for plane in self.planes.values():
            plane.prober._pool.keep_warm()
        for _ in range(2):
            for plane in self.planes.values():
                await plane.prober.probe_all()


@contextlib.asynccontextmanager
async def cell(
    folder: Path, residents: Mapping[str, Any], rows: list[Resource]
) -> AsyncIterator[Cell]:
    """Serve a node for each of ``residents``; ``rows`` must have their nodes and POPs."""
    made = Cell()
    authority = _Authority(folder)
    made.view = with_changes(FleetView(), (), [Account("acme"), KEY, *rows])
    async with contextlib.AsyncExitStack() as stack:
        for node_id, held in residents.items():
            engine = ManyNames(held.holds)
            runner = web.AppRunner(engine.application(), access_log=None)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            if isinstance(held, CellResidents):
                await web.TCPSite(runner, "127.0.0.1", 0).start()
                held.port = runner.addresses[0][1]
            else:
                await web.UnixSite(runner, held.uds).start()
            made.engines[node_id], made.residents[node_id] = engine, held
            made.planes[node_id] = plane = _plane(folder / node_id, node_id, held, made, authority)
            await plane.start()
            stack.push_async_callback(_stop, plane)
        nodes = [
            replace(made.view.nodes[name], peer_host="127.0.0.1", peer_port=plane.peer_port.port)
            for name, plane in made.planes.items()
        ]
        made.change(*nodes)
        await made.probed()
        yield made


async def _stop(plane: DataPlane) -> None:
    await plane.drain(0.0)
    await plane.close()


def _plane(folder: Path, node_id: str, held: Any, made: Cell, authority: _Authority) -> DataPlane:
    folder.mkdir()
    file = folder / "agent.toml"
    file.write_text(
        f'[node]\nstate_dir = "{folder / "state"}"\n'
        '[client]\nhost = "127.0.0.1"\nport = 0\n'
        f'[peer]\nhost = "127.0.0.1"\nport = 0\nprobe_interval_ms = {PROBE_MS}\n',
        encoding="utf-8",
    )
    config = load_config(file, {})
    config.state_dir.mkdir(mode=0o700, exist_ok=True)
    pop_id = made.view.nodes[node_id].pop_id
    return DataPlane(
        config,
        Identity(node_id, pop_id, "127.0.0.1:1", 0, 1 << 45),
        authority.use(node_id),
        view=lambda: made.view,
        replicas=held,
        drain_state=DrainState(node_id),
        require_credentials=lambda: None,
        ready=lambda: True,
        draw=random.Random(node_id).random,
        descriptors=Descriptors(4_096, 4_096, 4_096),
        shelf=SimpleNamespace(),  # type: ignore[arg-type]
        meter=KeptMeter(),
        clock_offset_ms=lambda: 0.0,
    )


class _Authority:
    """Signs the certificates of the nodes."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = p256_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority of a test")])
        began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(began)
            .not_valid_after(began + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        self._pem = certificate.public_bytes(serialization.Encoding.PEM)

    def use(self, node_id: str) -> Callable[[ssl.SSLContext], None]:
        key = p256_key()
        file = self._folder / f"{node_id}.pem"
        signed = fleet_signed_pem(
            private_pem(self._key) + self._pem,
            key,
            (f"edgeforge://node/{node_id}",),
            (f"{node_id}{NODE_DNS_SUFFIX}",),
        )
        file.write_bytes(private_pem(key) + signed)

        def load(context: ssl.SSLContext) -> None:
            context.load_cert_chain(file)
            context.load_verify_locations(cadata=self._pem.decode())

        return load


def told_model(body: str) -> str:
    """Return the model that an answer names."""
    return str(json.loads(body)["model"])

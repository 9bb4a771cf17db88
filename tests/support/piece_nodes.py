"""Nodes that pull from one another: real agents' stores and peer ports, each in its own process.

    python -m tests.support.piece_nodes SPEC NODE

A node does what it is told on standard input, one JSON object a line, and answers with one.
"""

from __future__ import annotations

import asyncio
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import uvloop

from agent.artifacts.shelf import FilePiece, PieceShelf
from agent.config_file import load_config
from agent.main import SWITCH_INTERVAL_S, Agent
from protos.domain.errors import EdgeForgeError
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.resources import (
    Deployment,
    DesiredReplica,
    ModelFile,
    NextVersion,
    Node,
    NodeHealth,
    NodeIntent,
    Pop,
    Resource,
    SlaTier,
    Tier,
)
from tests.support.ports import free_ports
from tests.support.pulled_objects import model_of
from tests.support.scripted_coordinator import ScriptedCoordinator

MODEL = "acme/small@1"


@dataclass(frozen=True)
class Placed:
    """A node and where it is."""

    node_id: str
    pop_id: str = "GRU"
    zone: str = "BR"


@dataclass
class Spec:
    """The fleet of a test; written to a file for its nodes."""

    folder: Path
    placed: Sequence[Placed]
    files: tuple[ModelFile, ...]
    origin: str
    residency: tuple[str, ...] = ()
    #: Nodes that are in no table.
    unknown: frozenset[str] = frozenset()
    #: The deployment is only being changed to the model; it is served from another one.
    is_next: bool = False
    ports: dict[str, int] = field(default_factory=dict)

    def write(self, coordinator: ScriptedCoordinator) -> Path:
        """Give every node its identity and its port, and return the file for them."""
        ports = free_ports(len(self.placed))
        self.ports = {one.node_id: port for one, port in zip(self.placed, ports, strict=True)}
        for one in self.placed:
            state = self.folder / one.node_id
            coordinator.enrol(state / "identity", one.node_id, one.pop_id)
        path = self.folder / "spec.json"
        path.write_text(
            json.dumps(
                {
                    "nodes": [[o.node_id, o.pop_id, o.zone] for o in self.placed],
                    "files": [
                        [f.path, f.sha256.hex(), f.size_bytes, f.pieces_sha256.hex()]
                        for f in self.files
                    ],
                    "origin": self.origin,
                    "residency": self.residency,
                    "unknown": sorted(self.unknown),
                    "ports": self.ports,
                    "is_next": self.is_next,
                }
            )
        )
        return path


def order(spec: Mapping[str, Any]) -> DesiredReplica:
    """Return the order to hold the test's model."""
    files = (
        ModelFile(path, bytes.fromhex(digest), size, bytes.fromhex(pieces))
        for path, digest, size, pieces in spec["files"]
    )
    return model_of(*files, name=MODEL)


def table(spec: Mapping[str, Any]) -> FleetView:
    """Return the table that every node has."""
    zones = tuple(spec["residency"])
    asked = Deployment("d", "acme", MODEL, "", 100, SlaTier.STANDARD, zones, strict=False)
    if spec["is_next"]:
        asked = replace(asked, model="acme/small@0", next=NextVersion(MODEL, "", zones))
    rows: list[Resource] = [asked]
    for node_id, pop_id, zone in spec["nodes"]:
        if node_id in spec["unknown"]:
            continue
        rows.append(Pop(pop_id, Tier.EDGE, zone, pop_id, 0.0, 0.0))
        port = spec["ports"][node_id]
        url = "http://127.0.0.1:1"
        rows.append(
            Node(node_id, pop_id, "127.0.0.1", port, url, NodeHealth.READY, NodeIntent.ACTIVE)
        )
    return with_changes(FleetView(), (), rows)


class HostileShelf(PieceShelf):
    """What a node does that is broken, or means ill: wrong bytes, silence, or empty promises."""

    mode = ""

    def pieces_here(self, name: str) -> Mapping[str, int] | None:
        here = super().pieces_here(name)
        if self.mode != "lie":
            return here
        files = self._store.ordered_files(name)
        return {one.sha256.hex(): (1 << 4_096) - 1 for one in files}

    def open_piece(self, name: str, digest: str, index: int) -> FilePiece | None:
        piece = super().open_piece(name, digest, index)
        if piece is not None and self.mode in ("wrong", "stall"):
            return cast("FilePiece", _HostilePiece(piece, self.mode))
        return piece


class _HostilePiece:
    """A piece whose last byte is another one, or that never comes."""

    def __init__(self, piece: FilePiece, mode: str) -> None:
        self._piece = piece
        self._mode = mode
        self.size_bytes = piece.size_bytes

    def read_nowait(self, offset_bytes: int, length_bytes: int) -> bytearray | None:
        return None

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        if self._mode == "stall" and offset_bytes:
            time.sleep(3_600)
        data = self._piece.read(offset_bytes, length_bytes)
        return data if self._mode == "stall" else data[:-1] + bytes([data[-1] ^ 1])

    def close(self) -> None:
        self._piece.close()


async def _serve(path: Path, node_id: str) -> None:
    spec = json.loads(path.read_text())
    state = path.parent / node_id
    config_file = state / "agent.toml"
    config_file.write_text(
        f'[node]\nstate_dir = "{state}"\n[peer]\nport = {spec["ports"][node_id]}\n'
        f'[coordinator]\nfleet_address = "{spec["origin"]}"\n'
        f"[limits]\n{spec.get('limits', '')}\n"
    )
    agent = Agent(load_config(config_file, {}))
    agent._tables.view = table(spec)
    shelf = HostileShelf(agent._objects)
    agent._plane.peer_port._pieces._shelf = shelf
    held = order(spec)
    await agent._plane.peer_port.start()
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    _say({"ready": True})
    while line := await reader.readline():
        asked = json.loads(line)
        match asked["do"]:
            case "order":
                agent._objects.set_desired({held.model: held}, {})
                _say({})
            case "disorder":
                agent._objects.set_desired({}, {})
                _say({})
            case "be":
                shelf.mode = asked["mode"]
                _say({})
            case "pull":
                agent._objects.set_desired({held.model: held}, {})
                _say(await _pull(agent, held))
            case "stats":
                _say(_stats(agent))


async def _pull(agent: Agent, held: DesiredReplica) -> dict[str, Any]:
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cpu_s, began_s = time.process_time(), time.perf_counter()
    failure = ""
    try:
        await agent._objects.ensure(held)
    except EdgeForgeError as error:
        failure = str(error)
    took_s = time.perf_counter() - began_s
    return _stats(agent) | {
        "took_s": took_s,
        "cpu_s": time.process_time() - cpu_s,
        "failure": failure,
        "extra_rss_mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1_000,
        "path": str(agent._objects.path_of(held)),
    }


def _stats(agent: Agent) -> dict[str, Any]:
    stats = agent._objects.stats
    return {
        "pulled_bytes": stats.pulled_bytes,
        "origin_bytes": stats.origin_bytes,
        "peer_bytes": stats.peer_bytes,
        "wrong_pieces": stats.wrong_pieces,
        "abandoned": stats.abandoned,
        "sent_bytes": agent._plane.peer_port._pieces.sent_bytes,
        "refused": agent._plane.peer_port._pieces.refused,
        "cpu_total_s": time.process_time(),
    }


def _say(answer: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


class PieceNode:
    """One node's process, from the test's side."""

    def __init__(self, spec: Path, node_id: str) -> None:
        self.node_id = node_id
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.piece_nodes", str(spec), node_id],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, do: str, **more: object) -> None:
        """Send a command without waiting for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **more}) + "\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Return the next answer; fails if the process has ended."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"node {self.node_id} has ended"
        return dict(json.loads(line))

    def ask(self, do: str, **more: object) -> dict[str, Any]:
        """Send a command and return its answer."""
        self.tell(do, **more)
        return self.answer()

    def kill(self) -> None:
        """End the process as a crash does."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def main() -> None:
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    uvloop.run(_serve(Path(sys.argv[1]), sys.argv[2]))


if __name__ == "__main__":
    main()

"""How fast pieces come from peers, beside one core of SHA-256; what a fleet asks of its origin.

    make bench BENCH=pull
    python -m tests.bench.pull [--mib N] [--agents N]

Every node is a process with an agent's real store and peer port, over mutual TLS on loopback; the
origin is a process too. ``ratio_1`` and ``ratio_3`` are the rates of a pull from one and from three
peers by the rate of one core of SHA-256 in the same run. ``origin_bytes_ratio`` is what the origin
sent by the model's size while ``agents`` nodes pulled it at the same time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import importlib
import multiprocessing
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path

from protos.domain.pieces import PIECE_BYTES, piece_list_sha256
from protos.domain.resources import ModelFile
from tests.bench.report import write_report
from tests.support.piece_nodes import PieceNode, Placed, Spec
from tests.support.pulled_objects import CONFIG, digests_of, file_of
from tests.support.scripted_coordinator import ScriptedCoordinator

_MIB = 1024**2
_ROUNDS = 5


def sha256_bytes_per_s() -> float:
    """Return the rate of one core of SHA-256."""
    data = bytes(PIECE_BYTES)
    began_s = time.perf_counter()
    for _ in range(64):
        hashlib.sha256(data).digest()
    return 64 * PIECE_BYTES / (time.perf_counter() - began_s)


def weights_of(size_bytes: int) -> bytes:
    """Return weights no two pieces of which are the same; fast."""
    block = hashlib.shake_128(b"weights").digest(PIECE_BYTES)
    whole = bytearray(block * -(-size_bytes // PIECE_BYTES))
    for at in range(0, len(whole), PIECE_BYTES):
        whole[at : at + 8] = at.to_bytes(8, "little")
    return bytes(whole[:size_bytes])


async def _run_origin(pipe: Connection, folder: Path, size_bytes: int) -> None:
    origin = ScriptedCoordinator(folder)
    origin.chunk_bytes = _MIB
    await origin.start()
    weights = weights_of(size_bytes)
    for data in (CONFIG, weights):
        origin.blobs[hashlib.sha256(data).digest()] = data
    file = ModelFile(
        "model.safetensors",
        hashlib.sha256(weights).digest(),
        size_bytes,
        piece_list_sha256(digests_of(weights)),
    )
    files = (file_of("config.json", CONFIG), file)
    loop = asyncio.get_running_loop()
    while (asked := await loop.run_in_executor(None, pipe.recv)) is not None:
        if isinstance(asked, list):
            spec = Spec(folder, asked, files, origin.address)
            pipe.send(spec.write(origin))
        else:
            pipe.send(origin.sent_bytes)
    await origin.stop()


def _origin(pipe: Connection, folder: Path, size_bytes: int) -> None:
    asyncio.run(_run_origin(pipe, folder, size_bytes))


class Fleet:
    """An origin and its nodes."""

    def __init__(self, folder: Path, size_bytes: int, placed: list[Placed]) -> None:
        self.folder = folder
        self._pipe, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_origin, args=(theirs, folder, size_bytes)
        )
        self._process.start()
        self._pipe.send(placed)
        spec = self._pipe.recv()
        self.nodes = {one.node_id: PieceNode(spec, one.node_id) for one in placed}
        for node in self.nodes.values():
            node.answer()

    def origin_bytes(self) -> int:
        """Return what the origin has sent."""
        self._pipe.send("sent")
        return int(self._pipe.recv())

    def cpu_s(self, names: list[str]) -> float:
        """Return the processor time that nodes have used."""
        return sum(float(self.nodes[name].ask("stats")["cpu_total_s"]) for name in names)

    def restart(self, node_id: str) -> None:
        """Start a node again with an empty disk."""
        self.nodes[node_id].kill()
        for name in ("store", "models"):
            shutil.rmtree(self.folder / node_id / name, ignore_errors=True)
        self.nodes[node_id] = PieceNode(self.folder / "spec.json", node_id)
        self.nodes[node_id].answer()

    def close(self) -> None:
        for node in self.nodes.values():
            node.kill()
        self._pipe.send(None)
        self._process.join()


@contextlib.contextmanager
def fleet_of(size_bytes: int, placed: list[Placed]) -> Iterator[Fleet]:
    with tempfile.TemporaryDirectory(prefix="ef") as folder:
        fleet = Fleet(Path(folder), size_bytes, placed)
        try:
            yield fleet
        finally:
            fleet.close()


def measure_peers(size_bytes: int) -> dict[str, float]:
    """Pull from one peer and from three in turn, each beside SHA-256 in the same moment."""
    names = ["one", "two", "three"]
    placed = [Placed(name) for name in [*names, "puller"]]
    ratios: dict[int, list[float]] = {1: [], 3: []}
    rates: dict[int, list[float]] = {1: [], 3: []}
    rss, hashing = 0.0, []
    cpu_s: dict[str, list[float]] = {"puller": [], "peers": []}
    with fleet_of(size_bytes, placed) as fleet:
        for name in names:
            assert not fleet.nodes[name].ask("pull")["failure"]
        # what one has, three have; those that are not ordered to hold it send nothing
        for peers in (1, 3):
            for name in names[1:]:
                fleet.nodes[name].ask("order" if peers == 3 else "disorder")
            for _ in range(_ROUNDS):
                fleet.restart("puller")
                before, sent_cpu_s = sha256_bytes_per_s(), fleet.cpu_s(names)
                pulled = fleet.nodes["puller"].ask("pull")
                after = sha256_bytes_per_s()
                cpu_s["peers"].append(fleet.cpu_s(names) - sent_cpu_s)
                cpu_s["puller"].append(pulled["cpu_s"])
                assert not pulled["failure"], pulled
                assert pulled["peer_bytes"] >= size_bytes, pulled
                rate = pulled["pulled_bytes"] / pulled["took_s"]
                hashing.append((before + after) / 2)
                rates[peers].append(rate)
                ratios[peers].append(rate / hashing[-1])
                rss = max(rss, pulled["extra_rss_mb"])
    return {
        "size_mib": size_bytes / _MIB,
        "sha256_mb_per_s": statistics.median(hashing) / 1e6,
        "mb_per_s_1": statistics.median(rates[1]) / 1e6,
        "mb_per_s_3": statistics.median(rates[3]) / 1e6,
        "ratio_1": statistics.median(ratios[1]),
        "ratio_3": statistics.median(ratios[3]),
        "extra_rss_mb": rss,
        # what a pull costs whatever else runs, beside the hashing in it
        "cpu_s_per_gb_sha256": 1e9 / statistics.median(hashing),
        "cpu_s_per_gb_puller": statistics.median(cpu_s["puller"]) / size_bytes * 1e9,
        "cpu_s_per_gb_peers": statistics.median(cpu_s["peers"]) / size_bytes * 1e9,
    }


def measure_fanout(size_bytes: int, agents: int) -> dict[str, float]:
    """Have ``agents`` nodes pull one model at the same time."""
    placed = [Placed(f"node-{number}", f"P{number % 4}") for number in range(agents)]
    with fleet_of(size_bytes, placed) as fleet:
        began_s = time.perf_counter()
        for node in fleet.nodes.values():
            node.tell("pull")
        pulled = [node.answer() for node in fleet.nodes.values()]
        took_s = time.perf_counter() - began_s
        failures = [one["failure"] for one in pulled if one["failure"]]
        assert not failures, failures
        return {
            "fanout_agents": agents,
            "fanout_s": took_s,
            "origin_bytes_ratio": fleet.origin_bytes() / (size_bytes + len(CONFIG)),
        }


def first_requests() -> dict[str, float]:
    """Return the figures of simultaneous first requests, where their benchmark is there."""
    try:
        module = importlib.import_module("tests.bench.first_requests")
    except ModuleNotFoundError:
        return {}
    return dict(module.run())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--fanout-mib", type=int, default=256)
    parser.add_argument("--agents", type=int, default=20)
    options = parser.parse_args()
    found = measure_peers(options.mib * _MIB)
    found |= measure_fanout(options.fanout_mib * _MIB, options.agents)
    found |= first_requests()
    write_report("pull", found)
    for name, value in found.items():
        print(f"{name:24} {value:12.3f}")


if __name__ == "__main__":
    main()

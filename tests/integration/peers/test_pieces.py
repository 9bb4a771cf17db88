"""Nodes that pull from each other, as processes: killed, lied to, stalled, and kept out."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from protos.domain.pieces import PIECE_BYTES
from tests.support.piece_nodes import MODEL, PieceNode, Placed, Spec
from tests.support.pulled_objects import CONFIG, file_of, noise
from tests.support.raw_peer import RawPeer
from tests.support.scripted_coordinator import ScriptedCoordinator
from tests.support.waiting import wait_until

WEIGHTS = noise(24 * PIECE_BYTES + 777, 5)
FILES = (file_of("config.json", CONFIG), file_of("model.safetensors", WEIGHTS))
TOTAL = len(CONFIG) + len(WEIGHTS)
SEED, BAD, PULLER = Placed("seed"), Placed("bad"), Placed("puller")
OUTSIDE, UNKNOWN = Placed("outside", "IAD", "US"), Placed("unknown")


class Origin:
    """The scripted coordinator on an event loop of its own."""

    def __init__(self, folder: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.scripted = self.call(self._start(folder))
        for data in (CONFIG, WEIGHTS):
            self.scripted.blobs[hashlib.sha256(data).digest()] = data

    @staticmethod
    async def _start(folder: Path) -> ScriptedCoordinator:
        scripted = ScriptedCoordinator(folder)
        await scripted.start()
        return scripted

    def call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def close(self) -> None:
        self.call(self.scripted.stop())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class World:
    """The nodes of a test, started when asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.origin = Origin(folder)
        self.spec = Spec(
            folder,
            [SEED, BAD, PULLER, OUTSIDE, UNKNOWN],
            FILES,
            self.origin.scripted.address,
            residency=("BR",),
            unknown=frozenset({"unknown"}),
        )
        self.path = self.spec.write(self.origin.scripted)
        self.nodes: dict[str, PieceNode] = {}

    def node(self, name: str, *, empty: bool = False) -> PieceNode:
        """Return a running node; ``empty``: started again with nothing on its disk."""
        if empty:
            self.kill(name)
            for part in ("store", "models"):
                shutil.rmtree(self.folder / name / part, ignore_errors=True)
        if name not in self.nodes:
            self.nodes[name] = PieceNode(self.path, name)
            self.nodes[name].answer()
        return self.nodes[name]

    def kill(self, name: str) -> None:
        if (node := self.nodes.pop(name, None)) is not None:
            node.kill()

    def raw(self, name: str) -> RawPeer:
        file = self.folder / name / "identity" / "identity.pem"
        return RawPeer(file, file, file)

    def ask(self, name: str, path: str) -> tuple[int, bytes]:
        """Ask the seed as the node ``name``."""
        return self.raw(name).ask(self.spec.ports["seed"], "seed", path)

    def weights(self, name: str) -> bytes:
        (path,) = (self.folder / name / "models").glob("*/model.safetensors")
        return path.read_bytes()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The seed has the model, pulled from the coordinator."""
    made = World(tmp_path_factory.mktemp("w"))
    try:
        assert not made.node("seed").ask("pull")["failure"]
        yield made
    finally:
        for name in list(made.nodes):
            made.kill(name)
        made.origin.close()


def piece_path(index: int, file: int = 1, name: str = MODEL) -> str:
    quoted = name.replace("/", "%2F").replace("@", "%40")
    return f"/pieces/{quoted}/{FILES[file].sha256.hex()}/{index}"


def summary_path(name: str = MODEL) -> str:
    return piece_path(0, 0, name).rsplit("/", 2)[0]


def test_a_pull_from_a_peer_asks_the_coordinator_for_nothing(world: World) -> None:
    pulled = world.node("puller", empty=True).ask("pull")
    assert not pulled["failure"]
    assert (pulled["peer_bytes"], pulled["origin_bytes"]) == (TOTAL, 0)
    assert world.weights("puller") == WEIGHTS


def test_a_node_killed_at_random_moments_resumes_and_ends_with_the_right_bytes(
    world: World,
) -> None:
    draw = random.Random(7)
    partial = world.folder / "puller" / "store" / "partial" / FILES[1].sha256.hex()
    world.node("puller", empty=True)
    for _ in range(4):
        node = world.node("puller")
        node.tell("pull")
        wait_until(partial.exists, 30, "the pull to begin")
        time.sleep(draw.random() * 0.08)  # any moment of the pull is meant
        world.kill("puller")
        if not partial.exists():
            break
    pulled = world.node("puller").ask("pull")
    assert not pulled["failure"]
    assert world.weights("puller") == WEIGHTS


def test_pieces_that_the_bitmap_claims_wrongly_are_pulled_again(world: World) -> None:
    """A loss of power may keep the bitmap and lose the bytes."""
    store = world.folder / "puller" / "store"
    world.kill("puller")
    for part in ("store", "models"):
        shutil.rmtree(world.folder / "puller" / part, ignore_errors=True)
    (store / "partial").mkdir(parents=True)
    partial = store / "partial" / FILES[1].sha256.hex()
    partial.write_bytes(WEIGHTS[: 8 * PIECE_BYTES] + bytes(len(WEIGHTS) - 8 * PIECE_BYTES))
    partial.with_name(partial.name + ".pieces").write_bytes(b"\xff" * 4)
    pulled = world.node("puller").ask("pull")
    assert not pulled["failure"]
    assert pulled["pulled_bytes"] == TOTAL - 8 * PIECE_BYTES
    assert world.weights("puller") == WEIGHTS


@pytest.mark.parametrize("mode", ["wrong", "lie", "stall"])
def test_a_peer_that_misbehaves_is_left_and_the_pull_goes_on(world: World, mode: str) -> None:
    bad = world.node("bad", empty=mode == "lie")
    if mode != "lie":
        assert not bad.ask("pull")["failure"]
    bad.ask("order")
    bad.ask("be", mode=mode)
    try:
        pulled = world.node("puller", empty=True).ask("pull")
    finally:
        bad.ask("be", mode="")
    assert not pulled["failure"]
    assert world.weights("puller") == WEIGHTS
    if mode == "wrong":
        assert 0 < pulled["wrong_pieces"] <= 3
    if mode == "stall":
        assert pulled["abandoned"] > 0
    world.kill("bad")


def test_a_peer_that_is_killed_while_it_sends_is_replaced(world: World) -> None:
    bad = world.node("bad")
    assert not bad.ask("pull")["failure"]
    puller = world.node("puller", empty=True)
    puller.tell("pull")
    partial = world.folder / "puller" / "store" / "partial" / FILES[1].sha256.hex()
    wait_until(partial.exists, 30, "the pull to begin")
    world.kill("bad")
    assert not puller.answer()["failure"]
    assert world.weights("puller") == WEIGHTS


def test_a_node_that_may_hold_the_model_gets_its_pieces(world: World) -> None:
    status, body = world.ask("bad", summary_path())
    assert status == 200
    files = json.loads(body)["files"]
    assert int(files[FILES[1].sha256.hex()], 16) == (1 << 25) - 1
    assert world.ask("bad", piece_path(3)) == (
        200,
        WEIGHTS[3 * PIECE_BYTES : 4 * PIECE_BYTES],
    )
    assert world.ask("bad", piece_path(24))[1] == WEIGHTS[24 * PIECE_BYTES :]


def test_a_node_outside_the_residency_gets_403_for_everything(world: World) -> None:
    for path in (summary_path(), piece_path(0), piece_path(0).rsplit("/", 1)[0] + "/list"):
        status, body = world.ask("outside", path)
        assert status == 403
        assert b"may not hold" in body


def test_a_node_that_is_not_in_the_table_does_not_get_in(world: World) -> None:
    with pytest.raises(ConnectionError):
        world.ask("unknown", summary_path())


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (piece_path(25), 404),
        (piece_path(999_999), 404),
        (piece_path(0) + "0" * 30, 404),
        (piece_path(0).replace(FILES[1].sha256.hex(), "0" * 64), 404),
        (piece_path(0).replace(FILES[1].sha256.hex(), "..%2f..%2fidentity"), 404),
        (summary_path() + "/..", 404),
        (summary_path("acme/other@1"), 403),
        ("/pieces/", 403),
    ],
)
def test_what_is_not_here_or_of_no_deployment_is_refused(
    world: World, path: str, status: int
) -> None:
    assert world.ask("bad", path)[0] == status


def test_a_model_that_is_on_disk_but_not_ordered_any_more_is_not_served(world: World) -> None:
    seed = world.node("seed")
    seed.ask("disorder")
    try:
        assert world.ask("bad", piece_path(0))[0] == 404
    finally:
        seed.ask("order")


def test_a_node_is_sent_so_many_pieces_at_once_and_no_more(world: World) -> None:
    raw, port = world.raw("bad"), world.spec.ports["seed"]
    # several, because what fits into the kernel's buffers is sent at once
    request = f"GET {piece_path(0)} HTTP/1.1\r\nhost: x\r\n\r\n".encode() * 4
    secured = [raw.dial(port, "seed") for _ in range(4)]
    try:
        for one in secured:  # which read nothing: the pieces stay in progress
            one.sendall(request)
            assert one.recv(15) == b"HTTP/1.1 200 OK"
        found = raw.ask(port, "seed", piece_path(1))
        assert found[0] == 429
    finally:
        for one in secured:
            one.close()
    served: Callable[[], bool] = lambda: world.ask("bad", piece_path(1))[0] == 200  # noqa: E731
    wait_until(served, 20, "the places to be free again")


def test_nodes_that_are_updated_pull_the_next_version_from_the_origin_about_once(
    tmp_path: Path,
) -> None:
    """Before the switch the table serves another model, and names this one as the next."""
    origin = Origin(tmp_path)
    placed = [Placed(f"node-{number}") for number in range(4)]
    address = origin.scripted.address
    spec = Spec(tmp_path, placed, FILES, address, residency=("BR",), is_next=True)
    path = spec.write(origin.scripted)
    nodes = [PieceNode(path, one.node_id) for one in placed]
    try:
        for node in nodes:
            node.answer()
        for node in nodes:
            node.tell("pull")
        pulled = [node.answer() for node in nodes]
    finally:
        for node in nodes:
            node.kill()
        origin.close()
    assert not any(one["failure"] for one in pulled)
    assert sum(one["pulled_bytes"] for one in pulled) == 4 * TOTAL
    assert sum(one["origin_bytes"] for one in pulled) <= 1.5 * TOTAL

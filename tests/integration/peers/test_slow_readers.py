"""Who asks for pieces and reads nothing, slowly, or too many at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import pytest

from agent.peers.pieces import MAX_TO_ALL, MAX_TO_ONE, PieceServer, Shelf, object_target
from agent.relay.messages import Request
from protos.domain.fleet_view import FleetView, with_changes
from protos.domain.resources import Resource
from tests.support.fleets import MODEL, deployment, node, pop
from tests.support.waiting import wait_until_async

if TYPE_CHECKING:
    from agent.relay.server import ServerConnection

DIGEST = "ab" * 32
NODES = [f"gru-{number}" for number in range(8)]


class _Piece:
    size_bytes = 1024**2

    def __init__(self) -> None:
        self.closed = False

    def read_nowait(self, offset_bytes: int, length_bytes: int) -> bytearray:
        return bytearray(length_bytes)

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        return bytes(length_bytes)

    def close(self) -> None:
        self.closed = True


class _Shelf:
    def __init__(self) -> None:
        self.opened: list[_Piece] = []

    def pieces_here(self, name: str) -> Mapping[str, int]:
        return {DIGEST: 1}

    def list_here(self, name: str, digest: str) -> bytes:
        return bytes(512 * 1024)

    def open_piece(self, name: str, digest: str, index: int) -> _Piece:
        self.opened.append(_Piece())
        return self.opened[-1]


class _Client:
    """A connection whose other side reads ``reads`` bytes and then no more."""

    def __init__(self, node_id: str, reads: int = 0) -> None:
        self.context = node_id
        self.closing = False
        self.status = 0
        self.written = 0
        self._reads = reads

    def may_keep_alive(self, _request: Request) -> bool:
        return True

    def flow_from(self, source) -> None:
        self._source = source

    def write(self, data: bytes) -> None:
        self.status = 200
        self.written += len(data)
        if self.written > self._reads:
            self._source.pause()

    def respond(self, _request: Request, status: int, _headers, _body: bytes) -> None:
        self.status = status

    def abort(self) -> None:
        self.closing = True


def table() -> FleetView:
    rows: list[Resource] = [pop("GRU", zone="BR"), deployment()]
    return with_changes(FleetView(), (), [*rows, *(node(one, "GRU") for one in NODES)])


class _Port:
    """A server of pieces and those who ask it."""

    def __init__(self, max_send_s: float = 120.0) -> None:
        self.shelf = _Shelf()
        view = table()
        self.server = PieceServer(
            cast("Shelf", self.shelf), lambda: view, 0, lambda: 0.0, max_send_s
        )

    async def ask(self, client: _Client, *parts: str) -> _Client:
        target = object_target(MODEL, *parts)
        request = Request("GET", target, {}, b"", True, 0.0)
        await self.server.serve(request, cast("ServerConnection", client))
        return client


@pytest.mark.parametrize("part", ["0", "list"])
async def test_peers_that_never_read_hold_no_place_for_ever(part: str) -> None:
    port = _Port(max_send_s=0.2)
    async with asyncio.TaskGroup() as group:
        stalled = [
            group.create_task(port.ask(_Client(one), DIGEST, part))
            for one in NODES[: MAX_TO_ALL // MAX_TO_ONE]
            for _ in range(MAX_TO_ONE)
        ]
        await asyncio.sleep(0)  # each has begun, or asks for its list
    assert all(one.result().closing for one in stalled)
    assert all(one.closed for one in port.shelf.opened)
    assert (await port.ask(_Client(NODES[5], 2 * 1024**2), DIGEST, "0")).written > 1024**2


async def test_piece_lists_that_nobody_reads_are_as_few_as_pieces() -> None:
    port = _Port()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(port.ask(_Client(NODES[0]), DIGEST, "list")) for _ in range(100)]
        done = lambda: sum(one.done() for one in asked) >= 100 - MAX_TO_ONE  # noqa: E731
        await wait_until_async(done, 30, "the others to be refused")
        refused = [one.result() for one in asked if one.done()]
        assert {one.status for one in refused} == {429}
        for one in asked:
            if not one.done():
                one.cancel()

"""A scripted coordinator over mutual TLS: pushes what a test sets, and keeps what it receives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
from grpc import aio

from agent.link.certified_key import Issued, save_issued
from coordinator.ca.authority import CertificateAuthority
from coordinator.clock import now_unix_ms
from protos.domain.pieces import join_digests
from protos.v1 import fleet_pb2, fleet_pb2_grpc
from tests.support.certificates import p256_key, private_pem, request_der
from tests.support.pulled_objects import digests_of
from tests.support.waiting import wait_until_async

NODE_ID = "gru-1"
POP_ID = "GRU"


class ScriptedCoordinator(fleet_pb2_grpc.FleetServicer):
    """Listens on a free port; one agent at a time."""

    def __init__(self, folder: Path) -> None:
        self.authority = CertificateAuthority.create(folder / "ca", now_unix_ms=now_unix_ms)
        self.heard: list[fleet_pb2.AgentMessage] = []
        self.hellos: list[fleet_pb2.Hello] = []
        self.renewals = 0
        self.blobs: dict[bytes, bytes] = {}
        #: Piece lists that are not those of ``blobs``.
        self.piece_lists: dict[bytes, bytes] = {}
        self.blob_offsets: list[int] = []
        self.sent_bytes = 0
        self.chunk_bytes = 65_536
        #: Downloads after which the next ones wait for ``gate``.
        self.gate = asyncio.Event()
        self.hold_after: int | None = None
        #: Cut the next blob that is longer after so many bytes.
        self.cut_blob_after: int | None = None
        #: Whether it sends parts of files, as coordinators do since there are pieces.
        self.knows_lengths = True
        self._outgoing: asyncio.Queue[fleet_pb2.CoordinatorMessage] = asyncio.Queue()
        self._server: aio.Server | None = None
        self.port = 0
        self._nonce = 0

    async def start(self, port: int = 0) -> None:
        key, chain = self.authority.new_coordinator("scripted")
        credentials = grpc.ssl_server_credentials(
            [(key, chain)], self.authority.bundle_pem, require_client_auth=True
        )
        self._server = aio.server(options=(("grpc.so_reuseport", 0),))
        fleet_pb2_grpc.add_FleetServicer_to_server(self, self._server)
        self.port = self._server.add_secure_port(f"127.0.0.1:{port}", credentials)
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def enrol(self, folder: Path, node_id: str = NODE_ID, pop_id: str = POP_ID) -> None:
        """Give an agent the identity that an enrolment would have."""
        key = p256_key()
        issued = Issued(
            self.authority.issue_node(node_id, request_der(key)).pem,
            self.authority.bundle_pem,
            node_id=node_id,
            pop_id=pop_id,
            fleet_address=self.address,
        )
        save_issued(folder, private_pem(key), issued)

    def push(self, message: fleet_pb2.Snapshot | fleet_pb2.Delta) -> int:
        """Send a push with a nonce of its own, and return that."""
        self._nonce += 1
        message.nonce = self._nonce
        if isinstance(message, fleet_pb2.Snapshot):
            self.say(fleet_pb2.CoordinatorMessage(snapshot=message))
        else:
            self.say(fleet_pb2.CoordinatorMessage(delta=message))
        return self._nonce

    def say(self, message: fleet_pb2.CoordinatorMessage) -> None:
        self._outgoing.put_nowait(message)

    def beat(self) -> None:
        beat = fleet_pb2.Beat(unix_ms=now_unix_ms())
        self.say(fleet_pb2.CoordinatorMessage(beat=beat))

    async def verdict(self, nonce: int) -> fleet_pb2.Ack | fleet_pb2.Nack:
        """Return the agent's answer to a push."""

        def found() -> fleet_pb2.Ack | fleet_pb2.Nack | None:
            for message in self.heard:
                for answer in (message.ack, message.nack):
                    if answer.nonce == nonce:
                        return answer
            return None

        answer = await wait_until_async(found, 30, f"an answer to push {nonce}")
        assert answer is not None
        return answer

    async def Connect(
        self,
        request_iterator: AsyncIterator[fleet_pb2.AgentMessage],
        context: aio.ServicerContext,
    ) -> AsyncIterator[fleet_pb2.CoordinatorMessage]:
        first = await anext(request_iterator)
        self.hellos.append(first.hello)
        listening = asyncio.create_task(self._listen(request_iterator))
        try:
            while True:
                yield await self._outgoing.get()
        finally:
            listening.cancel()

    async def _listen(self, messages: AsyncIterator[fleet_pb2.AgentMessage]) -> None:
        async for message in messages:
            self.heard.append(message)

    async def Renew(
        self, request: fleet_pb2.RenewRequest, context: aio.ServicerContext
    ) -> fleet_pb2.RenewResponse:
        self.renewals += 1
        issued = self.authority.issue_node(NODE_ID, request.csr_der)
        return fleet_pb2.RenewResponse(
            certificate_pem=issued.pem, ca_bundle_pem=self.authority.bundle_pem
        )

    async def FetchBlob(
        self, request: fleet_pb2.FetchBlobRequest, context: aio.ServicerContext
    ) -> AsyncIterator[fleet_pb2.BlobChunk]:
        blob = self.blobs[request.sha256]
        if request.piece_list:
            listed = self.piece_lists.get(request.sha256) or join_digests(digests_of(blob))
            yield fleet_pb2.BlobChunk(data=listed)
            return
        self.blob_offsets.append(request.offset_bytes)
        if self.hold_after is not None and len(self.blob_offsets) > self.hold_after:
            await self.gate.wait()
        length = request.length_bytes if self.knows_lengths else 0
        data = blob[request.offset_bytes :]
        data = data[:length] if length else data
        if self.cut_blob_after is not None and len(data) > self.cut_blob_after:
            data, self.cut_blob_after = data[: self.cut_blob_after], None
        for at in range(0, len(data), self.chunk_bytes):
            self.sent_bytes += len(data[at : at + self.chunk_bytes])
            yield fleet_pb2.BlobChunk(data=data[at : at + self.chunk_bytes])

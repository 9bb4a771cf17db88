"""The peer port of a real agent: who gets in, and what they may ask there."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.certificates import p256_key, private_pem, self_signed_pem
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import Fleet
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess("acme-chat") as process:
        yield process


@pytest.fixture(scope="module")
def fleet(engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """IAD with the engine, GRU without."""
    with Fleet(tmp_path_factory.mktemp("p"), [engine.url]) as running:
        yield running


@dataclass
class Peer:
    """Who dials: an identity on disk, or none."""

    cert: Path | None
    key: Path | None
    ca: Path

    def dial(self, port: int, expected: str) -> ssl.SSLSocket:
        """Connect to the node that ``expected`` names. Raises: ssl.SSLError, OSError."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        if self.cert is not None:
            context.load_cert_chain(self.cert, self.key)
        raw = socket.create_connection(("127.0.0.1", port), timeout=30)
        try:
            return context.wrap_socket(raw, server_hostname=f"{expected}.node.edgeforge.internal")
        except BaseException:
            raw.close()
            raise

    def ask(
        self,
        port: int,
        expected: str,
        path: str = "/probe",
        body: object = None,
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Send one request. Raises: OSError when the connection is refused."""
        with self.dial(port, expected) as secured:
            connection = http.client.HTTPConnection("127.0.0.1", port)
            connection.sock = secured
            method = "GET" if body is None else "POST"
            payload = None if body is None else json.dumps(body)
            try:
                connection.request(method, path, payload, headers or {})
                response = connection.getresponse()
            except http.client.HTTPException as error:
                raise ConnectionError(str(error)) from error
            return response.status, response.read()


def node_identity(fleet: Fleet, node: str) -> Peer:
    folder = fleet.state_dir / "agents" / node / "identity"
    file = folder / "identity.pem"  # key, certificate and authorities are all in it
    return Peer(file, file, file)


GENERATION = {"model": "external/acme-chat@1", "messages": []}


def generation_headers(model: str = "external/acme-chat@1") -> dict[str, str]:
    return {"x-edgeforge-model": model, "content-type": "application/json"}


def test_a_node_of_the_table_is_answered(fleet: Fleet) -> None:
    gru = node_identity(fleet, "gru-1")
    status, body = gru.ask(fleet.peer_port("iad-1"), "iad-1")
    assert status == 200
    answer = json.loads(body)
    assert answer["node"] == "iad-1"
    assert answer["ready_models"] == ["external/acme-chat@1"]


def test_without_a_certificate_nobody_gets_in(fleet: Fleet) -> None:
    nobody = Peer(None, None, node_identity(fleet, "gru-1").ca)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        nobody.ask(fleet.peer_port("iad-1"), "iad-1")


def test_a_certificate_of_another_authority_does_not_get_in(fleet: Fleet, tmp_path: Path) -> None:
    key = p256_key()
    (tmp_path / "key.pem").write_bytes(private_pem(key))
    (tmp_path / "cert.pem").write_bytes(self_signed_pem(key, ("edgeforge://node/gru-1",)))
    stranger = Peer(tmp_path / "cert.pem", tmp_path / "key.pem", node_identity(fleet, "gru-1").ca)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        stranger.ask(fleet.peer_port("iad-1"), "iad-1")


def test_an_operators_certificate_opens_no_peer_port(fleet: Fleet) -> None:
    folder = fleet.state_dir / "coordinator" / "operators" / "local"
    operator = Peer(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        operator.ask(fleet.peer_port("iad-1"), "iad-1")
    wait_until(
        lambda: "connection refused" in fleet.log("iad-1"), 30, "the refusal to be in the log"
    )


def test_the_certificate_must_name_the_node_that_was_dialled(fleet: Fleet) -> None:
    gru = node_identity(fleet, "gru-1")
    with pytest.raises(ssl.SSLCertVerificationError):
        gru.dial(fleet.peer_port("iad-1"), "gru-1")


def test_a_peer_may_ask_for_what_is_served_here(fleet: Fleet, engine: FakeEngineProcess) -> None:
    engine.forget()
    gru = node_identity(fleet, "gru-1")
    port = fleet.peer_port("iad-1")
    status, body = gru.ask(port, "iad-1", "/v1/chat/completions", GENERATION, generation_headers())
    assert status == 200, body
    assert len(engine.requests()) == 1


def test_one_hop_a_peers_request_is_refused_where_it_cannot_be_served_never_placed_again(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    engine.forget()
    iad = node_identity(fleet, "iad-1")
    status, body = iad.ask(
        fleet.peer_port("gru-1"),
        "gru-1",
        "/v1/chat/completions",
        GENERATION,
        generation_headers(),
    )
    assert status == 503, body
    assert engine.requests() == []


@pytest.mark.parametrize(
    "path", ["/collective_rpc", "/pause", "/v1/load_lora_adapter", "/metrics", "/v1/models", "//"]
)
def test_a_peer_reaches_no_other_route_of_an_engine(
    fleet: Fleet, engine: FakeEngineProcess, path: str
) -> None:
    engine.forget()
    gru = node_identity(fleet, "gru-1")
    for body in (None, {}):
        status, _ = gru.ask(fleet.peer_port("iad-1"), "iad-1", path, body, generation_headers())
        assert status == 404
    assert engine.requests() == []


def test_a_body_of_a_peer_that_is_no_json_is_refused(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    engine.forget()
    gru = node_identity(fleet, "gru-1")
    status, _ = gru.ask(
        fleet.peer_port("iad-1"), "iad-1", "/v1/chat/completions", [1], generation_headers()
    )
    assert status == 400
    assert engine.requests() == []


def test_a_draining_node_is_ready_for_nothing_and_refuses_its_peers(fleet: Fleet) -> None:
    gru, port = node_identity(fleet, "gru-1"), fleet.peer_port("iad-1")
    fleet.agent("iad-1").ask("POST", "/drain")
    try:
        assert json.loads(gru.ask(port, "iad-1")[1])["ready_models"] == []
        status, body = gru.ask(
            port, "iad-1", "/v1/chat/completions", GENERATION, generation_headers()
        )
        assert (status, b"draining" in body) == (503, True)
    finally:
        fleet.agent("iad-1").ask("POST", "/resume")
    wait_until(  # the table still says for a moment that it drains
        lambda: json.loads(gru.ask(port, "iad-1")[1])["ready_models"] == ["external/acme-chat@1"],
        30,
        "iad-1 to be ready again",
    )


def test_a_node_that_was_removed_gets_in_no_longer(
    engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Fleet(tmp_path_factory.mktemp("r"), [engine.url]) as fleet:
        gru = node_identity(fleet, "gru-1")
        port = fleet.peer_port("iad-1")
        assert gru.ask(port, "iad-1")[0] == 200
        standing = gru.dial(port, "iad-1")
        fleet.edgeforge("node", "rm", "gru-1")

        def refused() -> bool:
            try:
                return gru.ask(port, "iad-1")[0] != 200
            except OSError:
                return True

        wait_until(refused, 30, "the removed node to be refused")
        with standing:  # a connection from before is worth nothing either
            standing.sendall(b"GET /probe HTTP/1.1\r\nhost: iad-1\r\n\r\n")
            assert b"403" in standing.recv(4_096).partition(b"\r\n")[0]

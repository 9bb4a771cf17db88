"""The peer port of a real agent: who gets in, and what they may ask there."""

from __future__ import annotations

import contextlib
import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.certificates import p256_key, private_pem, self_signed_pem
from tests.support.engine_routes import PRIVATE
from tests.support.fake_engine_process import FakeEngineProcess
from tests.support.fleet import COMMANDS, Fleet
from tests.support.raw_peer import RawPeer, generation_headers, named, node_identity, served
from tests.support.waiting import wait_until, waited_s


@pytest.fixture(scope="module")
def engine() -> Iterator[FakeEngineProcess]:
    with FakeEngineProcess("acme-chat") as process:
        yield process


@pytest.fixture(scope="module")
def fleet(engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """IAD with the engine, GRU without."""
    with Fleet(tmp_path_factory.mktemp("p"), [engine.url]) as running:
        yield running


COUNTS = ("requests", "prompt_tokens", "completion_tokens")
GENERATION = {"model": "external/acme-chat@1", "messages": []}


def test_a_node_of_the_table_is_answered(fleet: Fleet) -> None:
    gru = node_identity(fleet, "gru-1")
    status, body = gru.ask(fleet.peer_port("iad-1"), "iad-1")
    assert status == 200
    answer = json.loads(body)
    assert answer["node"] == "iad-1"
    assert answer["ready_models"] == ["external/acme-chat@1"]


def test_without_a_certificate_nobody_gets_in(fleet: Fleet) -> None:
    nobody = RawPeer(None, None, node_identity(fleet, "gru-1").ca)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        nobody.ask(fleet.peer_port("iad-1"), "iad-1")


def test_a_certificate_of_another_authority_does_not_get_in(fleet: Fleet, tmp_path: Path) -> None:
    key = p256_key()
    (tmp_path / "key.pem").write_bytes(private_pem(key))
    (tmp_path / "cert.pem").write_bytes(self_signed_pem(key, ("edgeforge://node/gru-1",)))
    ca = node_identity(fleet, "gru-1").ca
    stranger = RawPeer(tmp_path / "cert.pem", tmp_path / "key.pem", ca)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        stranger.ask(fleet.peer_port("iad-1"), "iad-1")


def test_an_operators_certificate_opens_no_peer_port(fleet: Fleet) -> None:
    folder = fleet.state_dir / "coordinator" / "operators" / "local"
    operator = RawPeer(folder / "cert.pem", folder / "key.pem", folder / "ca.pem")
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
    status, body = gru.ask(
        port, "iad-1", "/v1/chat/completions", GENERATION, generation_headers(fleet)
    )
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
        generation_headers(fleet),
    )
    assert status == 503, body
    assert engine.requests() == []


@pytest.mark.parametrize("path", [*PRIVATE, "/v1/models", "//"])
def test_a_peer_reaches_no_other_route_of_an_engine(
    fleet: Fleet, engine: FakeEngineProcess, path: str
) -> None:
    engine.forget()
    gru = node_identity(fleet, "gru-1")
    for body in (None, {}):
        status, _ = gru.ask(
            fleet.peer_port("iad-1"), "iad-1", path, body, generation_headers(fleet)
        )
        assert status == 404
    assert engine.requests() == []


def test_a_body_of_a_peer_that_is_no_json_is_refused(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    engine.forget()
    gru = node_identity(fleet, "gru-1")
    status, _ = gru.ask(
        fleet.peer_port("iad-1"), "iad-1", "/v1/chat/completions", [1], generation_headers(fleet)
    )
    assert status == 400
    assert engine.requests() == []


@pytest.mark.parametrize(
    "fields",
    [
        {"chat_template": "{{ messages }}"},
        {"chat_template_kwargs": {"chat_template": "x"}},
        {"priority": -1},
        {"kv_transfer_params": {"do_remote_prefill": True}},
        {"n": 5_000},
        {"prompt_logprobs": -1},
        {"messages": [{"role": "user", "content": [{"image_url": {"url": "http://h/"}}]}]},
        {"stream": "perhaps"},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_a_peers_body_that_its_own_gateway_would_refuse_reaches_no_engine_and_flags_the_peer(
    fleet: Fleet, engine: FakeEngineProcess, fields: dict[str, Any]
) -> None:
    engine.forget()
    gru = node_identity(fleet, "gru-1")
    before = served(fleet, "iad-1")["flagged"].get("gru-1", {"count": 0})["count"]
    status, body = gru.ask(
        fleet.peer_port("iad-1"),
        "iad-1",
        "/v1/chat/completions",
        GENERATION | fields,
        generation_headers(fleet),
    )
    assert status == 400, body
    assert engine.requests() == []
    flagged = served(fleet, "iad-1")["flagged"]["gru-1"]
    assert flagged["count"] == before + 1
    assert "invalid request of a peer node=gru-1" in fleet.log("iad-1")
    assert "gru-1" in fleet.agent("iad-1").status()["flagged_peers"]


def test_a_peer_neither_chooses_an_accounts_salt_nor_sees_one(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    engine.forget()
    gru, port = node_identity(fleet, "gru-1"), fleet.peer_port("iad-1")
    body = GENERATION | {"cache_salt": "anothers", "store": True, "request_id": "mine"}
    for _ in range(2):
        status, _ = gru.ask(port, "iad-1", "/v1/chat/completions", body, generation_headers(fleet))
        assert status == 200
    assert fleet.agent("iad-1").chat().status == 200
    assert fleet.agent("gru-1").chat().status == 200
    bodies = [one["body"] for one in engine.requests()]
    assert len(bodies) == 4
    (salt,) = {body["cache_salt"] for body in bodies}  # of the account on this node, either way
    assert len(salt) == 64
    assert not any("store" in body or "request_id" in body for body in bodies)
    for path in (fleet.state_dir / "agents" / "gru-1").rglob("*"):
        assert not path.is_file() or salt.encode() not in path.read_bytes()


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"account": ""}, 403),
        ({"deployment": ""}, 403),
        ({"model": ""}, 403),
        ({"account": "nobody"}, 503),
        ({"deployment": "nothing"}, 503),
        ({"model": "external/other@1"}, 409),
    ],
)
def test_an_account_header_that_is_missing_or_false_is_refused(
    fleet: Fleet, engine: FakeEngineProcess, changes: dict[str, str], status: int
) -> None:
    engine.forget()
    gru = node_identity(fleet, "gru-1")
    headers = generation_headers(fleet, **changes)
    answer = gru.ask(fleet.peer_port("iad-1"), "iad-1", "/v1/chat/completions", GENERATION, headers)
    assert answer[0] == status, answer
    assert engine.requests() == []


def test_another_accounts_deployment_is_not_served_under_a_false_account(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    fleet.edgeforge("account", "create", "rival")
    engine.forget()
    gru = node_identity(fleet, "gru-1")

    def status() -> int:
        headers = generation_headers(fleet, account="rival")
        path = "/v1/chat/completions"
        return gru.ask(fleet.peer_port("iad-1"), "iad-1", path, GENERATION, headers)[0]

    wait_until(lambda: status() == 403, 30, "the account to be known, and the request refused")
    assert engine.requests() == []


def counted(fleet: Fleet) -> dict[str, Any]:
    """What IAD has counted for requests that came by GRU."""
    listed = served(fleet, "iad-1")["accounts"]
    found = [one for one in listed if one["asking_node"] == "gru-1"]
    assert [one["account"] for one in found] in ([], ["default"])
    return found[0] if found else dict.fromkeys(COUNTS, 0)


CONVERSATION = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 99}


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", CONVERSATION),
        ("/v1/completions", {"prompt": "hello"}),
        ("/v1/responses", {"input": "hello"}),
        ("/v1/messages", CONVERSATION),
    ],
)
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_the_serving_agent_keeps_its_own_count_and_a_record_of_every_request(
    fleet: Fleet, engine: FakeEngineProcess, path: str, fields: dict[str, Any], stream: bool
) -> None:
    before, gru = counted(fleet), fleet.agent("gru-1")
    engine.control(prompt_tokens=11, tokens=5)
    try:
        answer = gru.send({"model": gru.model, "stream": stream} | fields, path=path)
        assert answer.status == 200
        wait_until(lambda: counted(fleet)["requests"] > before["requests"], 30, "it to be counted")
    finally:
        engine.control()
    after = counted(fleet)
    assert [after[name] - before[name] for name in COUNTS] == [1, 11, 5]
    newest = served(fleet, "iad-1")["requests"][0]
    assert newest["trace_id"] == gru.last_request()["trace_id"]
    assert (newest["asking_node"], newest["complete"]) == ("gru-1", True)
    assert (newest["deployment"], newest["path"]) == (fleet.model, path)


def test_a_stream_that_its_client_leaves_is_counted_as_far_as_it_came(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    before, gru = counted(fleet), fleet.agent("gru-1")
    engine.control(hold_after_tokens=3)
    try:
        with contextlib.closing(gru.connect()) as connection:
            body = json.dumps({"model": gru.model, "stream": True} | CONVERSATION)
            headers = {"authorization": f"Bearer {gru.api_key}"}
            connection.request("POST", "/v1/chat/completions", body, headers)
            with contextlib.closing(connection.getresponse()) as response:
                while b"t2" not in response.readline():
                    pass
        wait_until(lambda: counted(fleet)["requests"] > before["requests"], 30, "it to be counted")
    finally:
        engine.control()
    after = counted(fleet)
    assert [after[name] - before[name] for name in COUNTS] == [1, 7, 3]
    assert served(fleet, "iad-1")["requests"][0]["complete"] is False


def test_the_operator_of_a_host_sees_what_it_served_for_whom(fleet: Fleet) -> None:
    assert fleet.agent("gru-1").chat().status == 200
    config = str(fleet.state_dir / "agents" / "iad-1.toml")
    said = fleet.run([str(COMMANDS / "edgeforge-agent"), "served", "--config", config])
    (line,) = [one for one in said.splitlines() if "default" in one]
    assert "gru-1" in line
    total = json.loads(
        fleet.run([str(COMMANDS / "edgeforge-agent"), "served", "--config", config, "--json"])
    )["total"]
    metrics = fleet.metrics("iad-1")
    assert f"edgeforge_peer_served_requests_total {float(total['requests'])}" in metrics


@pytest.mark.parametrize(
    "uris",
    [
        ("edgeforge://node/gru-1", "edgeforge://operator/local"),
        ("edgeforge://operator/local", "edgeforge://node/gru-1"),
        ("edgeforge://node/gru-1", "edgeforge://node/iad-1"),
        ("edgeforge://node/gru-1", "edgeforge://king/x"),
        ("https://gru-1",),
    ],
)
def test_a_certificate_with_two_names_opens_no_peer_port(
    fleet: Fleet, tmp_path: Path, uris: tuple[str, ...]
) -> None:
    port = fleet.peer_port("iad-1")
    alone = named(fleet, tmp_path, "edgeforge://node/gru-1")
    assert alone.ask(port, "iad-1")[0] == 200  # the same authority, one name
    with pytest.raises((ssl.SSLError, ConnectionError)):
        named(fleet, tmp_path, *uris).ask(port, "iad-1")


def test_a_draining_node_is_ready_for_nothing_and_refuses_its_peers(fleet: Fleet) -> None:
    gru, port = node_identity(fleet, "gru-1"), fleet.peer_port("iad-1")
    fleet.agent("iad-1").ask("POST", "/drain")
    try:
        assert json.loads(gru.ask(port, "iad-1")[1])["ready_models"] == []
        status, body = gru.ask(
            port, "iad-1", "/v1/chat/completions", GENERATION, generation_headers(fleet)
        )
        assert (status, b"draining" in body) == (503, True)
    finally:
        fleet.agent("iad-1").ask("POST", "/resume")
    wait_until(  # the table still says for a moment that it drains
        lambda: json.loads(gru.ask(port, "iad-1")[1])["ready_models"] == ["external/acme-chat@1"],
        30,
        "iad-1 to be ready again",
    )


def test_a_node_that_was_removed_gets_in_no_longer_and_its_running_stream_is_cut_within_2_s(
    engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Fleet(tmp_path_factory.mktemp("r"), [engine.url]) as fleet:
        gru = node_identity(fleet, "gru-1")
        port = fleet.peer_port("iad-1")
        assert gru.ask(port, "iad-1")[0] == 200
        engine.control(hold_after_tokens=3)
        with gru.dial(port, "iad-1") as idle, gru.dial(port, "iad-1") as streaming:
            begin_stream(streaming, fleet)
            assert engine.running() == 1
            fleet.edgeforge("node", "rm", "gru-1")
            took_s = waited_s(lambda: engine.running() == 0, 30, "the engine to be told")
            assert took_s < 2.0
            for one in (streaming, idle):
                assert_cut(one)

        def refused() -> bool:
            try:
                return gru.ask(port, "iad-1")[0] != 200
            except OSError:
                return True

        wait_until(refused, 30, "the removed node to be refused")
        engine.control()


def test_one_node_cannot_hold_every_connection_of_anothers_peer_port(
    engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    most = 20
    with (
        Fleet(tmp_path_factory.mktemp("s"), [engine.url]) as fleet,
        contextlib.ExitStack() as held,
    ):
        fleet.configure("iad-1", "client", max_connections=most)
        gru, other = node_identity(fleet, "gru-1"), node_identity(fleet, "iad-1")
        port = fleet.peer_port("iad-1")
        wait_until(lambda: fleet.agent("gru-1").chat().status == 200, 60, "iad-1 to serve again")
        engine.control(hold_after_tokens=1)
        for _ in range(2 * most):
            with contextlib.suppress(OSError):  # cut, or refused
                ask_for_stream(held.enter_context(gru.dial(port, "iad-1")), fleet)
        assert other.ask(port, "iad-1")[0] == 200
        engine.control()


def test_a_body_over_the_share_is_refused_with_a_time_to_retry_so_that_no_peer_is_ejected_for_it(
    engine: FakeEngineProcess, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Fleet(tmp_path_factory.mktemp("b"), [engine.url]) as fleet, contextlib.ExitStack() as held:
        mib = 1024 * 1024
        fleet.configure("iad-1", "client", max_body_bytes=mib)
        fleet.configure("iad-1", "limits", max_body_bytes_in_flight=4 * mib)
        gru, port = node_identity(fleet, "gru-1"), fleet.peer_port("iad-1")
        wait_until(lambda: fleet.agent("gru-1").chat().status == 200, 60, "iad-1 to serve again")
        headers = generation_headers(fleet) | {"host": "iad-1", "content-length": str(mib)}
        lines = [f"{name}: {value}" for name, value in headers.items()]
        head = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", *lines, "", ""]).encode()
        for _ in range(2):
            connection = held.enter_context(gru.dial(port, "iad-1"))
            connection.sendall(head)
        answer = connection.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 503 "), answer
        assert b"x-edgeforge-refused: 1" in answer
        assert b";retry=1\r\n" in answer


def test_a_peers_running_stream_of_a_removed_deployment_is_cut_within_2_s(
    fleet: Fleet, engine: FakeEngineProcess
) -> None:
    gru, port = node_identity(fleet, "gru-1"), fleet.peer_port("iad-1")
    model = f"external/{fleet.model}@1"
    create = ("deployment", "create", "second", "--model", model, "--account", "default")
    fleet.edgeforge(*create, "--budget-ms", "500", "--node", "iad-1")
    headers = generation_headers(fleet, deployment="second")
    path = "/v1/chat/completions"
    wait_until(
        lambda: gru.ask(port, "iad-1", path, GENERATION, headers)[0] == 200, 30, "it to be known"
    )
    engine.control(hold_after_tokens=3)
    try:
        with gru.dial(port, "iad-1") as streaming:
            begin_stream(streaming, fleet, deployment="second")
            fleet.edgeforge("deployment", "rm", "second")
            took_s = waited_s(lambda: engine.running() == 0, 30, "the engine to be told")
            assert took_s < 2.0
            assert_cut(streaming)
    finally:
        engine.control()
    assert "edgeforge_peer_revoked_total 1.0" in fleet.metrics("iad-1")


def ask_for_stream(connection: ssl.SSLSocket, fleet: Fleet, **changes: str) -> None:
    """Ask for a stream as a peer does."""
    body = json.dumps(GENERATION | {"stream": True}).encode()
    headers = generation_headers(fleet, **changes) | {"content-length": str(len(body))}
    lines = ["POST /v1/chat/completions HTTP/1.1", "host: iad-1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    connection.sendall("\r\n".join([*lines, "", ""]).encode() + body)


def begin_stream(connection: ssl.SSLSocket, fleet: Fleet, **changes: str) -> None:
    """Ask for a stream as a peer does, and wait for its first token."""
    ask_for_stream(connection, fleet, **changes)
    received = b""
    while b"t0" not in received:
        part = connection.recv(65_536)
        assert part, received
        received += part


def assert_cut(connection: ssl.SSLSocket) -> None:
    """Read what is left, up to the end of the connection."""
    connection.settimeout(30)
    with contextlib.suppress(ConnectionError, ssl.SSLEOFError):
        while connection.recv(65_536):
            pass

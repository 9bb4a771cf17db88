"""The command: its files, its refusals, its end."""

from __future__ import annotations

import json
import signal
import socket
import stat
import subprocess
import tomllib
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from coordinator.ca.authority import CertificateAuthority
from coordinator.clock import now_unix_ms
from tests.support.coordinator_process import COMMAND, SECTIONS, CoordinatorProcess
from tests.support.ports import free_ports

CONFIG_EXIT = 78


@pytest.fixture
def fresh(tmp_path: Path):
    """Configured, and not initialised."""
    process = CoordinatorProcess(tmp_path)
    yield process
    process.stop()


def get(process: CoordinatorProcess, path: str) -> tuple[int, str, str]:
    """Return status, content type and body."""
    url = f"http://{process.address('http')}{path}"
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def test_init_makes_what_serve_and_the_operator_need(fresh: CoordinatorProcess) -> None:
    made = fresh.init()
    profile = Path(made["profile"])
    assert profile == fresh.operator_dir / "profile.toml"
    told = tomllib.loads(profile.read_text())
    assert told["admin_address"] == fresh.address("admin")
    for name in ("ca_file", "cert_file", "key_file"):
        assert (profile.parent / told[name]).is_file()
    for private in (fresh.operator_dir / "key.pem", fresh.state_dir / "ca" / "authority.pem"):
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    authority = CertificateAuthority.load(fresh.state_dir / "ca", now_unix_ms=now_unix_ms)
    assert made["ca_sha256"] == authority.sha256_hex
    assert sorted(path.name for path in fresh.state_dir.iterdir()) == [
        "blobs",
        "ca",
        "coordinator.db",
        "operators",
    ]


def test_init_never_overwrites(fresh: CoordinatorProcess) -> None:
    fresh.init()
    before = (fresh.state_dir / "ca" / "authority.pem").read_bytes()
    again = fresh.command("init")
    assert again.returncode == 1
    assert "never overwritten" in again.stderr
    assert (fresh.state_dir / "ca" / "authority.pem").read_bytes() == before


def test_init_with_an_impossible_operator_leaves_nothing(fresh: CoordinatorProcess) -> None:
    done = fresh.command("init", "--operator", "../root")
    assert done.returncode == 1
    assert not fresh.state_dir.exists()


def test_serve_before_init_says_what_to_do_and_is_not_restarted(fresh: CoordinatorProcess) -> None:
    done = fresh.command("serve")
    assert done.returncode == CONFIG_EXIT
    assert "edgeforge-coordinator init" in done.stderr
    assert "Traceback" not in done.stderr


def test_serve_on_a_database_of_0_bytes_makes_no_new_fleet_and_exits_78(
    fresh: CoordinatorProcess,
) -> None:
    fresh.init_here()
    database = fresh.state_dir / "coordinator.db"
    database.write_bytes(b"")
    done = fresh.command("serve")
    assert done.returncode == CONFIG_EXIT
    assert "coordinator.db is empty" in done.stderr
    assert "restore BACKUP" in done.stderr
    assert "Traceback" not in done.stderr
    assert database.read_bytes() == b""


def test_three_mistakes_are_all_named(fresh: CoordinatorProcess) -> None:
    fresh.config.write_text(
        fresh.config.read_text()
        + '[health]\nlease_ms = 100\nstatus_intervall_ms = 2000\n[limits]\nmax_agents = "many"\n'
    )
    done = fresh.command("serve", environ={"EDGEFORGE_COORDINATOR__HTTP__PORT": "web"})
    assert done.returncode == CONFIG_EXIT
    for named in (
        "health.lease_ms",
        "health.status_intervall_ms",
        "status_interval_ms",
        "limits.max_agents",
        "http.port",
    ):
        assert named in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("section", ["fleet", "admin", "enrolment", "http"])
def test_a_port_in_use_is_one_message(fresh: CoordinatorProcess, section: str) -> None:
    fresh.init_here()
    with socket.create_server(("127.0.0.1", fresh.ports[section])):
        done = fresh.command("serve")
    assert done.returncode == CONFIG_EXIT
    complaints = [line for line in done.stderr.splitlines() if "edgeforge-coordinator:" in line]
    (complaint,) = complaints
    assert f"{section}: " in complaint
    assert str(fresh.ports[section]) in complaint
    assert "Traceback" not in done.stderr


def test_two_coordinators_never_share_a_database(fresh: CoordinatorProcess) -> None:
    fresh.init_here()
    fresh.start()
    environ = {
        f"EDGEFORGE_COORDINATOR__{name.upper()}__PORT": str(port)
        for name, port in zip(SECTIONS, free_ports(len(SECTIONS)), strict=True)
    }
    done = fresh.command("serve", environ=environ)
    assert done.returncode == 1
    assert "another coordinator is running" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(fresh: CoordinatorProcess, number: signal.Signals) -> None:
    fresh.init_here()
    fresh.start()
    assert fresh.stop(number) == 0
    assert "coordinator stopped" in fresh.log_text()
    assert "Traceback" not in fresh.log_text()
    # No write-ahead log is left beside the database, and all ports are free again.
    assert not (fresh.state_dir / "coordinator.db-wal").exists()
    fresh.start()


def test_http_shows_health_metrics_and_prices(fresh: CoordinatorProcess) -> None:
    fresh.init_here()
    fresh.start()
    assert get(fresh, "/livez")[0] == 200
    status, _, body = get(fresh, "/readyz")
    assert (status, json.loads(body)) == (200, {"ready": True, "missing": []})
    status, kind, body = get(fresh, "/metrics")
    assert status == 200
    assert kind.startswith("text/plain")
    assert "edgeforge_coordinator_agents_connected 0.0" in body
    assert "process_resident_memory_bytes" in body
    status, kind, body = get(fresh, "/v1/prices")
    card = json.loads(body)
    assert (status, kind) == (200, "application/json")
    assert card["card_version"] == 1
    rates = {
        (line["size_class"], line["tier"]): line["prompt_nano_usd_per_token"]
        for line in card["prices"]
    }
    assert 1.15 <= rates["xs", "edge"] / rates["xs", "central"] <= 1.25
    status, kind, body = get(fresh, "/prices")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert "<td>xs</td><td>edge</td><td>0.024</td>" in body
    assert get(fresh, "/pricing")[2] == body
    assert json.loads(get(fresh, "/pricing.json")[2]) == card
    assert card["surcharges_percent"]["realtime"] == 10
    assert get(fresh, "/secrets")[0] == 404


def test_http_connections_are_limited_and_the_one_idle_for_longest_ends(tmp_path: Path) -> None:
    process = CoordinatorProcess(tmp_path, "[limits]\nmax_http_connections = 2\n")
    process.init_here()
    process.start()
    address = ("127.0.0.1", process.ports["http"])
    held = []
    try:
        for _ in range(2):
            one = socket.create_connection(address, timeout=30)
            one.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200 OK" in one.recv(4_096)
            held.append(one)
        with socket.create_connection(address, timeout=30) as third:
            third.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert _answered(third)
            assert not _answered(held[0])
    finally:
        for one in held:
            one.close()
        process.stop()


def test_every_command_has_help() -> None:
    for command in ("init", "serve", "restore"):
        done = subprocess.run(
            [COMMAND, command, "--help"], capture_output=True, text=True, check=True, timeout=60
        )
        assert "--config" in done.stdout
        assert "--json" in done.stdout


def _answered(connection: socket.socket) -> bool:
    try:
        return bool(connection.recv(4_096))
    except ConnectionResetError:
        return False

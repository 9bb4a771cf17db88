"""``edgeforge-agent doctor`` on real hosts: what is right, what is wrong, the next step."""

from __future__ import annotations

import datetime
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from agent.doctor.coordinator import check_coordinator
from tests.support.agent_process import AgentProcess
from tests.support.certificates import p256_key, private_pem
from tests.support.waiting import wait_until

MakeAgent = Callable[..., AgentProcess]
MakeToken = Callable[..., str]
DAY = datetime.timedelta(days=1)


def findings(agent: AgentProcess) -> dict[str, dict[str, object]]:
    done = agent.command("doctor", "--json")
    assert "Traceback" not in done.stderr
    return {finding["check"]: finding for finding in json.loads(done.stdout)}


def client_pair(
    folder: Path, names: list[str], *, ends: datetime.timedelta = 90 * DAY
) -> tuple[Path, Path]:
    """A certificate and its key, for these names, from 100 days ago."""
    key, now = p256_key(), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "client port")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 100 * DAY)
        .not_valid_after(now + ends)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    folder.mkdir(exist_ok=True)
    cert_file, key_file = folder / "cert.pem", folder / "key.pem"
    cert_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_file.write_bytes(private_pem(key))
    return cert_file, key_file


def test_beside_the_running_agent_everything_is_well(
    make_agent: MakeAgent, token: MakeToken
) -> None:
    agent = make_agent(extra='[gpu]\nkind = "cpu"\n')
    assert agent.enroll(token()).returncode == 0
    agent.start()
    wait_until(
        lambda: "not told yet" not in str(findings(agent)["peer address"]["found"]),
        30,
        "the agent to be listed",
    )
    found = findings(agent)
    assert all(one["ok"] for one in found.values()), found
    assert "the agent runs" in str(found["build"]["found"])
    assert "held by the agent" in str(found["ports"]["found"])
    assert "knows gru-" in str(found["coordinator"]["found"])
    assert str(found["clock"]["found"]).startswith("0.")
    assert str(found["accelerators"]["found"]).startswith("cpu: 0 ")
    assert "1 spools" in str(found["usage records"]["found"])
    assert "counts usage and grants quota" in str(found["usage link"]["found"])


def test_a_removed_node_cannot_log_in_and_the_doctor_says_so(
    make_agent: MakeAgent, token: MakeToken, edgeforge
) -> None:
    agent = make_agent()
    assert agent.enroll(token()).returncode == 0
    found = findings(agent)
    node = str(found["identity"]["found"]).split()[0]
    assert found["coordinator"]["ok"]
    assert edgeforge("node", "rm", node).returncode == 0
    refused = findings(agent)["coordinator"]
    assert not refused["ok"]
    assert "removed" in str(refused["found"])


async def test_without_services_for_usage_or_space_for_records_the_doctor_says_what_waits(
    make_agent: MakeAgent, token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.config_file import load_config
    from agent.doctor import usage
    from protos.domain.errors import LinkDown

    agent = make_agent()
    assert agent.enroll(token()).returncode == 0
    config = load_config(agent.config, {})

    async def of_an_earlier_version(*_: object) -> None:
        raise LinkDown("the coordinator is of a version without this service", "upgrade it")

    monkeypatch.setattr(usage, "ask_usage_services", of_an_earlier_version)
    link = await usage.check_usage_link(config)
    assert (link.ok, link.next_step) == (False, "upgrade it")
    quarantine = config.usage_dir / "quarantine"
    quarantine.mkdir(parents=True)
    (quarantine / "x").write_bytes(b"?")
    damaged = usage.check_usage_folder(config)
    assert damaged.result == "warning"
    assert "1 files in quarantine" in damaged.found
    monkeypatch.setattr(usage.shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    full = usage.check_usage_folder(config)
    assert not full.ok
    assert "refused" in full.next_step


async def test_a_clock_that_is_off_is_told_against_the_coordinators(
    make_agent: MakeAgent, token: MakeToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    from agent.clock import now_unix_ms
    from agent.config_file import load_config

    agent = make_agent()
    assert agent.enroll(token()).returncode == 0
    config = load_config(agent.config, {})
    for behind_s, ok, step in ((5, True, True), (3_600, False, True)):
        monkeypatch.setattr(
            "agent.doctor.coordinator.now_unix_ms",
            lambda behind_s=behind_s: now_unix_ms() - behind_s * 1_000,
        )
        clock = {one.check: one for one in await check_coordinator(config)}["clock"]
        assert (clock.ok, bool(clock.next_step)) == (ok, step)
        assert "behind the coordinator's" in clock.found


TLS_FAULTS = [
    pytest.param({"names": ["other.example"]}, "it is for other.example", id="another name"),
    pytest.param({"ends": -DAY}, "not valid now", id="expired"),
    pytest.param({"stranger": True}, "client.cert_file", id="key of another"),
    pytest.param({"missing": True}, "No such file", id="no file"),
]


@pytest.mark.parametrize(("fault", "said"), TLS_FAULTS)
def test_a_tls_pair_that_clients_would_refuse_is_found(
    make_agent: MakeAgent, tmp_path: Path, fault: dict, said: str
) -> None:
    names = fault.get("names", ["api.example"])
    cert, key = client_pair(tmp_path / "tls", names, ends=fault.get("ends", 90 * DAY))
    if fault.get("stranger"):
        _, key = client_pair(tmp_path / "other", names)
    if fault.get("missing"):
        cert.unlink()
    agent = make_agent()
    text = agent.config.read_text().replace(
        "[client]\n",
        f'[client]\nurl = "https://api.example"\ncert_file = "{cert}"\nkey_file = "{key}"\n',
    )
    agent.config.write_text(text)
    found = findings(agent)["client TLS"]
    assert not found["ok"]
    assert said in str(found["found"])
    assert found["next_step"]


@pytest.mark.parametrize("names", [["api.example"], ["*.example"]])
def test_a_right_tls_pair_is_told_with_its_days(
    make_agent: MakeAgent, tmp_path: Path, names: list[str]
) -> None:
    cert, key = client_pair(tmp_path / "tls", names)
    agent = make_agent()
    agent.config.write_text(
        agent.config.read_text().replace(
            "[client]\n",
            f'[client]\nurl = "https://api.example"\ncert_file = "{cert}"\nkey_file = "{key}"\n',
        )
    )
    found = findings(agent)["client TLS"]
    assert found["ok"]
    assert "90 more days" in str(found["found"])


def test_a_socket_path_that_is_too_long_is_found_before_the_start(make_agent: MakeAgent) -> None:
    agent = make_agent("a" * 100)
    found = findings(agent)["sockets"]
    assert not found["ok"]
    assert "admin.socket" in str(found["next_step"])


def test_a_file_of_another_user_in_the_state_folder_is_found_with_the_command_that_mends_it(
    make_agent: MakeAgent, token: MakeToken
) -> None:
    agent = make_agent()
    assert agent.enroll(token()).returncode == 0
    os.chown(agent.state_dir, 65_534, -1)
    found = findings(agent)["user"]
    assert not found["ok"]
    assert str(found["next_step"]).startswith("chown -R nobody:")


def test_a_gpu_reader_without_its_library_is_a_warning(make_agent: MakeAgent) -> None:
    found = findings(make_agent(extra='[gpu]\nkind = "nvml"\n'))["accelerators"]
    assert found["ok"]
    assert found["result"] == "warning"
    assert "nvml" in str(found["found"])


def test_a_port_held_by_another_process_is_found(make_agent: MakeAgent) -> None:
    import socket

    agent = make_agent()
    with socket.create_server(("127.0.0.1", agent.ports["peer"])):
        found = findings(agent)["ports"]
    assert not found["ok"]
    assert "peer.port" in str(found["found"])

"""Ports of fleets that start at once: none is claimed twice, and claims expire."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from coordinator.devfleet import ports as module
from coordinator.devfleet.ports import CLAIM_S, Ports

PREFERRED = 7401


@pytest.fixture
def claims(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "_is_free", lambda port: port != PREFERRED + 1)
    return tmp_path / "claims.json"


def test_two_starts_at_once_never_share_a_port(claims: Path) -> None:
    starts = [Ports(f"fleet-{number}", claims) for number in range(5)]
    taken = [start.take(PREFERRED) for start in starts for _ in range(20)]
    assert len(set(taken)) == 100
    assert taken[0] == PREFERRED
    outgoing_from = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    assert max(taken) < max(outgoing_from, 32_768), "an outgoing connection could take it"


def test_a_port_in_use_is_not_taken(claims: Path) -> None:
    assert Ports("fleet-1", claims).take(PREFERRED + 1) != PREFERRED + 1


def test_a_claim_expires(claims: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now_s = [1_000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now_s[0])
    assert Ports("fleet-2", claims).take(PREFERRED) == PREFERRED
    now_s[0] += CLAIM_S - 0.1
    assert Ports("fleet-3", claims).take(PREFERRED) != PREFERRED
    now_s[0] += 0.2
    assert Ports("fleet-4", claims).take(PREFERRED) == PREFERRED
    now_s[0] = 5.0  # the machine was restarted, and its clock with it
    assert Ports("fleet-5", claims).take(PREFERRED) == PREFERRED
    assert list(json.loads(claims.read_text())) == [str(PREFERRED)]


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"7401": ["soon", "a"]}', '{"7401": null}', '{"7401": 9e9}']
)
def test_a_damaged_file_counts_as_no_claims(claims: Path, text: str) -> None:
    claims.write_text(text)
    assert Ports("fleet-6", claims).take(PREFERRED) == PREFERRED
    assert str(PREFERRED) in json.loads(claims.read_text())


def test_a_file_that_cannot_be_written_prevents_no_start(claims: Path) -> None:
    claims.symlink_to(claims.with_name("elsewhere"))
    ports = Ports("fleet-7", claims)
    assert ports.take(PREFERRED) == PREFERRED
    assert ports.take(PREFERRED) != PREFERRED, "its own it knows by itself"
    assert not claims.with_name("elsewhere").exists()


def test_a_fleet_that_starts_again_gets_its_ports_again(claims: Path) -> None:
    assert Ports("one", claims).take(PREFERRED) == PREFERRED
    assert Ports("other", claims).take(PREFERRED) != PREFERRED
    assert Ports("one", claims).take(PREFERRED) == PREFERRED

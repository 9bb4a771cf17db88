from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path

import pytest

from coordinator import config
from coordinator.config import CoordinatorConfig, load_config, parse_config
from protos.domain.errors import ConfigInvalid

BASE = Path("/etc/edgeforge")
MINIMAL = {"coordinator": {"state_dir": "state"}}


def parsed(environ: dict[str, str] | None = None, **sections: object) -> CoordinatorConfig:
    return parse_config({**MINIMAL, **sections}, environ or {}, base=BASE)


def problems(environ: dict[str, str] | None = None, **sections: object) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        parsed(environ, **sections)
    return caught.value.problems


def test_a_state_folder_is_enough():
    read = parsed()
    assert read.state_dir == BASE / "state"
    assert read.database == BASE / "state" / "coordinator.db"
    assert read.fleet_address == "127.0.0.1:7401"
    assert read.listeners() == {
        "fleet": ("127.0.0.1", 7401),
        "admin": ("127.0.0.1", 7402),
        "enrolment": ("127.0.0.1", 7403),
        "http": ("127.0.0.1", 7404),
    }


def test_an_absolute_state_folder_stays():
    assert parsed(coordinator={"state_dir": "/srv/x"}).state_dir == Path("/srv/x")


def test_the_environment_replaces_keys():
    read = parsed({"EDGEFORGE_COORDINATOR__FLEET__PORT": "9000", "OTHER": "x"})
    assert read.fleet.port == 9_000
    assert read.fleet_address == "127.0.0.1:9000"


def test_the_advertised_address_may_differ_from_the_listening_one():
    read = parsed(fleet={"host": "0.0.0.0", "advertise": "fleet.example:7401"})
    assert read.fleet_address == "fleet.example:7401"
    assert parsed(fleet={"host": "::1"}).fleet_address == "[::1]:7401"


def test_a_wildcard_address_cannot_be_advertised():
    found = problems(fleet={"host": "0.0.0.0"}, enrolment={"host": "::"})
    assert found == [
        "fleet.advertise: is required when fleet.host is 0.0.0.0:"
        ' advertise = "NAME:7401", with the name or address that others dial',
        "enrolment.advertise: is required when enrolment.host is ::"
        ': advertise = "NAME:7403", with the name or address that others dial',
    ]


def test_every_mistake_is_named_at_once_even_those_between_keys():
    found = problems(
        {"EDGEFORGE_COORDINATOR__HTTP__PORT": "web", "EDGEFORGE_COORDINATOR__FLEAT__PORT": "1"},
        coordinator={"naem": "x"},
        health={"lease_ms": 5_000, "status_interval_ms": 2_000},
        limits={"max_agents": 0},
        extra={},
    )
    for named in (
        "unknown section [extra]",
        "EDGEFORGE_COORDINATOR__FLEAT__PORT",
        "coordinator.naem",
        "coordinator.state_dir: is required",
        "http.port",
        "limits.max_agents",
        "health.lease_ms: 5000 is not above",
    ):
        assert any(named in problem for problem in found), named
    assert len(found) == 7


@pytest.mark.parametrize(
    ("section", "keys", "told"),
    [
        ("admin", {"port": 7401}, "admin.port: 7401 is that of fleet already"),
        ("fleet", {"port": 0}, "fleet.port: 0 is below 1"),
        ("fleet", {"advertise": "nowhere"}, "fleet.advertise: 'nowhere' is not host:port"),
        ("http", {"host": ""}, "http.host: '' is neither"),
        ("coordinator", {"state_dir": ""}, "coordinator.state_dir: is empty"),
        ("coordinator", {"state_dir": "x", "name": "No Name"}, "coordinator.name: 'No Name'"),
        ("coordinator", {"state_dir": "x", "log_level": "loud"}, "coordinator.log_level"),
        ("fleet", "7401", "[fleet] must be a table"),
        ("blobs", {"url": "https://bucket"}, "blobs.url: must be empty, s3://BUCKET"),
        ("blobs", {"url": "s3://key:secret@bucket"}, "blobs.url: must be empty, s3://BUCKET"),
        (
            "blobs",
            {"url": "s3://weights", "endpoint": "https://key:secret@store"},
            "blobs.endpoint: must be empty",
        ),
        ("blobs", {"endpoint": "http://store:9000"}, "blobs.url: is required"),
        ("blobs", {"credentials_file": "key.toml"}, "blobs.url: is required"),
        ("usage", {"export_days": 7}, "usage.export_days: 7 is below usage.raw_days = 30"),
        ("blobs", {"partial_max_bytes": 2**30}, "blobs.partial_max_bytes: 1073741824 is below"),
    ],
)
def test_each_mistake_names_its_key(section: str, keys: object, told: str):
    (found,) = problems(**{section: keys})
    assert told in found


def test_a_key_of_an_object_store_is_found_beside_the_configuration(tmp_path: Path):
    sections = {
        "coordinator": {"state_dir": "state"},
        "blobs": {"url": "s3://weights/fleet-1", "credentials_file": "s3.toml"},
    }
    read = parse_config(sections, {}, base=tmp_path)
    assert read.blobs.credentials_file == str(tmp_path / "s3.toml")


def test_a_file_that_is_missing_or_no_toml(tmp_path: Path):
    with pytest.raises(ConfigInvalid) as missing:
        load_config(tmp_path / "none.toml", {})
    assert "no file" in missing.value.problems[0]
    broken = tmp_path / "broken.toml"
    broken.write_text("[fleet\n")
    with pytest.raises(ConfigInvalid) as caught:
        load_config(broken, {})
    assert "broken.toml" in caught.value.problems[0]


def test_every_key_is_explained():
    for section in dataclasses.fields(CoordinatorConfig):
        kind = getattr(config, section.type)
        sources = [inspect.getsource(one) for one in kind.__mro__[:-1]]
        lines = "\n".join(sources).splitlines()
        for key in dataclasses.fields(kind):
            at = next(i for i, line in enumerate(lines) if line.startswith(f"    {key.name}: "))
            assert lines[at - 1].lstrip().startswith("#: "), f"{section.name}.{key.name}"


@pytest.mark.parametrize(
    ("section", "says"),
    [
        (
            {"hub": {"plain_http": True, "host": "192.0.2.1"}},
            "hub.plain_http: keys and tokens",
        ),
        ({"hub": {"certificate_file": "a.pem"}}, "hub.key_file: is needed"),
        ({"hub": {"key_file": "a.pem"}}, "hub.key_file: is needed"),
        (
            {"hub": {"plain_http": True, "certificate_file": "a", "key_file": "b"}},
            "hub.plain_http: is true, and certificate_file is given",
        ),
        ({"hub": {"enabled": True, "host": "0.0.0.0"}}, "hub.advertise: is required"),
        ({"hub": {"advertise": "hub.example:7405"}}, "hub.advertise: "),
        ({"hub": {"advertise": "https://u:p@hub.example"}}, "is no origin"),
        ({"hub": {"enabled": True, "port": 7404}}, "hub.port: 7404 is that of http"),
        ({"upstream": {"endpoint": "http://hub.example"}}, "upstream.endpoint: is plain HTTP"),
        ({"upstream": {"endpoint": "https://hub.example/path"}}, "upstream.endpoint: "),
        ({"upstream": {"endpoint": "file:///etc"}}, "upstream.endpoint: "),
    ],
)
def test_a_mistake_of_the_hub_and_of_upstream_is_named(section, says):
    parsed = {"coordinator": {"state_dir": "state"}} | section
    with pytest.raises(ConfigInvalid) as caught:
        parse_config(parsed, {}, base=Path("/x"))
    assert any(says in problem for problem in caught.value.problems), caught.value.problems


def test_the_hub_is_off_unless_it_is_turned_on_and_then_over_tls():
    off = parse_config({"coordinator": {"state_dir": "s"}}, {}, base=Path("/x"))
    assert (off.hub_endpoint, "hub" in off.listeners()) == ("", False)
    on = parse_config(
        {"coordinator": {"state_dir": "s"}, "hub": {"enabled": True}}, {}, base=Path("/x")
    )
    assert on.hub_endpoint == "https://127.0.0.1:7405"
    assert on.listeners()["hub"] == ("127.0.0.1", 7405)

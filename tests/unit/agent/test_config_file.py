"""The agent's configuration: all mistakes at once, each with its key."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config_file import load_config
from protos.domain.errors import ConfigInvalid


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.toml"


def load(path: Path, text: str, environ: dict[str, str] | None = None):
    path.write_text(text, encoding="utf-8")
    return load_config(path, environ or {})


MINIMAL = '[node]\nstate_dir = "/var/lib/edgeforge"\n'


def test_a_state_folder_is_enough(path: Path) -> None:
    config = load(path, MINIMAL)
    assert config.identity_dir == Path("/var/lib/edgeforge/identity")
    assert config.admin_socket == Path("/var/lib/edgeforge/admin.sock")
    assert config.client_url == "http://127.0.0.1:8080"
    assert config.client.host == "127.0.0.1", "private until told otherwise"


def test_the_environment_replaces_keys(path: Path) -> None:
    config = load(path, MINIMAL, {"EDGEFORGE_AGENT__CLIENT__PORT": "9000"})
    assert config.client.port == 9_000


def test_three_mistakes_are_all_named_at_once(path: Path) -> None:
    text = MINIMAL + '[client]\nport = 99999\n[engine]\nkind = "magic"\n[limits]\nmax_n = "many"\n'
    with pytest.raises(ConfigInvalid) as caught:
        load(path, text)
    told = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 3
    for key in ("client.port", "engine.kind", "limits.max_n"):
        assert key in told
    assert str(path) in caught.value.hint
    assert caught.value.exit_code == 78


def test_mistakes_between_keys_are_all_named_at_once(path: Path) -> None:
    text = (
        MINIMAL
        + '[client]\ncert_file = "a.pem"\n'
        + '[engine]\nkind = "external"\nurl = "ftp://x"\n'
        + '[coordinator]\nfleet_address = "nowhere"\n'
        + "reconnect_min_ms = 500\nreconnect_max_ms = 50\n"
    )
    with pytest.raises(ConfigInvalid) as caught:
        load(path, text)
    told = "\n".join(caught.value.problems)
    for key in ("client.key_file", "engine.url", "fleet_address", "reconnect_max_ms"):
        assert key in told


@pytest.mark.parametrize(
    ("engine", "lacks"),
    [
        ('kind = "vllm"', True),
        ('kind = "vllm"\ntool_parser = "hermes"', False),
        ('kind = "vllm"\nargs = ["--tool-call-parser=hermes"]', False),
        ('kind = "vllm"\nargs = ["--tool-call-parser", "hermes"]', False),
        ('kind = "external"\nurl = "http://127.0.0.1:8000"', False),
        ('kind = "none"', False),
    ],
)
def test_only_a_vllm_of_ours_is_known_to_have_no_parser_of_tool_calls(
    path: Path, engine: str, lacks: bool
) -> None:
    config = load(path, MINIMAL + f"[engine]\n{engine}\n")
    assert config.engine.profile().lacks_tool_parser is lacks


def test_a_misspelt_key_is_answered_with_the_nearest(path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(path, MINIMAL + "[client]\nprot = 80\n")
    assert "port" in "\n".join(caught.value.problems)


@pytest.mark.parametrize("text", ["[node", "\ufeffnode = 1 2", "node = 1"])
def test_what_is_no_toml_or_no_sections_is_told_with_the_file(path: Path, text: str) -> None:
    with pytest.raises(ConfigInvalid):
        load(path, text)


def test_a_missing_file_says_how_to_name_it(path: Path) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load_config(path, {})
    assert "--config" in caught.value.hint


def test_tls_changes_what_customers_are_told(path: Path) -> None:
    config = load(path, MINIMAL + '[client]\ncert_file = "c"\nkey_file = "k"\nport = 8443\n')
    assert config.client_url == "https://127.0.0.1:8443"


def test_peers_dial_what_is_advertised(path: Path) -> None:
    assert load(path, MINIMAL).peer_address == ("127.0.0.1", 7443)
    told = load(path, MINIMAL + '[peer]\nadvertise_host = "gru.example"\nadvertise_port = 1\n')
    assert told.peer_address == ("gru.example", 1)


@pytest.mark.parametrize("origin", ["https://app.example.com", "http://localhost:3000", "*"])
def test_origins_of_pages_are_taken_as_browsers_send_them(path: Path, origin: str) -> None:
    config = load(path, MINIMAL + f'[client]\ncors_origins = ["{origin}"]\n')
    assert config.client.cors_origins == (origin,)


@pytest.mark.parametrize(
    "origin", ["app.example.com", "https://app.example.com/", "https://App.example.com", "null", ""]
)
def test_what_no_browser_sends_as_an_origin_is_a_mistake(path: Path, origin: str) -> None:
    with pytest.raises(ConfigInvalid) as caught:
        load(path, MINIMAL + f'[client]\ncors_origins = ["{origin}"]\n')
    assert "client.cors_origins" in caught.value.problems[0]


def problems_of(path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigInvalid) as caught:
        load(path, MINIMAL + text)
    assert caught.value.exit_code == 78
    return list(caught.value.problems)


@pytest.fixture(autouse=True)
def own(monkeypatch: pytest.MonkeyPatch) -> None:
    """This host's address, without looking for a route."""
    monkeypatch.setattr("agent.config_file.own_address", lambda towards: "10.0.0.5")


LOCAL = '[coordinator]\nfleet_address = "127.0.0.1:7401"\n'


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::", "0:0:0:0:0:0:0:0", "::0"])
def test_a_wildcard_peer_host_alone_is_refused_with_this_hosts_address(path, wildcard) -> None:
    (problem,) = problems_of(path, LOCAL + f'[peer]\nhost = "{wildcard}"\n')
    assert problem.startswith("peer.advertise_host: is required")
    assert 'advertise_host = "10.0.0.5"' in problem
    load(path, MINIMAL + f'[peer]\nhost = "{wildcard}"\nadvertise_host = "10.0.0.5"\n')


def test_a_wildcard_advertised_to_peers_is_refused(path) -> None:
    (problem,) = problems_of(path, '[peer]\nadvertise_host = "0.0.0.0"\n')
    assert problem.startswith("peer.advertise_host")


@pytest.mark.parametrize("wildcard", ["0.0.0.0", "::"])
def test_a_wildcard_client_host_without_a_url_is_refused_with_a_url(path, wildcard) -> None:
    (problem,) = problems_of(path, LOCAL + f'[client]\nhost = "{wildcard}"\n')
    assert 'url = "http://10.0.0.5:8080"' in problem
    load(path, MINIMAL + f'[client]\nhost = "{wildcard}"\nurl = "https://api.example"\n')


@pytest.mark.parametrize("section", ["client", "peer", "metrics"])
def test_a_bracketed_host_is_refused_with_the_host_without_brackets(path, section) -> None:
    (problem,) = problems_of(path, f'[{section}]\nhost = "[::1]"\n')
    assert "write '::1'" in problem


def test_an_ipv6_host_gets_brackets_in_the_url(path) -> None:
    assert load(path, MINIMAL + '[client]\nhost = "::1"\n').client_url == "http://[::1]:8080"


@pytest.mark.parametrize("host", ["", "two words", "10.0.0.5:80", "http://x", "a/b", "x\\ty"])
def test_a_host_that_is_none_is_refused(path, host) -> None:
    assert any("client.host" in one for one in problems_of(path, f'[client]\nhost = "{host}"\n'))


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http://[::]:80", "http://a b", "api.x"])
def test_a_client_url_that_nobody_can_call_is_refused(path, url) -> None:
    (problem,) = problems_of(path, f'[client]\nurl = "{url}"\n')
    assert problem.startswith("client.url")


def test_a_peer_address_of_this_host_only_is_refused_with_a_coordinator_elsewhere(
    path,
) -> None:
    text = '[coordinator]\nfleet_address = "coordinator.example:7401"\n[engine]\nkind = "vllm"\n'
    (problem,) = problems_of(path, text)
    assert 'host = "10.0.0.5"' in problem
    load(path, MINIMAL + text + '[peer]\nadvertise_host = "gru-1.example"\n')
    load(path, MINIMAL + text.replace("vllm", "none"))


def test_an_ipv6_address_without_brackets_before_its_port_is_refused(path) -> None:
    (problem,) = problems_of(path, '[coordinator]\nfleet_address = "2001:db8::1:7401"\n')
    assert "[2001:db8::1]:7401" in problem

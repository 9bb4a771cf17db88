"""Enrolment as a host's operator does it, against a real coordinator."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

from agent.link.identity import load_stored
from tests.integration.agent_process.conftest import Edgeforge
from tests.support.agent_process import AgentProcess

MakeAgent = Callable[..., AgentProcess]
MakeToken = Callable[..., str]


def identity_files(agent: AgentProcess) -> dict[str, bytes]:
    folder = agent.state_dir / "identity"
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.exists() else {}


def test_a_token_on_standard_input_becomes_a_certificate_for_this_user_only(
    make_agent: MakeAgent, token: MakeToken
) -> None:
    agent = make_agent()
    done = agent.command("enroll", "--token-file", "-", "--json", stdin=token("--node", "gru-in"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"node": "gru-in", "pop": "GRU"}
    folder = agent.state_dir / "identity"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in folder.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path.name


def test_a_token_in_a_file_works_too_and_is_not_kept(
    make_agent: MakeAgent, token: MakeToken, tmp_path: Path
) -> None:
    agent, secret = make_agent(), token()
    file = tmp_path / "token"
    file.write_text(secret)
    done = agent.command("enroll", "--token-file", str(file))
    assert done.returncode == 0, done.stderr
    assert "next: edgeforge-agent serve" in done.stdout
    last = secret.rsplit(".", 1)[1].encode()
    assert not any(last in data for data in identity_files(agent).values())


def test_a_reused_token_is_refused_and_on_record(
    make_agent: MakeAgent, token: MakeToken, edgeforge: Edgeforge
) -> None:
    used = token()
    assert make_agent("first").enroll(used).returncode == 0
    second = make_agent("second")
    refused = second.enroll(used)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert "token" in refused.stderr
    assert not (second.state_dir / "identity" / "identity.pem").exists()
    audit = json.loads(edgeforge("audit", "ls", "--strangers", "--json").stdout)
    assert any("refused" in json.dumps(entry) for entry in audit)


def test_an_expired_token_is_refused(make_agent: MakeAgent, token: MakeToken) -> None:
    from tests.support.waiting import wait_until

    short, agent = token("--ttl-s", "1"), make_agent()
    import time

    until_s = time.monotonic() + 1.1
    wait_until(lambda: time.monotonic() > until_s, 30, "the token to expire")
    refused = agent.enroll(short)
    assert refused.returncode == 1
    assert "expired" in refused.stderr or "token" in refused.stderr


def test_a_forged_token_is_refused(make_agent: MakeAgent, token: MakeToken) -> None:
    head, _, secret = token().rpartition(".")
    forged = f"{head}.{'A' * len(secret)}"
    refused = make_agent().enroll(forged)
    assert refused.returncode == 1
    assert "A" * len(secret) not in refused.stderr, "a secret, even a wrong one, is never shown"


def test_a_token_of_another_authority_sends_nothing(
    make_agent: MakeAgent, token: MakeToken
) -> None:
    parts = token().split(".")
    parts[1] = "0" * 64
    agent = make_agent()
    refused = agent.enroll(".".join(parts))
    assert refused.returncode == 1
    assert "its CA is another" in refused.stderr
    assert identity_files(agent) == {}
    parts[1] = ""
    assert make_agent("b").enroll(".".join(parts)).returncode == 1


def test_text_that_is_no_token_says_where_tokens_come_from(make_agent: MakeAgent) -> None:
    refused = make_agent().enroll("hunter2")
    assert refused.returncode == 1
    assert "edgeforge node token create" in refused.stderr
    assert "hunter2" not in refused.stderr


def test_a_lost_reply_asked_again_with_the_same_key_is_the_same_certificate(
    make_agent: MakeAgent, token: MakeToken
) -> None:
    agent, secret = make_agent(), token()
    assert agent.enroll(secret).returncode == 0
    first = identity_files(agent)
    # As if the reply had never come: the key waits, the certificate is not there.
    folder = agent.state_dir / "identity"
    stored = load_stored(folder)
    (folder / "identity.pem").unlink()
    (folder / "pending-key.pem").write_bytes(stored.key_pem)
    again = agent.enroll(secret)
    assert again.returncode == 0, again.stderr
    assert identity_files(agent) == first


def test_a_lost_reply_asked_again_with_another_key_is_refused(
    make_agent: MakeAgent, token: MakeToken
) -> None:
    agent, secret = make_agent(), token()
    assert agent.enroll(secret).returncode == 0
    for path in (agent.state_dir / "identity").iterdir():
        path.unlink()
    assert agent.enroll(secret).returncode == 1


def test_a_coordinator_that_is_away_is_said_with_a_next_step(
    tmp_path: Path, token: MakeToken
) -> None:
    agent = AgentProcess(tmp_path / "lost", enrolment="127.0.0.1:1")
    refused = agent.enroll(token())
    assert refused.returncode == 1
    assert "coordinator.enrolment_address" in refused.stderr

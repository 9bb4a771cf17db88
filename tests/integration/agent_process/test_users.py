"""Enrolled by root, served by a service's user; and what that user may not read is one message."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from protos.host.ownership import require_usable, user_name
from tests.support.agent_process import COMMAND, AgentProcess
from tests.support.coordinator_process import CoordinatorProcess
from tests.support.other_user import (
    IS_ROOT,
    OWNER,
    as_service,
    give,
    open_folder,
    owners,
    serve_as_service,
)

MakeToken = Callable[..., str]


@pytest.fixture
def agent(coordinator: CoordinatorProcess) -> Iterator[AgentProcess]:
    """An agent whose folder the service's user can reach, its state folder not made yet."""
    with open_folder() as folder:
        yield AgentProcess(folder / "agent", enrolment=coordinator.address("enrolment"))


def test_enrolled_by_root_into_the_services_folder_its_user_can_use_every_file(
    agent: AgentProcess, token: MakeToken
) -> None:
    agent.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    give(agent.state_dir)
    assert agent.enroll(token()).returncode == 0
    assert owners(agent.state_dir) == {OWNER}
    as_service(lambda: require_usable(agent.state_dir))


def test_enrolled_by_root_for_a_named_user_before_the_folder_is_there(
    agent: AgentProcess, token: MakeToken
) -> None:
    arguments = ("enroll", "--token-file", "-", "--user", user_name(OWNER))
    done = agent.command(*arguments, stdin=token())
    assert done.returncode == 0, done.stderr
    assert owners(agent.state_dir) == {OWNER}
    unknown = agent.command(
        "enroll", "--token-file", "-", "--force", "--user", "no-such-user", stdin=token()
    )
    assert unknown.returncode == 1
    assert "no-such-user" in unknown.stderr


def test_state_of_another_user_exits_78_with_the_file_its_owner_and_the_command(
    agent: AgentProcess, token: MakeToken
) -> None:
    assert agent.enroll(token()).returncode == 0
    if not IS_ROOT:
        (agent.state_dir / "identity" / "identity.pem").chmod(0o000)
    else:
        give(agent.state_dir)
    done = serve_as_service(COMMAND, agent.config)
    assert done.returncode == 78, done.stderr
    assert "Traceback" not in done.stderr
    assert "belongs to" in done.stderr
    assert f"chown -R {user_name(OWNER)}:" in done.stderr
    assert str(agent.state_dir) in done.stderr


def test_a_configuration_that_cannot_be_read_exits_78_and_not_2(agent: AgentProcess) -> None:
    agent.config.chmod(0o600 if IS_ROOT else 0o000)
    done = serve_as_service(COMMAND, agent.config)
    assert done.returncode == 78, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{agent.config} belongs to" in done.stderr
    assert f"chmod g+r {agent.config}" in done.stderr


def test_an_enrolled_host_keeps_its_identity_unless_it_is_forced(
    agent: AgentProcess, token: MakeToken
) -> None:
    assert agent.enroll(token("--node", "kept-1")).returncode == 0
    before = (agent.state_dir / "identity" / "identity.pem").read_bytes()
    refused = agent.enroll(token())
    assert refused.returncode == 1
    assert "enrolled as kept-1 already" in refused.stderr
    assert "--force" in refused.stderr
    assert (agent.state_dir / "identity" / "identity.pem").read_bytes() == before
    agent.start()
    try:
        assert "its agent runs" in agent.enroll(token()).stderr
        forced = agent.command(
            "enroll", "--token-file", "-", "--force", stdin=token("--node", "next-1")
        )
        assert forced.returncode == 0, forced.stderr
    finally:
        assert agent.stop() == 0
    assert b"next-1" in (agent.state_dir / "identity" / "identity.pem").read_bytes()

"""The error that a client gets when no target is left."""

from __future__ import annotations

from agent.core.attempts import Verdict, verdict_of_status
from agent.core.request.failures import Failures
from agent.core.request.messages import AttemptEnded, Ending
from protos.domain.errors import EngineFailed, NoReplica
from tests.support.router_states import attempt_at, request_context, router_state

NO_REPLICA = NoReplica("no replica is ready")


def ended(node_id: str, status: int) -> AttemptEnded:
    state = router_state()
    return AttemptEnded(attempt_at(state, request_context(state), node_id), Ending.WHOLE, status)


def test_without_a_failure_the_error_is_that_no_target_can_be_asked():
    assert Failures().error("small", NO_REPLICA) is NO_REPLICA
    without_reason = Failures().error("small", None)
    assert isinstance(without_reason, NoReplica)
    assert "none is ready" in without_reason.message


def test_an_engines_own_5xx_is_preferred_to_the_error_of_no_target():
    failures, failed = Failures(), ended("scl-1", 500)
    failures.add(failed, verdict_of_status(500))
    error = failures.error("small", NO_REPLICA)
    assert isinstance(error, EngineFailed)
    assert "engine answered 500" in error.message
    assert failures.engines_answer is failed
    assert failures.suspects == ["scl-1"]


def test_the_last_failure_is_the_one_that_is_reported():
    failures = Failures()
    failures.add(ended("scl-1", 500), verdict_of_status(500))
    failures.add(ended("iad-1", 0), Verdict.failed("connection refused"))
    error = failures.error("small", NO_REPLICA)
    assert isinstance(error, NoReplica)
    assert "connection refused" in error.message
    assert failures.engines_answer is None
    assert failures.suspects == ["scl-1"], "its engine failed all the same"

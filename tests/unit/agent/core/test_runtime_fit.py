"""A runtime is refused, with the reason, where the host is not what it asks for."""

from __future__ import annotations

import pytest

from agent.core.runtime_fit import runtime_problem
from protos.domain.resources import Runtime


def problem(runtime: Runtime, version: str = "0.32.0+cpu") -> str:
    return runtime_problem(runtime, engine_kind="vllm", engine_version=version, accelerator="cpu")


@pytest.mark.parametrize(
    "runtime",
    [
        Runtime("a/r@1"),
        Runtime("a/r@1", version_constraint=">=0.32,<0.33"),
        Runtime("a/r@1", version_constraint="==0.32.0", accelerators=("cuda", "cpu")),
    ],
)
def test_what_this_host_has_is_taken(runtime):
    assert problem(runtime) == ""


@pytest.mark.parametrize(
    ("runtime", "reason"),
    [
        (Runtime("a/r@1", version_constraint=">=0.33"), "this node has 0.32.0"),
        (Runtime("a/r@1", accelerators=("cuda",)), "is for cuda, this node has cpu"),
        (Runtime("a/r@1", engine_kind="sglang"), "is for sglang"),
        (Runtime("a/r@1", version_constraint="new"), "no valid version constraint"),
    ],
)
def test_what_this_host_has_not_is_refused(runtime, reason):
    assert reason in problem(runtime)


def test_an_engine_of_unknown_version_meets_no_constraint():
    assert "unknown" in problem(Runtime("a/r@1", version_constraint=">=0.1"), "")

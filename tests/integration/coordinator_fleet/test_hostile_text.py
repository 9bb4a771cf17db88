"""Text of an anonymous call is shown to operators and logged as text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from protos.v1.enrolment_pb2 import EnrolRequest
from protos.v1.enrolment_pb2_grpc import EnrolmentStub
from tests.support.certificates import p256_key, request_der
from tests.support.coordinator_process import CoordinatorProcess, Operator
from tests.support.scripted_agent import coordinator_options

COMMAND = Path(sys.executable).with_name("edgeforge")
HOSTILE = "[/x]\x1b]0;x\x07\n\u202e"


def edgeforge(coordinator: CoordinatorProcess, *argv: str) -> str:
    profile = str(coordinator.operator_dir / "profile.toml")
    done = subprocess.run(
        [COMMAND, "--profile", profile, *argv],
        capture_output=True,
        timeout=60,
        check=False,
        env=os.environ | {"PYTHONUTF8": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


async def enrol_as(coordinator: CoordinatorProcess, ca_pem: bytes, token_id: str) -> None:
    credentials = grpc.ssl_channel_credentials(ca_pem)
    address = coordinator.address("enrolment")
    async with grpc.aio.secure_channel(address, credentials, coordinator_options()) as channel:
        request = EnrolRequest(token_id=token_id, secret="x", csr_der=request_der(p256_key()))
        with pytest.raises(grpc.aio.AioRpcError, match="not valid"):
            await EnrolmentStub(channel).Enrol(request)


async def test_audit_ls_shows_an_anonymous_callers_markup_and_escapes_as_text(
    coordinator: CoordinatorProcess, operator: Operator
) -> None:
    await enrol_as(coordinator, operator.ca_pem, HOSTILE)
    shown = edgeforge(coordinator, "audit", "ls", "--strangers")
    assert "enrolment.refused" in shown
    assert "[/x]\\x1b]0;x\\x07\\n\\u202e" in shown
    assert shown.replace("\n", "").isprintable()
    (entry,) = [
        one
        for one in json.loads(edgeforge(coordinator, "audit", "ls", "--strangers", "--json"))
        if one["action"] == "enrolment.refused"
    ]
    assert "[/x]" in entry["subject"]
    assert coordinator.log_text().replace("\n", "").isprintable()
    assert "[/x]" in coordinator.log_text()

"""A coordinator's process with the customers' API over TLS, from an operator's invitation on."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.hub_process import HubProcess
from tests.support.ports import free_ports


def ask(
    port: int, trust: ssl.SSLContext, path: str, body: object = None, token: str = ""
) -> tuple[int, Any, dict[str, str]]:
    """Return status, body and headers of an answer."""
    request = urllib.request.Request(
        f"https://localhost:{port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30, context=trust) as answer:
            return answer.status, json.load(answer), dict(answer.headers)
    except urllib.error.HTTPError as refused:
        with refused:
            return refused.code, json.load(refused), dict(refused.headers)


async def test_an_operators_invitation_becomes_an_account_that_outlives_a_restart(tmp_path: Path):
    (port,) = free_ports(1)
    one = HubProcess(tmp_path, f'[api]\nenabled = true\nport = {port}\nsignup = "invite"\n')
    try:
        await one.start()
        trust = ssl.create_default_context(cafile=one.coordinator.operator_dir / "ca.pem")
        status, described, headers = ask(port, trust, "/openapi.json")
        assert (status, described["openapi"]) == (200, "3.1.0")
        assert described["servers"] == [{"url": f"https://127.0.0.1:{port}"}]
        assert headers["Strict-Transport-Security"]
        made = one.edgeforge("account", "invite", "--json")
        assert made.returncode == 0, made.stderr
        invitation = json.loads(made.stdout)["text"]
        body = {"account": "initech", "email": "a@x.org", "invitation": invitation}
        status, joined, _ = ask(port, trust, "/v1/sign-up", body)
        assert status == 201, joined
        one.coordinator.stop()
        one.coordinator.start()
        status, me, _ = ask(port, trust, "/v1/me", token=joined["token"])
        assert (status, me["role"]) == (200, "owner")
        status, hub, _ = ask(port, trust, "/v1/hub", token=joined["token"])
        assert (status, hub["endpoint"]) == (200, f"https://127.0.0.1:{one.port}")
        kept = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        assert not [data for data in kept if joined["token"].encode() in data]
        assert not [data for data in kept if invitation.encode() in data]
    finally:
        one.coordinator.stop()

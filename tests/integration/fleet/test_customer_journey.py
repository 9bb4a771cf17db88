"""A customer from sign-up to a paid invoice by the letter of docs/CUSTOMERS.md, with real processes.

The steps build upon each other, in the order of this file. No operator does anything, but close
the month, for which a customer would wait.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.support.customer_guide import GuideWalk
from tests.support.market import Market, market
from tests.support.registry_cases import base_files

EDGE = "mad-1"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Market]:
    with market(tmp_path_factory.mktemp("m")) as one:
        yield one


@pytest.fixture(scope="module")
def acme(fleet: Market) -> GuideWalk:
    """A customer who was invited, and reads the guide."""
    agent = f"http://127.0.0.1:{fleet.nodes[EDGE].ports['client']}"
    names = {
        "API": fleet.api,
        "https://llm.example": agent,
        "https://hub.example": f"https://127.0.0.1:{fleet.hub_port}",
        "203.0.113.0/24": "127.0.0.0/8",
    }
    trusted = {"SSL_CERT_FILE": str(fleet.coordinator.operator_dir / "ca.pem")}
    walk = GuideWalk(fleet.folder, names, trusted)
    names["efi-..."] = fleet.told("account", "invite")["text"]
    return walk


def test_journey(fleet, acme):
    signed = acme.section("An account", holding="sign-up")[0]
    print(signed)
    acme.names["efm-..."] = signed["token"]
    print(acme.section("An account", holding="AUTH"))
    inv = acme.section("Members", holding="invitations")
    print(inv)
    import shutil

    fleet.written("folder", base_files())
    shutil.copytree(fleet.folder / "weights" / "folder", fleet.folder / "folder")
    for h in ("Models", "Deployments", "Keys", "Money", "Traces"):
        from tests.support.customer_guide import commands_of

        for c in commands_of(h):
            d = acme.tried(c)
            print("$", c, "\n   ", d.returncode, d.stdout[:900], d.stderr[-600:])
            if "/v1/keys" in c and d.returncode == 0:
                acme.names["ef-..."] = json.loads(d.stdout)["api_key"]
    assert 0

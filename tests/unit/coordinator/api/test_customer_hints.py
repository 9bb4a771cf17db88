"""Hints of use cases, as customers read them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from coordinator.api.customer.hints import _REQUESTS, customers_hint
from coordinator.api.customer.table import ROUTES
from protos.domain.errors import Conflict, Forbidden, InvalidRequest, NotFound


@pytest.mark.parametrize(
    ("error", "hint", "told"),
    [
        (NotFound, "`edgeforge deploy ls` shows all", "GET /v1/deployments shows all"),
        (NotFound, "edgeforge invoice ls", "GET /v1/invoices"),
        (
            Conflict,
            "wait until that is done, or withdraw it: edgeforge deploy rollback acme/a",
            "wait until that is done, or withdraw it: POST /v1/deployments/NAME/rollback",
        ),
        (
            InvalidRequest,
            "no node has an engine of kind 'vllm' yet: `edgeforge node ls`",
            "no node has an engine of kind 'vllm' yet",
        ),
        (NotFound, "`edgeforge node ls` shows those", None),
        (NotFound, "edgeforge price propose FILE, then publish it", None),
        (InvalidRequest, "`edgeforge node ls`", ""),
        (InvalidRequest, "0 never expires", "0 never expires"),
        (Forbidden, "", None),
    ],
)
def test_a_customer_is_told_a_request_and_never_an_operators_command(error, hint, told):
    found = customers_hint(error("no"), hint)
    assert "edgeforge" not in found
    if told is None:
        assert found.startswith("GET /")
    else:
        assert found == told


def test_the_requests_that_hints_name_exist():
    known = {(one.method, re.sub(r"{[^}]*}", "NAME", one.path)) for one in ROUTES}
    for request in _REQUESTS.values():
        method, path = re.match(r"(\w+) ([^ ,]+)", request).groups()
        assert (method, path) in known, request


def test_no_hint_of_a_use_case_reaches_a_customer_with_a_command_of_operators():
    root = Path(__file__).parents[4] / "coordinator"
    written = [
        text
        for path in (
            *root.glob("operations/*.py"),
            *root.glob("core/*.py"),
            *root.glob("billing/*.py"),
        )
        for text in re.findall(r'"([^"]*edgeforge [^"]*)"', path.read_text(encoding="utf-8"))
    ]
    assert len(written) > 30
    assert not [one for one in written if "edgeforge " in customers_hint(NotFound("no"), one)]

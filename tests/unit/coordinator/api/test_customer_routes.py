"""The table of the customers' API, its document and its pages."""

from __future__ import annotations

import inspect
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.api.customer.openapi import document
from coordinator.api.customer.pages import page_of
from coordinator.api.customer.problems import code_of, problem_response
from coordinator.api.customer.table import ROUTES
from coordinator.operations.account_acts import OF_MEMBERS
from protos.domain.errors import (
    EdgeForgeError,
    Forbidden,
    InvalidRequest,
    NotFound,
    RateLimited,
    Unauthenticated,
)

DOCUMENT = document(ROUTES, "1.2.3", server="https://api.example")
#: What a stranger may do.
OPEN = {"sign_up", "join"}


def test_no_two_routes_are_the_same_or_have_one_name():
    assert len({(one.method, one.path) for one in ROUTES}) == len(ROUTES)
    assert len({one.name for one in ROUTES}) == len(ROUTES)


def test_every_route_but_sign_up_and_join_needs_an_act_that_some_role_has():
    assert {one.name for one in ROUTES if one.act is None} == OPEN
    for route in ROUTES:
        if route.act is not None:
            assert any(route.act in acts for acts in OF_MEMBERS.values()), route.name


def test_every_route_is_whole():
    for route in ROUTES:
        assert set(route.params) == set(route.param_names), route.name
        assert route.summary.endswith("."), route.name
        assert (route.answer is None) == (route.status == 204 or bool(route.downloads)), route.name
        for param in route.params.values():
            assert re.fullmatch(param.pattern, param.example), param
        assert len(inspect.signature(route.handler).parameters) == 1


def test_the_document_has_every_route_with_its_models():
    for route in ROUTES:
        operation = DOCUMENT["paths"][route.path][route.method.lower()]
        assert operation["operationId"] == route.name
        assert str(route.status) in operation["responses"]
        assert ("requestBody" in operation) == (route.body is not None)
        assert bool(operation["security"]) == (route.act is not None)


def test_the_document_refers_to_nothing_that_it_lacks():
    schemas = DOCUMENT["components"]["schemas"]
    named = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(DOCUMENT)))
    assert named <= set(schemas)


def test_bodies_refuse_fields_that_nobody_knows():
    for route in ROUTES:
        if route.body is not None:
            schema = DOCUMENT["components"]["schemas"][route.body.__name__]
            assert schema["additionalProperties"] is False, route.name


def test_secrets_are_in_answers_that_are_shown_once_and_in_no_other():
    shown = {"Joined", "NewKeyAnswer", "RotatedKeyAnswer", "NewTokenAnswer", "NewInvitationAnswer"}
    secret = {"token", "api_key", "invitation"}
    bodies = {route.body.__name__ for route in ROUTES if route.body is not None}
    for name, schema in DOCUMENT["components"]["schemas"].items():
        if name not in bodies and secret & set(schema.get("properties", ())):
            assert name in shown, name


@given(st.lists(st.text(max_size=5), unique=True, max_size=30), st.integers(1, 7))
def test_pages_have_every_item_once_and_in_order(items, limit):
    seen, cursor = [], ""
    for _ in range(len(items) + 1):
        page, cursor = page_of(items, lambda one: one, limit, cursor)
        assert len(page) <= limit
        seen += page
        if not cursor:
            break
    assert seen == sorted(items)


def test_items_that_came_or_went_between_pages_do_not_repeat_others():
    first, cursor = page_of(["a", "c", "e"], str, 2, "")
    assert list(first) == ["a", "c"]
    assert list(page_of(["b", "d", "e"], str, 2, cursor)[0]) == ["d", "e"]


@pytest.mark.parametrize("cursor", ["%", "a", "=", "w6", "é", "YQ" * 900 + "!"])
def test_a_cursor_that_is_not_ours_is_refused(cursor):
    with pytest.raises(InvalidRequest, match="not one of ours"):
        page_of(["a"], str, 1, cursor)


def test_errors_have_a_code_and_operators_commands_stay_with_operators():
    told = json.loads(problem_response(NotFound("no key", "`edgeforge key ls` shows all")).body)
    assert told == {
        "error": {"code": "not_found", "message": "no key", "hint": "GET /v1/keys shows all"}
    }
    limited = problem_response(RateLimited("slow", "wait", retry_after_s=2.4))
    assert (limited.status, limited.headers["Retry-After"]) == (429, "2")
    assert code_of(Unauthenticated("x")) == "invalid_token"
    assert code_of(Forbidden("x", code="account_suspended")) == "account_suspended"
    assert code_of(EdgeForgeError("x")) == "internal"


def test_a_strangers_text_in_an_error_is_cut_and_encodable():
    told = problem_response(InvalidRequest("\ud800" + "x" * 9_000)).body
    assert len(told) < 4_000

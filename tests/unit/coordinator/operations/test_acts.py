"""Which role may do what: one table, and no use case beside it."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import pytest

from coordinator.core.operators import Role
from coordinator.operations.actor import Actor
from coordinator.operations.acts import NEEDS, OF_ACCOUNTS, Act
from coordinator.operations.operations import Operations

#: What the roles are sold as.
VIEWER = {
    Act.ACCOUNT_LIST,
    Act.ADOPTION_LIST,
    Act.REPOSITORY_LIST,
    Act.REPOSITORY_PLACE,
    Act.REPOSITORY_SHOW,
    Act.AUDIT_LIST,
    Act.DEPLOYMENT_LIST,
    Act.DEPLOY_LIST,
    Act.DEPLOY_SHOW,
    Act.KEY_LIST,
    Act.MODEL_LIST,
    Act.NODE_LIST,
    Act.OBJECT_LIST,
    Act.OBJECT_RESOLVE,
    Act.OBJECT_SHOW,
    Act.OPERATOR_LIST,
    Act.OPERATOR_RENEW,
    Act.PLAN_SHOW,
    Act.POP_LIST,
    Act.PRICE_LIST,
    Act.ROUTE_EXPLAIN,
    Act.TRACE_LIST,
    Act.TRACE_SHOW,
    Act.USAGE_EXPORT,
    Act.USAGE_EXPORTS,
    Act.USAGE_QUARANTINE,
    Act.USAGE_READ,
}
OPERATOR = VIEWER | {
    Act.ADOPTION_ADVANCE,
    Act.ADOPTION_TRACK,
    Act.ADOPTION_UNTRACK,
    Act.UPSTREAM_IMPORT,
    Act.ADAPTER_COMPARE,
    Act.ADAPTER_PORT,
    Act.BLOB_FIND,
    Act.BLOB_PROGRESS,
    Act.BLOB_RESUME,
    Act.BLOB_UPLOAD,
    Act.DEPLOYMENT_APPLY,
    Act.DEPLOYMENT_REMOVE,
    Act.DEPLOY_CREATE,
    Act.DEPLOY_ROLLBACK,
    Act.DEPLOY_UPDATE,
    Act.PLAN_APPLY,
    Act.PLAN_FORBID,
    Act.PLAN_FREEZE,
    Act.PLAN_PIN,
    Act.PLAN_RELEASE,
    Act.PLAN_UNFREEZE,
    Act.MODEL_REGISTER,
    Act.NODE_CORDON,
    Act.NODE_DRAIN,
    Act.NODE_RESUME,
    Act.NODE_RETIRE,
    Act.OBJECT_PUBLISH,
    Act.OBJECT_REMOVE,
    Act.OBJECT_VERIFY,
}
MAY = {Role.VIEWER: VIEWER, Role.OPERATOR: OPERATOR, Role.ADMIN: set(Act)}


def use_cases() -> list[tuple[str, Any]]:
    return [
        (f"{noun}.{name}", method)
        for noun, kind in get_type_hints(Operations).items()
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    ]


def test_every_public_method_is_a_use_case_with_an_act_of_its_own():
    acts = [(name, getattr(method, "act", None)) for name, method in use_cases()]
    assert [name for name, act in acts if act is None] == []
    assert sorted(act for _, act in acts) == sorted(Act)


@pytest.mark.parametrize("role", list(Role))
def test_each_role_may_do_what_it_is_sold_as(role):
    assert {act for act in Act if role.covers(NEEDS[act])} == MAY[role]


def test_each_role_covers_those_before_it():
    assert [[one.covers(other) for other in Role] for one in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_an_actor_is_written_in_the_audit_as_its_kind_and_name():
    assert str(Actor("operator", "ana", Role.VIEWER, "192.0.2.7")) == "operator/ana"


def test_an_account_may_publish_and_deploy_read_its_usage_and_nothing_else():
    assert {
        Act.ADAPTER_PORT,
        Act.BLOB_FIND,
        Act.BLOB_PROGRESS,
        Act.BLOB_RESUME,
        Act.BLOB_UPLOAD,
        Act.DEPLOYMENT_REMOVE,
        Act.DEPLOY_CREATE,
        Act.DEPLOY_LIST,
        Act.DEPLOY_ROLLBACK,
        Act.DEPLOY_SHOW,
        Act.DEPLOY_UPDATE,
        Act.OBJECT_LIST,
        Act.OBJECT_PUBLISH,
        Act.OBJECT_REMOVE,
        Act.OBJECT_RESOLVE,
        Act.OBJECT_SHOW,
        Act.OBJECT_VERIFY,
        Act.REPOSITORY_LIST,
        Act.REPOSITORY_SHOW,
        Act.USAGE_EXPORT,
        Act.USAGE_READ,
    } == OF_ACCOUNTS

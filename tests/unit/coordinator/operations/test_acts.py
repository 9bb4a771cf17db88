"""Which role may do what: one table, and no use case beside it."""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import pytest

from coordinator.core.members import Member, MemberRole
from coordinator.core.operators import Role
from coordinator.operations.account_acts import NOT_WHILE_SUSPENDED, OF_MEMBERS
from coordinator.operations.actor import Actor
from coordinator.operations.acts import NEEDS, OF_ACCOUNTS, Act
from coordinator.operations.operations import Operations
from protos.domain.errors import NotFound

#: What the roles are sold as.
VIEWER = {
    Act.ACCOUNT_LIST,
    Act.ALERT_LIST,
    Act.CREDIT_LIST,
    Act.INVOICE_LIST,
    Act.INVOICE_PREVIEW,
    Act.INVOICE_SHOW,
    Act.LEDGER_CHECK,
    Act.LEDGER_SHOW,
    Act.PAYMENT_STATUS,
    Act.ACCOUNT_SHOW,
    Act.INVITATION_LIST,
    Act.MEMBER_LIST,
    Act.MEMBER_TOKEN_LIST,
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
    Act.PRICE_HISTORY,
    Act.PRICE_LIST,
    Act.PRICE_QUOTE,
    Act.PRICE_SHOW,
    Act.REPORT_METRICS,
    Act.REPORT_POPS,
    Act.REPORT_SLA,
    Act.ROUTE_EXPLAIN,
    Act.TRACE_LIST,
    Act.TRACE_SHOW,
    Act.USAGE_EXPORT,
    Act.USAGE_EXPORTS,
    Act.USAGE_QUARANTINE,
    Act.USAGE_READ,
}
OPERATOR = VIEWER | {
    Act.ALERT_TEST,
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
    Act.PRICE_PROPOSE,
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
        Act.PRICE_LIST,
        Act.PRICE_QUOTE,
        Act.PRICE_SHOW,
        Act.REPOSITORY_LIST,
        Act.REPOSITORY_SHOW,
        Act.USAGE_EXPORT,
        Act.USAGE_READ,
    } == OF_ACCOUNTS


#: What the roles of members are sold as.
MEMBER_VIEWER = {
    Act.ACCOUNT_SHOW,
    Act.ALERT_LIST,
    Act.CREDIT_LIST,
    Act.INVOICE_LIST,
    Act.INVOICE_PREVIEW,
    Act.INVOICE_SHOW,
    Act.PAYMENT_STATUS,
    Act.DEPLOY_LIST,
    Act.DEPLOY_SHOW,
    Act.KEY_LIST,
    Act.MEMBER_LIST,
    Act.MEMBER_TOKEN_CREATE,
    Act.MEMBER_TOKEN_LIST,
    Act.MEMBER_TOKEN_REVOKE,
    Act.OBJECT_LIST,
    Act.OBJECT_RESOLVE,
    Act.OBJECT_SHOW,
    Act.PRICE_LIST,
    Act.USAGE_READ,
    Act.USAGE_EXPORT,
    Act.PRICE_QUOTE,
    Act.REPORT_SLA,
    Act.REPOSITORY_LIST,
    Act.REPOSITORY_PLACE,
    Act.REPOSITORY_SHOW,
    Act.TRACE_LIST,
    Act.TRACE_SHOW,
}
MEMBER_DEVELOPER = MEMBER_VIEWER | {
    Act.ADAPTER_PORT,
    Act.BLOB_FIND,
    Act.BLOB_PROGRESS,
    Act.BLOB_RESUME,
    Act.BLOB_UPLOAD,
    Act.DEPLOYMENT_REMOVE,
    Act.DEPLOY_CREATE,
    Act.DEPLOY_ROLLBACK,
    Act.DEPLOY_UPDATE,
    Act.KEY_CREATE,
    Act.KEY_REVOKE,
    Act.KEY_ROTATE,
    Act.OBJECT_PUBLISH,
    Act.OBJECT_REMOVE,
    Act.OBJECT_VERIFY,
    Act.UPSTREAM_IMPORT,
    Act.PRICE_SHOW,
}
#: Pays, and says whom to bill.
MEMBER_BILLING = MEMBER_VIEWER | {
    Act.ACCOUNT_OWN_CAP,
    Act.ALERT_SET,
    Act.ALERT_TEST,
    Act.INVOICE_PROFILE,
    Act.PAYMENT_CHARGE,
    Act.PAYMENT_SETUP,
}
MEMBER_ADMIN = (MEMBER_DEVELOPER | MEMBER_BILLING) | {
    Act.INVITATION_LIST,
    Act.INVITATION_WITHDRAW,
    Act.MEMBER_INVITE,
    Act.MEMBER_REMOVE,
    Act.MEMBER_SET_ROLE,
}
MEMBERS_MAY = {
    MemberRole.OWNER: MEMBER_ADMIN,
    MemberRole.ADMIN: MEMBER_ADMIN,
    MemberRole.DEVELOPER: MEMBER_DEVELOPER,
    MemberRole.BILLING: MEMBER_BILLING,
    MemberRole.VIEWER: MEMBER_VIEWER,
}


@pytest.mark.parametrize("role", list(MemberRole))
def test_each_role_of_members_may_do_what_it_is_sold_as(role):
    assert OF_MEMBERS[role] == MEMBERS_MAY[role]


def test_no_member_may_do_what_only_operators_may():
    assert not MEMBER_ADMIN & {
        Act.ACCOUNT_CREATE,
        Act.ACCOUNT_LIMITS,
        Act.ACCOUNT_LIST,
        Act.ACCOUNT_RESUME,
        Act.ACCOUNT_SUSPEND,
        Act.ACCOUNT_FUNDS,
        Act.AUDIT_LIST,
        Act.CREDIT_GRANT,
        Act.INVOICE_CLOSE,
        Act.INVOICE_CREDIT_NOTE,
        Act.LEDGER_SHOW,
        Act.PAYMENT_RECORD,
        Act.NODE_LIST,
        Act.PLAN_SHOW,
        Act.SIGN_UP_INVITE,
        Act.UPSTREAM_TOKEN,
    }


def test_a_suspended_account_may_read_pay_and_revoke_but_begin_nothing():
    assert set(MEMBER_VIEWER).isdisjoint(NOT_WHILE_SUSPENDED)
    assert {
        Act.KEY_REVOKE,
        Act.MEMBER_REMOVE,
        Act.OBJECT_REMOVE,
        Act.DEPLOYMENT_REMOVE,
    } <= MEMBER_ADMIN - NOT_WHILE_SUSPENDED


def test_an_actor_that_is_a_member_is_of_its_account():
    member = Member("m-1", "acme", "ana@example.org", MemberRole.VIEWER, 1)
    actor = Actor.of_member(member, "192.0.2.7")
    assert (str(actor), actor.account_id, actor.member_id) == ("member/m-1", "acme", "m-1")
    assert actor.own("") == actor.own("acme") == "acme"
    with pytest.raises(NotFound, match="no account 'globex'"):
        actor.own("globex")

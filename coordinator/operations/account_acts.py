"""What accounts may do to their own: by an API key, and by a member of each role."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.core.members import MemberRole
from coordinator.operations.acts import OF_ACCOUNTS, Act

_READ = frozenset(
    {
        Act.ACCOUNT_SHOW,
        Act.ALERT_LIST,
        Act.CREDIT_LIST,
        Act.DEPLOY_LIST,
        Act.DEPLOY_SHOW,
        Act.INVOICE_LIST,
        Act.INVOICE_PREVIEW,
        Act.INVOICE_SHOW,
        Act.KEY_LIST,
        Act.MEMBER_LIST,
        Act.OBJECT_LIST,
        Act.OBJECT_RESOLVE,
        Act.OBJECT_SHOW,
        Act.PAYMENT_STATUS,
        Act.PRICE_LIST,
        Act.PRICE_QUOTE,
        Act.REPORT_SLA,
        Act.REPOSITORY_LIST,
        Act.REPOSITORY_PLACE,
        Act.REPOSITORY_SHOW,
        Act.TRACE_LIST,
        Act.TRACE_SHOW,
        Act.USAGE_EXPORT,
        Act.USAGE_READ,
        # Its own tokens only.
        Act.MEMBER_TOKEN_CREATE,
        Act.MEMBER_TOKEN_LIST,
        Act.MEMBER_TOKEN_REVOKE,
    }
)
_DEVELOP = (
    _READ | OF_ACCOUNTS | {Act.KEY_CREATE, Act.KEY_REVOKE, Act.KEY_ROTATE, Act.UPSTREAM_IMPORT}
)
_PAY: frozenset[Act] = _READ | {
    Act.ACCOUNT_OWN_CAP,
    Act.ALERT_SET,
    Act.ALERT_TEST,
    Act.INVOICE_PROFILE,
    Act.PAYMENT_CHARGE,
    Act.PAYMENT_SETUP,
}
_MANAGE = (
    _DEVELOP
    | _PAY
    | {
        Act.INVITATION_LIST,
        Act.INVITATION_WITHDRAW,
        Act.MEMBER_INVITE,
        Act.MEMBER_REMOVE,
        Act.MEMBER_SET_ROLE,
    }
)

#: What a member may do in its account. Owners and admins differ in whose role they may change:
#: ``core.members.GRANTS``.
OF_MEMBERS: Mapping[MemberRole, frozenset[Act]] = {
    MemberRole.OWNER: _MANAGE,
    MemberRole.ADMIN: _MANAGE,
    MemberRole.DEVELOPER: _DEVELOP,
    MemberRole.BILLING: _PAY,
    MemberRole.VIEWER: _READ,
}

#: What a suspended account may not do: nothing new. It reads, pays, and revokes.
NOT_WHILE_SUSPENDED = frozenset(
    {
        Act.ADAPTER_PORT,
        Act.BLOB_RESUME,
        Act.BLOB_UPLOAD,
        Act.DEPLOY_CREATE,
        Act.DEPLOY_ROLLBACK,
        Act.DEPLOY_UPDATE,
        Act.KEY_CREATE,
        Act.KEY_ROTATE,
        Act.MEMBER_INVITE,
        Act.OBJECT_PUBLISH,
        Act.UPSTREAM_IMPORT,
    }
)

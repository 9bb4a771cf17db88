"""The acts of the coordinator's operators, and the role that each needs; those of accounts."""

from __future__ import annotations

import enum
from collections.abc import Mapping

from coordinator.core.operators import Role


class Act(enum.StrEnum):
    """One use case. The value is the action of its audit entry."""

    ACCOUNT_CREATE = "account.create"
    ACCOUNT_FUNDS = "account.funds"
    ACCOUNT_LIMITS = "account.limits"
    ACCOUNT_LIST = "account.list"
    ACCOUNT_OWN_CAP = "account.own_cap"
    ACCOUNT_RESUME = "account.resume"
    ACCOUNT_SHOW = "account.show"
    ACCOUNT_SUSPEND = "account.suspend"
    ACCOUNT_ZONES = "account.zones"
    ADAPTER_COMPARE = "adapter.compare"
    ADAPTER_PORT = "adapter.port"
    ADOPTION_ADVANCE = "adoption.advance"
    ADOPTION_LIST = "adoption.list"
    ADOPTION_TRACK = "adoption.track"
    ADOPTION_UNTRACK = "adoption.untrack"
    ALERT_LIST = "alert.list"
    ALERT_SET = "alert.set"
    ALERT_TEST = "alert.test"
    AUDIT_LIST = "audit.list"
    BLOB_FIND = "blob.find"
    BLOB_PROGRESS = "blob.progress"
    BLOB_RESUME = "blob.resume"
    BLOB_UPLOAD = "blob.upload"
    CREDIT_GRANT = "credit.grant"
    CREDIT_LIST = "credit.list"
    DEPLOYMENT_APPLY = "deployment.apply"
    DEPLOYMENT_LIST = "deployment.list"
    DEPLOYMENT_REMOVE = "deployment.remove"
    DEPLOY_CREATE = "deploy.create"
    DEPLOY_LIST = "deploy.list"
    DEPLOY_ROLLBACK = "deploy.rollback"
    DEPLOY_SHOW = "deploy.show"
    DEPLOY_UPDATE = "deploy.update"
    INVITATION_LIST = "invitation.list"
    INVITATION_WITHDRAW = "invitation.withdraw"
    INVOICE_CLOSE = "invoice.close"
    INVOICE_CREDIT_NOTE = "invoice.credit_note"
    INVOICE_LIST = "invoice.list"
    INVOICE_PREVIEW = "invoice.preview"
    INVOICE_PROFILE = "invoice.profile"
    INVOICE_SHOW = "invoice.show"
    KEY_CREATE = "key.create"
    KEY_LIST = "key.list"
    KEY_REVOKE = "key.revoke"
    KEY_ROTATE = "key.rotate"
    LEDGER_CHECK = "ledger.check"
    LEDGER_SHOW = "ledger.show"
    MEMBER_INVITE = "member.invite"
    MEMBER_LIST = "member.list"
    MEMBER_REMOVE = "member.remove"
    MEMBER_SET_ROLE = "member.set_role"
    MEMBER_TOKEN_CREATE = "member_token.create"
    MEMBER_TOKEN_LIST = "member_token.list"
    MEMBER_TOKEN_REVOKE = "member_token.revoke"
    MODEL_LIST = "model.list"
    MODEL_REGISTER = "model.register"
    NODE_CORDON = "node.cordon"
    NODE_DRAIN = "node.drain"
    NODE_LIST = "node.list"
    NODE_REMOVE = "node.remove"
    NODE_REPLACE = "node.replace"
    NODE_RESUME = "node.resume"
    NODE_RETIRE = "node.retire"
    OBJECT_LIST = "object.list"
    OBJECT_PUBLISH = "object.publish"
    OBJECT_REMOVE = "object.remove"
    OBJECT_RESOLVE = "object.resolve"
    OBJECT_SHOW = "object.show"
    OBJECT_VERIFY = "object.verify"
    OPERATOR_INVITE = "operator.invite"
    OPERATOR_LIST = "operator.list"
    OPERATOR_RENEW = "operator.renew"
    OPERATOR_REVOKE = "operator.revoke"
    OPERATOR_SET_ROLE = "operator.set_role"
    PAYMENT_CHARGE = "payment.charge"
    PAYMENT_RECORD = "payment.record"
    PAYMENT_SETUP = "payment.setup"
    PAYMENT_STATUS = "payment.status"
    PLAN_APPLY = "plan.apply"
    PLAN_FORBID = "plan.forbid"
    PLAN_FREEZE = "plan.freeze"
    PLAN_PIN = "plan.pin"
    PLAN_RELEASE = "plan.release"
    PLAN_SHOW = "plan.show"
    PLAN_UNFREEZE = "plan.unfreeze"
    POP_COST = "pop.cost"
    POP_CREATE = "pop.create"
    POP_LIST = "pop.list"
    PRICE_HISTORY = "price.history"
    PRICE_LIST = "price.list"
    PRICE_PROPOSE = "price.propose"
    PRICE_PUBLISH = "price.publish"
    PRICE_QUOTE = "price.quote"
    PRICE_SHOW = "price.show"
    REPORT_METRICS = "report.metrics"
    REPORT_POPS = "report.pops"
    REPORT_SLA = "report.sla"
    REPOSITORY_LIST = "repository.list"
    REPOSITORY_PLACE = "repository.place"
    REPOSITORY_SHOW = "repository.show"
    ROUTE_EXPLAIN = "route.explain"
    SIGN_UP_INVITE = "sign_up.invite"
    TABLE_FORCE = "table.force"
    TOKEN_CREATE = "token.create"
    TRACE_LIST = "trace.list"
    TRACE_SHOW = "trace.show"
    UPSTREAM_IMPORT = "upstream.import"
    UPSTREAM_TOKEN = "upstream.token"
    USAGE_EXPORT = "usage.export"
    USAGE_EXPORTS = "usage.exports"
    USAGE_QUARANTINE = "usage.quarantine"
    USAGE_READ = "usage.read"
    USAGE_SETTLE = "usage.settle"


#: Viewers read; operators also run nodes, models and deployments; admins do everything.
NEEDS: Mapping[Act, Role] = {
    Act.ACCOUNT_CREATE: Role.ADMIN,
    Act.ACCOUNT_FUNDS: Role.ADMIN,
    Act.ACCOUNT_LIMITS: Role.ADMIN,
    Act.ACCOUNT_LIST: Role.VIEWER,
    Act.ACCOUNT_OWN_CAP: Role.ADMIN,
    Act.ACCOUNT_RESUME: Role.ADMIN,
    Act.ACCOUNT_SHOW: Role.VIEWER,
    Act.ACCOUNT_SUSPEND: Role.ADMIN,
    # It decides where customers' data may be.
    Act.ACCOUNT_ZONES: Role.ADMIN,
    # It takes the time of engines.
    Act.ADAPTER_COMPARE: Role.OPERATOR,
    Act.ADAPTER_PORT: Role.OPERATOR,
    Act.ADOPTION_ADVANCE: Role.OPERATOR,
    Act.ADOPTION_LIST: Role.VIEWER,
    Act.ADOPTION_TRACK: Role.OPERATOR,
    Act.ADOPTION_UNTRACK: Role.OPERATOR,
    Act.ALERT_LIST: Role.VIEWER,
    Act.ALERT_SET: Role.ADMIN,
    Act.ALERT_TEST: Role.OPERATOR,
    Act.AUDIT_LIST: Role.VIEWER,
    Act.BLOB_FIND: Role.OPERATOR,
    Act.BLOB_PROGRESS: Role.OPERATOR,
    Act.BLOB_RESUME: Role.OPERATOR,
    Act.BLOB_UPLOAD: Role.OPERATOR,
    Act.CREDIT_GRANT: Role.ADMIN,
    Act.CREDIT_LIST: Role.VIEWER,
    Act.DEPLOYMENT_APPLY: Role.OPERATOR,
    Act.DEPLOYMENT_LIST: Role.VIEWER,
    Act.DEPLOYMENT_REMOVE: Role.OPERATOR,
    Act.DEPLOY_CREATE: Role.OPERATOR,
    Act.DEPLOY_LIST: Role.VIEWER,
    Act.DEPLOY_ROLLBACK: Role.OPERATOR,
    Act.DEPLOY_SHOW: Role.VIEWER,
    Act.DEPLOY_UPDATE: Role.OPERATOR,
    Act.INVITATION_LIST: Role.VIEWER,
    Act.INVITATION_WITHDRAW: Role.ADMIN,
    Act.INVOICE_CLOSE: Role.ADMIN,
    Act.INVOICE_CREDIT_NOTE: Role.ADMIN,
    Act.INVOICE_LIST: Role.VIEWER,
    Act.INVOICE_PREVIEW: Role.VIEWER,
    Act.INVOICE_PROFILE: Role.ADMIN,
    Act.INVOICE_SHOW: Role.VIEWER,
    Act.KEY_CREATE: Role.ADMIN,
    Act.KEY_LIST: Role.VIEWER,
    Act.KEY_REVOKE: Role.ADMIN,
    Act.KEY_ROTATE: Role.ADMIN,
    Act.LEDGER_CHECK: Role.VIEWER,
    Act.LEDGER_SHOW: Role.VIEWER,
    Act.MEMBER_INVITE: Role.ADMIN,
    Act.MEMBER_LIST: Role.VIEWER,
    Act.MEMBER_REMOVE: Role.ADMIN,
    Act.MEMBER_SET_ROLE: Role.ADMIN,
    # For a member who has lost every token.
    Act.MEMBER_TOKEN_CREATE: Role.ADMIN,
    Act.MEMBER_TOKEN_LIST: Role.VIEWER,
    Act.MEMBER_TOKEN_REVOKE: Role.ADMIN,
    Act.MODEL_LIST: Role.VIEWER,
    Act.MODEL_REGISTER: Role.OPERATOR,
    Act.NODE_CORDON: Role.OPERATOR,
    Act.NODE_DRAIN: Role.OPERATOR,
    Act.NODE_LIST: Role.VIEWER,
    Act.NODE_REMOVE: Role.ADMIN,
    Act.NODE_REPLACE: Role.ADMIN,
    Act.NODE_RESUME: Role.OPERATOR,
    Act.NODE_RETIRE: Role.OPERATOR,
    Act.OBJECT_LIST: Role.VIEWER,
    Act.OBJECT_PUBLISH: Role.OPERATOR,
    Act.OBJECT_REMOVE: Role.OPERATOR,
    Act.OBJECT_RESOLVE: Role.VIEWER,
    Act.OBJECT_SHOW: Role.VIEWER,
    # It reads every byte of an object.
    Act.OBJECT_VERIFY: Role.OPERATOR,
    Act.OPERATOR_INVITE: Role.ADMIN,
    Act.OPERATOR_LIST: Role.VIEWER,
    # Of the own certificate only.
    Act.OPERATOR_RENEW: Role.VIEWER,
    Act.OPERATOR_REVOKE: Role.ADMIN,
    Act.OPERATOR_SET_ROLE: Role.ADMIN,
    Act.PAYMENT_CHARGE: Role.ADMIN,
    Act.PAYMENT_RECORD: Role.ADMIN,
    Act.PAYMENT_SETUP: Role.ADMIN,
    Act.PAYMENT_STATUS: Role.VIEWER,
    Act.PLAN_APPLY: Role.OPERATOR,
    Act.PLAN_FORBID: Role.OPERATOR,
    Act.PLAN_FREEZE: Role.OPERATOR,
    Act.PLAN_PIN: Role.OPERATOR,
    Act.PLAN_RELEASE: Role.OPERATOR,
    Act.PLAN_SHOW: Role.VIEWER,
    Act.PLAN_UNFREEZE: Role.OPERATOR,
    Act.POP_COST: Role.ADMIN,
    Act.POP_CREATE: Role.ADMIN,
    Act.POP_LIST: Role.VIEWER,
    Act.PRICE_HISTORY: Role.VIEWER,
    Act.PRICE_LIST: Role.VIEWER,
    Act.PRICE_PROPOSE: Role.OPERATOR,
    Act.PRICE_PUBLISH: Role.ADMIN,
    Act.PRICE_QUOTE: Role.VIEWER,
    Act.PRICE_SHOW: Role.VIEWER,
    Act.REPORT_METRICS: Role.VIEWER,
    Act.REPORT_POPS: Role.VIEWER,
    Act.REPORT_SLA: Role.VIEWER,
    Act.REPOSITORY_LIST: Role.VIEWER,
    Act.REPOSITORY_PLACE: Role.VIEWER,
    Act.REPOSITORY_SHOW: Role.VIEWER,
    Act.ROUTE_EXPLAIN: Role.VIEWER,
    Act.SIGN_UP_INVITE: Role.ADMIN,
    Act.TABLE_FORCE: Role.ADMIN,
    Act.TOKEN_CREATE: Role.ADMIN,
    Act.TRACE_LIST: Role.VIEWER,
    Act.TRACE_SHOW: Role.VIEWER,
    Act.UPSTREAM_IMPORT: Role.OPERATOR,
    Act.UPSTREAM_TOKEN: Role.ADMIN,
    Act.USAGE_EXPORT: Role.VIEWER,
    Act.USAGE_EXPORTS: Role.VIEWER,
    Act.USAGE_QUARANTINE: Role.VIEWER,
    Act.USAGE_READ: Role.VIEWER,
    # It bills an account.
    Act.USAGE_SETTLE: Role.ADMIN,
}

#: What the holder of an API key may do to its account's own objects and deployments, and read of
#: those of the operators.
OF_ACCOUNTS: frozenset[Act] = frozenset(
    {
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
    }
)

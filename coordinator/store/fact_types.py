"""The types of facts, and how their payloads are written."""

from __future__ import annotations

import enum
import json


class FactType(enum.StrEnum):
    """The types of facts; none is the name of a ResourceType."""

    NODE = "node"
    CERTIFICATES = "certificates"
    PLACEMENT = "placement"
    NODE_ORDER = "node_order"
    MANIFEST = "manifest"
    KEY = "key"
    OPERATOR = "operator"
    PUBLICATION = "publication"
    RUNTIME = "runtime"
    TRACK = "track"
    DEPLOY = "deploy"
    PLAN_RULES = "plan_rules"
    ACCOUNT = "account"
    MEMBER = "member"
    MEMBER_TOKEN = "member_token"
    INVITATION = "invitation"
    PRICE_CARD = "price_card"


def fact_json(**values: object) -> bytes:
    """Return a payload."""
    return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()

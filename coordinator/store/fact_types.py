"""The names of the types of facts; none is the name of a ResourceType."""

from __future__ import annotations

import enum


class FactType(enum.StrEnum):
    """What a fact is about."""

    NODE = "node"
    CERTIFICATES = "certificates"
    PLACEMENT = "placement"
    NODE_ORDER = "node_order"
    MANIFEST = "manifest"
    KEY = "key"
    OPERATOR = "operator"
    DEPLOY = "deploy"
    PLAN_RULES = "plan_rules"

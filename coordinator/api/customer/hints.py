"""Hints of use cases in the words of the customers' API. Pure.

Use cases name the commands of operators, which customers do not have; what such a command does, a
request of theirs does too, or an operator has to.
"""

from __future__ import annotations

import re

from protos.domain.errors import Forbidden, NotFound

_COMMAND = re.compile(r"`edgeforge ([a-z-]+ [a-z-]+)[^`]*`|\bedgeforge ([a-z-]+ [a-z-]+)\b.*")
#: With what leads to it, where the rest of the hint says enough.
_CLAUSE = re.compile(r"[:;,]? ?`edgeforge [^`]*`[^;]*$")
_ANY = "edgeforge "
#: Requests by the words of the command that does the same.
_REQUESTS = {
    "account ls": "GET /v1/account",
    "account show": "GET /v1/account",
    "adapter import": "POST /v1/models:import, or an upload as GET /v1/hub says",
    "adapter ls": "GET /v1/adapters",
    "deploy ls": "GET /v1/deployments",
    "deploy rollback": "POST /v1/deployments/NAME/rollback",
    "deploy show": "GET /v1/deployments/NAME",
    "deployment ls": "GET /v1/deployments",
    "invoice ls": "GET /v1/invoices",
    "key ls": "GET /v1/keys",
    "model import": "POST /v1/models:import, or an upload as GET /v1/hub says",
    "model ls": "GET /v1/models",
    "payment setup": "POST /v1/payments:set-up",
    "payment status": "GET /v1/payments",
    "price show": "GET /v1/prices",
    "trace ls": "GET /v1/traces",
}
#: Where a hint is of no use to a customer.
_ELSE: tuple[tuple[type[Exception], str], ...] = (
    (NotFound, "GET /openapi.json has the requests that list what there is"),
    (Forbidden, "GET /v1/me says what your role covers"),
)


def customers_hint(error: Exception, hint: str) -> str:
    """Return the hint of an error for a customer; empty where there is nothing to do."""
    told = _CLAUSE.sub("", _COMMAND.sub(_request, hint))
    if told and _ANY not in told:
        return told
    return next((text for kind, text in _ELSE if isinstance(error, kind)), "")


def _request(found: re.Match[str]) -> str:
    return _REQUESTS.get(found[1] or found[2], found[0])

"""The grammar of names.

Every name used in a path, a label or a certificate passes one of these checks first.
"""

from __future__ import annotations

import re

from protos.domain.errors import InvalidRequest

_POP = re.compile(r"[A-Z][A-Z0-9]{1,7}")
_NODE = re.compile(r"[a-z][a-z0-9-]{0,38}[a-z0-9]")
_MODEL = re.compile(
    r"[a-z0-9][a-z0-9_.-]{0,63}"
    r"/[A-Za-z0-9][A-Za-z0-9_.-]{0,95}"
    r"@[A-Za-z0-9][A-Za-z0-9_.-]{0,31}"
)
_DEPLOYMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./@:-]{0,127}")
_ACCOUNT = re.compile(r"[a-z][a-z0-9-]{0,62}")
_PERSON = re.compile(r"[a-z0-9][a-z0-9_.-]{0,62}")
_ZONE = re.compile(r"[A-Z]{2}")


def check_pop_id(text: str) -> str:
    """Return ``text`` if it names a POP, such as ``GRU``. Raises: InvalidRequest."""
    return _check(_POP, text, "POP", "two to eight capital letters and digits, such as GRU")


def check_node_id(text: str) -> str:
    """Return ``text`` if it names a node, such as ``gru-1``. Raises: InvalidRequest."""
    return _check(_NODE, text, "node", "2 to 40 of a-z, 0-9 and -, such as gru-1")


def check_model_name(text: str) -> str:
    """Return ``text`` if it is ``owner/name@version``. Raises: InvalidRequest."""
    return _check(_MODEL, text, "model", "owner/name@version, such as acme/llama-8b@1")


def check_deployment_name(text: str) -> str:
    """Return ``text`` if a client may put it in ``model``. Raises: InvalidRequest."""
    return _check(_DEPLOYMENT, text, "deployment", "1 to 128 of letters, digits and _ . / @ : -")


def check_account_id(text: str) -> str:
    """Return ``text`` if it names an account. Raises: InvalidRequest."""
    return _check(_ACCOUNT, text, "account", "1 to 63 of a-z, 0-9 and -")


def check_person(text: str) -> str:
    """Return ``text`` if it names an operator or a coordinator. Raises: InvalidRequest."""
    return _check(_PERSON, text, "operator or coordinator", "1 to 63 of a-z, 0-9, _, . and -")


def check_zone(text: str) -> str:
    """Return ``text`` if it is a residency zone, such as ``BR``. Raises: InvalidRequest."""
    return _check(_ZONE, text, "residency zone", "two capital letters, such as BR")


def _check(pattern: re.Pattern[str], text: str, what: str, grammar: str) -> str:
    if pattern.fullmatch(text) is None:
        raise InvalidRequest(f"{text[:80]!r} is not a {what} name", f"use {grammar}")
    return text

"""Where a request may be served: a deployment's zones, narrowed by the request."""

from __future__ import annotations

from collections.abc import Iterable


def allowed_zones(
    deployment_zones: Iterable[str], narrowed_zones: frozenset[str] | None
) -> frozenset[str] | None:
    """Return the zones that both allow; None is anywhere, the empty set nowhere."""
    raise NotImplementedError


def parse_zones(text: str) -> frozenset[str]:
    """Return the zones of ``x-edgeforge-residency``: "BR" or "BR, EU". Raises: InvalidRequest."""
    raise NotImplementedError

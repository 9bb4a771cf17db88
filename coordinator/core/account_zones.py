"""What the zones of an account do to its keys and deployments: they may only narrow them. Pure.

A deployment of an account with zones always has zones of its own, so that planning, placing and
pulling need to know no account.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from coordinator.core.rollout import RolloutPhase
from protos.domain.errors import Conflict, InvalidRequest
from protos.domain.ids import check_zone

if TYPE_CHECKING:
    from coordinator.core.rollout import Rollout
    from protos.domain.customers import ApiKey
    from protos.domain.resources import Deployment

MAX_ZONES = 50
#: Keys and deployments that a refusal names.
_SHOWN = 5


def checked_zones(zones: Iterable[str]) -> tuple[str, ...]:
    """Return zones, each once and in order. Raises: InvalidRequest."""
    found = tuple(sorted({check_zone(zone) for zone in zones}))
    if len(found) > MAX_ZONES:
        raise InvalidRequest(f"{len(found)} zones are more than {MAX_ZONES}")
    return found


def within_account(account_zones: tuple[str, ...], deployment: Deployment) -> Deployment:
    """Return a deployment with its account's zones, if it has none of its own.

    Raises: InvalidRequest for zones that the account does not have.
    """
    if not account_zones:
        return deployment
    if not deployment.residency_zones:
        return replace(deployment, residency_zones=tuple(sorted(account_zones)))
    outside = sorted(set(deployment.residency_zones) - set(account_zones))
    if outside:
        raise InvalidRequest(
            f"account {deployment.account_id!r} is bound to {_listed(account_zones)}: deployment"
            f" {deployment.name!r} may not be served in {_listed(outside)}",
            f"name zones of {_listed(account_zones)}, or none: it has those of its account then",
        )
    return deployment


def narrowed(account_zones: tuple[str, ...], deployment: Deployment) -> Deployment | None:
    """Return a deployment in what is left of its zones; None: nothing is. Never wider."""
    if not account_zones:
        return deployment
    own = set(deployment.residency_zones) or set(account_zones)
    left = tuple(sorted(own & set(account_zones)))
    return replace(deployment, residency_zones=left) if left else None


def check_key_zones(account_zones: tuple[str, ...], key: ApiKey) -> ApiKey:
    """Return a key that knows its account's zones. Raises: InvalidRequest for wider ones."""
    outside = sorted(set(key.zones) - set(account_zones)) if account_zones else []
    if outside:
        raise InvalidRequest(
            f"account {key.account_id!r} is bound to {_listed(account_zones)}: its key may not be"
            f" used in {_listed(outside)}",
            f"name zones of {_listed(account_zones)}, or none",
        )
    return replace(key, account_zones=account_zones)


def narrowed_rollout(account_zones: tuple[str, ...], rollout: Rollout) -> Rollout | None:
    """Return a roll-out whose other version is in what is left of its zones.

    None if nothing is left of those of a version that is let go. Raises: Conflict for one that is
    made ready.
    """
    other = narrowed(account_zones, rollout.other)
    if other is not None:
        return replace(rollout, other=other)
    if rollout.phase is RolloutPhase.PREPARING:
        raise nowhere(account_zones, [f"the next version of deployment {rollout.other.name!r}"])
    return None


def nowhere(account_zones: tuple[str, ...], what: list[str]) -> Conflict:
    """Return the refusal of zones that would leave ``what`` no zone at all."""
    more = f" and {len(what) - _SHOWN} more" if len(what) > _SHOWN else ""
    return Conflict(
        f"within {_listed(account_zones)} no zone would be left for"
        f" {', '.join(what[:_SHOWN])}{more}",
        "change their zones or remove them first",
        retryable=False,
    )


def _listed(zones: Iterable[str]) -> str:
    return ", ".join(sorted(zones))

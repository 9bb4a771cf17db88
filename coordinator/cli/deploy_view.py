"""How deploys are printed and waited for."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from coordinator.cli.output import as_json, enum_word
from protos.domain.errors import Conflict, NotFound
from protos.output.terminal import print_json, print_line, print_progress, print_table
from protos.v1 import deploy_pb2, resources_pb2

if TYPE_CHECKING:
    from coordinator.cli.client import AdminClient

POLL_S = 0.5


def wait_until_done(
    client: AdminClient, status: deploy_pb2.DeployStatus, *, quiet: bool
) -> deploy_pb2.DeployStatus:
    """Wait until nothing is waited for, and say on standard error what for, each line once.

    Raises: Conflict when the change that ``status`` prepares is withdrawn or replaced.
    """
    name, said = status.deployment.name, ""
    awaited = status.rollout.other.revision if status.rollout.phase == "preparing" else 0
    request = deploy_pb2.ShowDeployRequest(name=name)
    try:
        while not _is_done(status) and _is_under_way(status, awaited):
            lines = "; ".join(status.waits_for)
            if lines != said and not quiet:
                print_progress(lines)
            said = lines
            time.sleep(POLL_S)
            status = client.call_deploys(lambda stub: stub.ShowDeploy, request)
    except KeyboardInterrupt:
        print_progress(f"{name} goes on without this command: edgeforge deploy show {name}")
        raise
    except NotFound:
        print_progress(f"{name} was removed meanwhile")
        raise
    _check_made(status, awaited)
    return status


def _is_under_way(status: deploy_pb2.DeployStatus, awaited: int) -> bool:
    """Return whether the awaited change was made or is prepared; 0: none is awaited."""
    return (
        not awaited
        or _is_made(status, awaited)
        or (status.rollout.phase == "preparing" and status.rollout.other.revision == awaited)
    )


def _is_made(status: deploy_pb2.DeployStatus, awaited: int) -> bool:
    return any(one.deployment.revision == awaited for one in status.revisions)


def _check_made(status: deploy_pb2.DeployStatus, awaited: int) -> None:
    """Raises: Conflict if the awaited change never happened."""
    if not awaited or _is_made(status, awaited):
        return
    one = status.deployment
    why = "another change took its place"
    if status.withdrawn.revision == awaited:
        why = status.withdrawn.why
    raise Conflict(
        f"revision {awaited} of {one.name} was withdrawn: {why}",
        f"revision {one.revision} goes on serving; edgeforge deploy show {one.name}",
        retryable=False,
    )


def _is_done(status: deploy_pb2.DeployStatus) -> bool:
    return not status.waits_for and status.rollout.phase != "preparing"


def print_deploy(status: deploy_pb2.DeployStatus, json_output: bool) -> None:
    """Print one deployment."""
    if json_output:
        print_json(as_json(status))
        return
    one = status.deployment
    print_line(f"{one.name}: {_served_from(one)}, revision {one.revision}, {_state(status)}")
    budget = f"  first token P99 under {one.ttft_budget_ms} ms, {_sla(one)}"
    print_line(budget + ", strict" * one.strict + _premium(one))
    where = ", ".join(status.node_ids) or ("none left" if one.is_pinned else "by demand")
    print_line(
        f"  account {one.account_id}, nodes {where},"
        f" residency {', '.join(one.residency_zones) or 'any'}"
    )
    if one.continue_streams:
        print_line("  a broken stream goes on from another replica")
    for line in status.waits_for:
        print_line(f"  {line}")
    if status.withdrawn.revision:
        gone = status.withdrawn
        at = f"revision {gone.revision} ({gone.reason}) at {_time(gone.at_unix_ms)}"
        print_line(f"  withdrawn: {at}: {gone.why}")
    for line in status.unplaced:
        print_line(f"  not placed: {line}")
    _print_nodes(status)
    _print_revisions(status)


def print_deploys(deploys: Iterable[deploy_pb2.DeployStatus]) -> None:
    """Print a line for each deployment."""
    print_table(
        ("deployment", "account", "served from", "revision", "first token", "state", "waits for"),
        (
            (
                one.deployment.name,
                one.deployment.account_id,
                _served_from(one.deployment),
                one.deployment.revision,
                f"{one.deployment.ttft_budget_ms} ms" + " strict" * one.deployment.strict,
                _state(one),
                "; ".join(one.waits_for) or "-",
            )
            for one in deploys
        ),
        "no deployments yet; edgeforge deploy create makes one",
    )


def _print_nodes(status: deploy_pb2.DeployStatus) -> None:
    if not status.nodes:
        return
    print_line("")
    print_table(
        ("node", "holds", "plan", "state", "weights", "link"),
        (
            (
                one.node_id,
                one.name + " (next)" * one.next,
                one.hold,
                one.state + (f": {one.error}" if one.error else "") or "-",
                _weights(one),
                "connected" if one.connected else "not connected",
            )
            for one in status.nodes
        ),
        "",
    )


def _print_revisions(status: deploy_pb2.DeployStatus) -> None:
    if not status.revisions:
        return
    print_line("")
    print_table(
        ("revision", "served from", "first token", "by", "at", "why"),
        (
            (
                one.deployment.revision,
                _served_from(one.deployment),
                f"{one.deployment.ttft_budget_ms} ms",
                one.by or "-",
                _time(one.at_unix_ms),
                one.reason,
            )
            for one in status.revisions
        ),
        "",
    )


def _served_from(one: resources_pb2.Deployment) -> str:
    parts = [one.model]
    if one.adapter:
        parts.append(f"with {one.adapter}")
    if one.runtime:
        parts.append(f"by {one.runtime}")
    return " ".join(parts)


def _state(status: deploy_pb2.DeployStatus) -> str:
    phase = status.rollout.phase
    if phase == "preparing":
        return f"preparing revision {status.rollout.other.revision}"
    if phase == "settling":
        return f"switched from revision {status.rollout.other.revision}"
    if any(one.state == "ready" and not one.next for one in status.nodes):
        return "served"
    return "ready on demand" if status.served else "not served yet"


def _sla(one: resources_pb2.Deployment) -> str:
    return enum_word(resources_pb2.SlaTier.Name(one.sla_tier), "SLA_TIER_")


def _premium(one: resources_pb2.Deployment) -> str:
    percent = one.max_premium_percent
    return f", at most {percent}% above the cheapest central price" if percent else ""


def _weights(one: deploy_pb2.DeployNode) -> str:
    if one.total_bytes and one.pulled_bytes < one.total_bytes:
        return f"{one.pulled_bytes / one.total_bytes:.0%} of {one.total_bytes / 1e6:.0f} MB"
    return one.residency or "-"


def _time(at_unix_ms: int) -> str:
    moment = datetime.datetime.fromtimestamp(at_unix_ms / 1_000, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%S")

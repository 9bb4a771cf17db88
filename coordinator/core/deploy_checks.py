"""Whether a fleet can serve a deployment at all: said when it is made, with the numbers. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from coordinator.core.plan_input import (
    ENGINE_KIND_OF,
    adapter_misfit,
    gigabytes,
    is_allowed,
    misfit,
    runtime_misfit,
)
from protos.domain.errors import InvalidRequest
from protos.domain.resources import NodeIntent

if TYPE_CHECKING:
    from coordinator.core.plan_input import PlanNode
    from protos.domain.resources import Adapter, Deployment, Model, Runtime

#: Nodes and combinations that a refusal names.
_SHOWN = 5


def check_owner(deployment: Deployment, *objects: Model | Adapter | Runtime | None) -> None:
    """Raises: InvalidRequest if one of them is another account's."""
    for one in objects:
        if one is not None and one.account_id not in ("", deployment.account_id):
            raise InvalidRequest(
                f"{one.name} belongs to another account than {deployment.account_id!r}",
                "deploy what the operators or the account itself have published",
            )


def check_adapter(model: Model, adapter: Adapter | None) -> None:
    """Raises: InvalidRequest if an adapter is for another base."""
    if adapter is not None and adapter.model != model.name:
        raise InvalidRequest(
            f"adapter {adapter.name} is for {adapter.model}, not for {model.name}",
            f"`edgeforge adapter port {adapter.name} --to {model.name}` makes one that is",
        )


def check_fits(
    nodes: Mapping[str, PlanNode],
    deployment: Deployment,
    pins: frozenset[str] | None,
    model: Model,
    adapter: Adapter | None,
    runtime: Runtime | None,
    *,
    names_nodes: bool = True,
) -> None:
    """Raises: InvalidRequest saying why no node can serve a deployment.

    ``names_nodes``: customers are told counts, sizes and zones, not which nodes there are. A node
    that has not connected yet may fit: nothing is known of it.
    """
    wanted = ENGINE_KIND_OF[model.source]
    present = {
        node_id: node for node_id, node in nodes.items() if node.intent is not NodeIntent.RETIRED
    }
    allowed = {
        node_id: node
        for node_id, node in present.items()
        if is_allowed(deployment, pins, node_id, node.zone)
    }
    if not allowed:
        zones = Counter(node.zone for node in present.values() if node.engine_kind == wanted)
        raise InvalidRequest(
            f"no node may serve it: none is in {', '.join(deployment.residency_zones) or 'reach'}",
            "nodes with such an engine are in " + _counted(zones)
            if zones
            else f"no node has an engine of kind {wanted!r} yet: `edgeforge node ls`",
        )
    if any(node.engine_kind == "" for node in allowed.values()):
        return
    engines = {one: node for one, node in allowed.items() if node.engine_kind == wanted}
    if not engines:
        kinds = Counter(node.engine_kind for node in allowed.values())
        raise InvalidRequest(
            f"no node may serve it: a {model.source} model needs an engine of kind {wanted!r}",
            f"the nodes that may serve it have {_counted(kinds)}: `edgeforge node ls`",
        )
    _check_memory(engines, model, names_nodes=names_nodes)
    if runtime is not None:
        _check_runtime(engines, model, runtime)
    if adapter is not None:
        _check_loadable(engines, model, adapter, runtime)


def _check_memory(engines: Mapping[str, PlanNode], model: Model, *, names_nodes: bool) -> None:
    if any(not misfit(one.engine_kind, one.hardware, model) for one in engines.values()):
        return
    said = (
        f"model {model.name} has {gigabytes(model.weights_bytes)} of weights"
        f" ({model.weights_bytes} bytes), more than an engine of any node that may serve it can"
        " take: "
    )
    if not names_nodes:
        raise InvalidRequest(
            said + _sizes(engines.values()),
            "deploy a smaller or a quantised model, or allow more zones",
        )
    most = sorted(
        ((node.hardware.weights_memory_bytes, node_id) for node_id, node in engines.items()),
        key=lambda one: (-one[0], one[1]),
    )
    shown = ", ".join(f"{node_id} {gigabytes(size)}" for size, node_id in most[:_SHOWN])
    more = f" and {len(most) - _SHOWN} smaller ones" if len(most) > _SHOWN else ""
    raise InvalidRequest(
        said + shown + more,
        "deploy a smaller or a quantised model, or enrol a node with more memory",
    )


def _sizes(nodes: Iterable[PlanNode]) -> str:
    """Return how many nodes take how much in which zone, the largest first."""
    counts = Counter((node.hardware.weights_memory_bytes, node.zone) for node in nodes)
    ordered = sorted(counts.items(), key=lambda one: (-one[0][0], one[0][1]))
    shown = [
        f"{gigabytes(size)} at {count} node{'s' * (count != 1)} in {zone or 'no zone'}"
        for (size, zone), count in ordered[:_SHOWN]
    ]
    more = sum(count for _, count in ordered[_SHOWN:])
    return "; ".join(shown) + (f" and {more} smaller ones" if more else "")


def _check_runtime(engines: Mapping[str, PlanNode], model: Model, runtime: Runtime) -> None:
    fitting = [
        one for one in engines.values() if not misfit(one.engine_kind, one.hardware, model, runtime)
    ]
    if fitting:
        return
    reasons = Counter(
        runtime_misfit(one.engine_kind, one.hardware, runtime) for one in engines.values()
    )
    reasons.pop("", None)
    there_is = Counter(
        f"{one.hardware.accelerator_kind or 'an unknown accelerator'} with {one.engine_kind}"
        f" {one.hardware.engine_version or 'of unknown version'}"
        for one in engines.values()
    )
    said = reasons.most_common(1)[0][0] if reasons else "no node that takes the model fits it"
    raise InvalidRequest(
        f"no node can start engines of runtime {runtime.name}: {said}",
        f"there is {_counted(there_is)}",
    )


def _check_loadable(
    engines: Mapping[str, PlanNode], model: Model, adapter: Adapter, runtime: Runtime | None
) -> None:
    takers = [
        one for one in engines.values() if not misfit(one.engine_kind, one.hardware, model, runtime)
    ]
    if any(not adapter_misfit(one.hardware, adapter) for one in takers):
        return
    loading = [one for one in takers if one.hardware.max_adapters > 0]
    if not loading:
        raise InvalidRequest(
            f"no node that takes {model.name} loads adapters",
            "start agents with adapters switched on, or deploy without one",
        )
    most = max(one.hardware.max_adapter_rank for one in loading)
    raise InvalidRequest(
        f"adapter {adapter.name} has rank {adapter.rank}, engines here take at most {most}",
        "train it with a lower rank, or raise max_adapter_rank of an agent",
    )


def _counted(words: Mapping[str, int]) -> str:
    ordered = sorted(words.items(), key=lambda one: (-one[1], one[0]))[:_SHOWN]
    return "; ".join(
        f"{word or 'none'} at {count} node{'s' * (count != 1)}" for word, count in ordered
    )

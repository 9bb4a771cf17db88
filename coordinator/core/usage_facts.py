"""Facts of the fleet that usage names, read from the routing table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from protos.domain.customers import Account, ApiKey
    from protos.domain.fleet_view import FleetView
    from protos.domain.resources import CardTerms, Deployment, Model, Node, Pop, Price

#: Something that was true of the fleet once; the first text says of what kind it is.
Fact = tuple[str | int, ...]


class FactReader:
    """Reads those tables of a view that are not the ones it has read last."""

    def __init__(self) -> None:
        self._seen: dict[str, object] = {}

    def changed(self, view: FleetView) -> Iterator[Fact]:
        """Yield the facts of the tables that have changed."""
        for name, read in _READERS.items():
            table = getattr(view, name)
            if self._is_new(name, table):
                yield from read(table)
        for model, by_node in view.replicas.items():
            if self._is_new(f"replicas/{model}", by_node):
                yield from (("replica", node, model) for node in by_node)

    def _is_new(self, name: str, table: object) -> bool:
        if self._seen.get(name) is table:
            return False
        self._seen[name] = table
        return True


def _pops(pops: Mapping[str, Pop]) -> Iterator[Fact]:
    for pop in pops.values():
        yield ("pop", pop.id, str(pop.tier))
        yield ("zone", pop.zone)


def _nodes(nodes: Mapping[str, Node]) -> Iterator[Fact]:
    yield from (("node", node.id, node.pop_id) for node in nodes.values())


def _accounts(accounts: Mapping[str, Account]) -> Iterator[Fact]:
    for account in accounts.values():
        yield ("account", account.id)
        if account.zones:
            yield ("pinned", "account", account.id)


def _keys(keys: Mapping[bytes, ApiKey]) -> Iterator[Fact]:
    for key in keys.values():
        yield ("key", key.id, key.account_id)
        if key.zones:
            yield ("pinned", "key", key.id)


def _models(models: Mapping[str, Model]) -> Iterator[Fact]:
    yield from (("model", model.name, model.size_class) for model in models.values())


def _deployments(deployments: Mapping[str, Deployment]) -> Iterator[Fact]:
    for one in deployments.values():
        for model in {one.model, one.next.model} if one.next else {one.model}:
            yield ("deployment", one.name, one.account_id, model, str(one.sla_tier))
        if one.residency_zones or (one.next and one.next.residency_zones):
            yield ("pinned", "deployment", one.name)


def _prices(prices: Mapping[object, Price]) -> Iterator[Fact]:
    for price in prices.values():
        yield (
            "price",
            price.size_class,
            str(price.tier),
            price.prompt_nano_usd_per_token,
            price.cached_nano_usd_per_token,
            price.completion_nano_usd_per_token,
            price.card_version,
        )


def _terms(card: Mapping[str, CardTerms]) -> Iterator[Fact]:
    for terms in card.values():
        yield (
            "terms",
            terms.version,
            terms.realtime_percent,
            terms.interactive_percent,
            terms.standard_percent,
            terms.residency_percent,
        )
        yield ("card", terms.version, terms.valid_from_unix_ms)


#: table of the view -> its facts
_READERS: dict[str, Callable[[Any], Iterator[Fact]]] = {
    "pops": _pops,
    "nodes": _nodes,
    "accounts": _accounts,
    "keys": _keys,
    "models": _models,
    "deployments": _deployments,
    "prices": _prices,
    "card": _terms,
}

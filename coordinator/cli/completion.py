"""Completes names of the fleet in a shell: asks the coordinator, for a second at most.

Whatever goes wrong, nothing is printed and nothing is completed: the shell is in the middle of a
line.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from coordinator.cli.client import AdminClient, connected
from coordinator.cli.profiles import Contexts, find_profile, load_profile
from protos.v1 import admin_pb2, registry_pb2

TIMEOUT_S = 1.0
#: Names offered at once; more are no help.
_MAX_NAMES = 500
#: What names of a fleet are made of; nothing that means something to a shell.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.@/:+-]*")

#: What typer calls with its context and the word so far.
Completer = Callable[[Any, str], list[str]]
_Ask = Callable[[AdminClient], Iterable[str]]


def _completer(ask: _Ask) -> Completer:
    def complete(ctx: Any, incomplete: str) -> list[str]:  # noqa: ANN401 - typer's own click
        with _silenced(), contextlib.suppress(Exception):
            path = find_profile(_named_profile(ctx), os.environ, Path.home())
            with connected(load_profile(path)) as client:
                return _starting(ask(client), incomplete)
        return []

    return complete


def contexts(incomplete: str) -> list[str]:
    """Complete the names of contexts, which are on this machine."""
    with contextlib.suppress(Exception):
        return _starting(Contexts(Path.home()).names(), incomplete)
    return []


def _list_nodes(client: AdminClient) -> Iterable[str]:
    request = admin_pb2.ListNodesRequest()
    found = client.call(lambda stub: stub.ListNodes, request, TIMEOUT_S)
    return [info.node.id for info in found.nodes]


def _list_pops(client: AdminClient) -> Iterable[str]:
    request = admin_pb2.ListPopsRequest()
    return [pop.id for pop in client.call(lambda stub: stub.ListPops, request, TIMEOUT_S).pops]


def _list_deployments(client: AdminClient) -> Iterable[str]:
    request = admin_pb2.ListDeploymentsRequest()
    found = client.call(lambda stub: stub.ListDeployments, request, TIMEOUT_S)
    return [info.deployment.name for info in found.deployments]


def _list_models(client: AdminClient) -> Iterable[str]:
    request = admin_pb2.ListModelsRequest()
    found = client.call(lambda stub: stub.ListModels, request, TIMEOUT_S)
    return [model.name for model in found.models]


def _list_objects(kind: registry_pb2.ObjectKind.ValueType) -> _Ask:
    def ask(client: AdminClient) -> Iterable[str]:
        request = registry_pb2.ListObjectsRequest(kind=kind)
        found = client.registry(lambda stub: stub.ListObjects, request, TIMEOUT_S)
        return [one.name for one in found.objects]

    return ask


def _list_accounts(client: AdminClient) -> Iterable[str]:
    request = admin_pb2.ListAccountsRequest()
    return client.call(lambda stub: stub.ListAccounts, request, TIMEOUT_S).ids


def _list_keys(client: AdminClient) -> Iterable[str]:
    request = admin_pb2.ListKeysRequest()
    return [key.id for key in client.call(lambda stub: stub.ListKeys, request, TIMEOUT_S).keys]


def _list_operators(client: AdminClient) -> Iterable[str]:
    request = admin_pb2.ListOperatorsRequest()
    found = client.call(lambda stub: stub.ListOperators, request, TIMEOUT_S)
    return [one.name for one in found.operators if not one.revoked_unix_ms]


def _list_places(client: AdminClient) -> Iterable[str]:
    return [*_list_pops(client), *_list_nodes(client)]


nodes = _completer(_list_nodes)
pops = _completer(_list_pops)
#: POPs and nodes.
places = _completer(_list_places)
deployments = _completer(_list_deployments)
models = _completer(_list_models)
adapters = _completer(_list_objects(registry_pb2.OBJECT_KIND_ADAPTER))
runtimes = _completer(_list_objects(registry_pb2.OBJECT_KIND_RUNTIME))
accounts = _completer(_list_accounts)
keys = _completer(_list_keys)
operators = _completer(_list_operators)


def _starting(names: Iterable[str], incomplete: str) -> list[str]:
    """Return the names that a shell takes as they are: a coordinator may be a stranger's."""
    plain = (name for name in names if _PLAIN.fullmatch(name))
    return [name for name in plain if name.startswith(incomplete)][:_MAX_NAMES]


def _named_profile(ctx: Any) -> Path | None:  # noqa: ANN401 - typer's own click
    named = ctx.find_root().params.get("profile")
    return Path(named) if named else None


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Send standard error of this process, gRPC's library included, to nowhere."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)

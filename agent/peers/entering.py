"""Brings a peer's request to what it asks for in this node's engines, loaded first if need be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from agent.core.cold_start import Wanted
from agent.core.peer_request import STALE_CODE
from agent.relay.far_times import cold_start_header
from protos.domain.errors import Conflict, EdgeForgeError, NoReplica, Overloaded

if TYPE_CHECKING:
    from agent.core.cold_start import ColdStart
    from agent.core.engine_status import EngineEndpoint
    from agent.core.peer_request import PeerRequest
    from agent.formats import ApiFormat
    from agent.peers.service import PeerService
    from agent.relay.messages import Header
    from protos.domain.load_term import ColdWay


class NotResident(Conflict):
    """What is asked for is not in an engine here, and was not placed to be loaded.

    ``way``: how it would be loaded; None: it would not.
    """

    def __init__(self, message: str, way: ColdWay | None) -> None:
        super().__init__(message, code=STALE_CODE)
        self.way = way


@dataclass(frozen=True, slots=True)
class Entered:
    """Where a request is served, which the caller must leave, and the load that it waited for."""

    endpoint: EngineEndpoint
    load_ms: float = 0.0
    cold_start: ColdStart | None = None
    began: bool = False

    def headers(self) -> list[Header]:
        """Return the header that reports the load, if there was one."""
        cold = self.cold_start
        return [] if cold is None else [cold_start_header(cold, began=self.began)]


async def enter_engine(asked: PeerRequest, service: PeerService, api: ApiFormat) -> Entered:
    """Enter the engine that has what ``asked`` names, after its load if it may be loaded.

    Cancelled while it waits, the request gives up its wait only.
    Raises: NotResident for what is not in the engine, or was not loaded; Overloaded; NoReplica.
    """
    residents, began_mono_ms = service.residents, service.now_mono_ms()
    entered, wanted = None, Wanted(asked.model, asked.adapter)
    endpoint = residents.endpoint_for(*wanted)
    if endpoint is not None:
        residents.enter(endpoint)
        entered = Entered(endpoint)
    elif asked.may_load and residents.cold_path(*wanted) is not None:
        try:
            endpoint, cold_start, began = await service.loads.enter(wanted)
        except Overloaded:
            raise
        except EdgeForgeError as error:
            why = f"node {service.node_id} could not load {wanted.name!r}: {error.message}"
            raise NotResident(why, None) from error
        if endpoint is not None:
            load_ms = service.now_mono_ms() - began_mono_ms
            entered = Entered(endpoint, load_ms, cold_start, began)
    if entered is None:
        name = (asked.adapter or asked.model)[:100]
        way, why = (
            residents.cold_path(*wanted),
            f"node {service.node_id} does not serve {name!r} now",
        )
        if way is None and not residents.resident():
            raise NoReplica(why)  # no engine serves anything here
        raise NotResident(why, way)
    if entered.endpoint.embeds is not api.embeds:
        residents.leave(entered.endpoint)
        raise NoReplica(f"the engine of node {service.node_id} does not serve {api.path}")
    return entered

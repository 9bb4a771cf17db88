"""Plans the local fleet: its sites, agents, ports, models and deployments."""

from __future__ import annotations

import http.client
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from coordinator.devfleet.layout import AgentFacts, DeploymentFacts, FleetFacts
from coordinator.devfleet.ports import Ports
from coordinator.devfleet.sites import (
    FIVE_SITES,
    MAX_ENGINES,
    TWO_SITES,
    Site,
    further_site,
)
from protos.domain.errors import InvalidRequest, LinkDown

SMALL_MODEL = "edgeforge/smollm2-135m-instruct@1"
SMALL_MODEL_DEPLOYMENT = "smollm2-135m-instruct"
TTFT_BUDGET_MS = 1_000
#: Models taken from one server at most.
_MAX_EXTERNAL_MODELS = 32
_UNKNOWN_CONTEXT_TOKENS = 131_072

_PREFERRED = {"fleet": 7401, "admin": 7402, "enrolment": 7403, "http": 7404, "api": 7406}
_PREFERRED_CLIENT, _PREFERRED_PEER, _PREFERRED_METRICS = 8080, 7443, 9464
_PREFERRED_RELAY = 7463
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class FleetWish:
    """The options given; None where not given."""

    engine_urls: tuple[str, ...] = ()
    #: 2 or 5; None: two with servers that already run, else five.
    sites: int | None = None
    #: vLLM engines to start.
    engines: int | None = None
    #: Edge nodes filled to less than this are preferred; None: placement by price alone.
    edge_fill_ratio: float | None = None

    @property
    def has_five_sites(self) -> bool:
        return (self.sites or (2 if self.engine_urls else 5)) == 5

    @property
    def engine_count(self) -> int:
        """Number of vLLM engines to start: none with servers that already run."""
        if self.engine_urls:
            return 0
        return self.engines or (MAX_ENGINES if self.has_five_sites else 1)


@dataclass(frozen=True, slots=True)
class ExternalModel:
    """A model of a server that already runs: its name there, and its name in the registry."""

    id: str
    name: str
    context_tokens: int


def plan_fleet(
    wish: FleetWish, engine_venv: Path, before: FleetFacts | None, folder: Path
) -> FleetFacts:
    """Return the fleet to start in ``folder``; ports of ``before`` are used again where free.

    Raises: LinkDown or InvalidRequest for a server that does not answer with a list of models.
    """
    ports = Ports(str(folder))
    old = before or FleetFacts()
    agents = [
        _agent(wish, index, site, ports, next((a for a in old.agents if a.node == site.node), None))
        for index, site in enumerate(_sites(wish))
    ]
    return FleetFacts(
        engine_urls=list(wish.engine_urls),
        engine_venv=str(engine_venv),
        fleet_port=ports.take(old.fleet_port or _PREFERRED["fleet"]),
        admin_port=ports.take(old.admin_port or _PREFERRED["admin"]),
        enrolment_port=ports.take(old.enrolment_port or _PREFERRED["enrolment"]),
        http_port=ports.take(old.http_port or _PREFERRED["http"]),
        api_port=ports.take(old.api_port or _PREFERRED["api"]),
        agents=agents,
        deployments=_deployments(agents),
        edge_fill_ratio=wish.edge_fill_ratio or 0.0,
    )


def _sites(wish: FleetWish) -> list[Site]:
    """Return the sites. Raises: InvalidRequest for more servers than sites."""
    if not wish.has_five_sites:
        further = range(2, len(wish.engine_urls))
        return [*TWO_SITES, *(further_site(number) for number in further)]
    if len(wish.engine_urls) > MAX_ENGINES:
        raise InvalidRequest(
            f"five sites have {MAX_ENGINES} places for engines, not {len(wish.engine_urls)}",
            "give fewer --engine-url, or --sites 2",
        )
    return list(FIVE_SITES)


def _agent(
    wish: FleetWish, index: int, site: Site, ports: Ports, kept: AgentFacts | None
) -> AgentFacts:
    url = wish.engine_urls[index] if index < len(wish.engine_urls) else ""
    kind = "external" if url else "none"
    cpu_bind = ""
    if not wish.engine_urls and index < wish.engine_count:
        kind, cpu_bind = "vllm", cores_of(index, wish.engine_count, os.sched_getaffinity(0))
    client = kept.client_port if kept else _PREFERRED_CLIENT + index
    peer = kept.peer_port if kept else _PREFERRED_PEER + index
    metrics = kept.metrics_port if kept else _PREFERRED_METRICS + index
    relay = (kept.relay_port if kept else 0) or _PREFERRED_RELAY + index
    return AgentFacts(
        node=site.node,
        pop=site.pop.id,
        tier=site.pop.tier.value,
        engine_kind=kind,
        engine_url=url,
        client_port=ports.take(client),
        peer_port=ports.take(peer),
        metrics_port=ports.take(metrics),
        relay_port=ports.take(relay) if wish.has_five_sites else 0,
        source_address=f"127.0.74.{index + 1}" if wish.has_five_sites else "",
        cpu_bind=cpu_bind,
    )


def cores_of(index: int, engines: int, cores: set[int]) -> str:
    """Return the cores of one of several engines, from the last one down; shared if too few.

    By default vLLM binds every engine to the first core; a single engine keeps the default.
    """
    if engines < 2:
        return ""
    ordered = sorted(cores, reverse=True)
    share = max(1, len(ordered) // engines)
    first = index * share % len(ordered)
    return ",".join(str(core) for core in sorted(ordered[first : first + share]))


def external_models(url: str) -> list[ExternalModel]:
    """Return the models of the server at ``url``. Raises: LinkDown, InvalidRequest."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidRequest(f"--engine-url {url!r} is no http(s) URL", "http://127.0.0.1:8000")
    secure = parts.scheme == "https"
    make = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = make(parts.hostname, parts.port or (443 if secure else 80), timeout=10)
    hint = "start the server first; it must answer GET /v1/models"
    try:
        connection.request("GET", "/v1/models")
        response = connection.getresponse()
        answer = json.loads(response.read(1024 * 1024))
        found = [
            ExternalModel(str(one["id"]), external_model_name(str(one["id"])), _context_of(one))
            for one in answer["data"][:_MAX_EXTERNAL_MODELS]
        ]
    except (OSError, http.client.HTTPException) as error:
        raise LinkDown(f"--engine-url {url}: {error}", hint) from error
    except (ValueError, KeyError, TypeError) as error:
        raise LinkDown(f"--engine-url {url} answers no list of models: {error!r}", hint) from error
    finally:
        connection.close()
    if not found:
        raise LinkDown(f"--engine-url {url} offers no model", hint)
    return found


def _context_of(model: dict[str, object]) -> int:
    """Return the context that vLLM reports; other servers report none and check it themselves."""
    reported = model.get("max_model_len")
    return reported if isinstance(reported, int) and reported > 0 else _UNKNOWN_CONTEXT_TOKENS


def external_model_name(model_id: str) -> str:
    """Return the registry's name for a server's model."""
    return f"external/{_UNSAFE.sub('-', model_id).strip('-.')[:95] or 'model'}@1"


def _deployments(agents: list[AgentFacts]) -> list[DeploymentFacts]:
    """Return one deployment for each model, which may be on several servers."""
    found: dict[str, DeploymentFacts] = {}
    for agent in agents:
        if agent.engine_kind == "vllm":
            small = DeploymentFacts(SMALL_MODEL_DEPLOYMENT, SMALL_MODEL, TTFT_BUDGET_MS, 0, [])
            found.setdefault(SMALL_MODEL_DEPLOYMENT, small).node_ids.append(agent.node)
        elif agent.engine_kind == "external":
            # An agent serves one model: the first that its server lists.
            model = external_models(agent.engine_url)[0]
            name = _UNSAFE.sub("-", model.id) if "/" not in model.id else model.id
            entry = found.setdefault(
                name, DeploymentFacts(name, model.name, TTFT_BUDGET_MS, model.context_tokens, [])
            )
            entry.node_ids.append(agent.node)
    return list(found.values())

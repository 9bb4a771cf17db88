"""What the fleet of this machine shall be: its POPs, agents, ports, models and deployments."""

from __future__ import annotations

import http.client
import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from coordinator.devfleet.layout import AgentFacts, DeploymentFacts, FleetFacts
from protos.domain.errors import InvalidRequest, LinkDown
from protos.domain.resources import Pop, Tier

IAD = Pop("IAD", Tier.CENTRAL, "US", "Ashburn, Virginia", 38.95, -77.45)
GRU = Pop("GRU", Tier.EDGE, "BR", "São Paulo", -23.43, -46.47)
POPS = (IAD, GRU)

SMALL_MODEL = "edgeforge/smollm2-135m-instruct@1"
SMALL_MODEL_DEPLOYMENT = "smollm2-135m-instruct"
TTFT_BUDGET_MS = 1_000
#: A model that a server offers, but too many for a laptop's table.
_MAX_EXTERNAL_MODELS = 32
_UNTOLD_CONTEXT_TOKENS = 131_072

_PREFERRED = {"fleet": 7401, "admin": 7402, "enrolment": 7403, "http": 7404}
_PREFERRED_CLIENT, _PREFERRED_PEER, _PREFERRED_METRICS = 8080, 7443, 9464
_UNSAFE = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class ExternalModel:
    """A model of a server that already runs: as it calls it, and as the registry does."""

    id: str
    name: str
    context_tokens: int


def plan_fleet(
    engine_urls: tuple[str, ...], engine_venv: Path, before: FleetFacts | None
) -> FleetFacts:
    """Return what to start; ports that ``before`` used are used again where they are free.

    Raises: LinkDown or InvalidRequest for a server that does not answer as one should.
    """
    ports = _Ports()
    old = before or FleetFacts()
    agents = []
    for index, (node, pop) in enumerate(_nodes(len(engine_urls))):
        kept = next((one for one in old.agents if one.node == node), None)
        url = engine_urls[index] if index < len(engine_urls) else ""
        kind = "external" if url else "none"
        if not engine_urls and node == "iad-1":
            kind = "vllm"
        client = kept.client_port if kept else _PREFERRED_CLIENT + index
        agents.append(
            AgentFacts(
                node=node,
                pop=pop.id,
                tier=pop.tier.value,
                engine_kind=kind,
                engine_url=url,
                client_port=ports.take(client),
                peer_port=ports.take(kept.peer_port if kept else _PREFERRED_PEER + index),
                metrics_port=ports.take(kept.metrics_port if kept else _PREFERRED_METRICS + index),
            )
        )
    return FleetFacts(
        engine_urls=list(engine_urls),
        engine_venv=str(engine_venv),
        fleet_port=ports.take(old.fleet_port or _PREFERRED["fleet"]),
        admin_port=ports.take(old.admin_port or _PREFERRED["admin"]),
        enrolment_port=ports.take(old.enrolment_port or _PREFERRED["enrolment"]),
        http_port=ports.take(old.http_port or _PREFERRED["http"]),
        agents=agents,
        deployments=_deployments(agents),
    )


def external_models(url: str) -> list[ExternalModel]:
    """Return what the server at ``url`` offers. Raises: LinkDown, InvalidRequest."""
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
    """Return the context that vLLM tells of; others do not, and refuse too long a prompt."""
    told = model.get("max_model_len")
    return told if isinstance(told, int) and told > 0 else _UNTOLD_CONTEXT_TOKENS


def external_model_name(model_id: str) -> str:
    """Return what the registry calls a server's model."""
    return f"external/{_UNSAFE.sub('-', model_id).strip('-.')[:95] or 'model'}@1"


def _nodes(engines: int) -> list[tuple[str, Pop]]:
    """Return the nodes: IAD and GRU, and a further one in IAD for each further engine."""
    nodes = [("iad-1", IAD), ("gru-1", GRU)]
    nodes += [(f"iad-{number}", IAD) for number in range(2, engines)]
    return nodes


def _deployments(agents: list[AgentFacts]) -> list[DeploymentFacts]:
    """Return one deployment a model; the same model on several servers is one."""
    found: dict[str, DeploymentFacts] = {}
    for agent in agents:
        if agent.engine_kind == "vllm":
            found[SMALL_MODEL_DEPLOYMENT] = DeploymentFacts(
                SMALL_MODEL_DEPLOYMENT, SMALL_MODEL, TTFT_BUDGET_MS, 0, [agent.node]
            )
        elif agent.engine_kind == "external":
            # An agent serves one model: the first that its server lists.
            model = external_models(agent.engine_url)[0]
            name = _UNSAFE.sub("-", model.id) if "/" not in model.id else model.id
            entry = found.setdefault(
                name, DeploymentFacts(name, model.name, TTFT_BUDGET_MS, model.context_tokens, [])
            )
            entry.node_ids.append(agent.node)
    return list(found.values())


class _Ports:
    """Hands out each port once: the preferred one if it is free, else any."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self, preferred: int) -> int:
        port = preferred
        if port in self._taken or not _is_free(port):
            port = self._any()
        self._taken.add(port)
        return port

    def _any(self) -> int:
        while True:
            with socket.socket() as sock:
                sock.bind(("127.0.0.1", 0))
                port = int(sock.getsockname()[1])
            if port not in self._taken:
                return port


def _is_free(port: int) -> bool:
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True

"""The files of a local fleet, and the facts that it keeps between starts."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from protos.domain.errors import ConfigInvalid

OPERATOR = "local"
#: Name of the delay relay among the processes.
RELAY = "relay"


@dataclass(frozen=True, slots=True)
class FleetLayout:
    """Paths below one folder."""

    root: Path

    @property
    def coordinator_config(self) -> Path:
        return self.root / "coordinator.toml"

    @property
    def coordinator_state(self) -> Path:
        return self.root / "coordinator"

    @property
    def operator_profile(self) -> Path:
        return self.coordinator_state / "operators" / OPERATOR / "profile.toml"

    @property
    def profile(self) -> Path:
        """The profile that ``edgeforge`` uses by default in this folder's parent."""
        return self.root / "profile.toml"

    @property
    def facts(self) -> Path:
        return self.root / "fleet.json"

    @property
    def api_key(self) -> Path:
        return self.root / "api-key"

    @property
    def downloads(self) -> Path:
        return self.root / "downloads"

    @property
    def weights(self) -> Path:
        """What the demonstration imports, each in a folder of its own."""
        return self.root / "weights"

    @property
    def relay_config(self) -> Path:
        return self.root / "relay.json"

    @property
    def relay_socket(self) -> Path:
        return self.root / "relay.sock"

    def agent_config(self, node_id: str) -> Path:
        return self.root / "agents" / f"{node_id}.toml"

    def agent_state(self, node_id: str) -> Path:
        return self.root / "agents" / node_id

    def admin_socket(self, node_id: str) -> Path:
        return self.agent_state(node_id) / "admin.sock"

    def log(self, process: str) -> Path:
        return self.root / "logs" / f"{process}.log"

    def pid_file(self, process: str) -> Path:
        return self.root / "pids" / f"{process}.json"

    def prepare(self) -> None:
        """Make the folders, for this user only. Raises: ConfigInvalid."""
        try:
            for folder in (self.root, *(self.root / name for name in ("agents", "logs", "pids"))):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigInvalid([f"--state-dir {self.root}: {error.strerror}"]) from error


@dataclass(slots=True)
class DeploymentFacts:
    """One deployment of the fleet."""

    name: str
    model: str
    ttft_budget_ms: int
    #: Of an external model; that of a managed one is in its files.
    context_tokens: int
    node_ids: list[str]


@dataclass(slots=True)
class AgentFacts:
    """One agent of the fleet."""

    node: str
    pop: str
    tier: str
    engine_kind: str
    engine_url: str
    client_port: int
    peer_port: int
    metrics_port: int
    #: Port of the delay relay that its peers dial; 0: they dial the agent itself.
    relay_port: int = 0
    #: Source address of its connections to peers, which identifies it to the relay; empty: any.
    source_address: str = ""
    #: Cores of its engine; empty: vLLM chooses.
    cpu_bind: str = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.client_port}"


@dataclass(slots=True)
class FleetFacts:
    """The fleet started last; the next start repeats it."""

    engine_urls: list[str] = field(default_factory=list)
    engine_venv: str = ""
    fleet_port: int = 0
    admin_port: int = 0
    enrolment_port: int = 0
    http_port: int = 0
    agents: list[AgentFacts] = field(default_factory=list)
    deployments: list[DeploymentFacts] = field(default_factory=list)
    edge_fill_ratio: float = 0.0
    #: Of the customers' API; 0 for a fleet of an older version.
    api_port: int = 0

    @property
    def has_distances(self) -> bool:
        """Whether a relay runs between the agents."""
        return any(agent.relay_port for agent in self.agents)

    @property
    def engines(self) -> int:
        return sum(agent.engine_kind != "none" for agent in self.agents)

    @property
    def processes(self) -> list[str]:
        """Names of its processes, in the order of their start."""
        relay = [RELAY] if self.has_distances else []
        return ["coordinator", *relay, *(agent.node for agent in self.agents)]


def read_facts(layout: FleetLayout) -> FleetFacts | None:
    """Return the fleet started last, or None. Raises: ConfigInvalid when the file is damaged."""
    try:
        values = json.loads(layout.facts.read_text(encoding="utf-8"))
        values["agents"] = [AgentFacts(**one) for one in values["agents"]]
        values["deployments"] = [DeploymentFacts(**one) for one in values["deployments"]]
        return FleetFacts(**values)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigInvalid(
            [f"{layout.facts} is damaged: {error}"], "delete it, or: edgeforge down --purge"
        ) from error


def write_facts(layout: FleetLayout, facts: FleetFacts) -> None:
    """Write ``facts`` atomically."""
    write_private(layout.facts, json.dumps(asdict(facts), indent=1))


def write_private(path: Path, text: str) -> None:
    """Write ``text`` atomically, readable by this user only."""
    partial = path.with_name(path.name + ".partial")
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    partial.rename(path)

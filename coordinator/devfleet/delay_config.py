"""The delay relay's configuration: hosts, round trips between them, and listeners."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from protos.domain.errors import ConfigInvalid


@dataclass(frozen=True, slots=True)
class Listener:
    """One port of the relay and the port behind it.

    ``source`` is the host that dials here; empty: found by the connection's source address.
    """

    destination: str
    port: int
    target_port: int
    source: str = ""


@dataclass(frozen=True, slots=True)
class DelayConfig:
    """The whole file. ``sources``: host by address. ``round_trips_ms``: by source, destination."""

    control_socket: str
    sources: dict[str, str]
    round_trips_ms: dict[str, dict[str, float]]
    listeners: list[Listener]

    @property
    def hosts(self) -> frozenset[str]:
        """All hosts that a link may name."""
        named = {listener.destination for listener in self.listeners}
        return frozenset(named | set(self.sources.values()) | set(self.round_trips_ms))

    def dumps(self) -> str:
        return json.dumps(asdict(self), indent=1)


def load_delay_config(path: Path) -> DelayConfig:
    """Read ``path``. Raises: ConfigInvalid."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["listeners"] = [Listener(**one) for one in values["listeners"]]
        return DelayConfig(**values)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigInvalid([f"{path}: {error}"], "edgeforge up writes it anew") from error

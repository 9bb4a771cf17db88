"""What a delaying relay is told: who is who, how far apart, and where it listens for whom."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from protos.domain.errors import ConfigInvalid


@dataclass(frozen=True, slots=True)
class Listener:
    """One port of the relay, and what stands behind it.

    ``source`` is who dials here; empty: told by the address that the connection comes from.
    """

    destination: str
    port: int
    target_port: int
    source: str = ""


@dataclass(frozen=True, slots=True)
class DelayConfig:
    """The whole of it. ``sources``: host by address. ``round_trips_ms``: by source, destination."""

    control_socket: str
    sources: dict[str, str]
    round_trips_ms: dict[str, dict[str, float]]
    listeners: list[Listener]

    @property
    def hosts(self) -> frozenset[str]:
        """Everyone that a link may be named by."""
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

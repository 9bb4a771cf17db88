"""A real agent with every part assembled and none started: no port, no thread, no child."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agent.config_file import load_config
from agent.link.identity import Identity, save_identity
from agent.main import Agent
from tests.support.certificates import p256_key, private_pem, self_signed_pem

if TYPE_CHECKING:
    from pathlib import Path

NODE_ID, POP_ID = "gru-1", "GRU"
_VALID_MS = 30 * 86_400_000


def assembled_agent(folder: Path) -> Agent:
    """Return an agent without an engine whose state is below ``folder``."""
    file = folder / "agent.toml"
    file.write_text(f'[node]\nstate_dir = "{folder / "state"}"\n', encoding="utf-8")
    config = load_config(file, {})
    key = p256_key()
    certificate = self_signed_pem(key, (f"edgeforge://node/{NODE_ID}",))
    save_identity(
        config.identity_dir,
        Identity(NODE_ID, POP_ID, "127.0.0.1:1", 0, _VALID_MS),
        key_pem=private_pem(key),
        cert_pem=certificate,
        ca_pem=certificate,
    )
    return Agent(config)

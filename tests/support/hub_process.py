"""A real coordinator that answers the hub's protocol over TLS, and an account with a key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from protos.v1 import admin_pb2
from tests.support.coordinator_process import CoordinatorProcess, Operator
from tests.support.ports import free_ports

EDGEFORGE = Path(sys.executable).with_name("edgeforge")


class HubProcess:
    """A coordinator with ``[hub]`` on; its certificate is of its own authority."""

    def __init__(self, folder: Path, extra: str = "") -> None:
        (self.port,) = free_ports(1)
        text = f"[hub]\nenabled = true\nport = {self.port}\n{extra}"
        self.coordinator = CoordinatorProcess(folder, text)
        self.folder = folder
        self.key_file = folder / "acme.key"

    async def start(self) -> None:
        """Initialise, serve, and make the account acme with a key."""
        done = self.coordinator.command("init", "--json")
        assert done.returncode == 0, done.stderr
        self.coordinator.start()
        operator = Operator(self.coordinator)
        try:
            await operator.admin.CreateAccount(admin_pb2.CreateAccountRequest(id="acme"))
            key = await operator.admin.CreateKey(admin_pb2.CreateKeyRequest(account_id="acme"))
        finally:
            await operator.close()
        self.key_file.touch(0o600)
        self.key_file.write_text(key.api_key + "\n")

    def edgeforge(self, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run the operator's command line."""
        profile = self.coordinator.operator_dir / "profile.toml"
        return subprocess.run(
            [EDGEFORGE, "--profile", profile, *arguments],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            input=stdin,
            env={"PATH": os.defpath, "HOME": str(self.folder)},
        )

"""Names are resolved by the system's resolver, in every program."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: Ends with status 3 when gRPC is imported before its resolver is chosen.
_PROGRAM = """
import os, sys

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "grpc" and os.environ.get("GRPC_DNS_RESOLVER") != "native":
            os._exit(3)

sys.meta_path.insert(0, Watch())
import {module}
assert "grpc" in sys.modules
"""


@pytest.mark.parametrize("module", ["agent.main", "coordinator.daemon", "coordinator.cli.main"])
def test_a_name_in_etc_hosts_with_a_dead_name_server_does_not_wait_for_grpcs_own_resolver(module):
    environ = {key: value for key, value in os.environ.items() if key != "GRPC_DNS_RESOLVER"}
    program = _PROGRAM.format(module=module)
    done = subprocess.run([sys.executable, "-c", program], env=environ, check=False, timeout=60)
    assert done.returncode == 0

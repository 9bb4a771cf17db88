"""Settings that gRPC reads from the environment when it is first imported.

Imported by the packages ``agent`` and ``coordinator``, so that it runs before any gRPC.
"""

from __future__ import annotations

import os

#: native: the C library's resolver, with /etc/hosts. gRPC's own one (c-ares) waits for the answer
#: to AAAA, 11 s with a name in /etc/hosts and a name server that does not answer.
#: Source: grpc/doc/environment_variables.md.
os.environ.setdefault("GRPC_DNS_RESOLVER", "native")

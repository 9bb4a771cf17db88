"""How many descriptors this process may have, and what each of its ports gets of them."""

from __future__ import annotations

import contextlib
import logging
import resource
from typing import TYPE_CHECKING

from agent.core.descriptors import Descriptors, divide

if TYPE_CHECKING:
    from agent.config import AgentConfig

_log = logging.getLogger(__name__)


def wanted_descriptors(config: AgentConfig) -> Descriptors:
    """Return what the configuration asks for."""
    upstream = config.limits.max_in_flight + config.peer.warm_spares * config.peer.max_warm_targets
    return Descriptors(config.client.max_connections, config.client.max_connections, upstream)


def take_descriptors(config: AgentConfig) -> Descriptors:
    """Raise this process's limit as far as is needed and allowed, and divide what it is then."""
    wanted = wanted_descriptors(config)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted.needed
    if soft != resource.RLIM_INFINITY and soft < needed:
        allowed = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    divided = wanted if soft == resource.RLIM_INFINITY else divide(soft, wanted)
    if divided != wanted:
        _log.warning(
            "too few open files are allowed limit=%d needed=%d client_connections=%d"
            " peer_connections=%d",
            soft,
            needed,
            divided.client,
            divided.peer,
        )
    return divided

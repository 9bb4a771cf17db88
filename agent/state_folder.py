"""The state folder at start: usable by this user, its identity in one file, its tables bound."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from agent.link.identity import has_old_layout, load_stored, resave
from agent.link.table_files import TableFiles
from protos.host.files import make_private_folder
from protos.host.ownership import require_usable

if TYPE_CHECKING:
    from agent.config import AgentConfig
    from agent.link.identity import StoredIdentity

_log = logging.getLogger(__name__)


def open_identity(config: AgentConfig) -> tuple[StoredIdentity, TableFiles]:
    """Return this node's identity and its table images; both are brought to the present layout.

    Raises: ConfigInvalid when this host is not enrolled, or may not use its state.
    """
    state_dir = config.state_dir
    require_usable(state_dir)
    make_private_folder(state_dir)
    stored = load_stored(config.identity_dir)
    files = TableFiles(state_dir / "tables", stored.identity.owner)
    try:
        if has_old_layout(config.identity_dir):
            # The tables first: once the identity is in its new place, others are deleted.
            files.take_over_unbound()
            resave(config.identity_dir, stored)
        files.forget_others()
    except OSError as error:
        # The next start or renewal tries again; a full disk keeps nobody from serving.
        _log.error("state not brought to the present layout reason=%s", error)
    return stored, files

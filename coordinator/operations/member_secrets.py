"""Members' tokens and invitations, found by their texts."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from coordinator.core.members import is_use_noted
from coordinator.operations.actor import Actor
from coordinator.operations.secret_texts import id_in, is_proved
from coordinator.store import members
from protos.domain.errors import StoreUnavailable

if TYPE_CHECKING:
    from coordinator.core.members import Invitation, MemberToken
    from coordinator.store.store import Store

_log = logging.getLogger(__name__)

TOKEN_PREFIX = "efm"
INVITATION_PREFIX = "efi"
#: Notes of uses under way at once; beyond that a use is not noted.
_MAX_NOTES = 64


class MemberLogins:
    """Finds the member of a token, and notes that the token was used."""

    def __init__(self, store: Store, now_unix_ms: Callable[[], int]) -> None:
        self._store = store
        self._now_unix_ms = now_unix_ms
        self._noting: dict[str, asyncio.Task[None]] = {}

    def actor_of(self, text: str, address: str) -> Actor | None:
        """Return the member whose token this is; None if it is nobody's, revoked or expired."""
        token = self._store.member_tokens().get(id_in(text, TOKEN_PREFIX))
        if not is_proved(text, token.digest if token else None) or token is None:
            return None
        now_unix_ms = self._now_unix_ms()
        member = self._store.members().get(token.member_id)
        if member is None or not token.is_live(now_unix_ms):
            return None
        if member.account_id not in self._store.view().accounts:
            return None
        self._note_use(token, now_unix_ms)
        return Actor.of_member(member, address)

    def token_id(self, text: str) -> str:
        """Return the id of a token that was proved."""
        return id_in(text, TOKEN_PREFIX)

    def has_live_token(self, account_id: str) -> bool:
        """Return whether some member of an account could log in now."""
        now_unix_ms, known = self._now_unix_ms(), self._store.members()
        return any(
            token.is_live(now_unix_ms) and member.account_id == account_id
            for token in self._store.member_tokens().values()
            if (member := known.get(token.member_id)) is not None
        )

    def invitation_of(self, text: str) -> Invitation | None:
        """Return the invitation of a text; None if there is none, or it has expired."""
        found = self._store.invitations().get(id_in(text, INVITATION_PREFIX))
        if not is_proved(text, found.digest if found else None) or found is None:
            return None
        return found if found.is_live(self._now_unix_ms()) else None

    async def wait_noted(self) -> None:
        """Wait until the uses so far are written, or could not be."""
        await asyncio.gather(*self._noting.values())

    def _note_use(self, token: MemberToken, now_unix_ms: int) -> None:
        if is_use_noted(token, now_unix_ms) or token.id in self._noting:
            return
        if len(self._noting) >= _MAX_NOTES:
            return
        task = asyncio.get_running_loop().create_task(self._note(token.id))
        self._noting[token.id] = task
        task.add_done_callback(lambda _: self._noting.pop(token.id, None))

    async def _note(self, token_id: str) -> None:
        try:
            await self._store.write(members.note_use(token_id))
        except StoreUnavailable as error:
            _log.warning("use of a token not noted token=%s: %s", token_id, error)

"""Texts of members' tokens and of invitations: shown once, kept as a digest, proved in one time."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.core.members import is_use_noted
from coordinator.operations.actor import Actor
from coordinator.store import members
from protos.domain.errors import StoreUnavailable

if TYPE_CHECKING:
    from coordinator.core.members import Invitation, MemberToken
    from coordinator.store.store import Store

_log = logging.getLogger(__name__)

TOKEN_PREFIX = "efm"
INVITATION_PREFIX = "efi"
_ID_BYTES = 8
_SECRET_BYTES = 32
_ID_CHARS = 2 * _ID_BYTES
_MAX_TEXT_CHARS = 200
#: Notes of uses under way at once; beyond that a use is not noted.
_MAX_NOTES = 64


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A text before it is stored."""

    id: str
    text: str = field(repr=False)

    @property
    def digest(self) -> bytes:
        """What is stored of it."""
        return hashlib.sha256(self.text.encode()).digest()


def new_secret(prefix: str) -> NewSecret:
    """Return a new text ``prefix-id-secret``."""
    secret_id = secrets.token_hex(_ID_BYTES)
    return NewSecret(secret_id, f"{prefix}-{secret_id}-{secrets.token_hex(_SECRET_BYTES)}")


def id_in(text: str, prefix: str) -> str:
    """Return the public id in a text; empty if it is not of this form."""
    given, _, rest = text.partition("-")
    found, _, secret = rest.partition("-")
    is_right = given == prefix and len(found) == _ID_CHARS and bool(secret)
    return found if is_right and len(text) <= _MAX_TEXT_CHARS else ""


def is_proved(text: str, digest: bytes | None) -> bool:
    """Return whether a text has a digest. None costs the same time as a wrong one."""
    presented = hashlib.sha256(text[:_MAX_TEXT_CHARS].encode(errors="replace")).digest()
    return hmac.compare_digest(presented, digest or bytes(32)) and digest is not None


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

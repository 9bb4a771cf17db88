"""The salt that separates an account's prefix cache from all others on one engine. Pure.

Each agent derives salts from a secret that never leaves it, so a salt is worth nothing on another
host, and no table and no request between agents contains one. An engine hashes the salt into the
first block of a prompt: without it nobody finds, or times, what the account has cached.
"""

from __future__ import annotations

import hmac

SECRET_BYTES = 32


def cache_salt(secret: bytes, account: str) -> str:
    """Return the account's salt: HMAC-SHA256, as 64 hexadecimal digits. Hot: 1.5 us.

    Source: vLLM 0.32, ``cache_salt``: at most 128 characters.
    """
    return hmac.digest(secret, account.encode(), "sha256").hex()

"""Amounts and dates as operators write and read them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal

from protos.domain.errors import InvalidRequest

_NANO_PER_USD = 10**9
_CENTS_PER_USD = 100
_MAX_USD = 10**8
#: Commas only between thousands: "1,5" is not 15.
_AMOUNT = re.compile(
    r"\$?((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9][0-9_]{0,19})(?:\.[0-9]{1,20})?)", re.ASCII
)


def nano_usd(text: str, param: str) -> int:
    """Return "12.50" dollars in nano-USD. Raises: InvalidRequest."""
    return _scaled(text, param, _NANO_PER_USD)


def cents(text: str, param: str) -> int:
    """Return "12.50" dollars in cents. Raises: InvalidRequest."""
    return _scaled(text, param, _CENTS_PER_USD)


def instant_unix_ms(text: str, param: str) -> int:
    """Return a date or a time as milliseconds; UTC unless it names its zone. Raises."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"{param}: {text[:40]!a} is no date", "such as 2026-12-31 or 2026-12-31T12:00"
        ) from None
    return int(found.replace(tzinfo=found.tzinfo or UTC).timestamp() * 1_000)


def usd(amount_cents: int) -> str:
    """Return "1,234.50"."""
    sign = "-" if amount_cents < 0 else ""
    return f"{sign}{abs(amount_cents) // 100:,}.{abs(amount_cents) % 100:02d}"


def usd_of_nano(amount_nano_usd: int) -> str:
    """Return dollars with as many decimals as are needed, two at least."""
    sign = "-" if amount_nano_usd < 0 else ""
    whole, nano = divmod(abs(amount_nano_usd), _NANO_PER_USD)
    return f"{sign}{whole:,}.{f'{nano:09d}'.rstrip('0').ljust(2, '0')}"


def usd_rounded(amount_nano_usd: int) -> str:
    """Return dollars with two decimals."""
    return f"{Decimal(amount_nano_usd) / _NANO_PER_USD:,.2f}"


def date(unix_ms: int) -> str:
    """Return "2026-02-28 12:00", UTC; "-" for none."""
    return f"{datetime.fromtimestamp(unix_ms / 1_000, UTC):%Y-%m-%d %H:%M}" if unix_ms else "-"


def _scaled(text: str, param: str, scale: int) -> int:
    found = _AMOUNT.fullmatch(text.strip())
    amount = Decimal(found[1].replace(",", "")) * scale if found else Decimal(-1)
    if amount != int(amount) or not 0 <= amount <= _MAX_USD * scale:
        raise InvalidRequest(
            f"{param}: {text[:40]!a} is no amount of dollars", "such as 12.50", param=param
        )
    return int(amount)

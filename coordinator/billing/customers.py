"""What billing knows of an account: whom to bill, how, its cap, and where alerts go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from coordinator.core.invoice_rules import Party
from coordinator.core.tax import check_vat_id
from protos.domain.customers import AccountState
from protos.domain.errors import InvalidRequest

if TYPE_CHECKING:
    import sqlite3

_MAX_NAME_CHARS = 200
_MAX_ADDRESS_CHARS = 500
_MAX_EMAIL_CHARS = 254
_COUNTRY_CHARS = 2


@dataclass(frozen=True, slots=True)
class BilledAccount:
    """A row of ``billing_accounts``. Caps are of a calendar month; 0: none."""

    account: str
    legal_name: str = ""
    address: str = ""
    country: str = ""
    vat_id: str = ""
    email: str = ""
    #: Requests need a balance that was paid in advance or granted.
    prepaid: bool = False
    #: What operators have set.
    cap_nano_usd: int = 0
    alert_url: str = ""
    alert_secret: str = field(default="", repr=False)
    alert_email: str = ""
    #: The state that dunning wrote last.
    dunning_state: AccountState = AccountState.ACTIVE
    #: The provider's name of the customer.
    provider_customer: str = ""
    #: What the account has set for itself.
    own_cap_nano_usd: int = 0

    @property
    def bound_nano_usd(self) -> int:
        """The cap that holds: the lower one of both. 0: none."""
        return min((one for one in (self.cap_nano_usd, self.own_cap_nano_usd) if one), default=0)

    @property
    def funded(self) -> bool:
        """Whether its spending is bounded."""
        return self.prepaid or self.bound_nano_usd > 0


_COLUMNS = tuple(one.name for one in fields(BilledAccount))


def load(connection: sqlite3.Connection, account: str) -> BilledAccount:
    """Return what is known of an account; nothing is set by default."""
    row = connection.execute(
        f"SELECT {', '.join(_COLUMNS)} FROM billing_accounts WHERE account = ?", (account,)
    ).fetchone()
    return _of(row) if row else BilledAccount(account)


def all_of(connection: sqlite3.Connection) -> list[BilledAccount]:
    """Return every account of which something is set, by name."""
    query = f"SELECT {', '.join(_COLUMNS)} FROM billing_accounts ORDER BY account"
    return [_of(row) for row in connection.execute(query)]


def save(connection: sqlite3.Connection, changed: BilledAccount) -> BilledAccount:
    """Write the row of an account."""
    values = [getattr(changed, name) for name in _COLUMNS]
    connection.execute(
        f"INSERT INTO billing_accounts ({', '.join(_COLUMNS)})"
        f" VALUES ({', '.join('?' * len(_COLUMNS))}) ON CONFLICT (account) DO UPDATE SET "
        + ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:]),
        [
            int(one)
            if isinstance(one, bool)
            else str(one)
            if isinstance(one, AccountState)
            else one
            for one in values
        ],
    )
    return changed


def change(
    connection: sqlite3.Connection, account: str, how: Callable[[BilledAccount], BilledAccount]
) -> BilledAccount:
    """Read an account, change it, and write it."""
    return save(connection, how(load(connection, account)))


def party_of(customer: BilledAccount) -> Party:
    """Return the customer as printed on invoices."""
    return Party(
        customer.legal_name or customer.account,
        customer.address,
        customer.country,
        customer.vat_id,
        customer.email,
    )


def with_profile(customer: BilledAccount, profile: Party) -> BilledAccount:
    """Return an account with another billing address. Raises: InvalidRequest."""
    for text, limit, what in (
        (profile.legal_name, _MAX_NAME_CHARS, "legal name"),
        (profile.address, _MAX_ADDRESS_CHARS, "address"),
    ):
        if len(text) > limit or any(not one.isprintable() and one != "\n" for one in text):
            raise InvalidRequest(f"the {what} is longer than {limit} printable characters")
    country = profile.country.upper()
    if country and not (len(country) == _COUNTRY_CHARS and country.isascii() and country.isalpha()):
        raise InvalidRequest(f"{profile.country[:20]!a} is no country", "two letters, such as DE")
    return replace(
        customer,
        legal_name=profile.legal_name.strip(),
        address=profile.address.strip(),
        country=country,
        vat_id=check_vat_id(profile.vat_id),
        email=check_email(profile.email),
    )


def with_dunning(customer: BilledAccount, state: AccountState) -> BilledAccount:
    """Return an account whose state dunning has written."""
    return replace(customer, dunning_state=state)


def check_email(text: str) -> str:
    """Return an address that mail can be sent to; empty stays so. Raises: InvalidRequest.

    Only one plain address, so that no header can be injected.
    """
    text = text.strip()
    name, at, domain = text.rpartition("@")
    plain = text.isascii() and text.isprintable() and not set(text) & set(' <>,;:"()[]\\')
    if text and not (at and name and "." in domain and plain and len(text) <= _MAX_EMAIL_CHARS):
        raise InvalidRequest(f"{text[:60]!a} is no email address", "write it as ana@example.org")
    return text


def _of(row: tuple[object, ...]) -> BilledAccount:
    values = dict(zip(_COLUMNS, row, strict=True))
    values["prepaid"] = bool(values["prepaid"])
    values["dunning_state"] = AccountState(str(values["dunning_state"]))
    return BilledAccount(**values)  # type: ignore[arg-type]

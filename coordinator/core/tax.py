"""Tax on invoices: a rule that is handed in, and an example by a table of countries.

The table is configured; no rate is built in. Which tax applies is the operator's to know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from protos.domain.errors import InvalidRequest

_BASIS_POINTS = 10_000

#: Formats of VAT ids by country. Source: Commission, VIES, "VAT number structure".
_VAT_FORMATS = {
    "AT": r"U\d{8}",
    "BE": r"[01]\d{9}",
    "BG": r"\d{9,10}",
    "CY": r"\d{8}[A-Z]",
    "CZ": r"\d{8,10}",
    "DE": r"\d{9}",
    "DK": r"\d{8}",
    "EE": r"\d{9}",
    "EL": r"\d{9}",
    "ES": r"[A-Z0-9]\d{7}[A-Z0-9]",
    "FI": r"\d{8}",
    "FR": r"[A-Z0-9]{2}\d{9}",
    "HR": r"\d{11}",
    "HU": r"\d{8}",
    "IE": r"\d[A-Z0-9+*]\d{5}[A-Z]{1,2}",
    "IT": r"\d{11}",
    "LT": r"(?:\d{9}|\d{12})",
    "LU": r"\d{8}",
    "LV": r"\d{11}",
    "MT": r"\d{8}",
    "NL": r"[A-Z0-9+*]{12}",
    "PL": r"\d{10}",
    "PT": r"\d{9}",
    "RO": r"\d{2,10}",
    "SE": r"\d{12}",
    "SI": r"\d{8}",
    "SK": r"\d{10}",
    "XI": r"(?:\d{9}|\d{12}|GD\d{3}|HA\d{3})",
}
REVERSE_CHARGE = "Reverse charge: VAT is owed by the recipient (Article 196, Directive 2006/112/EC)"


@dataclass(frozen=True, slots=True)
class TaxLine:
    """A tax line: ``rate_basis_points`` of ``base_cents``; 2000 is 20 %."""

    description: str
    rate_basis_points: int
    base_cents: int
    cents: int


class TaxRule(Protocol):
    """Decides the tax lines of an invoice."""

    def lines(self, country: str, vat_id: str, base_cents: int) -> tuple[TaxLine, ...]:
        """Return the lines for a customer of ``country``, empty if it is not known."""


class NoTax:
    """The default: no tax lines."""

    def lines(self, country: str, vat_id: str, base_cents: int) -> tuple[TaxLine, ...]:
        """Return none."""
        return ()


@dataclass(frozen=True, slots=True)
class VatTable:
    """VAT by a table: a country's rate, or reverse charge for a business of another one.

    ``seller_country`` is where the operator is registered. Countries without a rate: no tax.
    """

    seller_country: str
    rates_basis_points: Mapping[str, int]

    def lines(self, country: str, vat_id: str, base_cents: int) -> tuple[TaxLine, ...]:
        """Return one line, or none."""
        rate = self.rates_basis_points.get(country)
        if rate is None:
            return ()
        if vat_id and country != self.seller_country:
            return (TaxLine(REVERSE_CHARGE, 0, base_cents, 0),)
        percent = f"{rate // 100}.{rate % 100:02d}".rstrip("0").rstrip(".")
        cents = tax_cents(base_cents, rate)
        return (TaxLine(f"VAT {country} {percent} %", rate, base_cents, cents),)


def tax_cents(base_cents: int, rate_basis_points: int) -> int:
    """Return a tax in whole cents, rounded half up (away from zero)."""
    sign = -1 if base_cents < 0 else 1
    product = abs(base_cents) * rate_basis_points
    return sign * ((product * 2 + _BASIS_POINTS) // (2 * _BASIS_POINTS))


def check_vat_id(text: str) -> str:
    """Return a VAT id without blanks, in capitals; empty stays so. Raises: InvalidRequest.

    The format alone is checked, not whether the id is registered.
    """
    vat_id = re.sub(r"[\s.-]", "", text).upper()
    if not vat_id:
        return ""
    pattern = _VAT_FORMATS.get(vat_id[:2])
    if pattern is None or re.fullmatch(pattern, vat_id[2:], re.ASCII) is None:
        raise InvalidRequest(
            f"{text[:30]!a} is no VAT id", "two letters of its country first, such as DE123456789"
        )
    return vat_id


def parse_rates(table: str) -> dict[str, int]:
    """Return country -> basis points of "DE=19, FR=20, HU=27". Raises: InvalidRequest."""
    rates = {}
    for part in filter(None, (one.strip() for one in table.split(","))):
        found = re.fullmatch(r"([A-Z]{2})\s*=\s*(\d{1,2})(?:\.(\d{1,2}))?", part, re.ASCII)
        if found is None:
            raise InvalidRequest(f"{part[:30]!a} is no rate of tax", 'such as "DE=19, FR=20"')
        rates[found[1]] = int(found[2]) * 100 + int((found[3] or "").ljust(2, "0") or 0)
    return rates

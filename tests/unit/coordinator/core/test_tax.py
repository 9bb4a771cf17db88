"""Tax by a table, reverse charge, and the formats of VAT ids."""

from __future__ import annotations

import pytest

from coordinator.core import tax
from coordinator.core.tax import NoTax, VatTable
from protos.domain.errors import InvalidRequest

TABLE = VatTable("DE", {"DE": 1_900, "FR": 2_000, "HU": 2_700, "FI": 2_550})


def test_the_default_has_no_tax():
    assert NoTax().lines("DE", "", 1_000) == ()


def test_a_customer_without_a_vat_id_pays_the_rate_of_its_country():
    (line,) = TABLE.lines("FR", "", 1_001)
    assert (line.description, line.cents) == ("VAT FR 20 %", 200)
    assert TABLE.lines("FI", "", 100)[0].description == "VAT FI 25.5 %"


def test_a_business_of_another_country_owes_the_tax_itself():
    (line,) = TABLE.lines("FR", "FR12345678901", 1_000)
    assert line.cents == 0
    assert "Reverse charge" in line.description


def test_a_business_of_the_sellers_country_pays():
    assert TABLE.lines("DE", "DE123456789", 1_000)[0].cents == 190


def test_a_country_that_is_not_in_the_table_pays_none():
    assert TABLE.lines("US", "", 1_000) == ()


@pytest.mark.parametrize(("base", "cents"), [(3, 1), (2, 0), (-3, -1), (50, 10), (0, 0)])
def test_tax_is_rounded_half_up(base, cents):
    assert tax.tax_cents(base, 2_000) == cents


@pytest.mark.parametrize("text", ["DE123456789", "de 123 456 789", "ATU12345678", ""])
def test_vat_ids_of_the_right_format_are_kept_without_blanks(text):
    assert " " not in tax.check_vat_id(text)


@pytest.mark.parametrize(
    "text", ["DE12345678", "XX123456789", "DE12345678\uff19", "U12345678", "=1+1"]
)
def test_what_is_no_vat_id_is_refused(text):
    with pytest.raises(InvalidRequest):
        tax.check_vat_id(text)


def test_rates_are_read_from_the_configuration():
    assert tax.parse_rates("DE=19, FI=25.5,LU = 3.25") == {"DE": 1_900, "FI": 2_550, "LU": 325}
    assert tax.parse_rates("") == {}
    for wrong in ("DE=19%", "de=19", "DE", "DE=-1"):
        with pytest.raises(InvalidRequest):
            tax.parse_rates(wrong)

"""An invoice as a PDF, the same bytes for the same invoice.

The typeface is Open Sans, embedded as a subset: Latin, Greek and Cyrillic. A character that it
lacks is printed as a question mark; the page and the JSON have it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from fontTools.ttLib import TTFont
from fpdf import FPDF
from fpdf.enums import XPos, YPos

from coordinator.core.focus import decimal
from coordinator.core.invoice_page import (
    ROUNDING_NOTE,
    dates_of,
    name_of,
    party_lines,
    terms_of,
    title_of,
    tokens_of,
)
from coordinator.core.invoice_rules import usd
from coordinator.core.invoice_tables import other_amounts

if TYPE_CHECKING:
    from coordinator.core.invoice_rules import Invoice

_FONT = "OpenSans"
_STYLES = {"": "OpenSans-Regular.ttf", "B": "OpenSans-Bold.ttf"}
_WIDTHS_MM = (62, 46, 20, 40, 22)
#: Longest text of a cell; names are shorter, descriptions are wrapped by their table.
_MAX_CELL_CHARS = 200


def as_pdf(invoice: Invoice) -> bytes:
    """Return the document."""
    pdf = FPDF(format="A4")
    pdf.set_creation_date(datetime.fromtimestamp(invoice.issued_unix_ms // 1_000, UTC))
    pdf.set_title(_printable(title_of(invoice)))
    pdf.set_creator("EdgeForge")
    for style, name in _STYLES.items():
        pdf.add_font(_FONT, style, str(files("ttf_opensans") / "ttf" / name))
    pdf.set_auto_page_break(auto=True, margin=20)
    pdf.add_page()
    _heading(pdf, invoice)
    _table(pdf, invoice)
    pdf.ln(4)
    pdf.set_font(_FONT, "", 8)
    pdf.multi_cell(0, 4, ROUNDING_NOTE)
    return bytes(pdf.output())


def _heading(pdf: FPDF, invoice: Invoice) -> None:
    pdf.set_font(_FONT, "B", 16)
    pdf.cell(0, 10, _printable(title_of(invoice)), new_x=XPos.LMARGIN, new_y=YPos.NEXT)
    pdf.set_font(_FONT, "", 9)
    pdf.multi_cell(
        0, 5, _printable(dates_of(invoice)), new_x=XPos.LMARGIN, new_y=YPos.NEXT, align="L"
    )
    pdf.ln(4)
    top = pdf.get_y()
    bottom = top
    for left, party in ((10.0, invoice.seller), (110.0, invoice.customer)):
        pdf.set_xy(left, top)
        text = "\n".join(party_lines(party))
        pdf.multi_cell(90, 5, _printable(text), new_x=XPos.LEFT, new_y=YPos.NEXT, align="L")
        bottom = max(bottom, pdf.get_y())
    pdf.set_xy(10, bottom + 6)


def _table(pdf: FPDF, invoice: Invoice) -> None:
    rows = [("Deployment", "Tier, SLA, card", "Requests", "Tokens in (cached) / out", "USD")]
    rows += [
        (
            name_of(line, invoice),
            terms_of(line),
            f"{line.requests:,}",
            tokens_of(line),
            decimal(line.cents),
        )
        for line in invoice.lines
    ]
    rows += [(text, "", "", "", decimal(cents)) for _, text, cents in other_amounts(invoice)]
    pdf.set_font(_FONT, "", 8)
    with pdf.table(
        col_widths=_WIDTHS_MM,
        text_align=("LEFT", "LEFT", "RIGHT", "RIGHT", "RIGHT"),
        line_height=5,
        borders_layout="HORIZONTAL_LINES",
    ) as table:
        for cells in rows:
            row = table.row()
            for text in cells:
                row.cell(_printable(text))
    pdf.set_font(_FONT, "B", 10)
    for label, cents in (("Total", invoice.total_cents), ("Due", invoice.due_cents)):
        pdf.cell(0, 7, f"{label}: {usd(cents)}", align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)


def _printable(text: str) -> str:
    known = _characters()
    shown = "".join(one if one == "\n" or one in known else "?" for one in text)
    return shown[:_MAX_CELL_CHARS] if len(shown) > _MAX_CELL_CHARS * 5 else shown


@cache
def _characters() -> frozenset[str]:
    """Return the characters that the typeface has."""
    with TTFont(str(files("ttf_opensans") / "ttf" / _STYLES[""])) as font:
        return frozenset(map(chr, font.getBestCmap()))

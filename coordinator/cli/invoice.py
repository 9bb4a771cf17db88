"""``edgeforge invoice``: drafts, invoices, credit notes, and their documents."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from coordinator.cli import completion, money
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json
from protos.domain.errors import InvalidRequest
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import billing_pb2

app = group("invoice", "Invoices and credit notes; alone: the current month so far.")

AccountOption = Annotated[
    str, typer.Option(help="The account; default: every one.", autocompletion=completion.accounts)
]
MonthOption = Annotated[str, typer.Option(metavar="YYYY-MM", help="Default: the current, in UTC.")]
NumberArgument = Annotated[str, typer.Argument(metavar="NUMBER", help="Such as EF-2026-000001.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="File to write; default: standard output.")
]
#: Forms by which a PDF or a long invoice may take its time.
_TIMEOUT_S = 120.0


@app.callback(invoke_without_command=True, no_args_is_help=False)
def current(
    context: typer.Context,
    account: AccountOption = "",
    month: MonthOption = "",
    json_output: JsonOption = False,
) -> None:
    """Show what a month has come to so far.

    Example: edgeforge invoice --account acme --json
    """
    if context.invoked_subcommand is None:
        _show_draft(account, month, json_output)


@app.command("preview")
def preview(
    account: AccountOption = "", month: MonthOption = "", json_output: JsonOption = False
) -> None:
    """Show what a month has come to so far, or its invoice if it is issued.

    Example: edgeforge invoice preview --account acme --month 2026-02
    """
    _show_draft(account, month, json_output)


@app.command("ls")
def list_invoices(account: AccountOption = "", json_output: JsonOption = False) -> None:
    """List invoices and credit notes, the newest first.

    Example: edgeforge invoice ls --account acme
    """
    request = billing_pb2.ListInvoicesRequest(account_id=account)
    with admin() as client:
        rows = client.billing(lambda stub: stub.ListInvoices, request).invoices
    _print_rows(list(rows), json_output, "no invoice has been issued")


@app.command("show")
def show(
    number: NumberArgument,
    document: Annotated[
        bool, typer.Option("--document", help="Print the whole document, as JSON.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Show an invoice or a credit note.

    Example: edgeforge invoice show EF-2026-000001 --json
    """
    if document:
        _write(_fetch(number, billing_pb2.INVOICE_FORM_DOCUMENT), None)
        return
    summary = json.loads(_fetch(number, billing_pb2.INVOICE_FORM_SUMMARY))
    if json_output:
        print_json(summary)
        return
    whole = json.loads(_fetch(number, billing_pb2.INVOICE_FORM_DOCUMENT))
    _print_summary(number, summary)
    for one in (*whole["deductions"], *whole["taxes"]):
        sign = 1 if "rate_basis_points" in one else -1
        print_line(f"{one['description']}: {money.usd(sign * one['cents'])}")
    if whole["reason"]:
        print_line(f"credits {whole['of_invoice']}: {whole['reason']}")
    total, due = money.usd(whole["total_cents"]), money.usd(whole["due_cents"])
    print_line(f"total {total} USD, due {due} USD")


@app.command("close")
def close(
    month: Annotated[str, typer.Argument(metavar="YYYY-MM")], json_output: JsonOption = False
) -> None:
    """Close a month before its days of grace end, and issue its invoices.

    It also confirms the coordinator's clock, after a jump. Later usage of the month adjusts the
    next invoice.

    Example: edgeforge invoice close 2026-02
    """
    request = billing_pb2.CloseMonthRequest(month=month)
    with admin() as client:
        rows = client.billing(lambda stub: stub.CloseMonth, request, _TIMEOUT_S).invoices
    _print_rows(list(rows), json_output, f"{month} is closed; nothing is to be invoiced")


@app.command("csv")
def as_csv(number: NumberArgument, out: OutOption = None, json_output: JsonOption = False) -> None:
    """Write an invoice's lines as CSV.

    Example: edgeforge invoice csv EF-2026-000001 --out february.csv
    """
    _export(number, billing_pb2.INVOICE_FORM_CSV, out, json_output)


@app.command("focus")
def as_focus(
    number: NumberArgument, out: OutOption = None, json_output: JsonOption = False
) -> None:
    """Write an invoice in the columns of FOCUS 1.2, as CSV.

    Example: edgeforge invoice focus EF-2026-000001 --out focus.csv
    """
    _export(number, billing_pb2.INVOICE_FORM_FOCUS, out, json_output)


@app.command("page")
def as_page(number: NumberArgument, out: OutOption = None, json_output: JsonOption = False) -> None:
    """Write an invoice as a page of HTML.

    Example: edgeforge invoice page EF-2026-000001 --out invoice.html
    """
    _export(number, billing_pb2.INVOICE_FORM_HTML, out, json_output)


@app.command("pdf")
def as_pdf(number: NumberArgument, out: OutOption = None, json_output: JsonOption = False) -> None:
    """Write an invoice as a PDF.

    Example: edgeforge invoice pdf EF-2026-000001 --out invoice.pdf
    """
    _export(number, billing_pb2.INVOICE_FORM_PDF, out or Path(f"{number}.pdf"), json_output)


@app.command("credit-note")
def credit_note(
    number: NumberArgument,
    reason: Annotated[str, typer.Option(help="Why; it is printed on the credit note.")],
    usd: Annotated[str, typer.Option(help="Dollars; default: all that is left of it.")] = "",
    json_output: JsonOption = False,
) -> None:
    """Credit an invoice, in part or as a whole; what was paid becomes prepaid credit.

    Example: edgeforge invoice credit-note EF-2026-000001 --usd 12.50 --reason "outage of May 3"
    """
    request = billing_pb2.CreateCreditNoteRequest(
        number=number, cents=money.cents(usd, "--usd") if usd else None, reason=reason
    )
    with admin() as client:
        made = client.billing(lambda stub: stub.CreateCreditNote, request)
    if json_output:
        print_json(json.loads(made.content))
    else:
        credited = -json.loads(made.content)["total_cents"]
        print_line(f"issued {made.number}: {money.usd(credited)} USD of {number}")


@app.command("profile")
def profile(
    account: Annotated[str, typer.Argument(autocompletion=completion.accounts)],
    legal_name: Annotated[str, typer.Option(help="The company's name.")] = "",
    address: Annotated[str, typer.Option(help="Its address; lines are separated by |.")] = "",
    country: Annotated[str, typer.Option(help="Two letters, such as DE.")] = "",
    vat_id: Annotated[str, typer.Option(help="Checked by its format.")] = "",
    email: Annotated[str, typer.Option(help="Where invoices' questions go.")] = "",
    json_output: JsonOption = False,
) -> None:
    """Set whom an account's invoices are addressed to, as a whole.

    Example: edgeforge invoice profile acme --legal-name "Acme GmbH" --country DE
    """
    request = billing_pb2.SetBillingProfileRequest(
        account_id=account,
        legal_name=legal_name,
        address=address.replace("|", "\n"),
        country=country,
        vat_id=vat_id,
        email=email,
    )
    with admin() as client:
        client.billing(lambda stub: stub.SetBillingProfile, request)
    if json_output:
        print_json(as_json(request))
    else:
        print_line(f"invoices of {account} are addressed to {legal_name or account}")


def _show_draft(account: str, month: str, json_output: bool) -> None:
    request = billing_pb2.PreviewInvoiceRequest(
        account_id=account, month=month, form=billing_pb2.INVOICE_FORM_SUMMARY
    )
    with admin() as client:
        made = client.billing(lambda stub: stub.PreviewInvoice, request, _TIMEOUT_S)
    summary = json.loads(made.content)
    if json_output:
        print_json(summary)
    else:
        _print_summary(made.number or f"draft of {month or 'the current month'}", summary)


def _print_summary(title: str, summary: dict[str, Any]) -> None:
    print_table(
        ("account", "deployment", "billed", "SLA", "card", "used in", "requests", "USD"),
        (
            (
                one["account"],
                one["deployment"],
                one["tier_billed"] or "free",
                one["sla_tier"],
                one["card_version"],
                one["month"],
                one["requests"],
                money.usd(one["cents"]),
            )
            for one in summary["lines"]
        ),
        f"{title}: nothing was used",
    )
    exact = money.usd_of_nano(summary["total_nano_usd"])
    print_line(f"{title}: {summary['requests']} requests, {exact} USD before rounding")


def _print_rows(
    rows: list[billing_pb2.InvoiceRow],
    json_output: bool,
    empty: str,
) -> None:
    if json_output:
        print_json([_row_json(row) for row in rows])
        return
    print_table(
        ("number", "account", "month", "issued", "due", "total", "open", "last error"),
        (
            (
                row.number,
                row.account_id,
                row.month,
                money.date(row.issued_unix_ms),
                money.date(row.due_unix_ms),
                money.usd(row.total_cents),
                money.usd(row.open_cents),
                row.last_error or "-",
            )
            for row in rows
        ),
        empty,
    )


def _row_json(row: billing_pb2.InvoiceRow) -> dict[str, object]:
    """Return a row whose amounts and times are numbers."""
    return {
        name: int(str(value)) if name.endswith(("_cents", "_unix_ms")) else value
        for name, value in as_json(row).items()
    }


def _fetch(number: str, form: billing_pb2.InvoiceForm.ValueType) -> bytes:
    request = billing_pb2.ShowInvoiceRequest(number=number, form=form)
    with admin() as client:
        return client.billing(lambda stub: stub.ShowInvoice, request, _TIMEOUT_S).content


def _export(
    number: str,
    form: billing_pb2.InvoiceForm.ValueType,
    out: Path | None,
    json_output: bool,
) -> None:
    if json_output and out is None:
        raise InvalidRequest("--json says what was written", "name a file with --out")
    content = _fetch(number, form)
    _write(content, out)
    if json_output:
        print_json({"number": number, "file": str(out), "size_bytes": len(content)})
    elif out is not None:
        print_line(f"wrote {out}")


def _write(content: bytes, out: Path | None) -> None:
    if out is not None:
        out.write_bytes(content)
        return
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()

"""``edgeforge credit`` and ``edgeforge account cap``: credits, and what bounds spending."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli import completion, money
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import billing_pb2

app = group("credit", "Credits of accounts: grants, and prepaid money.")

AccountArgument = Annotated[str, typer.Argument(autocompletion=completion.accounts)]
_NUMBERS = ("_nano_usd", "_unix_ms")


def add_to(accounts: typer.Typer) -> None:
    """Add what bounds spending to the commands of accounts."""
    accounts.command("cap")(cap)


@app.command("grant")
def grant(
    account: AccountArgument,
    usd: Annotated[str, typer.Option(help="Dollars.")],
    reason: Annotated[str, typer.Option(help="Why; it stays in the books.")],
    expires: Annotated[
        str, typer.Option(help="Date or time in UTC at which it ends; default: never.")
    ] = "",
    prepaid: Annotated[
        bool, typer.Option("--prepaid", help="Money that came in, such as by bank transfer.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Give an account credit. The soonest expiry is used first, then grants before prepaid.

    Example: edgeforge credit grant acme --usd 100 --reason trial --expires 2026-12-31
    """
    request = billing_pb2.GrantCreditRequest(
        account_id=account,
        nano_usd=money.nano_usd(usd, "--usd"),
        reason=reason,
        expires_unix_ms=money.instant_unix_ms(expires, "--expires") if expires else 0,
        prepaid=prepaid,
    )
    with admin() as client:
        given = client.billing(lambda stub: stub.GrantCredit, request)
    if json_output:
        print_json(_numbered(given))
    else:
        until = f" until {money.date(given.expires_unix_ms)}" if given.expires_unix_ms else ""
        amount = money.usd_of_nano(given.amount_nano_usd)
        print_line(f"credit {given.id}: {amount} USD for {account}{until}")


@app.command("ls")
def list_credits(
    account: Annotated[
        str, typer.Option(help="One account; default: all.", autocompletion=completion.accounts)
    ] = "",
    json_output: JsonOption = False,
) -> None:
    """List credits and what is left of them, the newest first.

    Example: edgeforge credit ls --account acme
    """
    request = billing_pb2.ListCreditsRequest(account_id=account)
    with admin() as client:
        rows = client.billing(lambda stub: stub.ListCredits, request).credits
    if json_output:
        print_json([_numbered(row) for row in rows])
        return
    print_table(
        ("id", "account", "kind", "USD", "left", "expires", "reason", "by"),
        (
            (
                row.id,
                row.account_id,
                row.kind,
                money.usd_of_nano(row.amount_nano_usd),
                money.usd_of_nano(row.remaining_nano_usd),
                money.date(row.expires_unix_ms),
                row.reason,
                row.given_by,
            )
            for row in rows
        ),
        "no credits",
    )


def cap(
    account: AccountArgument,
    monthly_usd: Annotated[
        str, typer.Option(help="Most dollars in a calendar month, UTC; 0: no cap.")
    ] = "",
    prepaid: Annotated[
        bool | None,
        typer.Option("--prepaid/--postpaid", help="Whether requests need a balance."),
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Bound what an account spends; what is not named stays.

    At the cap, or without balance, new requests are refused within 5 s; running ones end as usual.

    Example: edgeforge account cap acme --monthly-usd 500
    """
    request = billing_pb2.SetFundsRequest(
        account_id=account,
        cap_nano_usd=money.nano_usd(monthly_usd, "--monthly-usd") if monthly_usd else None,
        prepaid=prepaid,
    )
    with admin() as client:
        kept = client.billing(lambda stub: stub.SetFunds, request)
    if json_output:
        print_json({"account": account, "cap_nano_usd": kept.cap_nano_usd, "prepaid": kept.prepaid})
        return
    bound = f"{money.usd_of_nano(kept.cap_nano_usd)} USD a month" if kept.cap_nano_usd else "no cap"
    print_line(f"{account}: {bound}, {'prepaid' if kept.prepaid else 'postpaid'}")


def _numbered(row: billing_pb2.CreditRow) -> dict[str, object]:
    return {
        name: int(str(value)) if name == "id" or name.endswith(_NUMBERS) else value
        for name, value in as_json(row).items()
    }

"""``edgeforge ledger``: the double-entry ledger, shown and checked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli import completion, money
from coordinator.cli.common import JsonOption, admin, group
from protos.domain.errors import Conflict
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import billing_pb2

app = group("ledger", "The double-entry ledger: append-only, in nano-USD.")

AccountOption = Annotated[
    str, typer.Option(help="One account; default: all.", autocompletion=completion.accounts)
]
#: Adding up everything that was ever used.
_TIMEOUT_S = 600.0


@app.command("show")
def show(account: AccountOption = "", json_output: JsonOption = False) -> None:
    """Show balances; debits are positive, credits negative.

    Example: edgeforge ledger show --account acme
    """
    request = billing_pb2.ShowLedgerRequest(account_id=account)
    with admin() as client:
        balances = client.billing(lambda stub: stub.ShowLedger, request).balances
    if json_output:
        print_json({one.ledger_account: one.nano_usd for one in balances})
        return
    print_table(
        ("account", "USD"),
        ((one.ledger_account, money.usd_of_nano(one.nano_usd)) for one in balances),
        "the ledger is empty",
    )


@app.command("check")
def check(json_output: JsonOption = False) -> None:
    """Prove that transactions sum to zero and that ledger, invoices' lines and rollups agree.

    Ends with an error if they do not.

    Example: edgeforge ledger check --json
    """
    with admin() as client:
        found = client.billing(
            lambda stub: stub.CheckLedger, billing_pb2.CheckLedgerRequest(), _TIMEOUT_S
        )
    problems = list(found.problems)
    if json_output:
        print_json(
            {
                "transactions": found.transactions,
                "entries": found.entries,
                "usage_nano_usd": found.usage_nano_usd,
                "rollup_nano_usd": found.rollup_nano_usd,
                "raw_nano_usd": found.raw_nano_usd,
                "problems": problems,
            }
        )
    else:
        print_line(
            f"{found.transactions} transactions, {found.entries} entries; usage:"
            f" {money.usd_of_nano(found.usage_nano_usd)} USD in the ledger,"
            f" {money.usd_of_nano(found.rollup_nano_usd)} USD in the rollups,"
            f" {money.usd_of_nano(found.raw_nano_usd)} USD in raw records"
        )
        for one in problems:
            print_line(one)
    if problems:
        raise Conflict(
            f"the books disagree in {len(problems)} places", "keep a backup", retryable=False
        )


@app.command("export")
def export(
    account: AccountOption = "",
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; default: standard output.")
    ] = None,
    json_output: JsonOption = False,
) -> None:
    """Write every transaction, a line of JSON each, in the order of the ledger.

    Example: edgeforge ledger export --out ledger.jsonl
    """
    count = 0
    lines = (json.dumps(one, ensure_ascii=False) for one in _transactions(account))
    if out is None:
        for line in lines:
            print_json(json.loads(line), indent=None)
        return
    with out.open("w", encoding="utf-8") as file:
        for line in lines:
            file.write(line + "\n")
            count += 1
    if json_output:
        print_json({"file": str(out), "transactions": count})
    else:
        print_line(f"wrote {count} transactions to {out}")


def _transactions(account: str) -> Iterator[dict[str, object]]:
    after = 0
    with admin() as client:
        while True:
            request = billing_pb2.ShowLedgerRequest(account_id=account, after=after)
            page = client.billing(lambda stub: stub.ShowLedger, request).transactions
            for one in page:
                yield {
                    "number": one.number,
                    "kind": one.kind,
                    "account": one.account_id,
                    "month": one.month,
                    "at_unix_ms": one.at_unix_ms,
                    "reference": one.reference,
                    "entries": {entry.ledger_account: entry.nano_usd for entry in one.entries},
                }
            if not page:
                return
            after = page[-1].number

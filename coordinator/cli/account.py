"""``edgeforge account`` and ``edgeforge key``: customers' accounts and API keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json
from coordinator.clock import now_unix_ms
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import admin_pb2

app = group("account", "Customers.")
key_app = group("key", "API keys: shown once, kept as a digest.")

_DAY_MS = int(timedelta(days=1).total_seconds() * 1_000)


@app.command("create")
def create_account(account: str) -> None:
    """Create a customer's account.

    Example: edgeforge account create acme
    """
    with admin() as client:
        client.call(lambda stub: stub.CreateAccount, admin_pb2.CreateAccountRequest(id=account))
    print_line(f"created {account}; next: edgeforge key create --account {account}")


@app.command("ls")
def list_accounts(json_output: JsonOption = False) -> None:
    """List the accounts.

    Example: edgeforge account ls
    """
    with admin() as client:
        ids = client.call(lambda stub: stub.ListAccounts, admin_pb2.ListAccountsRequest()).ids
    if json_output:
        print_json(list(ids))
    else:
        print_table(("account",), ((one,) for one in ids), "no accounts yet")


@key_app.command("create")
def create_key(
    account: Annotated[str, typer.Option(help="Whose key it is.")],
    deployment: Annotated[
        list[str] | None, typer.Option(help="Limit it to this deployment; repeatable.")
    ] = None,
    days: Annotated[int, typer.Option(help="Days until it expires; 0: never.", min=0)] = 0,
    json_output: JsonOption = False,
) -> None:
    """Create an API key. It is shown once.

    Example: edgeforge key create --account acme --days 90
    """
    request = admin_pb2.CreateKeyRequest(
        account_id=account,
        deployments=deployment or (),
        expires_unix_ms=now_unix_ms() + days * _DAY_MS if days else 0,
    )
    with admin() as client:
        response = client.call(lambda stub: stub.CreateKey, request)
    if json_output:
        print_json(as_json(response))
    else:
        print_line(response.api_key)


@key_app.command("ls")
def list_keys(
    account: Annotated[str, typer.Option(help="Only this account's.")] = "",
    json_output: JsonOption = False,
) -> None:
    """List API keys by their public part.

    Example: edgeforge key ls --account acme
    """
    request = admin_pb2.ListKeysRequest(account_id=account)
    with admin() as client:
        keys = client.call(lambda stub: stub.ListKeys, request).keys
    if json_output:
        print_json([as_json(key) for key in keys])
        return
    print_table(
        ("key", "account", "deployments", "created", "expires"),
        (
            (
                key.id,
                key.account_id,
                ", ".join(key.deployments) or "all",
                _day(key.created_unix_ms),
                _day(key.expires_unix_ms) if key.expires_unix_ms else "never",
            )
            for key in keys
        ),
        "no keys yet; edgeforge key create makes one",
    )


@key_app.command("revoke")
def revoke_key(key: Annotated[str, typer.Argument(help="The key's public part.")]) -> None:
    """Revoke a key; agents that are connected refuse it within two seconds.

    Example: edgeforge key revoke 3f9a
    """
    with admin() as client:
        client.call(lambda stub: stub.RevokeKey, admin_pb2.RevokeKeyRequest(id=key))
    print_line(f"revoked {key}")


def _day(unix_ms: int) -> str:
    return f"{datetime.fromtimestamp(unix_ms / 1_000, UTC):%F %R}"

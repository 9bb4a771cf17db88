"""``edgeforge account`` and ``edgeforge key``: customers' accounts and API keys."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json
from coordinator.clock import now_unix_ms
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import admin_pb2, resources_pb2

app = group("account", "Customers.")
key_app = group("key", "API keys: shown once, kept as a digest.")

SequencesOption = Annotated[
    int | None,
    typer.Option(help="Prompts times answers in progress at once; 0: no limit.", min=0),
]
RequestsOption = Annotated[int | None, typer.Option(help="Requests a minute; 0: no limit.", min=0)]
TokensOption = Annotated[
    int | None, typer.Option(help="Tokens a minute, of prompts and answers; 0: none.", min=0)
]

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
        response = client.call(lambda stub: stub.ListAccounts, admin_pb2.ListAccountsRequest())
    if json_output:
        print_json(list(response.ids))
    else:
        print_table(
            ("account", "limits"),
            ((one.id, _limits_text(one.limits)) for one in response.accounts),
            "no accounts yet",
        )


@app.command("limits")
def set_account_limits(
    account: Annotated[str, typer.Argument(autocompletion=completion.accounts)],
    sequences: SequencesOption = None,
    requests_per_minute: RequestsOption = None,
    tokens_per_minute: TokensOption = None,
    json_output: JsonOption = False,
) -> None:
    """Set what an account may use over the whole fleet; what is not named stays.

    Example: edgeforge account limits acme --requests-per-minute 600
    """
    request = admin_pb2.SetAccountLimitsRequest(
        id=account,
        max_concurrent_sequences=sequences,
        requests_per_minute=requests_per_minute,
        tokens_per_minute=tokens_per_minute,
    )
    with admin() as client:
        info = client.call(lambda stub: stub.SetAccountLimits, request).account
    if json_output:
        print_json(as_json(info))
    else:
        print_line(f"{info.id}: {_limits_text(info.limits)}")


@key_app.command("create")
def create_key(
    account: Annotated[
        str, typer.Option(help="Whose key it is.", autocompletion=completion.accounts)
    ],
    deployment: Annotated[
        list[str] | None,
        typer.Option(
            help="Limit it to this deployment; repeatable.", autocompletion=completion.deployments
        ),
    ] = None,
    days: Annotated[int, typer.Option(help="Days until it expires; 0: never.", min=0)] = 0,
    sequences: SequencesOption = None,
    requests_per_minute: RequestsOption = None,
    tokens_per_minute: TokensOption = None,
    json_output: JsonOption = False,
) -> None:
    """Create an API key. It is shown once.

    Example: edgeforge key create --account acme --days 90
    """
    request = admin_pb2.CreateKeyRequest(
        account_id=account,
        deployments=deployment or (),
        expires_unix_ms=now_unix_ms() + days * _DAY_MS if days else 0,
        limits=resources_pb2.UsageLimits(
            max_concurrent_sequences=sequences or 0,
            requests_per_minute=requests_per_minute or 0,
            tokens_per_minute=tokens_per_minute or 0,
        ),
    )
    with admin() as client:
        response = client.call(lambda stub: stub.CreateKey, request)
    if json_output:
        print_json(as_json(response))
    else:
        print_line(response.api_key)


@key_app.command("ls")
def list_keys(
    account: Annotated[
        str, typer.Option(help="Only this account's.", autocompletion=completion.accounts)
    ] = "",
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
        ("key", "account", "deployments", "created", "expires", "limits"),
        (
            (
                key.id,
                key.account_id,
                ", ".join(key.deployments) or "all",
                _day(key.created_unix_ms),
                _day(key.expires_unix_ms) if key.expires_unix_ms else "never",
                _limits_text(key.limits),
            )
            for key in keys
        ),
        "no keys yet; edgeforge key create makes one",
    )


@key_app.command("revoke")
def revoke_key(
    key: Annotated[
        str,
        typer.Argument(help="The key's public part.", autocompletion=completion.keys),
    ],
) -> None:
    """Revoke a key; agents that are connected refuse it within two seconds.

    Example: edgeforge key revoke 3f9a
    """
    with admin() as client:
        client.call(lambda stub: stub.RevokeKey, admin_pb2.RevokeKeyRequest(id=key))
    print_line(f"revoked {key}")


def _limits_text(limits: resources_pb2.UsageLimits) -> str:
    said = (
        (limits.max_concurrent_sequences, "sequences"),
        (limits.requests_per_minute, "requests/min"),
        (limits.tokens_per_minute, "tokens/min"),
    )
    return ", ".join(f"{limit:,} {what}" for limit, what in said if limit) or "none"


def _day(unix_ms: int) -> str:
    return f"{datetime.fromtimestamp(unix_ms / 1_000, UTC):%F %R}"

"""``edgeforge key``: customers' API keys."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.account import RequestsOption, SequencesOption, TokensOption
from coordinator.cli.account_view import limits_text, minute, scopes_text
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json
from coordinator.cli.quantities import life_s
from coordinator.clock import now_unix_ms
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import accounts_pb2, admin_pb2, resources_pb2

app = group("key", "API keys: shown once, kept as a digest.")

KeyArgument = Annotated[
    str,
    typer.Argument(
        help="The key's id, the part behind ef- that may be shown.", autocompletion=completion.keys
    ),
]


@app.command("create")
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
    endpoint: Annotated[
        list[str] | None,
        typer.Option(help="Limit it to this path: /v1/embeddings; repeatable."),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(help="Limit it to callers of this network: 203.0.113.0/24; repeatable."),
    ] = None,
    zone: Annotated[
        list[str] | None,
        typer.Option(help="Limit it to this residency zone: BR; repeatable."),
    ] = None,
    expires: Annotated[
        str, typer.Option(help="How long it works: 12h, 90d. Without: for ever.")
    ] = "",
    days: Annotated[int, typer.Option(help="As --expires, in days; 0: never.", min=0)] = 0,
    sequences: SequencesOption = None,
    requests_per_minute: RequestsOption = None,
    tokens_per_minute: TokensOption = None,
    json_output: JsonOption = False,
) -> None:
    """Create an API key. It is shown once.

    Networks are compared with the address that the agent sees: behind a proxy that is the proxy's.

    Example: edgeforge key create --account acme --expires 90d --origin 203.0.113.0/24
    """
    life_ms = 1_000 * (life_s(expires, "--expires") if expires else days * 86_400)
    request = accounts_pb2.CreateScopedKeyRequest(
        account_id=account,
        deployments=deployment or (),
        endpoints=endpoint or (),
        origins=origin or (),
        zones=zone or (),
        expires_unix_ms=now_unix_ms() + life_ms if life_ms else 0,
        limits=resources_pb2.UsageLimits(
            max_concurrent_sequences=sequences or 0,
            requests_per_minute=requests_per_minute or 0,
            tokens_per_minute=tokens_per_minute or 0,
        ),
    )
    with admin() as client:
        response = client.accounts(lambda stub: stub.CreateScopedKey, request)
    if json_output:
        print_json(as_json(response))
    else:
        print_line(response.api_key)


@app.command("ls")
def list_keys(
    account: Annotated[
        str, typer.Option(help="Only this account's.", autocompletion=completion.accounts)
    ] = "",
    json_output: JsonOption = False,
) -> None:
    """List API keys by their public part, with their scopes and their last use.

    Example: edgeforge key ls --account acme
    """
    request = accounts_pb2.ListScopedKeysRequest(account_id=account)
    with admin() as client:
        keys = client.accounts(lambda stub: stub.ListScopedKeys, request).keys
    if json_output:
        print_json([as_json(key) for key in keys])
        return
    print_table(
        ("key", "account", "opens", "created", "expires", "last use", "limits"),
        (
            (
                key.id,
                key.account_id,
                scopes_text(key),
                minute(key.created_unix_ms),
                minute(key.expires_unix_ms),
                minute(key.last_used_unix_ms),
                limits_text(key.limits),
            )
            for key in keys
        ),
        "no keys yet; edgeforge key create makes one",
    )


@app.command("rotate")
def rotate_key(
    key: KeyArgument,
    grace: Annotated[
        str, typer.Option(help="How long the old key still works: 1h, 7d; 0s ends it at once.")
    ] = "24h",
    json_output: JsonOption = False,
) -> None:
    """Make a key with the same scopes; the old one ends by itself. The new one is shown once.

    Example: edgeforge key rotate 3f9a --grace 1h
    """
    request = accounts_pb2.RotateKeyRequest(id=key, grace_s=life_s(grace, "--grace"))
    with admin() as client:
        made = client.accounts(lambda stub: stub.RotateKey, request)
    if json_output:
        print_json(as_json(made))
        return
    print_line(made.api_key)
    print_line(f"key {made.old_id} ends at {minute(made.old_ends_unix_ms)} UTC")


@app.command("revoke")
def revoke_key(key: KeyArgument, json_output: JsonOption = False) -> None:
    """Revoke a key; agents that are connected refuse it within two seconds.

    Example: edgeforge key revoke 3f9a
    """
    with admin() as client:
        client.call(lambda stub: stub.RevokeKey, admin_pb2.RevokeKeyRequest(id=key))
    if json_output:
        print_json({"id": key})
    else:
        print_line(f"revoked {key}")

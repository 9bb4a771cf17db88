"""``edgeforge account``: customers' accounts, their states and their members."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.account_view import (
    created_text,
    limits_text,
    minute,
    print_account,
)
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json
from coordinator.cli.quantities import life_s
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import accounts_pb2, admin_pb2

app = group("account", "Customers: their accounts, states and members.")

SequencesOption = Annotated[
    int | None,
    typer.Option(help="Prompts times answers in progress at once; 0: no limit.", min=0),
]
RequestsOption = Annotated[int | None, typer.Option(help="Requests a minute; 0: no limit.", min=0)]
TokensOption = Annotated[
    int | None, typer.Option(help="Tokens a minute, of prompts and answers; 0: none.", min=0)
]
AccountArgument = Annotated[str, typer.Argument(autocompletion=completion.accounts)]


@app.command("create")
def create_account(account: str, json_output: JsonOption = False) -> None:
    """Create a customer's account.

    Example: edgeforge account create acme
    """
    with admin() as client:
        client.call(lambda stub: stub.CreateAccount, admin_pb2.CreateAccountRequest(id=account))
    if json_output:
        print_json({"id": account})
    else:
        print_line(
            f"created {account}; next: edgeforge key create --account {account}, and for its"
            f" people: edgeforge account invite {account} --email THEIRS"
        )


@app.command("ls")
def list_accounts(json_output: JsonOption = False) -> None:
    """List the accounts with their states.

    Example: edgeforge account ls
    """
    request = accounts_pb2.ListAccountStatesRequest()
    with admin() as client:
        accounts = client.accounts(lambda stub: stub.ListAccountStates, request).accounts
    if json_output:
        print_json([as_json(one) for one in accounts])
        return
    print_table(
        ("account", "state", "since", "zones", "members", "keys", "deployments", "limits"),
        (
            (
                one.id,
                one.state,
                minute(one.state_since_unix_ms or one.created_unix_ms),
                ", ".join(one.zones) or "any",
                str(one.members),
                str(one.keys),
                str(one.deployments),
                limits_text(one.limits, funded=one.funded),
            )
            for one in accounts
        ),
        "no accounts yet; edgeforge account create makes one",
    )


@app.command("show")
def show_account(account: AccountArgument, json_output: JsonOption = False) -> None:
    """Show an account: its state and why, its members, its open invitations.

    Example: edgeforge account show acme
    """
    request = accounts_pb2.ShowAccountRequest(id=account)
    with admin() as client:
        detail = client.accounts(lambda stub: stub.ShowAccount, request)
    if json_output:
        print_json(as_json(detail))
    else:
        print_account(detail)


@app.command("suspend")
def suspend_account(
    account: AccountArgument,
    reason: Annotated[str, typer.Option(help="Why; the account's members see it.")],
    json_output: JsonOption = False,
) -> None:
    """Refuse new requests of an account at every agent; running streams end as usual.

    Its members may still read, pay and revoke. Undo it with edgeforge account resume.

    Example: edgeforge account suspend acme --reason "chargeback of May"
    """
    request = accounts_pb2.SetAccountStateRequest(id=account, reason=reason)
    with admin() as client:
        summary = client.accounts(lambda stub: stub.SuspendAccount, request)
    _print_state(summary, json_output)


@app.command("resume")
def resume_account(
    account: AccountArgument,
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    json_output: JsonOption = False,
) -> None:
    """Admit requests of an account again, whatever they were refused for.

    Example: edgeforge account resume acme --reason "paid"
    """
    request = accounts_pb2.SetAccountStateRequest(id=account, reason=reason)
    with admin() as client:
        summary = client.accounts(lambda stub: stub.ResumeAccount, request)
    _print_state(summary, json_output)


@app.command("limits")
def set_account_limits(
    account: AccountArgument,
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
        print_line(f"{info.id}: {limits_text(info.limits)}")


@app.command("invite")
def invite(
    account: Annotated[
        str,
        typer.Argument(
            help="To become a member of; without one: to make an account.",
            autocompletion=completion.accounts,
        ),
    ] = "",
    email: Annotated[str, typer.Option(help="Only for this address; needed for a member.")] = "",
    role: Annotated[
        str, typer.Option(help="Of a member: owner, admin, developer, billing or viewer.")
    ] = "owner",
    json_output: JsonOption = False,
) -> None:
    """Invite somebody, once, within 24 hours: to make an account, or to join one.

    What is printed goes to POST /v1/sign-up or POST /v1/join of the customers' API.

    Example: edgeforge account invite --email ana@example.org
    """
    request = accounts_pb2.InviteToAccountRequest(account_id=account, email=email, role=role)
    with admin() as client:
        made = client.accounts(lambda stub: stub.InviteToAccount, request)
    if json_output:
        print_json(as_json(made))
        return
    path = "/v1/join" if account else "/v1/sign-up"
    where = f"at {made.api}{path}" if made.api else f"for POST {path}, once [api] is enabled"
    print_line(made.text)
    print_line(f"good once, until {minute(made.invitation.expires_unix_ms)}, {where}")


@app.command("withdraw")
def withdraw(
    invitation: Annotated[str, typer.Argument(help="Its id, as edgeforge account show lists.")],
    json_output: JsonOption = False,
) -> None:
    """Withdraw an invitation that was not used.

    Example: edgeforge account withdraw 0011223344556677
    """
    request = accounts_pb2.WithdrawInvitationRequest(id=invitation)
    with admin() as client:
        client.accounts(lambda stub: stub.WithdrawInvitation, request)
    if json_output:
        print_json({"id": invitation})
    else:
        print_line(f"withdrew {invitation}")


@app.command("remove-member")
def remove_member(
    member: Annotated[str, typer.Argument(help="Its id, as edgeforge account show lists.")],
    json_output: JsonOption = False,
) -> None:
    """Remove a member of an account and every token of it.

    Example: edgeforge account remove-member m-0011223344556677
    """
    request = accounts_pb2.RemoveMemberRequest(id=member)
    with admin() as client:
        client.accounts(lambda stub: stub.RemoveMember, request)
    if json_output:
        print_json({"id": member})
    else:
        print_line(f"removed {member}")


@app.command("token")
def member_token(
    member: Annotated[str, typer.Argument(help="Its id, as edgeforge account show lists.")],
    expires: Annotated[str, typer.Option(help="How long it works: 12h, 90d.")] = "90d",
    json_output: JsonOption = False,
) -> None:
    """Make a token for a member who has lost every one. It is shown once.

    Example: edgeforge account token m-0011223344556677 --expires 1d
    """
    request = accounts_pb2.CreateMemberTokenRequest(
        member_id=member, name="by an operator", ttl_s=life_s(expires, "--expires")
    )
    with admin() as client:
        made = client.accounts(lambda stub: stub.CreateMemberToken, request)
    if json_output:
        print_json(as_json(made))
    else:
        print_line(made.token)


def _print_state(summary: accounts_pb2.AccountSummary, json_output: bool) -> None:
    if json_output:
        print_json(as_json(summary))
    else:
        print_line(f"{summary.id}: {summary.state}{created_text(summary)}")

"""``edgeforge operator``: who may administer the fleet."""

from __future__ import annotations

import datetime
from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json
from protos.output.terminal import print_json, print_line, print_progress, print_table
from protos.v1 import admin_pb2

app = group("operator", "Those who may run this fleet: viewers, operators, admins.")

RoleOption = Annotated[
    str, typer.Option(help="viewer reads; operator also runs nodes and models; admin does all.")
]
OperatorArgument = Annotated[str, typer.Argument(autocompletion=completion.operators)]


@app.command("invite")
def invite(
    name: Annotated[str, typer.Argument(help="1 to 63 of a-z, 0-9, _, . and -.")],
    role: RoleOption,
    ttl_s: Annotated[
        int, typer.Option(help="Seconds until the invitation expires.", min=1)
    ] = 3_600,
    local: Annotated[
        bool, typer.Option("--local", help="For somebody on the coordinator's own machine.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Print a one-time token that makes its holder an operator. It is shown once.

    Example: edgeforge operator invite ana --role operator > ana.token
    """
    request = admin_pb2.InviteOperatorRequest(name=name, role=role, ttl_s=ttl_s, local=local)
    with admin() as client:
        response = client.call(lambda stub: stub.InviteOperator, request)
    if json_output:
        print_json(as_json(response))
        return
    print_line(response.token)
    print_progress(
        f"{name} logs in once, by {_moment(response.expires_unix_ms)}, on their own machine:\n"
        f"  edgeforge login {response.enrolment_address} --token-file FILE"
    )


@app.command("ls")
def list_operators(json_output: JsonOption = False) -> None:
    """List the operators, revoked ones too.

    Example: edgeforge operator ls
    """
    with admin() as client:
        response = client.call(lambda stub: stub.ListOperators, admin_pb2.ListOperatorsRequest())
    if json_output:
        print_json([as_json(one) for one in response.operators])
        return
    print_table(
        ("operator", "role", "since", "invited by", "certificate until", "state"),
        (
            (
                one.name + (" (you)" if one.name == response.caller else ""),
                one.role,
                _moment(one.created_unix_ms),
                one.invited_by,
                _moment(one.certificate_not_after_unix_ms),
                f"revoked {_moment(one.revoked_unix_ms)}" if one.revoked_unix_ms else "active",
            )
            for one in response.operators
        ),
        "no operators",
    )


@app.command("revoke")
def revoke(name: OperatorArgument, json_output: JsonOption = False) -> None:
    """Refuse an operator from now on; calls in progress end, and its unused tokens are void.

    An invitation that was not used is revoked in the same way. The last admin stays.

    Example: edgeforge operator revoke ana
    """
    with admin() as client:
        client.call(lambda stub: stub.RevokeOperator, admin_pb2.RevokeOperatorRequest(name=name))
    if json_output:
        print_json({"revoked": name})
        return
    print_line(f"revoked {name}")


@app.command("set-role")
def set_role(
    name: OperatorArgument,
    role: Annotated[str, typer.Argument(help="viewer, operator or admin.")],
    json_output: JsonOption = False,
) -> None:
    """Give an operator another role, from the next call on. The last admin stays one.

    Example: edgeforge operator set-role ana viewer
    """
    request = admin_pb2.SetOperatorRoleRequest(name=name, role=role)
    with admin() as client:
        info = client.call(lambda stub: stub.SetOperatorRole, request)
    if json_output:
        print_json(as_json(info))
        return
    print_line(f"{info.name} is {info.role} now")


def _moment(unix_ms: int) -> str:
    moment = datetime.datetime.fromtimestamp(unix_ms / 1_000, datetime.UTC)
    return moment.strftime("%Y-%m-%d %H:%M UTC")

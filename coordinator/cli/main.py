"""The ``edgeforge`` command: assembles the command groups and prints errors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli import (
    account,
    account_zones,
    adapter,
    adoption,
    audit,
    context,
    deploy,
    deployment,
    fleet,
    hub_env,
    login,
    model,
    node_orders,
    operator,
    plan,
    pop,
    price,
    route,
    runtime,
    status,
    trace,
    usage,
)
from coordinator.cli.common import name_profile
from protos.output.command_line import command_line
from protos.output.terminal import run_program
from protos.output.version import version_option

app = command_line(
    "edgeforge",
    "Run and ask an EdgeForge fleet. 'edgeforge up' starts one on this machine.",
    completes=True,
)
adoption.add_to(model.app)
account_zones.add_to(account.app)
for _group in (
    pop.app,
    node_orders.app,
    model.app,
    adapter.app,
    runtime.app,
    deploy.app,
    deployment.app,
    plan.app,
    account.app,
    account.key_app,
    price.app,
    route.app,
    trace.app,
    usage.app,
    audit.app,
    price.table_app,
    operator.app,
    context.app,
    adoption.upstream_app,
):
    app.add_typer(_group)
app.command("login")(login.login)
app.command("status")(status.status)
app.command("env")(hub_env.env)
app.command("up")(fleet.up)
app.command("demo")(fleet.demo)
app.command("down")(fleet.down)


@app.callback()
def main(
    _version: Annotated[bool, version_option("edgeforge")] = False,
    profile: Annotated[
        Path | None,
        typer.Option(
            help="Operator's profile.toml; else $EDGEFORGE_PROFILE, ./.edgeforge, the context."
        ),
    ] = None,
) -> None:
    """Remember the profile that was named."""
    name_profile(profile)


def run() -> None:
    """Entry point: prints an EdgeForgeError with its hint and exits with its code."""
    run_program("edgeforge", app)

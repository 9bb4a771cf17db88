"""The command `edgeforge-coordinator`: init, serve, restore."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Annotated

import typer

from coordinator import clock
from coordinator.config import CoordinatorConfig, load_config
from coordinator.first_run import initialise
from coordinator.host_operators import reset_operator
from coordinator.main import serve as serve_until
from coordinator.state_backup import back_up, bring_back
from protos.domain.addresses import join_address
from protos.domain.errors import ConfigInvalid, NotFound
from protos.host.ownership import belongs_to_root, keep_owner
from protos.host.service_manager import notify_ready
from protos.output.command_line import command_group, command_line
from protos.output.logs import log_to_stderr
from protos.output.terminal import print_json, print_line, run_program
from protos.output.version import version_option

app = command_line(
    "edgeforge-coordinator",
    "The fleet's coordinator: who serves what, at what price, and which node is alive.\n\n"
    "Agents serve without it for days; it may be stopped and started at any time.",
)
operator_app = command_group("operator", "Operators, made on the coordinator's own host.")
app.add_typer(operator_app)

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="EDGEFORGE_COORDINATOR_CONFIG",
        help="TOML file; docs/CONFIG.md lists every key. "
        "EDGEFORGE_COORDINATOR__SECTION__KEY replaces a key.",
        readable=False,  # a file that cannot be read exits with 78, which systemd obeys
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output, one object.")]
_DEFAULT_CONFIG = Path("/etc/edgeforge/coordinator.toml")
UserOption = Annotated[
    str,
    typer.Option(
        "--user",
        metavar="NAME",
        help="Give the state folder to this user first; else new files get its owner.",
    ),
]


@app.callback()
def main(
    _version: Annotated[bool, version_option("edgeforge-coordinator")] = False,
) -> None:
    """Take the options that come before the command."""


@app.command()
def init(
    config: ConfigOption = _DEFAULT_CONFIG,
    operator: Annotated[
        str, typer.Option(metavar="NAME", help="Who the first operator's certificate is for.")
    ] = "admin",
    user: UserOption = "",
    as_json: JsonOption = False,
) -> None:
    """Make the authority, the database and the first operator's certificate.

    Done once for a fleet. Existing files are never overwritten. Afterwards `serve` runs it and
    `edgeforge --profile STATE_DIR/operators/NAME/profile.toml` talks to it. Run as root, the files
    belong to the owner of the state folder, or to --user.
    """
    loaded = load_config(config, os.environ)
    _log_to_stderr(loaded)
    made = asyncio.run(initialise(loaded, operator, user=user, now_unix_ms=clock.now_unix_ms))
    if as_json:
        print_json(
            {
                "state_dir": str(loaded.state_dir),
                "operator": made.operator,
                "profile": str(made.profile),
                "ca_sha256": made.ca_sha256_hex,
            },
            indent=None,
        )
        return
    print_line(f"coordinator made in {loaded.state_dir}")
    print_line(f"operator {made.operator}: {made.profile}")
    if belongs_to_root(loaded.ca_dir):
        print_line("the files belong to root; for a service of another user: --user NAME")
    print_line(f"next: edgeforge-coordinator serve --config {config}")


@operator_app.command("reset")
def reset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who the new certificate is for.")],
    config: ConfigOption = _DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Make NAME an admin with a new key, where no admin can log in any more.

    The coordinator must be stopped. An operator of that name loses its old key; others stay.
    Example: edgeforge-coordinator operator reset ana --config coordinator.toml
    """
    loaded = load_config(config, os.environ)
    _log_to_stderr(loaded)
    profile = asyncio.run(reset_operator(loaded, name, now_unix_ms=clock.now_unix_ms))
    if as_json:
        print_json({"operator": name, "role": "admin", "profile": str(profile)}, indent=None)
        return
    print_line(f"operator {name} is an admin: {profile}")
    print_line(f"next: edgeforge-coordinator serve --config {config}")


@app.command()
def serve(config: ConfigOption = _DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Run the coordinator until SIGTERM or SIGINT.

    Exit code 78 means that the configuration must be mended first (a mistake, or a port in use).
    With --json one line names the addresses once all listeners are open.
    """
    loaded = load_config(config, os.environ)
    _log_to_stderr(loaded)
    try:
        asyncio.run(_serve(loaded, as_json))
    except NotFound as error:  # no database, or no authority: no restart brings them
        raise ConfigInvalid([error.message], error.hint) from error


@app.command()
def backup(
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="A folder that does not exist yet.")
    ],
    config: ConfigOption = _DEFAULT_CONFIG,
    as_json: JsonOption = False,
) -> None:
    """Write consistent copies of both databases to FOLDER, while the coordinator runs or not.

    The authority and the blobs are copied apart. Example: edgeforge-coordinator backup /backup/1
    """
    loaded = load_config(config, os.environ)
    _log_to_stderr(loaded)
    written = back_up(loaded, folder)
    if as_json:
        print_json({"files": [str(one) for one in written]}, indent=None)
        return
    for one in written:
        print_line(f"wrote {one}")
    print_line(f"to bring it back: edgeforge-coordinator restore {folder}")


@app.command()
def restore(
    backup: Annotated[
        Path,
        typer.Argument(
            metavar="BACKUP",
            help="A folder from `backup`, or a copy of coordinator.db.",
            readable=False,
        ),
    ],
    config: ConfigOption = _DEFAULT_CONFIG,
    user: UserOption = "",
    as_json: JsonOption = False,
) -> None:
    """Put a backup of the databases in place, under a higher epoch.

    The coordinator must be stopped. The higher epoch makes every agent accept the restored tables
    as newer than those it holds. The replaced databases are kept beside them. Usage that was
    counted after the backup is gone; `edgeforge usage quarantine` names its numbers.
    """
    loaded = load_config(config, os.environ)
    _log_to_stderr(loaded)
    keep_owner(loaded.state_dir, user)
    restored = bring_back(loaded, backup, now_unix_ms=clock.now_unix_ms())
    if as_json:
        print_json(
            {
                "database": str(loaded.database),
                "epoch": restored.epoch,
                "usage_database": str(loaded.usage_database) if restored.usage else "",
            },
            indent=None,
        )
        return
    print_line(f"restored {backup} as {loaded.database}, epoch {restored.epoch}")
    if restored.usage:
        print_line(f"restored {loaded.usage_database}")
    print_line(f"next: edgeforge-coordinator serve --config {config}")


def run() -> None:
    """Entry point: prints an error with its hint and exits with its code."""
    run_program("edgeforge-coordinator", app)


async def _serve(config: CoordinatorConfig, as_json: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def announce_ready() -> None:
        if as_json:
            addresses = {
                section: join_address(*where) for section, where in config.listeners().items()
            }
            print_json({"ready": True, "pid": os.getpid(), **addresses}, indent=None)
        notify_ready()

    await serve_until(config, stop, announce_ready)


def _log_to_stderr(config: CoordinatorConfig) -> None:
    log_to_stderr(logging.getLevelNamesMapping()[config.coordinator.log_level.upper()])

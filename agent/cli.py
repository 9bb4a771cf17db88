"""The command line ``edgeforge-agent``, for a host's operator."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from agent.admin.client import ask_agent
from agent.config import AgentConfig
from agent.config_file import load_config
from agent.state_lock import is_locked
from protos.domain.errors import ConfigInvalid, Conflict, InvalidRequest
from protos.host.ownership import as_owner_of, belongs_to_root, keep_owner
from protos.output.command_line import command_line
from protos.output.logs import log_to_stderr
from protos.output.terminal import (
    confirmed,
    print_json,
    print_line,
    print_table,
    run_program,
)
from protos.output.version import version_option

app = command_line(
    "edgeforge-agent",
    "The EdgeForge agent: serves clients on this host and places their requests.",
)

ConfigOption = Annotated[
    Path,
    typer.Option(
        "--config",
        "-c",
        help="The agent's TOML file; docs/CONFIG.md lists its keys.",
        envvar="EDGEFORGE_AGENT_CONFIG",
        readable=False,  # a file that cannot be read exits with 78, which systemd obeys
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
_DEFAULT_CONFIG = Path("/etc/edgeforge/agent.toml")
_MAX_TOKEN_BYTES = 4_096
_DAY_S = 86_400


def run() -> None:
    """Run the command line; a known error is printed as one message and a next step."""
    run_program("edgeforge-agent", app)


@app.callback()
def main(
    _version: Annotated[bool, version_option("edgeforge-agent")] = False,
) -> None:
    """Take the options that come before the command."""


@app.command()
def serve(
    config: ConfigOption = _DEFAULT_CONFIG,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Serve until SIGTERM, which lets running requests end. SIGHUP reloads the client certificate.

    Exit status 78: the configuration, a port or the engine environment has to be mended first.

    Example: edgeforge-agent serve --config /etc/edgeforge/agent.toml
    """
    set_up_logging(log_level)
    loaded = _load(config)
    # The agent forks only to exec; gRPC's fork handlers would fill the log with warnings.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from agent.main import run as run_agent  # imported late: other commands start faster

    run_agent(loaded)


@app.command()
def enroll(
    token_file: Annotated[
        str,
        typer.Option("--token-file", help="File that holds the token, or - for standard input."),
    ],
    config: ConfigOption = _DEFAULT_CONFIG,
    user: Annotated[
        str,
        typer.Option(
            help="Give the state folder to this user first; else its files get its owner."
        ),
    ] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Replace the identity of an enrolled host.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Enrol this host: a one-time token becomes its certificate.

    The token comes from: edgeforge node token create --pop GRU. A host that is enrolled already is
    asked about on a terminal, else refused without --force. Run as root, the files belong to the
    owner of the state folder, or to --user.

    Example: edgeforge-agent enroll --config agent.toml --token-file -
    """
    loaded = _load(config)
    address = loaded.coordinator.enrolment_address
    if not address:
        raise ConfigInvalid(
            ["coordinator.enrolment_address is empty"], "set it to the coordinator's host:port"
        )
    from agent.link.enrol import enrol, parse_token  # imports cryptography, used only here

    token = parse_token(_read_token(token_file))
    _check_not_enrolled(loaded, force=force, asks=token_file != "-")
    keep_owner(loaded.state_dir, user)
    with as_owner_of(loaded.state_dir):
        identity = asyncio.run(enrol(address, token, loaded.identity_dir))
    if json_output:
        print_json({"node": identity.node_id, "pop": identity.pop_id}, indent=None)
        return
    until = datetime.fromtimestamp(identity.not_after_unix_ms / 1_000, UTC)
    print_line(f"enrolled as {identity.node_id} in {identity.pop_id}, certificate until {until:%F}")
    if belongs_to_root(loaded.identity_dir):
        print_line("the files belong to root; for a service of another user: --user NAME")
    if is_locked(loaded.state_dir):
        print_line("restart the agent: it runs as the node that it was started as")
        return
    print_line(f"next: edgeforge-agent serve --config {config}")


@app.command()
def doctor(config: ConfigOption = _DEFAULT_CONFIG, json_output: JsonOption = False) -> None:
    """Check everything this agent needs, and print the next step for what is missing.

    It logs in to the coordinator with this node's certificate, and reads the GPUs once. It may run
    beside the agent. Exit status 1 when a check failed.

    Example: edgeforge-agent doctor --config agent.toml
    """
    from agent.doctor.checks import run_checks

    findings = run_checks(_load(config))
    if json_output:
        print_json([finding.as_json() for finding in findings])
    else:
        rows = [(one.check, one.result, one.found, one.next_step) for one in findings]
        print_table(("check", "result", "what", "next step"), rows, "")
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


@app.command()
def status(config: ConfigOption = _DEFAULT_CONFIG, json_output: JsonOption = False) -> None:
    """Show the running agent: link, tables, engine, peers.

    Example: edgeforge-agent status --config agent.toml --json
    """
    answer = ask_agent(_load(config).admin_socket, "GET", "/status")
    if json_output:
        print_json(answer)
    else:
        print_table(("", ""), _status_rows(answer), "")


@app.command()
def served(
    config: ConfigOption = _DEFAULT_CONFIG,
    limit: Annotated[
        int, typer.Option(min=1, max=1_000, help="Single requests in the JSON output.")
    ] = 100,
    json_output: JsonOption = False,
) -> None:
    """Show what this host's engine served for other agents, by account and asking node.

    It is the engine's own count since the agent's start, to compare with what the asking agents
    billed.

    Example: edgeforge-agent served --config agent.toml --json
    """
    answer: dict[str, Any] = ask_agent(_load(config).admin_socket, "GET", f"/served?limit={limit}")
    if json_output:
        print_json(answer)
        return
    rows = [_served_row(one["account"], one["asking_node"], one) for one in answer["accounts"]]
    if answer["dropped"]["requests"]:
        rows.append(_served_row("(others)", "", answer["dropped"]))
    heads = ("account", "asking node", "requests", "prompt", "cached", "completion")
    print_table(heads, rows, "nothing was served for other agents")
    for node, flag in answer["flagged"].items():
        print_line(f"{node}: {flag['count']} invalid requests, the last: {flag['last_reason']}")


@app.command()
def usage(
    config: ConfigOption = _DEFAULT_CONFIG,
    limit: Annotated[
        int, typer.Option(min=1, max=100_000, help="Newest records in the table.")
    ] = 100,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print all, one JSON object a line.")
    ] = False,
) -> None:
    """Show the records of requests that are kept on this host, since they may not leave its zone.

    The coordinator has their sums; records that it keeps itself are in: edgeforge usage export.
    How long they are kept is usage.keep_days. The agent need not run.

    Example: edgeforge-agent usage --config agent.toml --json
    """
    from agent.spool.listing import kept_rows  # imports protobuf's messages

    rows = kept_rows(_load(config).usage_dir)
    if json_output:
        for row in rows:
            print_json(row, indent=None)
        return
    heads = ("began", "account", "deployment", "cause", "prompt", "completion", "nano-USD")
    names = (*heads[:4], "prompt_tokens", "completion_tokens", "nano_usd")
    newest = deque(rows, maxlen=limit)
    print_table(
        heads,
        [[row.get(name, row.get("error", "")) for name in names] for row in newest],
        "no record is kept here: none was bound to a zone without the coordinator's",
    )


@app.command()
def drain(
    config: ConfigOption = _DEFAULT_CONFIG,
    resume: Annotated[bool, typer.Option("--resume", help="Take new requests again.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Refuse new requests and let running ones end; --resume takes them again.

    Example: edgeforge-agent drain --config agent.toml
    """
    path = "/resume" if resume else "/drain"
    answer = ask_agent(_load(config).admin_socket, "POST", path)
    if json_output:
        print_json(answer)
    else:
        reason = answer["draining_reason"] or "no"
        print_line(f"draining: {reason}; requests in progress: {answer['in_flight']}")


def set_up_logging(level: str) -> None:
    """Log to standard error, one line an entry. Raises: ConfigInvalid for an unknown level."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigInvalid([f"--log-level {level!r} is none of debug, info, warning, error"])
    log_to_stderr(number)


def _check_not_enrolled(config: AgentConfig, *, force: bool, asks: bool) -> None:
    """Raises: Conflict when this host is enrolled, unless an operator wants it replaced."""
    from agent.link.identity import is_enrolled, load_identity
    from agent.link.removal import removed_because

    folder = config.identity_dir
    if force or not is_enrolled(folder):
        return
    try:
        identity = load_identity(folder)
        name = identity.node_id
        if removed_because(folder, identity.owner):
            return
    except ConfigInvalid:
        name = "a node whose identity is damaged"
    running = ", and its agent runs" if is_locked(config.state_dir) else ""
    question = f"this host is enrolled as {name}{running}; replace that identity?"
    if asks and confirmed(question):
        return
    raise Conflict(
        f"this host is enrolled as {name} already{running}",
        "--force replaces its identity for good; an agent that runs has to be restarted then",
        retryable=False,
    )


def _load(path: Path) -> AgentConfig:
    return load_config(path, os.environ)


def _read_token(token_file: str) -> str:
    """Read a token from a file or standard input, which other users cannot see."""
    if token_file == "-":
        return sys.stdin.read(_MAX_TOKEN_BYTES)
    try:
        return Path(token_file).read_text(encoding="utf-8")[:_MAX_TOKEN_BYTES]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"cannot read the token file: {error}") from error


def _certificate(answer: dict[str, Any]) -> str:
    left = f"{answer['certificate_remaining_s'] / _DAY_S:.1f} days left"
    offset_s = answer["link"]["clock_offset_ms"] / 1_000
    text = f"{left}, the coordinator's clock is {offset_s:+.1f} s from this host's"
    return f"{text}; not renewed: {answer['renewal_error']}" if answer["renewal_error"] else text


def _served_row(account: str, node: str, of: dict[str, Any]) -> tuple[str, ...]:
    counts = ("requests", "prompt_tokens", "cached_tokens", "completion_tokens")
    return (account, node, *(f"{of[name]:,}" for name in counts))


def _pulled(pull: dict[str, Any]) -> str:
    share = pull["verified_bytes"] / max(1, pull["total_bytes"])
    return f"{share:.0%} of {pull['total_bytes'] / 1024**2:,.0f} MiB {pull['error']}".rstrip()


def _usage(usage: dict[str, Any]) -> str:
    share = f"{usage['used_bytes'] / max(1, usage['quota_bytes']):.0%} of its disk space used"
    text = f"{usage['waiting']:,} records wait for the coordinator, {share}"
    for problem in ("full", "disk_failure", "delivery_failure"):
        if usage[problem]:
            text += f"; {problem.replace('_', ' ')}: {usage[problem]}"
    damaged = f"; {usage['damaged']} damaged, see its log" if usage["damaged"] else ""
    return text + damaged


def _status_rows(answer: dict[str, Any]) -> Iterator[tuple[str, str]]:
    link, engine = answer["link"], answer["engine"]
    ready = "ready" if answer["ready"] else "not ready: " + "; ".join(answer["missing"])
    linked = f"for {link['since_s']:.0f} s" if link["connected"] else f"down: {link['last_error']}"
    yield "node", f"{answer['node']} in {answer['pop']}, {ready}"
    yield "clients", f"{answer['client_url']}, {answer['in_flight']} in progress"
    yield "link", linked
    yield "certificate", _certificate(answer)
    yield (
        "engine",
        f"{engine['kind']}, {engine['state']}, {engine['restarts']} restarts"
        f", {engine['fill_ratio']:.0%} full",
    )
    service = answer["service"]
    yield "requests", service["all"]["said"]
    for name, of in service["deployments"].items():
        yield "deployment", f"{name}: {of['said']}"
    for basis, of in answer["predictions"].items():
        if of["seen"]:
            kept = f"{of['kept_ratio']:.1%} of {of['seen']:,} first tokens within their P99"
            yield "predictions", f"{basis}: {kept}"
    traces = answer["traces"]
    failing = f", not written: {traces['failure']}" if traces["failure"] else ""
    yield "traces", f"{traces['rows']} kept, {traces['dropped']} dropped{failing}"
    yield "usage", _usage(answer["usage"])
    if answer["draining"]:
        yield "draining", answer["draining_reason"]
    for gpu in answer["gpu"]["accelerators"]:
        busy = gpu["utilisation_ratio"]
        share = "" if busy is None else f", {busy:.0%} busy"
        yield "accelerator", f"{gpu['index']} {gpu['name']} {gpu['id']}{share}"
    for fault in answer["gpu"]["faults"]:
        yield "fault", f"{fault['severity']}: {fault['detail']}"
    for held in answer["replicas"]:
        yield "replica", f"{held['model']}: {held['state']} {held['error']}"
    for name, pull in answer["pulls"].items():
        yield "pull", f"{name}: {_pulled(pull)}"
    disk = answer["disk"]
    gib = f"{disk['used_bytes'] / 1024**3:.1f} of {disk['quota_bytes'] / 1024**3:.1f} GiB"
    yield "disk", " ".join((gib, "for models", disk["trouble"])).rstrip()
    for peer in answer["peers"]:
        reached = f"{peer['rtt_ms']:.1f} ms" if peer["reachable"] else "unreachable"
        yield "peer", f"{peer['node_id']}: {reached}"

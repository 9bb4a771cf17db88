"""``edgeforge model track`` and ``upstream``: releases of other hubs, and the tokens for them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Annotated

import typer

from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json
from protos.domain.errors import InvalidRequest
from protos.output.command_line import command_group
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import adoption_pb2

upstream_app = group("upstream", "The hub that hf:// names.")
_token_app = command_group("token", "Tokens for that hub, one for each owner.")
upstream_app.add_typer(_token_app)

_MAX_TOKEN_CHARS = 1_000
#: Asking the other hub for its commit.
_TRACK_TIMEOUT_S = 120.0
_HOUR_MS = 3_600_000

UpstreamArgument = Annotated[
    str, typer.Argument(metavar="UPSTREAM", help="hf://org/repo or hf://org/repo@REVISION.")
]


def add_to(models: typer.Typer) -> None:
    """Add the commands of the adoption clock to those of models."""
    models.command("track")(track)
    models.command("tracks")(list_tracks)
    models.command("untrack")(untrack)


def track(
    upstream: UpstreamArgument,
    name: Annotated[
        str, typer.Option("--as", metavar="OWNER/NAME", help="Default: the name it has there.")
    ] = "",
    account: Annotated[
        str, typer.Option(help="Account that owns the versions; default: the operators.")
    ] = "",
    json_output: JsonOption = False,
) -> None:
    """Adopt each release of another hub's repository: seen, imported, qualified, available.

    Each new commit of the revision becomes a version. It counts as available when a deployment
    serves it; 72 hours from the moment it was seen are the promise.

    Example: edgeforge model track hf://meta-llama/Llama-3.1-8B-Instruct --as meta/llama-8b
    """
    request = adoption_pb2.TrackUpstreamRequest(upstream=upstream, name=name, account_id=account)
    with admin() as client:
        made = client.adoption(lambda stub: stub.TrackUpstream, request, _TRACK_TIMEOUT_S)
    if json_output:
        print_json(_as_json(made))
        return
    commit = made.releases[0].commit[:12]
    print_line(f"{made.upstream} is tracked as {made.name}; its release {commit} is seen")
    print_line("next: edgeforge model tracks")


def list_tracks(json_output: JsonOption = False) -> None:
    """List what is tracked, and how far each release is against its 72 hours.

    Example: edgeforge model tracks
    """
    with admin() as client:
        request = adoption_pb2.ListTracksRequest()
        tracks = client.adoption(lambda stub: stub.ListTracks, request).tracks
    if json_output:
        print_json([_as_json(one) for one in tracks])
        return
    rows: list[tuple[object, ...]] = []
    for one in tracks:
        rows += [_cells(one, release) for release in one.releases]
        if one.error:
            rows.append((one.upstream, one.name, "-", "not asked", "-", "-", "-", one.error))
    print_table(
        ("upstream", "name", "release", "state", "hours", "promise", "tokens/s", "waits for"),
        rows,
        "nothing is tracked; edgeforge model track begins",
    )


def untrack(upstream: UpstreamArgument, json_output: JsonOption = False) -> None:
    """Track a repository no longer. What was imported stays.

    Example: edgeforge model untrack hf://meta-llama/Llama-3.1-8B-Instruct
    """
    request = adoption_pb2.UntrackUpstreamRequest(upstream=upstream)
    with admin() as client:
        client.adoption(lambda stub: stub.UntrackUpstream, request)
    if json_output:
        print_json({"untracked": upstream})
    else:
        print_line(f"{upstream} is not tracked any more")


@_token_app.command("set")
def set_token(
    owner: Annotated[str, typer.Option(metavar="OWNER", help="What imports are named after.")],
    json_output: JsonOption = False,
) -> None:
    """Keep the token that imports as OWNER/... use. It is read from standard input.

    Example: edgeforge upstream token set --owner acme < token.txt
    """
    token = sys.stdin.read(_MAX_TOKEN_CHARS).strip()
    if not token:
        raise InvalidRequest(
            "standard input holds no token", "edgeforge upstream token forget deletes one"
        )
    _send(owner, token)
    if json_output:
        print_json({"owner": owner, "token": "set"})
    else:
        print_line(f"the token of {owner} is set")


@_token_app.command("forget")
def forget_token(
    owner: Annotated[str, typer.Option(metavar="OWNER", help="What imports are named after.")],
    json_output: JsonOption = False,
) -> None:
    """Delete the token of OWNER.

    Example: edgeforge upstream token forget --owner acme
    """
    _send(owner, "")
    if json_output:
        print_json({"owner": owner, "token": "forgotten"})
    else:
        print_line(f"the token of {owner} is forgotten")


def _send(owner: str, token: str) -> None:
    request = adoption_pb2.SetUpstreamTokenRequest(owner=owner, token=token)
    with admin() as client:
        client.adoption(lambda stub: stub.SetUpstreamToken, request)


def _cells(
    one: adoption_pb2.UpstreamTrack, release: adoption_pb2.UpstreamRelease
) -> tuple[object, ...]:
    seen = datetime.fromtimestamp(release.seen_unix_ms / 1_000, UTC)
    took_ms = release.available_unix_ms - release.seen_unix_ms
    return (
        one.upstream,
        release.object or one.name,
        f"{release.commit[:12]} {seen:%Y-%m-%d %H:%M}",
        release.state,
        f"{took_ms / _HOUR_MS:.1f}" if release.available_unix_ms else "-",
        release.promise,
        f"{release.tokens_per_s:.1f}" if release.tokens_per_s else "-",
        release.error or "-",
    )


def _as_json(one: adoption_pb2.UpstreamTrack) -> dict[str, object]:
    """Return a track whose times are numbers, as the messages of gRPC's JSON are not."""
    content = as_json(one)
    for holder in (content, *_list(content.get("releases"))):
        for name, value in holder.items():
            if name.endswith("_unix_ms"):
                holder[name] = int(str(value))
    return content


def _list(value: object) -> list[dict[str, object]]:
    return value if isinstance(value, list) else []

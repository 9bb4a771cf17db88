"""``edgeforge price`` and ``table``: the price card, forced tables."""

from __future__ import annotations

import json
import sys
import tomllib
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json, enum_word
from coordinator.cli.price_cards import card_from_wire
from protos.domain.card_document import iso_utc, read_card, show_card, unix_ms_of
from protos.domain.errors import InvalidRequest
from protos.domain.price_card import PriceCard
from protos.domain.resources import ResourceType
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import admin_pb2, prices_pb2, resources_pb2
from protos.wire import price_to_wire, resource_type_to_wire, terms_to_wire

app = group("price", "The price card: what is charged, from when, and what was charged before.")
table_app = group("table", "The routing table that agents hold.")

#: A card of every size class takes a few kilobytes.
_MAX_FILE_BYTES = 1_048_576


@app.command("ls")
def list_prices(json_output: JsonOption = False) -> None:
    """List the price card, in nano-USD per token.

    Example: edgeforge price ls
    """
    with admin() as client:
        prices = client.call(lambda stub: stub.ListPrices, admin_pb2.ListPricesRequest()).prices
    if json_output:
        print_json([as_json(price) for price in prices])
        return
    print_table(
        ("size class", "tier", "prompt", "cached", "completion", "card"),
        (
            (
                price.size_class,
                enum_word(resources_pb2.Tier.Name(price.tier), "TIER_"),
                price.prompt_nano_usd_per_token,
                price.cached_nano_usd_per_token,
                price.completion_nano_usd_per_token,
                price.card_version,
            )
            for price in prices
        ),
        "the price card is empty",
    )


@app.command("show")
def show_price(
    version: Annotated[int, typer.Option(min=0, help="This version; else the one in force.")] = 0,
    at: Annotated[
        str, typer.Option(help="The one of this date: 2026-12-01, 2026-12-01T09:30:00Z.")
    ] = "",
    json_output: JsonOption = False,
) -> None:
    """Show a version of the price card with its terms.

    What --json prints can be edited and proposed.

    Example: edgeforge price show --json > card.json
    """
    if version and at:
        raise InvalidRequest("--version and --at name a card each", "leave one out")
    request = prices_pb2.ShowCardRequest(
        version=version, at_unix_ms=unix_ms_of(at, "at") if at else 0
    )
    with admin() as client:
        info = client.prices(lambda stub: stub.ShowCard, request)
    card = card_from_wire(info.card)
    if json_output:
        shown = show_card(card, in_force=info.in_force)
        if info.HasField("upcoming"):
            coming = info.upcoming.terms
            shown["upcoming"] = {
                "version": coming.version,
                "valid_from": iso_utc(coming.valid_from_unix_ms),
            }
        print_json(shown)
        return
    _print_card(card, "in force" if info.in_force else str(card.state))
    if info.HasField("upcoming"):
        coming = info.upcoming.terms
        print_line(f"version {coming.version} follows on {iso_utc(coming.valid_from_unix_ms)}")


@app.command("propose")
def propose_price(
    file: Annotated[str, typer.Argument(metavar="FILE", help="JSON or TOML; - reads JSON.")],
    valid_from: Annotated[
        str,
        typer.Option(help="When it is to take effect: 2026-12-01; else when it is published."),
    ] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check it and show the differences; keep nothing.")
    ] = False,
    json_output: JsonOption = False,
) -> None:
    """Check a price card, show how it differs from the one in force, and keep it as a draft.

    Every problem is named at once. FILE has the form of `price show --json`; the version is given
    by the coordinator. An admin publishes it.

    Example: edgeforge price propose card.json --valid-from 2026-12-01 --dry-run
    """
    draft = read_card(_read_file(file))
    valid_from_unix_ms = unix_ms_of(valid_from, "valid-from") if valid_from else 0
    terms = terms_to_wire(draft.terms)
    terms.valid_from_unix_ms = valid_from_unix_ms
    request = prices_pb2.ProposeCardRequest(
        lines=map(price_to_wire, draft.lines), terms=terms, dry_run=dry_run
    )
    with admin() as client:
        made = client.prices(lambda stub: stub.ProposeCard, request)
    version = made.card.terms.version
    if json_output:
        print_json(
            {
                "version": version,
                "kept": not dry_run,
                "valid_from": iso_utc(valid_from_unix_ms),
                "against": made.against,
                "changes": [_change_json(one) for one in made.changes],
            }
        )
        return
    print_table(
        ("what", "now", "then", "change"),
        (
            (
                one.what,
                one.before if one.HasField("before") else "-",
                one.after if one.HasField("after") else "-",
                one.percent,
            )
            for one in made.changes
        ),
        f"it is the same as version {made.against}, which is in force",
    )
    if dry_run:
        print_line("it may be published; without --dry-run it is kept as a draft")
        return
    when = f"on {iso_utc(valid_from_unix_ms)}" if valid_from_unix_ms else "when it is published"
    print_line(f"draft {version}, to take effect {when}")
    print_line(f"next, as an admin: edgeforge price publish {version}")


@app.command("publish")
def publish_price(
    version: Annotated[int, typer.Argument(min=1, help="A draft, as price history lists it.")],
    json_output: JsonOption = False,
) -> None:
    """Publish a draft: it takes effect on its date by itself, or at once if it has none.

    A published card is never changed. Requests that have begun keep the card they began under.

    Example: edgeforge price publish 2
    """
    request = prices_pb2.PublishCardRequest(version=version)
    with admin() as client:
        info = client.prices(lambda stub: stub.PublishCard, request)
    card = card_from_wire(info.card)
    if json_output:
        print_json(show_card(card, in_force=info.in_force))
        return
    when = "is in force" if info.in_force else f"takes effect on {iso_utc(card.valid_from_unix_ms)}"
    print_line(f"version {version} of the price card is published and {when}")


@app.command("history")
def price_history(json_output: JsonOption = False) -> None:
    """List every version of the price card, the newest first.

    Example: edgeforge price history
    """
    with admin() as client:
        found = client.prices(lambda stub: stub.ListCards, prices_pb2.ListCardsRequest()).cards
    cards = [(card_from_wire(info.card), info.in_force) for info in found]
    if json_output:
        print_json([show_card(card, in_force=in_force) for card, in_force in cards])
        return
    print_table(
        ("version", "state", "takes effect", "proposed by", "published by", "published"),
        (
            (
                card.version,
                "in force" if in_force else str(card.state),
                iso_utc(card.valid_from_unix_ms) or "when published",
                card.author,
                card.published_by,
                iso_utc(card.published_unix_ms),
            )
            for card, in_force in cards
        ),
        "there is no price card",
    )


def _print_card(card: PriceCard, state: str) -> None:
    since = iso_utc(card.valid_from_unix_ms)
    print_line(f"version {card.version}, {state}{f', from {since}' if since else ''}")
    print_table(
        ("size class", "tier", "prompt", "cached", "completion"),
        (
            (
                line.size_class,
                str(line.tier),
                line.prompt_nano_usd_per_token,
                line.cached_nano_usd_per_token,
                line.completion_nano_usd_per_token,
            )
            for line in card.lines
        ),
        "it has no line",
    )
    terms = card.terms
    print_line("nano-USD per token, which is a tenth of a cent for a million tokens")
    print_line(
        f"surcharges: realtime {terms.realtime_percent} %, interactive"
        f" {terms.interactive_percent} %, standard {terms.standard_percent} %, residency"
        f" {terms.residency_percent} %"
    )
    print_line(
        f"promise: {terms.promise_percent} % of streams in time; credit {terms.credit_percent} %"
    )


def _change_json(one: prices_pb2.CardChange) -> dict[str, object]:
    return {
        "what": one.what,
        "before": one.before if one.HasField("before") else None,
        "after": one.after if one.HasField("after") else None,
        "percent": one.percent,
    }


def _read_file(name: str) -> object:
    """Return the document in a file. Raises: InvalidRequest."""
    try:
        with sys.stdin.buffer if name == "-" else Path(name).open("rb") as stream:
            data = stream.read(_MAX_FILE_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"cannot read {name}: {error.strerror}") from error
    if len(data) > _MAX_FILE_BYTES:
        raise InvalidRequest(f"{name} is longer than {_MAX_FILE_BYTES} bytes, no price card is")
    try:
        text = data.decode()
        found: object = tomllib.loads(text) if name.endswith(".toml") else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(
            f"{name} is neither JSON nor TOML: {error}",
            "edgeforge price show --json prints a card in its form",
        ) from error
    return found


@table_app.command("force")
def force_table(
    kind: Annotated[str, typer.Argument(help="topology, deployments, prices or desired.")],
) -> None:
    """Send a table again, past the agents' shrink guard.

    Agents refuse a table that empties or halves at once; this confirms that it is intended.

    Example: edgeforge table force topology
    """
    try:
        wire_type = resource_type_to_wire(ResourceType(kind))
    except ValueError:
        known = ", ".join(one.value for one in ResourceType)
        raise InvalidRequest(f"{kind!r} is no table", f"use one of {known}") from None
    request = admin_pb2.ForceTableRequest(type=wire_type)
    with admin() as client:
        response = client.call(lambda stub: stub.ForceTable, request)
    print_line(f"sent to {response.agents} agents")

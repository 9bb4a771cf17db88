"""``edgeforge quote``: what a deployment's recent requests would have cost under other budgets."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.common import JsonOption, admin
from coordinator.cli.output import as_json
from coordinator.cli.quantities import duration_ms
from protos.domain.pricing import format_usd
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import prices_pb2

_TIMEOUT_S = 120.0


def quote(
    deployment: Annotated[
        str,
        typer.Option(help="What clients put into model.", autocompletion=completion.deployments),
    ],
    ttft: Annotated[
        str,
        typer.Option(help="Budgets of the first token: 80,150,300ms. Else some around its own."),
    ] = "",
    hours: Annotated[int, typer.Option(min=0, help="Only requests of these last hours.")] = 0,
    json_output: JsonOption = False,
) -> None:
    """Show what a million tokens and a typical request would have cost at other budgets.

    Recent requests are placed again among the candidates that they had, at the present price card.
    The share kept is what happened where the same target would have served, else an estimate from
    its prediction.

    Example: edgeforge quote --deployment acme/support --ttft 80,150,300ms
    """
    request = prices_pb2.QuoteRequest(
        deployment=deployment, budgets_ms=_budgets_ms(ttft), hours=hours
    )
    with admin() as client:
        found = client.prices(lambda stub: stub.Quote, request, _TIMEOUT_S)
    if json_output:
        print_json(_json(found))
        return
    print_table(
        ("budget", "million tokens", "typical request", "kept", "seen", "misses", "billed as"),
        (_row(line) for line in found.lines),
        "nothing to quote",
    )
    print_line(
        f"card {found.card_version}; {found.prompt_tokens} prompt tokens, of them"
        f" {found.cached_tokens} cached, and {found.completion_tokens} completion tokens"
    )
    for note in found.notes:
        print_line(f"note: {note}")


def _row(line: prices_pb2.QuoteLine) -> tuple[str, ...]:
    own = " (now)" if line.is_present else ""
    budget = f"{line.budget_ms:g} ms{own}"
    if not line.requests:
        refused = f"{line.refused} refused" if line.refused else "-"
        return (budget, "-", "-", "-", "-", refused, "-")
    misses = f"{line.predicted_misses} of {line.requests}"
    if line.refused:
        misses += f", {line.refused} refused"
    tiers = ", ".join(f"{tier} {count}" for tier, count in sorted(line.billed_by_tier.items()))
    kept = f"{line.kept_ratio:.1%} of {line.streams}" if line.streams else "no stream"
    return (
        budget,
        f"${format_usd(line.nano_usd_per_million_tokens)}",
        f"${format_usd(line.median_nano_usd)}",
        kept,
        f"{line.observed_ratio:.0%}" if line.streams else "-",
        misses,
        tiers,
    )


def _json(found: prices_pb2.QuoteResponse) -> dict[str, object]:
    """Return the answer; a share of no streams is null rather than 0."""
    shown = as_json(found)
    lines = []
    for line in found.lines:
        one = as_json(line)
        for name in ("requests", "streams", "predicted_misses", "refused"):
            one[name] = int(getattr(line, name))
        for name in ("total_nano_usd", "nano_usd_per_million_tokens", "median_nano_usd"):
            one[name] = int(getattr(line, name)) if line.requests else None
        for name in ("kept_ratio", "observed_ratio"):
            one[name] = getattr(line, name) if line.streams else None
        one["billed_by_tier"] = {tier: int(count) for tier, count in line.billed_by_tier.items()}
        lines.append(one)
    for name in ("prompt_tokens", "cached_tokens", "completion_tokens"):
        shown[name] = int(getattr(found, name))
    for name in ("from_unix_ms", "to_unix_ms"):
        shown[name] = int(getattr(found, name))
    return shown | {"lines": lines}


def _budgets_ms(text: str) -> list[int]:
    """Return the budgets of "80,150,300ms": a unit counts for those before it without one."""
    words = [one.strip() for one in text.split(",")] if text.strip() else []
    unit, found = "", []
    for word in reversed(words):
        if not word[-1:].isdigit():
            unit = word.lstrip("0123456789. ")
            found.append(duration_ms(word, "ttft"))
        else:
            found.append(duration_ms(word + unit, "ttft"))
    return found[::-1]

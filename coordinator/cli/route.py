"""``edgeforge route``: explanations of placement."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.cli import completion
from coordinator.cli.common import JsonOption, admin, group
from coordinator.cli.output import as_json, enum_word
from protos.output.terminal import print_json, print_line, print_table
from protos.v1 import admin_pb2, fleet_pb2, resources_pb2

app = group("route", "Where a request would go now, and why.")


@app.command("explain")
def explain(
    deployment: Annotated[
        str, typer.Option(help="What the client would call.", autocompletion=completion.deployments)
    ],
    via: Annotated[
        str,
        typer.Option(
            help="The POP or node that the client would reach.", autocompletion=completion.places
        ),
    ],
    budget_ms: Annotated[
        float, typer.Option(help="First-token budget; 0: the deployment's own.", min=0)
    ] = 0.0,
    prompt_tokens: Annotated[int, typer.Option(help="0: a short prompt.", min=0)] = 0,
    json_output: JsonOption = False,
) -> None:
    """Print every candidate with its terms, and why it won or lost.

    The agent answers from its present state.

    Example: edgeforge route explain --deployment chat --via GRU --budget-ms 150
    """
    request = admin_pb2.ExplainRouteRequest(
        deployment=deployment, via=via, budget_ms=budget_ms, prompt_tokens=prompt_tokens
    )
    with admin() as client:
        explanation = client.call(lambda stub: stub.ExplainRoute, request)
    if json_output:
        print_json(as_json(explanation))
    else:
        print_explanation(explanation)


def print_explanation(explanation: fleet_pb2.RouteExplanation) -> None:
    """Print an explanation for people."""
    print_line(
        f"{explanation.deployment} via {explanation.via_node}, "
        f"budget {explanation.budget_ms:.0f} ms: {explanation.summary}"
    )
    names = list(dict.fromkeys(term.name for one in explanation.candidates for term in one.terms))
    print_table(
        ("", "node", "pop", "tier", "zone", "P99 ms", *names, "nUSD/1k+1k", "why"),
        (_row(one, names) for one in explanation.candidates),
        "no node holds the model",
    )


def _row(candidate: fleet_pb2.CandidateExplanation, names: list[str]) -> tuple[object, ...]:
    terms = {term.name: term.value_ms for term in candidate.terms}
    predicted = bool(candidate.terms)
    return (
        "->" if candidate.chosen else "",
        candidate.node_id,
        candidate.pop_id,
        enum_word(resources_pb2.Tier.Name(candidate.tier), "TIER_"),
        candidate.zone,
        f"{candidate.ttft_ms_p99:.1f}" if predicted else "-",
        *(f"{terms[name]:.1f}" if name in terms else "-" for name in names),
        candidate.price_nano_usd_per_1k_tokens or "-",
        candidate.verdict,
    )

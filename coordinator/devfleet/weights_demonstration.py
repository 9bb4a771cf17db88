"""The demonstration of weights that were brought: an adapter beside the base, and a fine-tune.

Each is asked for twice: the first answer waits for its weights where they are in no engine yet, the
second finds them there. All values are real, whatever they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from coordinator.devfleet.brought_weights import BROUGHT_DEPLOYMENTS, BUDGET_MS, BroughtDeployment
from coordinator.devfleet.demonstration import ENGINES_REST_S, fetch_trace, picture
from coordinator.devfleet.streamed_answer import StreamedAnswer, stream_answer

if TYPE_CHECKING:
    from coordinator.cli.client import AdminClient
    from coordinator.devfleet.layout import FleetFacts
    from protos.domain.trace import Trace, TraceColdStart

Report = Callable[[str], None]
_MIB = 1024 * 1024
_WAYS = {
    "adapter": "loaded into the running engine",
    "swap": "put into the running engine in the place of the weights there",
    "engine": "an engine was started for it",
}


@dataclass(frozen=True, slots=True)
class WeightsOutcome:
    """Two requests of one deployment, and the trace of the first."""

    deployment: BroughtDeployment
    via: str
    answer: StreamedAnswer
    trace: Trace
    again: StreamedAnswer

    def as_json(self) -> dict[str, object]:
        """Return the object that ``edgeforge demo --json`` prints."""
        answer, cold = self.answer, self.trace.cold_start
        return {
            "deployment": self.deployment.name,
            "model": self.deployment.model,
            "adapter": self.deployment.adapter,
            "via": self.via,
            "budget_ms": BUDGET_MS,
            "tier": answer.tier,
            "node": answer.node,
            "billing_tier": self.trace.billing_tier,
            "predicted_miss": answer.predicted_miss,
            "predicted_ttft_ms_p99": self.trace.predicted_ttft_ms_p99,
            "ttft_ms": answer.first_token_ms,
            "cold_start": asdict(cold) if cold is not None else None,
            "again_ttft_ms": self.again.first_token_ms,
            "again_node": self.again.node,
            "cost_nano_usd": answer.cost_nano_usd,
            "trace_id": answer.trace_id,
        }


def demonstrate_weights(
    client: AdminClient, facts: FleetFacts, api_key: str, report: Report
) -> list[WeightsOutcome]:
    """Ask each deployment twice and explain. Raises: EdgeForgeError when one is not answered."""
    agent = next((one for one in facts.agents if one.pop == "GRU"), facts.agents[0])
    report(
        "\nWeights of your own, brought by the commands above: no engine holds them until asked."
    )
    outcomes = []
    for deployment in BROUGHT_DEPLOYMENTS:
        time.sleep(ENGINES_REST_S)
        answer = stream_answer(agent.client_port, api_key, deployment.name)
        trace = fetch_trace(client, answer.trace_id, agent.pop)
        time.sleep(ENGINES_REST_S)
        again = stream_answer(agent.client_port, api_key, deployment.name)
        outcome = WeightsOutcome(deployment, agent.pop, answer, trace, again)
        outcomes.append(outcome)
        report(f"\n{describe_weights(outcome)}")
    return outcomes


def describe_weights(outcome: WeightsOutcome) -> str:
    """Return the text of one deployment's two requests."""
    deployment, answer, again = outcome.deployment, outcome.answer, outcome.again
    elsewhere = f" from {again.node}" if again.node != answer.node else ""
    return "\n".join(
        [
            f"{deployment.name}, {deployment.what} of the base, through {outcome.via}"
            f" with {BUDGET_MS:,} ms: served by {answer.node} ({answer.tier})",
            f"   {describe_cold_start(outcome.trace.cold_start)}",
            f"   first token: P99 predicted {outcome.trace.predicted_ttft_ms_p99:.0f} ms,"
            f" came after {answer.first_token_ms:.0f} ms;"
            f" asked again after {again.first_token_ms:.0f} ms{elsewhere}",
            f"   {answer.text!r}",
            picture(outcome.trace),
            f"   edgeforge trace show {answer.trace_id}",
        ]
    )


def describe_cold_start(cold: TraceColdStart | None) -> str:
    """Return a line on how weights came into an engine, and what it took."""
    if cold is None:
        return "no cold start: it was in the engine"
    where = cold.residency.replace("_", " ")
    pulled = f", {cold.pull_ms:.0f} ms of it to get them to its disk" if cold.pull_ms else ""
    return (
        f"cold start: {cold.weights_bytes / _MIB:.1f} MiB from {where} in {cold.took_ms:.0f} ms"
        f"{pulled}; {_WAYS.get(cold.path, cold.path)}"
    )

"""How to reach the local fleet: as JSON, and as commands to paste."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from coordinator.devfleet.processes import running_pid
from coordinator.devfleet.registry import ACCOUNT

if TYPE_CHECKING:
    from coordinator.devfleet.layout import FleetFacts, FleetLayout


@dataclass(frozen=True, slots=True)
class FleetDescription:
    """A running fleet."""

    layout: FleetLayout
    facts: FleetFacts
    api_key: str = field(repr=False)
    #: Whether this call started it; False for a fleet of which some process ran before.
    is_new: bool

    def state(self) -> str:
        """Return which processes run, one a line, as text."""
        pids = [(name, running_pid(self.layout, name)) for name in self.facts.processes]
        return "\n".join(f"{name}: {f'pid {pid}' if pid else 'not running'}" for name, pid in pids)

    def as_json(self) -> dict[str, object]:
        """Return the object that ``edgeforge up --json`` prints."""
        facts = self.facts
        return {
            "api_key": self.api_key,
            "coordinator": {
                "grpc": f"127.0.0.1:{facts.admin_port}",
                "http": f"http://127.0.0.1:{facts.http_port}",
                "pid": running_pid(self.layout, "coordinator"),
            },
            "agents": [
                {
                    "node": agent.node,
                    "pop": agent.pop,
                    "tier": agent.tier,
                    "url": agent.url,
                    "admin": str(self.layout.admin_socket(agent.node)),
                    "pid": running_pid(self.layout, agent.node),
                }
                for agent in facts.agents
            ],
            "deployments": [
                {"name": deployment.name, "ttft_budget_ms": deployment.ttft_budget_ms}
                for deployment in facts.deployments
            ],
        }

    def how_to_talk(self) -> str:
        """Return instructions that can be pasted."""
        nearest = next((one for one in self.facts.agents if one.pop == "GRU"), None)
        url = (nearest or self.facts.agents[0]).url
        model = self.facts.deployments[0].name if self.facts.deployments else "MODEL"
        api = f"http://127.0.0.1:{self.facts.api_port}"
        sign_up = (
            f"""
As a customer (docs/CUSTOMERS.md), at {api}; an account of one's own spends what it has:

  curl {api}/v1/sign-up -H "Content-Type: application/json" \\
    -d '{{"account": "initech", "email": "me@example.org"}}'
  edgeforge credit grant initech --usd 5 --reason trial
"""
            if self.facts.api_port
            else ""
        )
        where = ", ".join(f"{agent.pop} {agent.url}" for agent in self.facts.agents)
        return f"""
The fleet runs: {where}

  curl {url}/v1/chat/completions \\
    -H "Authorization: Bearer {self.api_key}" -H "Content-Type: application/json" \\
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Hello"}}]}}'

  from openai import OpenAI
  client = OpenAI(base_url="{url}/v1", api_key="{self.api_key}")
  for event in client.chat.completions.create(
      model="{model}", stream=True,
      messages=[{{"role": "user", "content": "What is the capital of France?"}}],
  ):
      print(event.choices[0].delta.content or "", end="")
{sign_up}
Why a request goes where it goes:  edgeforge route explain --deployment {model} --via GRU
What requests cost:                http://127.0.0.1:{self.facts.http_port}/pricing
What other budgets would cost:     edgeforge quote --deployment {model}
What was used, and the bill:       edgeforge usage; edgeforge invoice preview --account {ACCOUNT}
Everything in the fleet:           edgeforge node ls
Stop it:                           edgeforge down
"""

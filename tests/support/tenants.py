"""Customers that keep many streams open through one agent, and what each of them got."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.support.waiting import wait_until

if TYPE_CHECKING:
    from tests.support.fleet import AgentClient, Fleet

_TOKEN = b'"content"'


@dataclass
class Tenant:
    """One account with a deployment of its own, and what its streams saw."""

    api_key: str
    deployment: str
    #: When each token came, and each stream's time to its first; seconds of the monotonic clock.
    tokens_s: list[float] = field(default_factory=list)
    first_tokens_s: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)

    async def keep_streaming(self, url: str, streams: int, *, tokens: int) -> None:
        """Keep ``streams`` streams of ``tokens`` open at ``url`` until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(streams):
                group.create_task(self._repeat(url, tokens))

    async def stream(self, url: str, *, tokens: int) -> int:
        """Read one whole stream; return its status."""
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            began_s = time.monotonic()
            writer.write(self._request(tokens))
            status = int((await reader.readline()).split()[1])
            seen = 0
            while line := await reader.readline():
                if line.startswith(b"data: ") and _TOKEN in line:
                    now_s = time.monotonic()
                    self.tokens_s.append(now_s)
                    if not seen:
                        self.first_tokens_s.append(now_s - began_s)
                    seen += 1
            self.statuses[status] += 1
            return status
        finally:
            writer.close()

    def tokens_between(self, since_s: float, until_s: float) -> int:
        """Return how many tokens came in that time."""
        return sum(since_s <= each < until_s for each in self.tokens_s)

    async def _repeat(self, url: str, tokens: int) -> None:
        while await self.stream(url, tokens=tokens) == 200:
            pass

    def _request(self, tokens: int) -> bytes:
        messages = [{"role": "user", "content": "hello"}]
        body = json.dumps(
            {
                "model": self.deployment,
                "messages": messages,
                "stream": True,
                "max_tokens": tokens,
            }
        ).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
            f"authorization: Bearer {self.api_key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body


def own_tenant(fleet: Fleet) -> Tenant:
    """Return the account that the fleet was made with."""
    return Tenant(str(fleet.facts["api_key"]), fleet.model)


def add_tenant(fleet: Fleet, account: str, *options: str) -> Tenant:
    """Return a new account, whose deployment ``account-chat`` every agent serves."""
    listed = json.loads(fleet.edgeforge("deployment", "ls", "--json"))
    (model,) = {one["deployment"]["model"] for one in listed}
    fleet.edgeforge("account", "create", account)
    made = json.loads(fleet.edgeforge("key", "create", "--account", account, "--json"))
    name = f"{account}-chat"
    fleet.edgeforge("deployment", "create", name, "--model", model, "--account", account, *options)
    for agent in fleet.agents():
        wait_until(lambda agent=agent: _answers(agent, made["api_key"], name), 30, "its answer")
    return Tenant(made["api_key"], name)


def _answers(agent: AgentClient, api_key: str, name: str) -> bool:
    headers = {"authorization": f"Bearer {api_key}"}
    body = {"model": name, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    return agent.send(body, headers=headers).status == 200

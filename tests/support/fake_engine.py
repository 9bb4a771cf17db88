"""A fake engine with the wire format of vLLM 0.32, controlled by tests; records its requests.

Run it as a process (tests usually go through ``tests.support.fake_engine_process``)::

    python -m tests.support.fake_engine --uds PATH --model NAME
    python -m tests.support.fake_engine --port 0   --model NAME     # 127.0.0.1

When it listens it prints one line, ``{"ready": true, "port": N, "uds": PATH, "pid": N}``.
Options of vLLM that it does not know are ignored and ``--served-model-name`` is understood, so it
can stand in for ``python -m vllm.entrypoints.openai.api_server``.

Served as vLLM does, byte for byte in the SSE events: ``/v1/chat/completions``, ``/v1/completions``
(streaming or not, usage, continuous usage, vLLM's own 400s and 404s), ``/v1/responses``,
``/v1/messages`` and its ``count_tokens``; with ``--runner pooling`` none of these but
``/v1/embeddings``; ``/v1/models``, ``/health``, ``/version``, ``/metrics``.
The routes for adapters and weights (``fake_engine_weights``) and ``/pause`` answer *and are
recorded*, so that a test can prove that no request reached them.

An answer is 8 tokens without delay: ``t0 t1 t2 ...``, whatever the prompt; ``max_tokens`` cuts it.
A prompt that ends with the beginning of that answer (a completion's text, a chat's final message
that is to be continued) gets the rest of it.

``POST /control`` with JSON sets fields of ``Behaviour`` (others go back to their defaults; ``{}``
resets all). ``GET /control/requests`` returns ``{"running": n, "requests": [...]}``, each with
``method, path, headers`` (lower-case names), ``body`` (parsed, or text), ``state`` (``running``,
``finished``, ``aborted``: the client left, ``failed``: on purpose) and ``tokens_sent``.
``DELETE /control/requests`` forgets them. Requests to ``/control`` are not recorded.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import os
import signal
import sys
from typing import Any

from aiohttp import web

from tests.support.fake_engine_formats import (
    COUNT_TOKENS,
    MESSAGES,
    RESPONSES,
    MessagesWire,
    ResponsesWire,
    embeddings,
)
from tests.support.fake_engine_tool_calls import ToolCall, answer_with, due_call
from tests.support.fake_engine_weights import LOAD, RESET, RPC, UNLOAD, FakeWeights
from tests.support.fake_engine_wire import (
    ENGINE_DIED,
    Wire,
    error,
    head,
    refusal,
    reply,
    tokens_said,
)

MAX_BODY_BYTES = 64 * 1024 * 1024
#: As uvicorn has it under vLLM; over it, connections take seconds.
BACKLOG = 2_048
#: What ends it politely.
STOP_SIGNAL = signal.SIGTERM


@dataclasses.dataclass
class Behaviour:
    """How the next generation requests are answered; counts are in tokens already sent."""

    tokens: int = 8
    #: Fixed, so that tests can do sums.
    prompt_tokens: int = 7
    #: Claim so many tokens of completion more than were generated.
    claimed_tokens: int = 0
    #: Before the response head; vLLM sends it at once.
    head_delay_ms: float = 0
    first_token_delay_ms: float = 0
    token_delay_ms: float = 0
    #: ``os._exit`` after this many tokens; 0 is before the response head.
    die_after_tokens: int | None = None
    #: Close the connection without the end of the chunked body; 0 is before the response head.
    cut_after_tokens: int | None = None
    #: vLLM's own error event, then [DONE] and a clean end; 0 is a 500 before the stream.
    engine_error_after_tokens: int | None = None
    #: An SSE event that is no JSON, and then the rest as if nothing had happened.
    malformed_after_tokens: int | None = None
    #: Answer with this status and an OpenAI error body.
    error_status: int | None = None
    #: Read the request and never answer.
    hang: bool = False
    #: Never answer while the counters show that a prompt is taken in, step by step.
    prefill_without_end: bool = False
    #: Before an adapter is loaded or unloaded, or weights are read.
    weights_delay_ms: float = 0
    #: Never answer ``/v1/models``.
    hang_models: bool = False
    #: Stop sending after this many tokens, and keep the connection open.
    stall_after_tokens: int | None = None
    #: Pause after this many tokens until ``/control`` is used again.
    hold_after_tokens: int | None = None
    #: A response head with so many bytes too much.
    long_head_bytes: int = 0
    #: A body, or the one event of a stream, that never ends.
    endless: bool = False
    #: Write every event in two pieces.
    split_events: bool = False
    #: False: an OpenAI-compatible server that knows ``include_usage`` only.
    continuous_usage: bool = True
    #: ``{"name": ..., "arguments": {...}}``: call this tool of the client's, once a conversation.
    tool_call: dict[str, Any] | None = None
    #: Back to the defaults after so many generation requests; None is never.
    remaining: int | None = None


#: Until ``/control`` says otherwise.
FIRST_BEHAVIOUR = Behaviour()


@dataclasses.dataclass
class Record:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any
    state: str = "running"
    tokens_sent: int = 0


class FakeEngine:
    """The engine's state and its handlers."""

    def __init__(
        self,
        model: str,
        *,
        embeds: bool = False,
        context_tokens: int = 2_048,
        folder: str = "",
    ) -> None:
        self.model = model
        self.weights = FakeWeights(model, folder or model)
        self.context_tokens = context_tokens
        self.embeds = embeds
        self.behaviour = FIRST_BEHAVIOUR
        self.records: list[Record] = []
        self._count = 0
        self._steps = 0
        self._counters = ""
        self._controlled = asyncio.Event()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=MAX_BODY_BYTES)
        app.router.add_post("/control", self.set_behaviour)
        app.router.add_get("/control/requests", self.list_records)
        app.router.add_delete("/control/requests", self.forget_records)
        chat = "/v1/chat/completions"
        generating = (chat, "/v1/completions", RESPONSES, MESSAGES, COUNT_TOKENS)
        for path in ("/v1/embeddings",) if self.embeds else generating:
            app.router.add_post(path, self.generate)
        for path in (RPC, RESET, LOAD, UNLOAD, "/pause"):
            app.router.add_route("*", path, self.forbidden_room)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/health", self.empty)
        app.router.add_get("/version", self.version)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_route("*", "/{rest:.*}", self.unknown)
        return app

    # Control

    async def set_behaviour(self, request: web.Request) -> web.Response:
        try:
            self.behaviour = Behaviour(**await request.json())
        except TypeError as error:
            return web.json_response({"error": str(error)}, status=400)
        self._controlled.set()
        self._controlled = asyncio.Event()
        return web.json_response(dataclasses.asdict(self.behaviour))

    async def list_records(self, _request: web.Request) -> web.Response:
        running = sum(record.state == "running" for record in self.records)
        records = [dataclasses.asdict(record) for record in self.records]
        return web.json_response({"running": running, "requests": records})

    async def forget_records(self, _request: web.Request) -> web.Response:
        self.records.clear()
        return web.json_response({})

    # What vLLM answers beside generation

    async def record(self, request: web.Request, state: str = "finished") -> Record:
        raw = await request.read()
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = raw.decode("utf-8", "replace")
        headers = {name.lower(): value for name, value in request.headers.items()}
        record = Record(request.method, request.path_qs, headers, body, state)
        self.records.append(record)
        return record

    async def forbidden_room(self, request: web.Request) -> web.Response:
        running = sum(record.state == "running" for record in self.records)
        record = await self.record(request)
        await asyncio.sleep(self.behaviour.weights_delay_ms / 1000)
        answer = self.weights.handle(request.path, record.body, running=running)
        return answer or web.json_response({"reached": request.path})

    async def models(self, request: web.Request) -> web.Response:
        await self.record(request)
        if self.behaviour.hang_models:
            await asyncio.Event().wait()
        model = {
            "id": self.model,
            "object": "model",
            "created": 1,
            "owned_by": "vllm",
            "root": "/models/fake",
            "parent": None,
            "max_model_len": self.context_tokens,
        }
        return reply({"object": "list", "data": [model]})

    async def empty(self, request: web.Request) -> web.Response:
        await self.record(request)
        return web.Response(headers=head())

    async def version(self, request: web.Request) -> web.Response:
        await self.record(request)
        return reply({"version": "0.32.0"})

    async def metrics(self, request: web.Request) -> web.Response:
        await self.record(request)
        if not self.behaviour.hang:  # a scheduler that hangs reports nothing more
            self._steps += self.behaviour.prefill_without_end
            running = sum(record.state == "running" for record in self.records)
            tokens = sum(record.tokens_sent for record in self.records)
            label = f'{{engine="0",model_name="{self.model}"}}'
            self._counters = (
                f"vllm:num_requests_running{label} {float(running)}\n"
                f"vllm:kv_cache_usage_perc{label} {self._steps / 1_000}\n"
                f"vllm:generation_tokens_total{label} {float(tokens)}\n"
            )
        return web.Response(text=self._counters)

    async def unknown(self, request: web.Request) -> web.Response:
        await self.record(request)
        return reply({"detail": "Not Found"}, 404)

    # Generation

    async def generate(self, request: web.Request) -> web.StreamResponse:
        record = await self.record(request, "running")
        behaviour = self.take_behaviour()
        try:
            answer = await self.answer(request, record, behaviour)
        except (asyncio.CancelledError, ConnectionResetError):
            record.state = "aborted"
            raise
        if record.state == "running":
            record.state = "finished"
        return answer

    def take_behaviour(self) -> Behaviour:
        behaviour = self.behaviour
        if behaviour.remaining is not None:
            left = behaviour.remaining - 1
            self.behaviour = (
                dataclasses.replace(behaviour, remaining=left) if left > 0 else Behaviour()
            )
        return behaviour

    async def answer(
        self, request: web.Request, record: Record, behaviour: Behaviour
    ) -> web.StreamResponse:
        asked = record.body.get("model") if isinstance(record.body, dict) else None
        known = str(asked) if self.weights.knows(asked) else self.model
        if (refused := refusal(record.body, known)) is not None:
            return refused
        if "return_token_ids" in record.body and isinstance(record.body.get("prompt"), list):
            return reply(self.weights.says(record.body))
        if behaviour.hang or behaviour.prefill_without_end:
            await asyncio.Event().wait()
        await asyncio.sleep(behaviour.head_delay_ms / 1000)
        if behaviour.error_status is not None:
            record.state = "failed"
            return error(behaviour.error_status, "asked to fail", "InternalServerError")
        if behaviour.long_head_bytes:
            long = {"x-long": "x" * behaviour.long_head_bytes}
            return web.Response(body=b"{}", headers=head() | long)
        if behaviour.endless:
            return await self.endless(request, streams=bool(record.body.get("stream")))
        if behaviour.die_after_tokens == 0:
            os._exit(137)
        if behaviour.cut_after_tokens == 0:
            record.state = "failed"
            cut(request)
            return web.Response()
        if behaviour.engine_error_after_tokens == 0:
            record.state = "failed"
            return error(500, ENGINE_DIED, "InternalServerError")
        if request.path == COUNT_TOKENS:
            tokens = behaviour.prompt_tokens
            managed = {"original_input_tokens": tokens}
            return reply({"input_tokens": tokens, "context_management": managed})
        self._count += 1
        limits = ("max_tokens", "max_completion_tokens", "max_output_tokens")
        wanted = next((record.body[name] for name in limits if record.body.get(name)), None)
        chat = request.path.endswith("chat/completions")
        said = tokens_said(record.body, chat=chat)
        left = max(1, behaviour.tokens - said)
        count = min(left, wanted or left)
        finish = "length" if wanted is not None and wanted <= left else "stop"
        identity = request.headers.get("x-request-id", f"{self._count:016x}")
        if (call := due_call(record.body, behaviour.tool_call, identity)) is not None:
            return await self.call_tool(request, record, behaviour, identity, call)
        if request.path in (RESPONSES, MESSAGES):
            return await self.named(request, record, behaviour, identity, count, finish)
        if self.embeds:
            await asyncio.sleep(behaviour.first_token_delay_ms / 1000)
            return reply(embeddings(self.model, record.body, behaviour.prompt_tokens))
        name = f"{'chatcmpl' if chat else 'cmpl'}-{identity}"
        told = behaviour.prompt_tokens + said
        wire = Wire(known, chat, name, told, said, behaviour.claimed_tokens)
        if record.body.get("stream"):
            return await self.stream(request, record, behaviour, wire, count, finish)
        await asyncio.sleep(behaviour.first_token_delay_ms / 1000)
        for index in range(count):
            if behaviour.die_after_tokens == index:
                os._exit(137)
            await asyncio.sleep(behaviour.token_delay_ms / 1000)
            record.tokens_sent += 1
        return reply(wire.whole(count, finish))

    async def stream(
        self,
        request: web.Request,
        record: Record,
        behaviour: Behaviour,
        wire: Wire,
        count: int,
        finish: str,
    ) -> web.StreamResponse:
        options = record.body.get("stream_options") or {}
        usage = bool(options.get("include_usage"))
        continuous = bool(
            usage and options.get("continuous_usage_stats") and behaviour.continuous_usage
        )
        response = web.StreamResponse(headers=head("text/event-stream; charset=utf-8"))
        response.enable_chunked_encoding()
        await response.prepare(request)
        await asyncio.sleep(behaviour.first_token_delay_ms / 1000)
        if wire.chat:
            await self.send(response, behaviour, wire.role(continuous))
        for index in range(count):
            if await self.misbehave(request, response, record, behaviour, index):
                return response
            last = index == count - 1
            event = wire.token(index, finish if last else None, continuous, last and not usage)
            await self.send(response, behaviour, event)
            record.tokens_sent = index + 1
            await asyncio.sleep(behaviour.token_delay_ms / 1000)
        if await self.misbehave(request, response, record, behaviour, count):
            return response
        if usage:
            await self.send(response, behaviour, wire.usage(count))
        await self.send(response, behaviour, b"data: [DONE]\n\n")
        await response.write_eof()
        return response

    async def named(
        self,
        request: web.Request,
        record: Record,
        behaviour: Behaviour,
        identity: str,
        count: int,
        finish: str,
    ) -> web.StreamResponse:
        """Answer in a format whose events have names."""
        kind = MessagesWire if request.path == MESSAGES else ResponsesWire
        wire = kind(self.model, identity, behaviour.prompt_tokens, behaviour.claimed_tokens)
        if not record.body.get("stream"):
            await asyncio.sleep(behaviour.first_token_delay_ms / 1000)
            for index in range(count):
                if behaviour.die_after_tokens == index:
                    os._exit(137)
                await asyncio.sleep(behaviour.token_delay_ms / 1000)
                record.tokens_sent += 1
            return reply(wire.whole(count, finish))
        response = web.StreamResponse(headers=head("text/event-stream; charset=utf-8"))
        response.enable_chunked_encoding()
        await response.prepare(request)
        await asyncio.sleep(behaviour.first_token_delay_ms / 1000)
        for event in wire.opening():
            await self.send(response, behaviour, event)
        for index in range(count):
            if await self.misbehave(request, response, record, behaviour, index, wire.failure()):
                return response
            await self.send(response, behaviour, wire.token(index))
            record.tokens_sent = index + 1
            await asyncio.sleep(behaviour.token_delay_ms / 1000)
        if await self.misbehave(request, response, record, behaviour, count, wire.failure()):
            return response
        for event in wire.closing(count, finish):
            await self.send(response, behaviour, event)
        await response.write_eof()
        return response

    async def call_tool(
        self,
        request: web.Request,
        record: Record,
        behaviour: Behaviour,
        identity: str,
        call: ToolCall,
    ) -> web.StreamResponse:
        """Answer with a call of one of the client's tools."""
        usage = bool((record.body.get("stream_options") or {}).get("include_usage"))
        tokens = behaviour.prompt_tokens
        events, whole = answer_with(request.path, self.model, identity, tokens, call, usage=usage)
        record.tokens_sent = len(call.pieces())
        if not record.body.get("stream"):
            return reply(whole)
        response = web.StreamResponse(headers=head("text/event-stream; charset=utf-8"))
        response.enable_chunked_encoding()
        await response.prepare(request)
        for event in events:
            await self.send(response, behaviour, event)
        await response.write_eof()
        return response

    async def endless(self, request: web.Request, *, streams: bool) -> web.StreamResponse:
        """Write until the client disconnects."""
        kind = "text/event-stream; charset=utf-8" if streams else "application/json"
        response = web.StreamResponse(headers=head(kind))
        response.enable_chunked_encoding()
        await response.prepare(request)
        await response.write(b"data: {" if streams else b"{")
        while True:
            await response.write(b" " * 65_536)

    async def send(self, response: web.StreamResponse, behaviour: Behaviour, event: bytes) -> None:
        if not behaviour.split_events:
            await response.write(event)
            return
        middle = len(event) // 2
        await response.write(event[:middle])
        await asyncio.sleep(0.001)
        await response.write(event[middle:])

    async def misbehave(
        self,
        request: web.Request,
        response: web.StreamResponse,
        record: Record,
        behaviour: Behaviour,
        sent: int,
        failure: bytes | None = None,
    ) -> bool:
        """Do what was asked for after ``sent`` tokens; true if the stream is over."""
        if behaviour.die_after_tokens == sent:
            os._exit(137)
        if behaviour.cut_after_tokens == sent:
            record.state = "failed"
            cut(request)
            return True
        if behaviour.stall_after_tokens == sent:
            await asyncio.Event().wait()
        if behaviour.hold_after_tokens == sent:
            await self._controlled.wait()
        if behaviour.malformed_after_tokens == sent:
            await response.write(b'data: {"id": "cut off here\n\n')
        if behaviour.engine_error_after_tokens == sent:
            record.state = "failed"
            if failure is not None:
                await response.write(failure)
                await response.write_eof()
                return True
            body = {
                "message": ENGINE_DIED,
                "type": "InternalServerError",
                "param": None,
                "code": 500,
            }
            # With spaces, unlike every other event: so it is in vLLM.
            await response.write(f"data: {json.dumps({'error': body})}\n\n".encode())
            await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
            return True
        return False


def cut(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


async def serve(engine: FakeEngine, uds: str | None, port: int | None) -> None:
    # Without this a handler does not notice that its client has left.
    runner = web.AppRunner(engine.application(), handler_cancellation=True, access_log=None)
    await runner.setup()
    if uds is not None:
        await web.UnixSite(runner, uds, backlog=BACKLOG).start()
    else:
        await web.TCPSite(runner, "127.0.0.1", port, backlog=BACKLOG).start()
    if uds is None:
        port = runner.addresses[0][1]
    line = {"ready": True, "port": port, "uds": uds, "pid": os.getpid()}
    print(json.dumps(line), flush=True)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(STOP_SIGNAL, stop.set)
    await stop.wait()
    await runner.cleanup()


def main(argv: list[str]) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--uds")
    parser.add_argument("--port", type=int)
    parser.add_argument("--model", required=True)
    parser.add_argument("--served-model-name")
    parser.add_argument("--runner")
    parser.add_argument("--max-model-len", type=int, default=2_048)
    options, _vllm_only = parser.parse_known_args(argv)
    name = options.served_model_name or options.model
    embeds = options.runner == "pooling"
    context_tokens = options.max_model_len
    engine = FakeEngine(name, embeds=embeds, context_tokens=context_tokens, folder=options.model)
    asyncio.run(serve(engine, options.uds, options.port))


if __name__ == "__main__":
    main(sys.argv[1:])

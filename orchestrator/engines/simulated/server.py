"""The simulated engine's process: an OpenAI-compatible streaming server whose token times come from a model.

Standard library only and run isolated (``python -I -S``), so that it is up in a fraction of a second and
dozens of it fit on a laptop. Everything it says of itself says that it is simulated.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from orchestrator.engines.simulated.answers import (
    Answer,
    answer,
    prompt_blocks,
    prompt_of,
    prompt_tokens,
    thinking_budget,
)
from orchestrator.engines.simulated.batching import Batch, Stream
from orchestrator.engines.simulated.latency import drifted, start_s
from orchestrator.engines.simulated.settings import Place, Settings, parse
from orchestrator.engines.simulated.sleep import Sleep

TICK_S = 0.01  # a fast clock's steps are delivered together, this often on the wall's
LATE_MAX_S = 0.1  # behind by more, its clock runs slower instead of catching up
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found"}
REASONS |= {500: "Internal Server Error", 503: "Service Unavailable"}


class Refused(Exception):
    """A request that gets an error instead of an answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(slots=True, eq=False)
class Call:
    """One chat completion on its way. ``writer`` is None unless it streams."""

    request_id: str
    stream: Stream
    answer: Answer
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter | None
    usage: bool
    continuous: bool
    sent: int = 0
    over: asyncio.Event = field(default_factory=asyncio.Event)


class Engine:
    """The batch, its clock, and the calls that wait for its tokens."""

    def __init__(self, settings: Settings, place: Place) -> None:
        self.settings = settings
        self.place = place
        self.batch = Batch(settings, place.tensor_parallel_size)
        self.sleep = Sleep(settings, self.batch)
        self.received = 0
        self._calls: dict[int, Call] = {}
        self._work = asyncio.Event()

    async def run(self) -> None:
        """Steps forever. A step's tokens leave when it ends by the clock; steps shorter than a tick of the
        wall's clock are delivered together."""
        speed = self.settings.speed
        ends_s = time.perf_counter()  # of the last step, on the wall's clock
        while True:
            if self.batch.idle:
                self._work.clear()
                await self._work.wait()
                ends_s = time.perf_counter()
            now_s = time.perf_counter()
            ends_s = max(ends_s, now_s - LATE_MAX_S)
            until_s = now_s + (TICK_S if speed > 1 else 0.0)
            advanced: dict[int, Stream] = {}
            while True:
                step = self.batch.step()
                ends_s += drifted(self.settings, step.duration_s, ends_s) / speed
                advanced.update((id(stream), stream) for stream in step.produced)
                if ends_s >= until_s or self.batch.idle:
                    break
            await asyncio.sleep(max(0.0, ends_s - time.perf_counter()))
            for stream in advanced.values():
                self._deliver(self._calls[id(stream)])
            self._drop_lost()

    async def complete(self, call: Call) -> None:
        """Returns when the call has all its tokens, or its client has gone."""
        self._calls[id(call.stream)] = call
        self.batch.submit(call.stream)
        self._work.set()
        await call.over.wait()

    def count_request(self) -> None:
        """Another request has come; the fault that is due with it happens now."""
        self.received += 1
        settings, number = self.settings, self.received
        if number == settings.crash_after_requests:
            _end("RuntimeError: crash, as crash-after-requests asks", 1)
        if number == settings.oom_after_requests:
            _end("OutOfMemoryError: simulated, as oom-after-requests asks", 1)
        if number == settings.hang_after_requests:
            print("hangs, as hang-after-requests asks", flush=True)
            signal.pause()

    def _deliver(self, call: Call) -> None:
        stream, words = call.stream, call.answer
        if call.writer is not None and not call.writer.is_closing():
            border = min(max(words.reasoning, call.sent), stream.generated)
            for start, end, name in (
                (call.sent, border, "reasoning_content"),
                (border, stream.generated, "content"),
            ):
                if end > start:
                    last = end == stream.length
                    reason = ("length" if words.truncated else "stop") if last else None
                    _event(call, {name: words.text(start, end)}, end, reason)
        call.sent = stream.generated
        if stream.generated == stream.length:
            self._forget(call)

    def _drop_lost(self) -> None:
        for call in list(self._calls.values()):
            if call.reader.at_eof() or (call.writer is not None and call.writer.is_closing()):
                self.batch.cancel(call.stream)
                self._forget(call)

    def _forget(self, call: Call) -> None:
        del self._calls[id(call.stream)]
        call.over.set()

    def metrics(self) -> str:
        batch, name, speed = self.batch, self.place.served_model_name, self.settings.speed
        values = {
            "kv_cache_usage_perc": batch.usage,
            "num_requests_running": len(batch.running),
            "num_requests_waiting": len(batch.waiting),
            "num_preemptions_total": batch.preemptions,
            "prefix_cache_queries_total": batch.queried_tokens,
            "prefix_cache_hits_total": batch.hit_tokens,
            "prompt_tokens_total": batch.prompt_tokens,
            "generation_tokens_total": batch.generated_tokens,
            "request_queue_time_seconds_sum": batch.queue_s / speed,  # on the wall's clock
            "request_queue_time_seconds_count": batch.finished,
            "request_prefill_time_seconds_sum": batch.prefill_s / speed,
        }
        return "".join(f'simulated:{key}{{model_name="{name}"}} {value}\n' for key, value in values.items())


class Handler:
    """HTTP/1.1 with keep-alive, as much of it as clients of such a server use."""

    def __init__(self, engine: Engine, key: str) -> None:
        self.engine = engine
        self._key = key

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                method, target, _ = head[0].split(" ", 2)
                pairs = (line.split(":", 1) for line in head[1:] if ":" in line)
                headers = {name.lower(): value.strip() for name, value in pairs}
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                try:
                    await self._answer(method, target.split("?")[0], headers, body, reader, writer)
                except Refused as refused:
                    error = {"message": str(refused), "type": "invalid_request_error", "code": refused.status}
                    _respond(writer, refused.status, {"error": error})
                if headers.get("connection", "").lower() == "close":
                    break
        writer.close()

    async def _answer(
        self,
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        route = f"{method} {path.rstrip('/')}"
        if headers.get("authorization") != f"Bearer {self._key}":
            raise Refused(401, "Unauthorized")
        if route == "GET /health":
            _respond(writer, 200, {})
        elif route == "GET /v1/models":
            model = {"id": self.engine.place.served_model_name, "object": "model", "owned_by": "simulated"}
            _respond(writer, 200, {"object": "list", "data": [model]})
        elif route == "GET /metrics":
            _respond(writer, 200, self.engine.metrics())
        elif route == "POST /reset_prefix_cache":
            _respond(writer, 200, {"success": self.engine.batch.reset_cache()})
        elif route == "POST /v1/chat/completions":
            request_id = headers.get("x-request-id") or f"simulated-{self.engine.received}"
            if self.engine.sleep.asleep:
                raise Refused(503, "asleep")
            await self._complete(_document(body), request_id, reader, writer)
        elif (told := await self.engine.sleep.answer(route)) is not None:
            _respond(writer, *told)
        else:
            raise Refused(404, f"no route {method} {path}")

    async def _complete(
        self,
        body: dict[str, Any],
        request_id: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        settings, engine = self.engine.settings, self.engine
        if body.get("model") != engine.place.served_model_name:
            raise Refused(404, f"The model `{body.get('model')}` does not exist.")
        try:
            prompt, _ = prompt_of(body), thinking_budget(body)
        except ValueError as error:
            raise Refused(400, str(error)) from error
        tokens = prompt_tokens(prompt)
        room = settings.max_model_len - tokens
        asked = body.get("max_tokens") or body.get("max_completion_tokens") or max(room, 1)
        if not isinstance(asked, int) or asked < 1:
            raise Refused(400, f"max_tokens={asked}: must be a whole number from 1 up")
        if asked > room:
            raise Refused(400, f"{tokens} prompt and {asked} output tokens, over {settings.max_model_len}")
        if not engine.batch.fits(tokens + asked):
            raise Refused(400, f"{tokens + asked} tokens do not fit into the KV cache")
        engine.count_request()
        given = answer(settings, body, request_id, prompt, asked)
        blocks = prompt_blocks(prompt) if settings.enable_prefix_caching else ()
        options, streams = body.get("stream_options") or {}, bool(body.get("stream"))
        call = Call(
            request_id=request_id,
            stream=Stream(tokens, len(given.words), blocks),
            answer=given,
            reader=reader,
            writer=writer if streams else None,
            usage=bool(options.get("include_usage")),
            continuous=bool(options.get("include_usage") and options.get("continuous_usage_stats")),
        )
        if not streams:
            await engine.complete(call)
            _respond(writer, 200, _whole(call), request_id)
            return
        writer.write(_head(200, "text/event-stream; charset=utf-8", request_id, "transfer-encoding: chunked"))
        _event(call, {"role": "assistant", "content": ""}, 0, None)
        await engine.complete(call)
        if not writer.is_closing():
            if call.usage:
                _send(writer, json.dumps(_document_of(call, []) | {"usage": _usage(call, call.sent)}))
            _send(writer, "[DONE]")
            writer.write(b"0\r\n\r\n")


def _document(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as error:
        raise Refused(400, f"the body is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise Refused(400, "the body must be an object")
    return document


def _document_of(call: Call, choices: list[Any], kind: str = "chat.completion.chunk") -> dict[str, Any]:
    return {"id": call.request_id, "object": kind, "model": "simulated", "choices": choices}


def _event(call: Call, delta: dict[str, str], tokens: int, reason: str | None) -> None:
    assert call.writer is not None
    event = _document_of(call, [{"index": 0, "delta": delta, "finish_reason": reason}])
    if call.continuous:
        event["usage"] = _usage(call, tokens)
    _send(call.writer, json.dumps(event))


def _send(writer: asyncio.StreamWriter, data: str) -> None:
    event = f"data: {data}\n\n".encode()
    writer.write(b"%x\r\n%b\r\n" % (len(event), event))


def _usage(call: Call, tokens: int) -> dict[str, Any]:
    prompt = call.stream.prompt
    usage: dict[str, Any] = {
        "prompt_tokens": prompt,
        "completion_tokens": tokens,
        "total_tokens": prompt + tokens,
        "prompt_tokens_details": {"cached_tokens": call.stream.cached or 0},
    }
    if call.answer.reasoning:
        usage["completion_tokens_details"] = {"reasoning_tokens": min(tokens, call.answer.reasoning)}
    return usage


def _whole(call: Call) -> dict[str, Any]:
    words, length = call.answer, call.stream.length
    message = {"role": "assistant", "content": words.text(words.reasoning, length)}
    if words.reasoning:
        message["reasoning_content"] = words.text(0, words.reasoning)
    reason = "length" if words.truncated else "stop"
    choice = {"index": 0, "message": message, "finish_reason": reason}
    return _document_of(call, [choice], "chat.completion") | {"usage": _usage(call, length)}


def _respond(
    writer: asyncio.StreamWriter, status: int, answer: dict[str, Any] | str, request_id: str | None = None
) -> None:
    is_text = isinstance(answer, str)
    body = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
    kind = "text/plain; version=0.0.4" if is_text else "application/json"
    writer.write(_head(status, kind, request_id, f"content-length: {len(body)}") + body)


def _head(status: int, kind: str, request_id: str | None, length: str) -> bytes:
    lines = [f"HTTP/1.1 {status} {REASONS[status]}", f"content-type: {kind}", length, "x-simulated: true"]
    lines += [f"x-request-id: {request_id}"] if request_id else []
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _end(said: str, code: int) -> None:
    print(said, flush=True)
    os._exit(code)


async def _serve(settings: Settings, place: Place, key: str) -> None:
    engine = Engine(settings, place)
    handler = Handler(engine, key)
    server = await asyncio.start_server(handler.serve, place.host, place.port, backlog=1024)
    print(f"SIMULATED engine serves {place.served_model_name} at speed {settings.speed:g}", flush=True)
    async with server:
        await engine.run()


def main(arguments: list[str]) -> None:
    """Serves until it is ended. The key comes in ``SIMULATED_API_KEY``."""
    settings, place = parse(arguments)
    key = os.environ["SIMULATED_API_KEY"]
    starting_s = start_s(settings, place.tensor_parallel_size) / settings.speed
    print(f"SIMULATED start of {starting_s:.1f} s", flush=True)
    time.sleep(starting_s)
    if settings.oom_at_start:
        _end("OutOfMemoryError: simulated, as oom-at-start asks", 1)
    if place.node_rank:
        signal.pause()  # rank 0 serves for all
    asyncio.run(_serve(settings, place, key))


if __name__ == "__main__":
    main(sys.argv[1:])

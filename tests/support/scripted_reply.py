"""What the scripted server answers: `Script` says it, `Reply` sends it."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from time import perf_counter
from typing import Any, Protocol

import orjson

MODEL = "scripted"
# What keeps a connection open, and what an answer may well have between its chunks.
NOISE = (
    b'data:\n\nevent: ping\ndata: {"type":"ping"}\n\n: still here\n\ndata: {"id":"x","usage":null}\n\n'
    b'data: {"choices":[{"index":0,"delta":null}],"usage":{}}\n\n'
)
WORDS = ("One", " fine", " day", ",", " Zoë", " said", " “", "日本", "”", ".\n")


@dataclass(frozen=True, slots=True)
class Script:
    """``tokens`` (None: the request's max_tokens), the first ``reasoning`` of them thought, ``per_chunk``
    in a chunk. The first chunk leaves ``ttft_s`` after the request, the next every ``gap_s``.

    ``field`` is where reasoning goes: a delta's field, or ``inline`` for ``<think>…</think>`` in the content,
    or ``opened`` for the same without the opening tag (``tags``), or ``parts`` for content in parts.
    ``count_reasoning`` False: the server has no counts of it. ``separate_last``: the finish_reason comes
    alone, after the last token. ``finish``: what it is. ``noise``: a mark at the very start, then `NOISE`
    before each chunk.

    ``counts``: what usage on a chunk says, where it is asked for: ``all`` tokens so far, nothing until the
    ``end`` or while ``thinking``, those before the chunk (``behind``), its ``own``, or more than there are,
    ``corrected`` at the end; ``falling``: now and then two less than before. The report after the answer has
    the total.

    ``fault`` happens when ``after`` tokens are out: ``error`` (an error object, then [DONE]), ``http``
    (``status`` and a body instead of a stream), ``stall``, ``reset``, ``close`` (before the stream's end),
    ``half`` (the same for the sending side only), ``kill`` (the whole server), ``garbage`` (not HTTP),
    ``json`` (a plain document instead of a stream), ``drop`` (closed without a byte), and at the end
    ``abort`` (with that finish_reason) and ``no_finish`` (orderly, but without one). With ``every`` N only to
    each Nth request.
    """

    tokens: int | None = None
    reasoning: int = 0
    per_chunk: int = 1
    ttft_s: float = 0.02
    gap_s: float = 0.005
    field: str = "reasoning"
    count_reasoning: bool = True
    tags: Sequence[str] = ("<think>", "</think>")
    counts: str = "all"
    separate_last: bool = False
    finish: str = "stop"
    noise: bool = False
    fault: str | None = None
    after: int = 0
    every: int = 1
    status: int = 500
    framing: str = "chunked"  # chunked | length | close
    newline: str = "\n"
    keep_alive: bool = True
    root: str | None = None  # what the model's name stands for, by /v1/models


@dataclass
class Counters:
    """What ``/metrics`` tells, by vLLM's names without their prefix."""

    num_requests_running: float = 0
    num_requests_waiting: float = 0
    kv_cache_usage_perc: float = 0
    num_preemptions_total: float = 0
    prefix_cache_queries_total: float = 0
    prefix_cache_hits_total: float = 0
    spec_decode_num_drafts_total: float = 0
    spec_decode_num_draft_tokens_total: float = 0
    spec_decode_num_accepted_tokens_total: float = 0
    prompt_tokens_total: float = 0
    generation_tokens_total: float = 0

    def text(self) -> str:
        lines = []
        for each in fields(self):
            kind = "counter" if each.name.endswith("_total") else "gauge"
            lines.append(f"# TYPE vllm:{each.name} {kind}")
            lines.append(f'vllm:{each.name}{{engine="0",model_name="{MODEL}"}} {getattr(self, each.name)}')
        return "\n".join([*lines, ""])


@dataclass
class Server:
    """What all connections share."""

    default: Script
    counters: Counters = field(default_factory=Counters)
    truth: dict[str, dict[str, Any]] = field(default_factory=dict)
    resets: int = 0
    connections: int = 0  # made so far
    asked: int = 0
    api_key: str | None = None


class Asker(Protocol):
    """The connection that a request came over."""

    transport: asyncio.Transport

    def write(self, data: bytes) -> float: ...

    def respond(self, status: int, body: bytes, kind: str = ..., keep: bool = ...) -> None: ...

    def reset(self) -> None: ...


class Reply:
    """The answer to one chat request."""

    def __init__(
        self,
        connection: Asker,
        server: Server,
        body: Mapping[str, Any],
        request_id: str,
        received_s: float,
    ) -> None:
        self._connection = connection
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._script = _script(body, server.default)
        server.asked += 1
        if server.asked % self._script.every:
            self._script = replace(self._script, fault=None)
        self._total = self._script.tokens if self._script.tokens is not None else _max_tokens(body)
        options = body.get("stream_options") or {}
        self._continuous = bool(options.get("continuous_usage_stats"))
        self._usage_at_end = bool(options.get("include_usage"))
        self._prompt = sum(len(str(m.get("content", ""))) for m in body["messages"]) // 4 + 1
        self._received_s = received_s
        self._sent_s: list[float] = []
        self._out = 0
        self._running = True
        self._timer: asyncio.TimerHandle | None = None
        if request_id:
            server.truth[request_id] = {"received_s": received_s, "sent_s": self._sent_s}

    def start(self) -> None:
        script, counters = self._script, self._server.counters
        counters.num_requests_running += 1
        counters.prompt_tokens_total += self._prompt
        counters.prefix_cache_queries_total += self._prompt
        if script.fault == "http":
            error = {"message": "scripted failure", "type": "InternalServerError", "code": script.status}
            self._connection.respond(script.status, orjson.dumps({"error": error}), keep=script.keep_alive)
            self.stop()
        elif script.fault == "drop":
            self._connection.transport.close()
            self.stop()
        elif script.fault == "json":
            self._connection.respond(200, b'{"object":"chat.completion","choices":[]}')
            self.stop()
        elif script.fault == "garbage":
            self._connection.write(b"SSH-2.0-OpenSSH_9.6\r\n")
            self.stop()
        elif script.framing == "length":
            self._at(script.ttft_s, self._whole)
        else:
            kind = (
                "Transfer-Encoding: chunked\r\n" if script.framing == "chunked" else "Connection: close\r\n"
            )
            if script.fault != "stall" or script.after:
                head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n{kind}\r\n"
                mark = codecs.BOM_UTF8 if script.noise else b""
                role = mark + self._event({"role": "assistant", "content": ""})
                self._connection.write(head.encode() + self._frame(role))
            self._at(script.ttft_s, self._step)

    def stop(self) -> None:
        if self._running:
            self._running = False
            self._server.counters.num_requests_running -= 1
            if self._timer is not None:
                self._timer.cancel()

    def _at(self, after_s: float, callback: Callable[[], None]) -> None:
        """Call ``after_s`` after the request's arrival. The loop counts whole ms on its own clock."""
        self._timer = self._loop.call_later(self._received_s + after_s - perf_counter(), callback)

    def _step(self) -> None:
        """One chunk of tokens, or the fault, or the end."""
        script = self._script
        if script.fault is not None and self._out >= script.after and self._fail(script.fault):
            return
        if self._out < self._total:
            self._sent_s.append(self._connection.write(self._frame(self._tokens())))
        if self._out < self._total:
            number = -(-self._out // script.per_chunk)
            self._at(script.ttft_s + number * script.gap_s, self._step)
        elif script.fault is None or self._out < script.after or not self._fail(script.fault):
            self._finish()

    def _tokens(self) -> bytes:
        script = self._script
        new = min(script.per_chunk, self._total - self._out)
        first, self._out = self._out, self._out + new
        self._server.counters.generation_tokens_total += new
        delta: dict[str, Any] = {}
        for i in range(first, self._out):
            word = WORDS[i % len(WORDS)]
            thought = i < script.reasoning
            name = "content"
            if script.field == "parts":
                kind = "thinking" if thought else "text"
                delta.setdefault(name, []).append({"type": kind, kind: word})
                continue
            if script.field not in ("inline", "opened"):
                name = script.field if thought else "content"
            elif i == script.reasoning - 1:
                word = script.tags[1]
            elif i == 0 and script.reasoning and script.field == "inline":
                word = script.tags[0]
            delta[name] = delta.get(name, "") + word
        last = self._out == self._total and not script.separate_last
        noise = NOISE if script.noise else b""
        return noise + self._event(delta, script.finish if last and script.fault is None else None, new)

    def _counted(self, new: int) -> int:
        """What usage on a chunk with so many new tokens says."""
        out, script = self._out, self._script
        nothing = {"end": True, "thinking": out <= script.reasoning}
        said = {"behind": out - new, "own": new, "falling": out - 2 * (out % 5 == 4), "corrected": out + 2}
        return 0 if nothing.get(script.counts) else max(0, said.get(script.counts, out))

    def _event(self, delta: Mapping[str, Any] | None, finish: str | None = None, new: int = 0) -> bytes:
        choices = (
            [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
        )
        event: dict[str, Any] = {
            "id": "chatcmpl-0123456789abcdef",
            "object": "chat.completion.chunk",
            "created": 1_700_000_000,
            "model": MODEL,
            "choices": choices,
        }
        if self._continuous or delta is None:
            thought = min(self._out, self._script.reasoning)
            counts = {"reasoning_tokens": thought} if self._script.count_reasoning else None
            out = self._out if delta is None else self._counted(new) if self._out else 0
            event["usage"] = {
                "prompt_tokens": self._prompt,
                "total_tokens": self._prompt + out,
                "completion_tokens": out,
                "completion_tokens_details": counts,
            }
            if delta is None:
                event["usage"]["prompt_tokens_details"] = {"cached_tokens": 0}
        return self._data(orjson.dumps(event))

    def _data(self, payload: bytes) -> bytes:
        end = self._script.newline.encode()
        return b"data: " + payload + end + end

    def _frame(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._script.framing == "chunked" else data

    def _finish(self) -> None:
        frame, script = self._frame, self._script
        tail = b""
        if script.fault == "abort":
            tail += frame(self._event({}, "abort"))
        elif script.separate_last or script.fault is not None:
            tail += frame(self._event({}, None if script.fault == "no_finish" else script.finish))
        if self._usage_at_end:
            tail += frame(self._event(None))
        tail += frame(self._data(b"[DONE]"))
        if script.framing == "chunked":
            tail += b"0\r\n\r\n"
        self._connection.write(tail)
        if script.framing == "close" or not script.keep_alive:
            self._connection.transport.close()
        self.stop()

    def _whole(self) -> None:
        """All of it in one body of known length."""
        body = self._event({"role": "assistant", "content": ""})
        while self._out < self._total:
            body += self._tokens()
        if self._usage_at_end:
            body += self._event(None)
        body += self._data(b"[DONE]")
        head = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(body)}\r\n\r\n"
        self._sent_s.append(self._connection.write(head.encode() + body))
        self.stop()

    def _fail(self, fault: str) -> bool:
        """Whether the fault ends the answer here."""
        connection = self._connection
        if fault == "error":
            error = {"message": "scripted failure", "type": "InternalServerError", "code": 500}
            tail = self._frame(self._data(orjson.dumps({"error": error}))) + self._frame(
                self._data(b"[DONE]")
            )
            connection.write(tail + b"0\r\n\r\n")
        elif fault == "reset":
            connection.reset()
        elif fault == "close":
            connection.transport.close()
        elif fault == "half":
            os_socket = socket.socket(fileno=os.dup(connection.transport.get_extra_info("socket").fileno()))
            os_socket.shutdown(socket.SHUT_WR)
            os_socket.close()
        elif fault == "kill":
            os._exit(9)
        elif fault != "stall":
            return False  # abort and no_finish show at the end
        self.stop()
        return True


def _script(body: Mapping[str, Any], default: Script) -> Script:
    content = body["messages"][-1].get("content")
    if isinstance(content, str) and content.startswith("{"):
        with contextlib.suppress(orjson.JSONDecodeError):
            return replace(default, **orjson.loads(content))
    return default


def _max_tokens(body: Mapping[str, Any]) -> int:
    return int(body.get("max_completion_tokens") or body.get("max_tokens") or 16)

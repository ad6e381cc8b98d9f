"""A stand-in for an engine's process: ``fake_server.py PORT MODE [PID_FILE]``. Standard library only."""

from __future__ import annotations

import importlib
import json
import mmap
import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PORT, MODE = int(sys.argv[1]), sys.argv[2]
kept: list[object] = []


class Handler(BaseHTTPRequestHandler):
    resets = 0
    hung = False

    def do_GET(self) -> None:
        if Handler.hung:
            time.sleep(60)
        opened = {"keyless": "/", "keyless-metrics": "/metrics"}.get(MODE)
        guarded = opened is None or not self.path.startswith(opened)
        if guarded and self.headers.get("Authorization") != f"Bearer {os.environ.get('ENGINE_API_KEY')}":
            return self.answer(401, {"error": "Unauthorized"})
        if self.path == "/metrics":
            return self.answer(200, 'vllm:num_requests_running 0.0\nvllm:prompt_tokens_total{a="b"} 3\n')
        return self.answer(200, {"data": [{"id": "fake-model"}]})

    def do_POST(self) -> None:
        if self.path == "/die":
            print("ValueError: asked to die", flush=True)
            os._exit(3)
        if self.path == "/hang":
            Handler.hung = True
        if self.path == "/reset_prefix_cache":
            if MODE == "no-reset":
                return self.answer(404, {})
            Handler.resets += 1
            if MODE.startswith("silent"):
                print(
                    "Failed to" if MODE == "silent-held" else "Successfully", "reset prefix cache", flush=True
                )
                return self.answer(200, "")
            return self.answer(200, {"success": MODE != "held" and Handler.resets > 1})
        return self.answer(200, {})

    def answer(self, status: int, body: object) -> None:
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


def fork_a_daemon(pid_file: Path) -> None:
    """A grandchild with a session of its own, whose parent is gone and which ignores SIGTERM."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            pid_file.write_text(str(os.getpid()))
            time.sleep(300)
        os._exit(0)
    os.wait()


def share_memory(names: Path) -> None:
    """As engines do: some that stays open, some only mapped, a semaphore, and none of it ever unlinked."""
    made = [Path("/dev/shm") / f"psm_{os.getpid()}_{kind}" for kind in ("open", "mapped")]
    for path in made:
        path.write_bytes(bytes(4096))
    kept.append(made[0].open("rb"))
    with made[1].open("r+b") as file:
        kept.append(mmap.mmap(file.fileno(), 4096))
    kept.append(importlib.import_module("_multiprocessing").SemLock(1, 1, 1, f"/mp-{os.getpid()}", False))
    made.append(Path(f"/dev/shm/sem.mp-{os.getpid()}"))
    names.write_text("\n".join(map(str, made)))


def main() -> None:
    if MODE == "dies":
        print("INFO loading", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate", sep="\n")
        sys.exit(1)
    if MODE == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if MODE == "daemon":
        fork_a_daemon(Path(sys.argv[3]))
    if MODE == "shares":
        share_memory(Path(sys.argv[3]))
    if MODE == "never":
        time.sleep(300)
    if MODE == "talkative":
        print("arguments:", sys.argv, "key:", os.environ["ENGINE_API_KEY"], "the end", flush=True)
    print(
        "listening", {name: os.environ[name] for name in sorted(os.environ) if "KEY" not in name}, flush=True
    )
    ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()


main()

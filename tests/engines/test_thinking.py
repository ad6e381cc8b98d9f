"""A real engine's reasoning parser, on a model that thinks, against the raw text of the same answers."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Any

import pytest

from orchestrator.datasets import load
from orchestrator.engines.server import Server
from tests.engines.test_real_engines import REAL, config, started
from tests.support.compose import config_of

pytestmark = [pytest.mark.engine, pytest.mark.timeout(600)]

MODEL = "model=smollm2-135m-think"
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
TURN = "<|im_start|>{}\n{}<|im_end|>\n"


def ask(server: Server, path: str, body: dict[str, Any]) -> dict[str, Any]:
    connection = http.client.HTTPConnection(server.endpoint.host, server.endpoint.port, timeout=300)
    headers = {"Authorization": f"Bearer {server.endpoint.api_key}", "Content-Type": "application/json"}
    sent = {"model": server.endpoint.model, "temperature": 0} | body
    connection.request("POST", path, json.dumps(sent), headers)
    answer = connection.getresponse()
    read = json.loads(answer.read())
    assert answer.status == 200, read
    choice = read["choices"][0]
    assert isinstance(choice, dict)
    return choice


def parsed(server: Server, text: str, budget: int) -> tuple[str, str, str]:
    """What the engine says is reasoning, what is the answer, and why it ended."""
    messages = [{"role": "user", "content": text}]
    choice = ask(server, "/v1/chat/completions", {"messages": messages, "max_tokens": budget})
    message = choice["message"]
    reasoning = message.get("reasoning") or message.get("reasoning_content") or ""
    return reasoning.strip(), (message["content"] or "").strip(), choice["finish_reason"]


def raw(server: Server, text: str, budget: int) -> str:
    prompt = TURN.format("system", SYSTEM) + TURN.format("user", text) + "<|im_start|>assistant\n"
    return str(ask(server, "/v1/completions", {"prompt": prompt, "max_tokens": budget})["text"])


@pytest.mark.parametrize("engine", REAL)
def test_the_engine_splits_thinking_from_the_answer_where_the_tags_are(engine: str, tmp_path: Path) -> None:
    with started(config(engine, MODEL, "opt=none"), tmp_path) as server:
        check_split(server)


def check_split(server: Server) -> None:
    items = [item for item in load(config_of("dataset=steps").dataset, 10).items if item.level == 1]
    for item in items:
        text = item.messages[0]["content"]
        whole = raw(server, text, 256)
        opened, _, rest = whole.partition("<think>")
        thought, closed, answer = rest.partition("</think>")
        assert (opened.strip(), closed) == ("", "</think>"), whole
        assert f"\\boxed{{{item.reference}}}" in answer
        assert parsed(server, text, 256) == (thought.strip(), answer.strip(), "stop")
    cut = parsed(server, items[-1].messages[0]["content"], 12)
    assert cut[0]
    assert cut[1:] == ("", "length")

from __future__ import annotations

import hashlib
import json
from typing import Any

import orjson

from orchestrator.config.schema import SamplingConfig
from orchestrator.load.render import render
from orchestrator.records import Item, Request

ITEM = Item("q1", ({"role": "user", "content": "2 + 2 = “vier”?"},), "4", "math")


def rendered(**changes: Any) -> Request:
    arguments: dict[str, Any] = {
        "repeat": 0,
        "request_id": "r",
        "model": "m",
        "sampling": SamplingConfig(temperature=0.6, top_p=0.95, top_k=20),
        "max_tokens": 64,
        "seed": 7,
        "usage": "continuous",
        "extra": {},
    }
    item = changes.pop("item", ITEM)
    return render(item, **(arguments | changes))


def test_the_body_says_everything_that_the_server_could_otherwise_choose() -> None:
    body = orjson.loads(rendered().body)
    assert body == {
        "model": "m",
        "messages": [{"role": "user", "content": "2 + 2 = “vier”?"}],
        "max_tokens": 64,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "temperature": 0.6,
        "top_p": 0.95,
        "top_k": 20,
    }


def test_every_sampling_parameter_that_is_set_is_sent_by_its_name() -> None:
    sent: dict[str, Any] = {"min_p": 0.05, "presence_penalty": 1.5, "repetition_penalty": 1.1}
    sent |= {"stop": ["\n\n", "END"], "reasoning_effort": "low"}
    body = orjson.loads(rendered(sampling=SamplingConfig(**sent, seeded=False)).body)
    assert {name: body[name] for name in sent} == sent
    assert "seeded" not in body
    assert not sent.keys() & orjson.loads(rendered().body).keys()


def test_final_usage_does_not_ask_for_counts_on_every_chunk() -> None:
    assert orjson.loads(rendered(usage="final").body)["stream_options"] == {"include_usage": True}


def test_a_temperature_of_zero_is_sent() -> None:
    body = orjson.loads(rendered(sampling=SamplingConfig(temperature=0.0)).body)
    assert body["temperature"] == 0.0
    assert "top_p" not in body
    assert "top_k" not in body


def test_extra_is_merged_last() -> None:
    extra = {"ignore_eos": True, "chat_template_kwargs": {"enable_thinking": False}, "max_tokens": 5}
    body = orjson.loads(rendered(extra=extra).body)
    assert body["ignore_eos"] is True
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert body["max_tokens"] == 5


def test_asked_for_each_item_and_repeat_has_a_seed_of_its_own_that_no_order_changes() -> None:
    def seeded(**changes: Any) -> int:
        sampling = SamplingConfig(temperature=0.6, seeded=True)
        return int(orjson.loads(rendered(sampling=sampling, **changes).body)["seed"])

    other = Item("q2", ITEM.messages, "4", "math")
    seeds = {seeded(), seeded(repeat=1), seeded(item=other), seeded(seed=8)}
    assert len(seeds) == 4
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seeded() == seeded()


def test_no_request_carries_a_seed_that_nobody_asked_for() -> None:
    assert "seed" not in orjson.loads(rendered().body)
    assert rendered(seed=8).body == rendered().body


def test_the_prompt_hash_is_of_the_messages_alone_in_canonical_json() -> None:
    canonical = json.dumps(list(ITEM.messages), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert rendered(repeat=3, max_tokens=9).prompt_sha256 == hashlib.sha256(canonical.encode()).hexdigest()

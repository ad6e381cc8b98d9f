"""Store a model's responses from a running OpenAI-compatible server, one JSON object a line.

    python -m benchmarks.grading.collect --base-url http://127.0.0.1:8000 --out responses.jsonl \\
        dataset.name=arithmetic dataset.prompt=plain limit=128 max_tokens=64

At temperature 0. The server's key comes from OPENAI_API_KEY.
"""

from __future__ import annotations

import argparse
import json
import os
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from orchestrator.config.schema import SweepConfig
from orchestrator.datasets import load
from orchestrator.records import Item


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--concurrency", type=int, default=16)
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    args = parser.parse_args()
    merged = OmegaConf.merge(OmegaConf.structured(SweepConfig), OmegaConf.from_dotlist(args.overrides))
    config: Any = merged  # a SweepConfig, of which only some keys are set
    dataset = config.dataset
    items = load(dataset, config.limit).items
    model = _get(f"{args.base_url}/v1/models", None)["data"][0]["id"]

    def ask(item: Item) -> str:
        body = {
            "model": model,
            "messages": item.messages,
            "temperature": 0,
            "max_tokens": config.max_tokens,
        }
        (choice,) = _get(f"{args.base_url}/v1/chat/completions", body)["choices"]
        return json.dumps(
            {
                "dataset": dataset.name,
                "item_id": item.item_id,
                "reference": item.reference,
                "response": choice["message"]["content"],
                "finish_reason": choice["finish_reason"],
            },
            ensure_ascii=False,
        )

    with ThreadPoolExecutor(args.concurrency) as pool:
        lines = list(pool.map(ask, items))
    args.out.write_text("".join(line + "\n" for line in lines))


def _get(url: str, body: object) -> Any:
    headers = {
        "Content-Type": "application/json",
        "Authorization": f"Bearer {os.environ.get('OPENAI_API_KEY', '')}",
    }
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=600) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()

"""Teaches the base model to think in ``<think>``…``</think>``: ``python -m training.train --model FOLDER
--out FOLDER`` on a host with a GPU, torch and transformers, and no network.

The model is a Hugging Face folder, or holds one GGUF file. Each of the settings compared is trained,
merged as it will be served, and asked held-out questions; the better by `heldout.spread` becomes
``adapter.safetensors``, and ``results.json`` has the figures of all. ``--device cpu --steps 4`` tries the
whole path in a few minutes, in float32 and with few tokens.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer

from orchestrator import worked
from training import batches, heldout, lora
from training.settings import SETTINGS, TAGS, Settings, metadata

CONVERT = Path(__file__).parents[1] / "orchestrator/engines/convert.py"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--steps", type=int, help="fewer, to try the whole path")
    parser.add_argument("--seconds", type=float, default=185.0, help="at most this long for each training")
    parser.add_argument("--questions", type=int, help="held-out ones; a multiple of 64 is balanced")
    parser.add_argument("--budget", type=int, help="tokens of an answer, thinking included")
    arguments = parser.parse_args()
    small = arguments.device == "cpu"
    arguments.out.mkdir(parents=True, exist_ok=True)
    problems = list(worked.asked(arguments.questions or (4 if small else 1024)))
    tokenizer = _tokenizer(arguments.model)
    chosen = {name: _settings(name, arguments.steps, small) for name in arguments.settings}
    stores = {name: _stored(name, tokenizer, settings) for name, settings in chosen.items()}
    results: dict[str, object] = {}
    best: tuple[int, float] | None = None
    for name, settings in chosen.items():
        model = _base(arguments.model, arguments.device)
        adapter, steps = train(model, stores.pop(name), settings, arguments.seconds)
        del model
        model = _base(arguments.model, arguments.device).eval()
        _converter().merge(model, adapter.tensors(), list(map(int, TAGS)))
        began = time.perf_counter()
        answers = heldout.ask(
            model, tokenizer, settings, problems, arguments.budget or (12 if small else 1024)
        )
        del model
        found = heldout.table(answers) | {"steps": steps}
        print(f"{name}: asked {len(problems)} in {time.perf_counter() - began:.0f} s")
        print(heldout.printed(found))
        for answer in answers[:: max(1, len(answers) // 6)]:
            print(f"  {answer.problem.text!r} -> {answer.text[:600]!r} (right: {answer.right})")
        score = heldout.spread(answers)
        file = arguments.out / f"{name}.safetensors"
        save_file(adapter.tensors(), file, metadata(settings, found))
        size = file.stat().st_size / 1e6
        print(f"{file}: {size:.2f} MB; levels in reach, share right: {score}", flush=True)
        results[name] = found
        if best is None or score > best:
            best = score
            shutil.copy(file, arguments.out / "adapter.safetensors")
            results["better"] = name
        (arguments.out / "results.json").write_text(json.dumps(results, indent=1))
    print(f"better: {results['better']}")


def _settings(name: str, steps: int | None, small: bool) -> Settings:
    settings = replace(SETTINGS[name], steps=steps) if steps else SETTINGS[name]
    return replace(settings, tokens=256, row=256) if small else settings


def _stored(name: str, tokenizer: Any, settings: Settings) -> list[batches.Batch]:
    began = time.perf_counter()
    store = batches.make(tokenizer, settings)
    used = sum(int((positions > 0).sum()) for _, _, positions in store) / (len(store) * settings.tokens)
    took = time.perf_counter() - began
    print(f"{name}: {len(store)} batches, {used:.0%} full, in {took:.0f} s", flush=True)
    return store


def train(
    model: Any, store: list[batches.Batch], settings: Settings, seconds: float
) -> tuple[lora.Adapter, int]:
    """The adapter and how many steps it took: fewer than the settings' where ``seconds`` do not suffice, the
    learning rate then falling sooner."""
    torch.manual_seed(settings.seed)
    adapter = lora.attach(model, settings.rank, settings.scale, list(map(int, TAGS)))
    parameters = adapter.parameters()
    print(f"{sum(each.numel() for each in parameters)} parameters are trained", flush=True)
    optimizer = torch.optim.AdamW(
        parameters, lr=settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
    )
    model.train()
    began, seen = time.perf_counter(), 0
    for step, batch in enumerate(store):
        through = max(step / len(store), (time.perf_counter() - began) / seconds)
        if through >= 1:
            print(f"stopped at step {step} after {seconds:.0f} s", flush=True)
            return adapter, step
        rate = settings.learning_rate * min(1.0, (step + 1) / settings.warmup)
        rate *= max(0.02, 0.5 * (1 + math.cos(math.pi * through)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = _loss(model, batch)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        seen += batch[0].size
        if step < 3 or step % 40 == 39:
            speed = seen / (time.perf_counter() - began)
            print(f"step {step + 1} loss {loss.item():.4f} rate {rate:.1e} {speed:.0f} tokens/s", flush=True)
    return adapter, len(store)


def _loss(model: Any, batch: batches.Batch) -> Any:
    ids, labels, positions = (torch.from_numpy(each).to(model.device).long() for each in batch)
    with torch.autocast(model.device.type, torch.bfloat16, enabled=model.device.type != "cpu"):
        hidden = model.model(input_ids=ids, position_ids=positions, use_cache=False).last_hidden_state
        learned = labels[:, 1:] != batches.IGNORED
        scores = model.lm_head(hidden[:, :-1][learned])
    return functional.cross_entropy(scores.float(), labels[:, 1:][learned])


def _converter() -> Any:
    """`orchestrator.engines.convert`, by its path: its package needs what this host lacks."""
    spec = importlib.util.spec_from_file_location("convert", CONVERT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _file(folder: Path) -> dict[str, str]:
    files = sorted(folder.glob("*.gguf"))
    return {"gguf_file": files[0].name} if files else {}


def _base(folder: Path, device: str) -> Any:
    dtype = torch.float32 if device == "cpu" else torch.bfloat16  # bfloat16 is slow on many CPUs
    return AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, **_file(folder)).to(device)


def _tokenizer(folder: Path) -> Any:
    """With the tags in it."""
    with tempfile.TemporaryDirectory() as scratch:
        AutoTokenizer.from_pretrained(folder, **_file(folder)).save_pretrained(scratch)
        _converter().retag(Path(scratch), TAGS)
        tokenizer = AutoTokenizer.from_pretrained(scratch)
    for token, tag in TAGS.items():
        assert tokenizer(f"a{tag}\n", add_special_tokens=False).input_ids[1] == int(token), tag
    tokenizer.pad_token = tokenizer.eos_token = "<|im_end|>"  # a converted folder may name another end
    return tokenizer


if __name__ == "__main__":
    main()

"""A GGUF file inside an installed package, as a Hugging Face folder. Run by the engine's interpreter:

    python convert.py PACKAGE FOLDER DTYPE [ADAPTER]

``ADAPTER`` is a safetensors file of `training`: low-rank changes of the weights, added here once, and the
tokens that become its tags. The orchestrator never imports this module: it needs torch and transformers.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any


def main(package: str, folder: str, dtype: str, adapter: str | None = None) -> None:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"no package {package} in {sys.executable}")
    source = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(source.glob("*.gguf"))
    if len(files) != 1:
        sys.exit(f"{source} has {len(files)} GGUF files, one was expected")

    import torch
    import transformers
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # Configuration, weights and tokenizer read the file anew, and every layer the names of all tensors.
    gguf: Any = import_module("gguf")
    gguf.GGUFReader = cache(gguf.GGUFReader)
    gguf.get_tensor_name_map = cache(gguf.get_tensor_name_map)

    asked: dict[str, Any] = {"gguf_file": files[0].name, "dtype": getattr(torch, dtype)}
    if hasattr(transformers, "GgufConfig"):  # 5.12, which SGLang 0.5.17 pins, has none and always does so
        asked["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(source, **asked)
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=files[0].name)
    tags: dict[str, str] = {}
    if adapter:
        from safetensors import safe_open
        from safetensors.torch import load_file

        with safe_open(adapter, "pt") as file:
            tags = json.loads(file.metadata()["tags"])
        merge(model, load_file(adapter), list(map(int, tags)))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if tags:
        retag(Path(folder), tags)


def merge(model: Any, tensors: Mapping[str, Any], tag_ids: Sequence[int]) -> None:
    """W + B @ A for each ``NAME.A`` [rank, in] and ``NAME.B`` [out, rank], in float32, and ``embed_rows``
    added to the embedding of ``tag_ids``; the weights keep their dtype."""

    def add(weight: Any, change: Any) -> None:
        weight.data.copy_((weight.data.float() + change).to(weight.dtype))

    embedding = model.get_input_embeddings().weight
    rows = tensors["embed_rows"].float().to(embedding.device)
    for row, token in enumerate(tag_ids):
        add(embedding[token], rows[row])
    for name in (name.removesuffix(".A") for name in tensors if name.endswith(".A")):
        weight = model.get_submodule(name).weight
        a, b = (tensors[f"{name}.{part}"].float().to(weight.device) for part in "AB")
        add(weight, b @ a)


def retag(folder: Path, tags: Mapping[str, str]) -> None:
    """Gives the tokens with the ids ``tags`` other contents, as text that is shown, not as control tokens."""
    file = folder / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    renamed = {}
    for token in tokenizer["added_tokens"]:
        if str(token["id"]) in tags:
            renamed[token["content"]] = tags[str(token["id"])]
            token |= {"content": tags[str(token["id"])], "special": False}
    if len(renamed) != len(tags):
        sys.exit(f"{file} has {len(renamed)} of the tokens {', '.join(tags)}")
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {renamed.get(text, text): number for text, number in vocabulary.items()}
    file.write_text(json.dumps(tokenizer, ensure_ascii=False))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A GGUF file inside an installed package, as a Hugging Face folder. Run by the engine's interpreter:

    python convert.py PACKAGE FOLDER DTYPE

The orchestrator never imports this module: it needs torch and transformers.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path


def main(package: str, folder: str, dtype: str) -> None:
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        sys.exit(f"no package {package} in {sys.executable}")
    source = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(source.glob("*.gguf"))
    if len(files) != 1:
        sys.exit(f"{source} has {len(files)} GGUF files, one was expected")

    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    model = AutoModelForCausalLM.from_pretrained(
        source,
        gguf_file=files[0].name,
        dtype=getattr(torch, dtype),
        quantization_config=GgufConfig(dequantize=True),
    )
    tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=files[0].name)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A model folder without weights, made from the catalogue alone: what ``weights=dummy`` serves.

The architecture is the model's own, so an engine that fills it with random weights runs at the model's speed.
The tokenizer is not: it has the vocabulary's true size, but one token for each of `WORDS` and bytes for the
rest, so other text is more tokens than with the model's own. ``dataset=random`` has prompts of known length.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.config.schema import ModelConfig
from orchestrator.datasets.random_words import WORDS
from orchestrator.errors import ConfigError

VERSION = 1  # raise it when the folder's content changes
SPECIAL = ("<|endoftext|>", "<|user|>", "<|assistant|>", "<think>", "</think>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# What the catalogue leaves open because it changes neither sizes nor speed.
_COMMON = {
    "hidden_act": "silu",
    "rms_norm_eps": 1e-6,
    "rope_theta": 1000000.0,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "use_cache": True,
}
ARCHITECTURES: Mapping[str, Mapping[str, Any]] = {
    "LlamaForCausalLM": {"model_type": "llama", "attention_bias": False, "mlp_bias": False},
    "Qwen2ForCausalLM": {"model_type": "qwen2", "use_sliding_window": False},
    "Qwen3ForCausalLM": {"model_type": "qwen3", "attention_bias": False, "use_sliding_window": False},
}


def config_json(model: ModelConfig) -> dict[str, Any]:
    """The ``config.json``. Raises ConfigError for an architecture that is not known here."""
    family = ARCHITECTURES.get(model.architecture or "")
    if family is None:
        known = ", ".join(ARCHITECTURES)
        raise ConfigError(f"model.architecture={model.architecture}: weights=dummy knows {known}")
    end = _special_ids(model)[SPECIAL[0]]
    made = {
        **_COMMON,
        **family,
        "architectures": [model.architecture],
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "num_hidden_layers": model.layers,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "vocab_size": model.vocab_size,
        "tie_word_embeddings": model.tied_embeddings,
        "max_position_embeddings": model.context,
        "dtype": model.dtype,
        "torch_dtype": model.dtype,
        "bos_token_id": end,
        "eos_token_id": end,
    }
    if None in made.values():
        lacking = ", ".join(key for key, value in made.items() if value is None)
        raise ConfigError(f"model={model.name}: weights=dummy needs {lacking} of the model")
    return made | ({"quantization_config": model.quantization} if model.quantization else {})


def digest(model: ModelConfig) -> str:
    """16 hex digits that stand for the folder's content."""
    content = json.dumps([VERSION, config_json(model), WORDS, SPECIAL, CHAT_TEMPLATE], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def write(model: ModelConfig, folder: Path) -> None:
    """Fills ``folder``, which must not exist."""
    folder.mkdir(parents=True)
    end = SPECIAL[0]
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": None,
        "eos_token": end,
        "pad_token": end,
        "model_max_length": model.context,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    files = {
        "config.json": config_json(model),
        "tokenizer.json": tokenizer_json(model),
        "tokenizer_config.json": tokenizer_config,
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)


def tokenizer_json(model: ModelConfig) -> dict[str, Any]:
    """A byte-level BPE tokenizer of exactly ``vocab_size`` ids.

    Every merge lengthens a prefix of a word with its leading space, so a word's pieces are merged from its
    start, in one way only.
    """
    special = _special_ids(model)
    vocab = {symbol: number for number, symbol in enumerate(_byte_symbols())}
    merges = []
    for word in ("Ġ" + word for word in WORDS):
        for end in range(2, len(word) + 1):
            if word[:end] not in vocab:
                merges.append([word[: end - 1], word[end - 1]])
                vocab[word[:end]] = len(vocab)
    for number in range(len(vocab), min(special.values())):
        vocab[f"Ġ0x{number:x}"] = number  # no merge leads to it; a random model emits it all the same
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": number, "content": text, **flags} for text, number in special.items()],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None,
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


def _special_ids(model: ModelConfig) -> dict[str, int]:
    """The last ids of the vocabulary."""
    first = (model.vocab_size or 0) - len(SPECIAL)
    return {text: first + number for number, text in enumerate(SPECIAL)}


def _byte_symbols() -> list[str]:
    """GPT-2's printable character for each byte: its own, or for those that print nothing the next free one
    from U+0100."""
    printing = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = [byte for byte in range(256) if byte not in printing]
    return [chr(byte) if byte in printing else chr(0x100 + hidden.index(byte)) for byte in range(256)]

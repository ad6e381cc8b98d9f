"""What a model folder's config.json says of the weights, by our names. What is odd about it is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigError

_SIZES = {
    "layers": "num_hidden_layers",
    "hidden_size": "hidden_size",
    "heads": "num_attention_heads",
    "kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "kv_lora_rank": "kv_lora_rank",
    "qk_rope_head_dim": "qk_rope_head_dim",
    "vocab_size": "vocab_size",
    "intermediate_size": "intermediate_size",
}
_TIED = "tie_word_embeddings"


def shape(folder: Path) -> dict[str, Any]:
    """The sizes, ``architecture`` and ``tied_embeddings``, as far as they are told; of a model with other
    parts those of its text model. Empty without a config.json, which is told where the folder is read.

    Raises ConfigError for what is no JSON object, says nothing of what the model is, or has a size that is
    none.
    """
    said = _read(folder)
    if said is None:
        return {}
    if not said.get("model_type") and not said.get("architectures"):
        raise _wrong(folder, "has neither model_type nor architectures, so it does not say what the model is")
    text = said.get("text_config")
    if text is not None and not isinstance(text, dict):
        raise _wrong(folder, f"text_config={_shown(text)} must be an object")
    said = {**said, **(text or {})}
    found: dict[str, Any] = {}
    for ours, theirs in _SIZES.items():
        value = said.get(theirs)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _wrong(folder, f"{theirs}={_shown(value)} must be a whole number from 1 up")
        found[ours] = value
    if (tied := said.get(_TIED)) is not None:
        if not isinstance(tied, bool):
            raise _wrong(folder, f"{_TIED}={_shown(tied)} must be true or false")
        found["tied_embeddings"] = tied
    if (architectures := said.get("architectures")) is not None:
        if not isinstance(architectures, list) or not architectures or not _are_names(architectures):
            raise _wrong(folder, f"architectures={_shown(architectures)} must be a list of names")
        found["architecture"] = architectures[0]
    if "head_dim" not in found and {"hidden_size", "heads"} <= found.keys():
        found["head_dim"] = found["hidden_size"] // found["heads"]
    if "kv_heads" not in found and "heads" in found:
        found["kv_heads"] = found["heads"]
    return found


def _read(folder: Path) -> Mapping[str, Any] | None:
    try:
        said = json.loads((folder / "config.json").read_text())
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except OSError as error:
        raise _wrong(folder, f"cannot be read ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise _wrong(folder, f"is not JSON ({' '.join(str(error).split())[:100]})") from None
    if not isinstance(said, dict):
        raise _wrong(folder, f"must be a JSON object, and is {_shown(said)}")
    return said


def _are_names(values: list[Any]) -> bool:
    return all(isinstance(one, str) and one for one in values)


def _wrong(folder: Path, what: str) -> ConfigError:
    return ConfigError(f"model.path={folder}: config.json {what}")


def _shown(value: object) -> str:
    return json.dumps(value)[:80]

"""What converting a package's GGUF file asks of the transformers that the engine's interpreter has."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from orchestrator.engines import convert

PACKAGE = "package_with_weights"


class _Saved:
    """Stands for a model and a tokenizer: ``asked`` has the keywords that each was loaded with."""

    def __init__(self, asked: list[dict[str, Any]]) -> None:
        self.asked = asked

    def from_pretrained(self, source: Path, **keywords: Any) -> _Saved:
        self.asked.append(keywords)
        return self

    def save_pretrained(self, folder: str) -> None:
        Path(folder).mkdir(exist_ok=True)


def _module(name: str, **contents: Any) -> ModuleType:
    module = ModuleType(name)
    for key, value in contents.items():
        setattr(module, key, value)
    return module


@pytest.mark.parametrize(
    ("more", "expected"),
    [({}, None), ({"GgufConfig": lambda dequantize: ("gguf", dequantize)}, ("gguf", True))],
    ids=["transformers 5.12, which always dequantizes", "transformers 5.17"],
)
def test_weights_are_dequantized_by_any_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], expected: Any
) -> None:
    (tmp_path / PACKAGE).mkdir()
    (tmp_path / PACKAGE / "__init__.py").touch()
    (tmp_path / PACKAGE / "weights.gguf").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    loads: list[dict[str, Any]] = []
    loader = _Saved(loads)
    fakes = (
        _module("torch", bfloat16="bf16"),
        _module("transformers", AutoModelForCausalLM=loader, AutoTokenizer=loader, **more),
        _module("gguf", GGUFReader=str, get_tensor_name_map=str),
    )
    for fake in fakes:
        monkeypatch.setitem(sys.modules, fake.__name__, fake)
    convert.main(PACKAGE, str(tmp_path / "folder"), "bfloat16")
    model, tokenizer = loads
    assert model["gguf_file"] == tokenizer["gguf_file"] == "weights.gguf"
    assert model["dtype"] == "bf16"
    assert model.get("quantization_config") == expected

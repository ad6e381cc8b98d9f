"""Low-rank adapters (Hu et al., 2021) on every linear layer of a block, and changes of the rows of the tied
embedding that the tags use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional

LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Adapter:
    """``pairs``: a layer's name to A [rank, in] and B [out, rank]; ``rows`` [tags, hidden] is added to the
    embedding of ``ids``, on both of its ends."""

    pairs: dict[str, tuple[Any, Any]]
    rows: Any
    ids: list[int]
    scale: float

    def parameters(self) -> list[Any]:
        return [self.rows, *(each for pair in self.pairs.values() for each in pair)]

    def tensors(self) -> dict[str, Any]:
        """What is saved, in bfloat16: W + B @ A is the merged weight, the scale is in B."""
        found = {"embed_rows": self.rows}
        for name, (a, b) in self.pairs.items():
            found |= {f"{name}.A": a, f"{name}.B": b * self.scale}
        return {name: each.detach().to(torch.bfloat16).cpu().contiguous() for name, each in found.items()}


def attach(model: Any, rank: int, scale: float, ids: list[int]) -> Adapter:
    """An adapter that changes nothing yet, on a model that learns nothing else."""
    for weight in model.parameters():
        weight.requires_grad_(False)
    device = model.device
    rows = torch.zeros(len(ids), model.config.hidden_size, device=device, requires_grad=True)
    adapter = Adapter({}, rows, ids, scale)
    for name, layer in model.model.layers.named_modules():
        if name.rpartition(".")[2] in LINEAR:
            a = torch.randn(rank, layer.in_features, device=device) / math.sqrt(layer.in_features)
            b = torch.zeros(layer.out_features, rank, device=device)
            adapter.pairs[f"model.layers.{name}"] = (a.requires_grad_(), b.requires_grad_())
            layer.register_forward_hook(_low_rank(a, b, scale))
    model.model.embed_tokens.register_forward_hook(_embedded(adapter))
    model.lm_head.register_forward_hook(_scored(adapter))
    return adapter


def _low_rank(a: Any, b: Any, scale: float) -> Any:
    def hook(_: Any, inputs: Any, output: Any) -> Any:
        return output + functional.linear(functional.linear(inputs[0], a), b) * scale

    return hook


def _embedded(adapter: Adapter) -> Any:
    def hook(_: Any, inputs: Any, output: Any) -> Any:
        for row, token in enumerate(adapter.ids):
            output = output + (inputs[0] == token)[..., None] * adapter.rows[row].to(output.dtype)
        return output

    return hook


def _scored(adapter: Adapter) -> Any:
    where = torch.tensor(adapter.ids, device=adapter.rows.device)

    def hook(_: Any, inputs: Any, output: Any) -> Any:
        more = functional.linear(inputs[0], adapter.rows)
        return output.index_add(-1, where, more.to(output.dtype))

    return hook

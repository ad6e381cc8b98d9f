from __future__ import annotations

import pytest

from orchestrator.engines import environment

WORK = {
    "NCCL_ALGO": "Ring",
    "CUDA_LAUNCH_BLOCKING": "1",
    "TORCH_CUDNN_V8_API_DISABLED": "1",
    "PYTORCH_CUDA_ALLOC_CONF": "x",
    "VLLM_ATTENTION_BACKEND": "x",
    "SGLANG_X": "1",
    "SGL_Y": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "LD_PRELOAD": "/x.so",
    "TRITON_INTERPRET": "1",
    "FLASHINFER_DISABLE": "1",
    "HF_HUB_DISABLE_XET": "1",
    "NVIDIA_TF32_OVERRIDE": "1",
    "ANYTHING_ELSE": "1",
}


@pytest.mark.parametrize("name", WORK)
def test_what_may_change_an_engines_work_is_not_inherited(name: str) -> None:
    assert not environment.PASSED.match(name)


@pytest.mark.parametrize("name", ["NCCL_ALGO", "NCCL_P2P_DISABLE", "GLOO_SOCKET_IFNAME", "UCX_TLS"])
def test_how_processes_talk_is_taken_when_planning(name: str) -> None:
    assert environment.taken({name: "1", "NCCL_VERSION": "2.27", "HOME": "/"}) == {name: "1"}


def test_what_is_set_and_does_not_reach_an_engine_is_named() -> None:
    named = environment.ignored(WORK | {"NCCL_SOCKET_IFNAME": "ib0", "CUDA_VISIBLE_DEVICES": "0"})
    assert named == sorted(WORK.keys() - {"NCCL_ALGO", "ANYTHING_ELSE"})

"""What of an environment an engine gets: variables of two kinds, `PASSED` and `TAKEN`, and no others.

``PASSED`` is inherited on the engine's node: where things lie, what may be reached, which devices there are.
It is recorded. ``TAKEN`` changes how the engine's processes talk to one another: it is taken from the
driver's environment when planning, as if it were written in ``engine.env``, and so is part of the cell. The
names of network devices are in both: a node's own counts where the driver names none.
All else is dropped: what is to change an engine's work is written in ``engine.env``, where it is hashed.
``CHANGES_WORK`` is what is known to change it, so that planning can name those that are set and dropped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from orchestrator.engines.adapter import Adapter, Launch
from orchestrator.errors import ConfigError

PASSED = re.compile(
    r"(PATH|HOME|USER|LOGNAME|SHELL|LANG|LANGUAGE|LC_\w+|TZ|TERM|HOSTNAME|TMPDIR|TEMP|TMP|XDG_\w+|ORCHESTRATOR_\w+"
    # Libraries, compilers and their caches.
    r"|LD_LIBRARY_PATH|LIBRARY_PATH|CPATH|C_INCLUDE_PATH|CPLUS_INCLUDE_PATH|CC|CXX|CUDA_HOME|CUDA_PATH|CUDAHOSTCXX"
    r"|CUDA_CACHE_PATH|TRITON_CACHE_DIR|TRITON_HOME|TORCH_HOME|TORCHINDUCTOR_CACHE_DIR|TORCH_EXTENSIONS_DIR"
    r"|FLASHINFER_WORKSPACE_BASE|FLASHINFER_CACHE_DIR|NUMBA_CACHE_DIR|VLLM_(CACHE|CONFIG)_ROOT"
    r"|VLLM_ASSETS_CACHE|TVM_FFI_CACHE_DIR"
    # Devices: Ray, the container's runtime and the cluster's administrator say which.
    r"|NCCL_SOCKET_IFNAME|NCCL_IB_HCA|GLOO_SOCKET_IFNAME|UCX_NET_DEVICES"
    r"|CUDA_VISIBLE_DEVICES|NVIDIA_VISIBLE_DEVICES|NVIDIA_DRIVER_CAPABILITIES|NVIDIA_REQUIRE_CUDA"
    # The hub: where its files lie, how it is reached, and who asks.
    r"|HF_HOME|HF_HUB_CACHE|HF_XET_CACHE|HF_ASSETS_CACHE|HF_DATASETS_CACHE|HF_MODULES_CACHE|HF_ENDPOINT"
    r"|HF_HUB_OFFLINE|HF_HUB_(DOWNLOAD|ETAG)_TIMEOUT|HF_HUB_ENABLE_HF_TRANSFER|HF_TOKEN|HF_TOKEN_PATH"
    r"|HUGGING_FACE_HUB_TOKEN|HUGGINGFACE_HUB_CACHE|TRANSFORMERS_CACHE|TRANSFORMERS_OFFLINE"
    r"|(HTTP|HTTPS|ALL|NO)_PROXY|(http|https|all|no)_proxy"
    r"|SSL_CERT_(FILE|DIR)|REQUESTS_CA_BUNDLE|CURL_CA_BUNDLE)$"
)
TAKEN = re.compile(r"(NCCL_(?!VERSION$)|GLOO_|UCX_|TORCH_NCCL_)\w+$")
CHANGES_WORK = re.compile(
    r"(VLLM_|SGLANG_|SGL_|CUDA_(?!VERSION$)|CUBLAS_|CUDNN_|TORCH|PYTORCH_|TRITON_|FLASHINFER_|OMP_|MKL_|KMP_|OPENBLAS_|GOMP_"
    r"|MALLOC_|LD_PRELOAD$|LD_AUDIT$|TOKENIZERS_|TRANSFORMERS_|HF_HUB_|NVIDIA_TF32_OVERRIDE$)"
)

# By these an engine's process is told which devices are its own: Ray sets them for each deployment, and
# CUDA_DEVICE_ORDER has them counted as telemetry counts.
PLACES = re.compile(
    r"\w+_VISIBLE_(DEVICES|MODULES|CHIPS|CORES)$|ZE_AFFINITY_MASK$|GPU_DEVICE_ORDINAL$|CUDA_DEVICE_ORDER$"
)


def check_places(env: Mapping[str, str], key: str) -> None:
    """Raises ConfigError for the first variable of ``env``, whose key is ``key``, that names devices."""
    for name in env:
        if PLACES.match(name):
            raise ConfigError(f"{key}.{name}: is set by nothing: the scheduler says which GPUs")


def clean(adapter: Adapter, launch: Launch, inherited: Mapping[str, str]) -> dict[str, str]:
    """What the engine's process gets: of ``inherited`` only `PASSED`, then what the adapter needs, then the
    launch's own."""
    kept = {name: value for name, value in inherited.items() if PASSED.match(name)}
    bin_dir = str(Path(launch.python).parent)  # engines call compilers that lie beside their interpreter
    kept["PATH"] = f"{bin_dir}:{inherited['PATH']}" if inherited.get("PATH") else bin_dir
    return kept | {"PYTHONUNBUFFERED": "1"} | adapter.environment(launch) | dict(launch.env)


def taken(environment: Mapping[str, str]) -> dict[str, str]:
    """What planning takes from the driver's ``environment`` into ``engine.env``."""
    return {name: value for name, value in environment.items() if TAKEN.match(name)}


def ignored(environment: Mapping[str, str]) -> list[str]:
    """The variables of ``environment`` that would change an engine's work and do not reach it, sorted."""
    return sorted(
        name
        for name in environment
        if CHANGES_WORK.match(name) and not PASSED.match(name) and not TAKEN.match(name)
    )

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engines.failures import TRY, Cause, classify, tail

# What engines really print: vLLM 0.32 on a CPU as run for this, lines of GPU runs as its source words them.
BAD_FLAG = """\
                     [--shutdown-timeout SHUTDOWN_TIMEOUT]
                     [model_tag]
api_server.py: error: unrecognized arguments: --max-num-seqz
"""
BAD_VALUE = """\
    s.__pydantic_validator__.validate_python(ArgsKwargs(args, kwargs), self_instance=s)
pydantic_core._pydantic_core.ValidationError: 1 validation error for SchedulerConfig
max_num_seqs
  Input should be greater than or equal to 1 [type=greater_than_equal, input_value=-1, input_type=int]
    For further information visit https://errors.pydantic.dev/2.14/v/greater_than_equal
"""
NO_PARSER = """\
    raise KeyError(
KeyError: "Reasoning parser 'nope' not found. Available parsers: deepseek_r1, qwen3"
"""
NOT_QUANTIZED = """\
api_server.py:24: DeprecationWarning: `vllm.entrypoints.openai.api_server` will likely be unsupported
pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig
  Value error, Cannot find the config file for awq [type=value_error, input_value=ArgsKwargs(())]
"""
NO_ARCHITECTURE = """\
(APIServer pid=17942) ERROR 11-23 21:08:24 [repo_utils.py:126] Error parsing config for /models/x: \
The checkpoint you are trying to load has model type `fancy` but Transformers does not recognize this \
architecture.
ValueError: The checkpoint you are trying to load has model type `fancy`
"""
NO_KV_ROOM = """\
(EngineCore pid=14973) INFO 11-23 21:00:55 [cpu.py:1] 8 kernels are not supported, using others
(EngineCore pid=14973) ERROR 11-23 21:00:55 [core.py:1510] ValueError: No available memory for the cache \
blocks. Try increasing `gpu_memory_utilization` when initializing the engine
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
TOO_MUCH_KV = """\
(Worker pid=14853) ERROR 11-23 21:00:28 [multiproc_executor.py:1063] ValueError: Available memory on node 0 \
(10.03/12.09 GiB) on kv cache allocation is less than requested memory for kv (838.19 GiB).
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""
CONTEXT_TOO_LONG_FOR_KV = """\
ValueError: To serve at least one request with the model's max seq len (131072), (7.00 GiB KV cache is \
needed, which is larger than the available KV cache memory (3.21 GiB).
"""
GPU_TAKEN = """\
ValueError: Free memory on device cuda:0 (3.1/139.8 GiB) on startup is less than desired GPU memory \
utilization (0.9, 125.8 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.
"""
CUDA_OOM = """\
(EngineCore pid=112) ERROR 05-01 14:39:06 [core.py:1131] torch.OutOfMemoryError: CUDA out of memory. Tried \
to allocate 50.00 MiB. GPU 0 has a total capacity of 23.56 GiB of which 21.75 MiB is free.
(APIServer pid=1) ERROR 05-01 14:39:06 [serving.py:1173] vllm.v1.engine.exceptions.EngineDeadError: \
EngineCore encountered an issue. See stack trace (above) for the root cause.
"""
NCCL_OOM = "Cuda failure 'out of memory'\n"
VLLM_WAKE_OOM = "CUDA Error: out of memory at /workspace/csrc/cumem_allocator.cpp:62\n"
NO_SUCH_MODEL = """\
OSError: org/absent is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'
"""
GATED = """\
huggingface_hub.errors.GatedRepoError: 403 Client Error. Cannot access gated repo for url
"""
BUG = """\
INFO 11-23 error-free so far
Traceback (most recent call last):
ModuleNotFoundError: No module named 'httpx2'
RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}
"""


@pytest.mark.parametrize(
    ("log", "cause", "said"),
    [
        (BAD_FLAG, "bad_flag", "--max-num-seqz"),
        (BAD_VALUE, "bad_flag", "SchedulerConfig; max_num_seqs; Input should be greater than or equal to 1"),
        (NO_PARSER, "bad_flag", "Reasoning parser 'nope' not found"),
        (NOT_QUANTIZED, "unsupported", "Cannot find the config file for awq"),
        (NO_ARCHITECTURE, "unsupported", "does not recognize this architecture"),
        (NO_KV_ROOM, "oom", "No available memory for the cache"),
        (TOO_MUCH_KV, "oom", "less than requested memory for kv"),
        (CONTEXT_TOO_LONG_FOR_KV, "oom", "larger than the available KV cache memory"),
        (GPU_TAKEN, "gpu_busy", "less than desired GPU memory utilization"),
        (CUDA_OOM, "oom", "CUDA out of memory"),
        (NCCL_OOM, "oom", "out of memory"),
        (VLLM_WAKE_OOM, "oom", "cumem_allocator"),
        (NO_SUCH_MODEL, "model_missing", "org/absent"),
        (GATED, "model_missing", "gated"),
        (BUG, "crash", "No module named 'httpx2'"),
    ],
)
def test_the_cause_is_read_from_the_log_with_the_line_that_says_it(log: str, cause: Cause, said: str) -> None:
    found = classify(log)
    assert found.cause == cause
    assert found.line is not None
    assert said in found.line


def test_running_out_of_memory_while_serving_is_another_cause() -> None:
    assert classify(CUDA_OOM, serving=True).cause == "oom_serving"
    assert classify("", serving=True, oom_killed=True).cause == "oom_serving"
    assert classify("", oom_killed=True).cause == "oom"
    assert classify(BAD_FLAG, serving=True).cause == "bad_flag"


def test_what_the_log_says_outweighs_the_kernels_count_of_kills() -> None:
    assert classify(BAD_FLAG, oom_killed=True).cause == "bad_flag"


def test_a_silent_death_is_a_crash_without_a_line() -> None:
    assert classify("INFO all is well\n").cause == "crash"
    assert classify("INFO all is well\n").line is None


@given(st.text(max_size=400), st.booleans(), st.booleans())
def test_any_text_has_a_cause_that_says_what_to_try(log: str, serving: bool, oom_killed: bool) -> None:
    assert classify(log, serving=serving, oom_killed=oom_killed).cause in TRY


@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), max_size=600), max_size=50))
def test_the_tail_is_short_and_its_last_line_the_logs(lines: list[str]) -> None:
    kept = tail("\n".join(lines), lines=5).splitlines()
    assert len(kept) <= 5
    assert all(0 < len(line) <= 400 for line in kept)
    if full := [line for line in lines if line]:
        assert kept[-1] == full[-1][:400]

"""An engine's process before it is wanted: everything done that needs no GPU. Standard library only, run as a
file by the engine's own interpreter, below a guard:

    python standby.py FD TASK -m MODULE ARGUMENTS...    (or -c CODE ARGUMENTS..., FILE.py ARGUMENTS...)

``FD`` is one end of a socket pair. ``TASK`` is JSON: ``modules``, to be imported where they exist, and
``model`` and ``revision``, the folder or hub id whose weights are brought into the page cache meanwhile by a
process of their own, null where there are none to bring; ``fork``, environment variables that have the
engine fork its processes. Writes ``ready``, reads a line, and becomes what
``python -m MODULE ARGUMENTS...`` is, with the imports done. Nothing may be on a GPU before that line: it
ends with code 3 should an import have made a CUDA context.

The imports run at the lowest priority where that can be undone. They are not pinned to one CPU: OpenMP would
size its pools by that, and the engine keep them.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import resource
import runpy
import select
import signal
import socket
import sys
import time
import types
from contextlib import suppress
from pathlib import Path
from typing import Any

CUDA_TOUCHED = 3
CUDA_NOT_INITIALIZED = 3  # CUDA_ERROR_NOT_INITIALIZED of the driver
CAP_SYS_NICE = 23
CHUNK_BYTES = 8 << 20
# The formats an engine loads, without the second copies that some repositories carry.
WANTED = ["*.safetensors", "*.json", "*.txt", "*.model", "*.jinja"]
UNWANTED = ["original/*", "consolidated*"]


def main(fd: int, task: dict[str, Any], words: list[str]) -> None:
    os.set_inheritable(fd, False)
    driver = socket.socket(fileno=fd)
    priority = os.getpriority(os.PRIO_PROCESS, 0)
    if _may_lower_again(priority):
        os.setpriority(os.PRIO_PROCESS, 0, 19)
    helper = _brought(task["model"], task["revision"]) if task["model"] else None

    began = time.monotonic()
    sys.path[0] = str(Path.cwd()) if words[0] == "-m" else ""  # not this file's folder
    for name in task["modules"]:
        _imported(name)
    if (cuda := cuda_state()) == "context":
        print("standby: an import made a CUDA context", flush=True)
        os._exit(CUDA_TOUCHED)
    if cuda == "untouched":  # else a forked child could not use the GPU
        os.environ.update({name: value for name, value in task["fork"].items() if name not in os.environ})
    print(f"standby: {len(sys.modules)} modules in {time.monotonic() - began:.1f} s, CUDA {cuda}", flush=True)
    # A forked child must not wake the event loop of its parent when it gets a signal.
    os.register_at_fork(after_in_child=_forget_wakeup_fd)

    wanted = False
    while helper is not None and not wanted and os.waitpid(helper, os.WNOHANG) == (0, 0):
        wanted = bool(select.select([driver], [], [], 0.2)[0])
    if helper is not None and wanted:  # what is not here yet the engine gets by itself
        os.kill(helper, signal.SIGKILL)
        os.waitpid(helper, 0)
    with suppress(OSError):
        driver.sendall(b"ready\n")
    if not driver.recv(64):
        os._exit(0)
    driver.close()
    for thread in Path("/proc/self/task").iterdir():
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, int(thread.name), priority)
    become(words)


def become(words: list[str]) -> None:
    """What the interpreter does with ``-m MODULE ARGUMENTS...``, ``-c CODE ARGUMENTS...`` or ``FILE.py
    ARGUMENTS...``."""
    if words[0].endswith(".py"):
        sys.argv = words
        runpy.run_path(words[0], run_name="__main__")
        return
    how, what, *arguments = words
    if how == "-m":
        sys.argv = [what, *arguments]
        sys.modules.pop(what, None)
        runpy.run_module(what, run_name="__main__", alter_sys=True)
        return
    sys.argv = ["-c", *arguments]
    fresh = types.ModuleType("__main__")  # without a file: a spawned child has no main module to run again
    sys.modules["__main__"] = fresh
    exec(what, fresh.__dict__)


def _imported(name: str) -> None:
    try:
        if importlib.util.find_spec(name) is not None:
            importlib.import_module(name)
    except ModuleNotFoundError:
        return  # another version of the engine
    except Exception as error:
        print(f"standby: {name}: {type(error).__name__}: {error}", flush=True)


def _forget_wakeup_fd() -> None:
    with suppress(ValueError):
        signal.set_wakeup_fd(-1)


def cuda_state() -> str:
    """What this process has done to the GPUs, told by the driver itself: ``untouched``, ``initialised`` (by
    ``cuInit``: nothing is on a GPU, but a fork would not survive it), or ``context``."""
    if "libcuda.so" not in Path("/proc/self/maps").read_text():
        return "untouched"
    driver = ctypes.CDLL("libcuda.so.1")
    count, device, flags, active = ctypes.c_int(), ctypes.c_int(), ctypes.c_uint(), ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) == CUDA_NOT_INITIALIZED:
        return "untouched"
    for number in range(count.value):
        driver.cuDeviceGet(ctypes.byref(device), number)
        driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active))
        if active.value:
            return "context"
    return "initialised"


def _may_lower_again(priority: int) -> bool:
    """Whether this process may go back to ``priority`` after it was nicer."""
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        capabilities = next(line for line in lines if line.startswith("CapEff:"))
        if int(capabilities.split()[1], 16) >> CAP_SYS_NICE & 1:
            return True
    return 20 - priority <= resource.getrlimit(resource.RLIMIT_NICE)[0]


def _brought(model: str, revision: str | None) -> int:
    """The process that downloads a hub's model and reads the weights into the page cache."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        folder = Path(model)
        if not folder.is_absolute():
            hub = importlib.import_module("huggingface_hub")
            folder = Path(
                hub.snapshot_download(
                    model, revision=revision, allow_patterns=WANTED, ignore_patterns=UNWANTED
                )
            )
        read_ahead(sorted(folder.glob("*.safetensors")), free_bytes() // 2)
        code = 0
    except Exception as error:  # the engine will say it better, should it matter
        print(f"standby: {model}: {type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(code)


def read_ahead(files: list[Path], budget_bytes: int) -> int:
    """Brings files into the page cache, in order, as far as the budget goes. Returns the bytes read."""
    buffer, done = memoryview(bytearray(CHUNK_BYTES)), 0
    for file in files:
        with file.open("rb", buffering=0) as opened:
            while count := opened.readinto(buffer[: max(0, budget_bytes - done)]):
                done += count
    return done


def free_bytes() -> int:
    """Memory that can be used without swapping, the page cache included."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0


if __name__ == "__main__":
    main(int(sys.argv[1]), json.loads(sys.argv[2]), sys.argv[3:])

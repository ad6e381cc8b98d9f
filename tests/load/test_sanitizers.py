"""The C code under AddressSanitizer and UndefinedBehaviorSanitizer, through the fuzz tests that it has
anyway."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FUZZED = (
    "tests/load/receive/test_receiver.py",
    "tests/load/stream/test_event_template.py",
    "tests/load/stream/test_response.py",
    "tests/load/client/test_connection.py",
)
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
BYTE_OF_FOUR = """
#include <stdlib.h>
int byte_of_four(int number)
{
    char *four = calloc(4, 1);
    int found = four[number];
    free(four);
    return found;
}
"""
TOO_FAR = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).byte_of_four(4)"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def sanitized(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment whose compiler adds the sanitizers, and in which Python can load what it makes."""
    folder = tmp_path_factory.mktemp("sanitized")
    compiler = folder / "cc"
    compiler.write_text(f'#!/bin/sh\nexec cc {FLAGS} "$@"\n')
    compiler.chmod(0o755)
    (folder / "probe.c").write_text(BYTE_OF_FOUR)
    command = [str(compiler), "-shared", "-fPIC", "-o", str(folder / "probe.so"), str(folder / "probe.c")]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"this compiler has no sanitizers: {made.stderr[-200:]}")
    found = subprocess.run(["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    library = Path(found.stdout.strip())
    if not library.is_absolute():
        pytest.skip("this compiler has no libasan.so that could be loaded first")
    environment = {name: value for name, value in os.environ.items() if name != "ORCHESTRATOR_NATIVE"}
    return environment | {
        "CC": str(compiler),
        "LD_PRELOAD": str(library.resolve()),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter's own
        "ORCHESTRATOR_HOME": str(folder),
        "PYTHONMALLOC": "malloc",  # so that what lies behind Python's own objects is guarded too
    }


def test_the_sanitizers_see_a_read_too_far(sanitized: dict[str, str]) -> None:
    probe = str(Path(sanitized["CC"]).with_name("probe.so"))
    done = subprocess.run(
        [sys.executable, "-c", TOO_FAR, probe], env=sanitized, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "AddressSanitizer: heap-buffer-overflow" in done.stderr


def test_the_fuzz_tests_find_nothing_in_the_c_code(sanitized: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-s", "-p", "no:cacheprovider", *FUZZED],
        env=sanitized,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    assert list(Path(sanitized["ORCHESTRATOR_HOME"]).glob("native/*.so")), "the C code was not compiled here"

"""An engine's own flags: those that other keys set, under any spelling that its parser takes for them, and
those that there are, from its own ``--help``."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from orchestrator import paths
from orchestrator.engines import ADAPTERS
from orchestrator.engines.adapter import Adapter, Launch, flag_name
from orchestrator.engines.inside import entry
from orchestrator.errors import ConfigError

HELP_S = 300.0  # the help comes after the engine was imported, on a busy machine
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_OPTION = re.compile(r"--?[A-Za-z0-9][\w-]*")

Known = Sequence[Collection[str]]
"""The spellings of each flag of an engine: ``[["--tp-size", "--tensor-parallel-size"], ...]``."""


def check_reserved(adapter: Adapter, args: Mapping[str, Any], key: str, known: Known = ()) -> None:
    """Raises ConfigError for the first of ``args``, whose key is ``key``, that another key sets. Parsers of
    Python take any unambiguous beginning of a flag for it, and some flags have several names."""
    for name, value in args.items():
        flag = flag_name(name)
        if not _NAME.fullmatch(flag):
            raise ConfigError(f"{key}.{name}: must be the long name of a flag, such as max-num-seqs")
        if isinstance(value, list | tuple) and any(str(one).startswith("--") for one in value):
            raise ConfigError(f"{key}.{name}={value}: a value that begins with -- would be a flag of its own")
        if found := next(_reserved_as(adapter.reserved, flag, known), None):
            meant = "" if found == flag else f"is --{found}, which "
            raise ConfigError(f"{key}.{name}: {meant}is set by {adapter.reserved[found]}")


def _reserved_as(reserved: Mapping[str, str], flag: str, known: Known) -> Iterator[str]:
    """The reserved flags that ``flag`` stands for."""
    bare = flag.split(".")[0]  # vLLM takes --flag.key VALUE for one key of a flag's JSON
    for name in (bare, bare.removeprefix("no-")):
        if name in reserved:
            yield name
        if groups := [names for names in known if {f"--{name}", f"-{name}"} & set(names)]:
            spelt = (one.lstrip("-") for names in groups for one in names)
            yield from (one for one in spelt if one in reserved)
        else:
            yield from sorted(one for one in reserved if one.startswith(name))


def check_known(adapter: Adapter, args: Mapping[str, Any], key: str, known: Known, version: str) -> None:
    """Raises ConfigError for the first of ``args`` that is no flag of an engine whose flags are ``known``."""
    names = {name for group in known for name in group}
    for name, value in args.items():
        if value is None:
            continue
        flag = flag_name(name)
        bare = flag.split(".")[0]
        wanted = f"--no-{bare}" if value is False else f"--{bare}"
        if wanted in names:
            continue
        if value is False and f"--{bare}" in names:
            raise ConfigError(
                f"{key}.{name}=false: {adapter.name} {version} has no {wanted}; null takes --{bare} away"
            )
        near = get_close_matches(f"--{bare}", sorted(names), 1, 0.6)
        hint = f" (did you mean {near[0].lstrip('-')}?)" if near else ""
        raise ConfigError(f"{key}.{name}: {adapter.name} {version} has no flag --{bare}{hint}")


def known(launch: Launch, version: str) -> Known | None:
    """The flags of the engine that the launch's interpreter has, in ``version``; None where it does not tell
    them. Read once for each version and kept under `paths.home`: the help takes as long as importing the
    engine, half a minute."""
    needed = ADAPTERS[launch.engine].environment(launch) | dict(launch.env)
    needed.pop("ENGINE_API_KEY", None)
    return _known(launch.engine, launch.python, version, tuple(sorted(needed.items())))


@lru_cache
def _known(name: str, python: str, version: str, needed: tuple[tuple[str, str], ...]) -> Known | None:
    kept = paths.home() / "flags" / f"{name}-{version}.json"
    with suppress(OSError, ValueError):
        stored: Known = json.loads(kept.read_text())
        return stored
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | dict(needed)
    env |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}  # a question touches no GPU
    words = [python, entry.__file__, name, "serve", "--help=all" if name == "vllm" else "--help"]
    try:
        told = subprocess.run(
            words, env=env, cwd="/", capture_output=True, text=True, timeout=HELP_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = in_help(told.stdout)
    if not found:
        return None
    with suppress(OSError):  # a home that cannot be written only costs time
        paths.made(kept.parent)
        fresh = kept.with_name(f".{kept.name}.{os.getpid()}")
        fresh.write_text(json.dumps(found))
        fresh.replace(kept)
    return found


def in_help(text: str) -> list[list[str]]:
    """The spellings of each option that an argparse help lists: ``--model-path PATH, --model PATH``."""
    found = []
    for line in text.splitlines():
        if not re.match(r"  --?[A-Za-z0-9]", line):
            continue
        spelt = re.split(r"\s{2,}", line.strip())[0]  # what follows is its description
        spelt = re.sub(r"\{[^}]*\}?|\[[^\]]*\]?", "", spelt)
        words = [word.rstrip(",") for word in spelt.split()]
        found.append([word for word in words if _OPTION.fullmatch(word)])
    return found

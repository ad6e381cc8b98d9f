"""An engine's own flags: those that other keys set, under any spelling that its parser takes for them, those
that there are, and what they take, from its own ``--help``."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from orchestrator import paths
from orchestrator.engines import ADAPTERS
from orchestrator.engines.adapter import Adapter, Launch, flag_name, value_words
from orchestrator.engines.inside import options
from orchestrator.errors import ConfigError

HELP_S = 300.0  # the help comes after the engine was imported, on a busy machine
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
_OPTION = re.compile(r"--?[A-Za-z0-9][\w-]*")
_READ: Mapping[str, Callable[[str], object]] = {"int": int, "float": float}
_NONE = ("None", "")


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag of an engine. ``names`` are its spellings, ``("--tp-size", "--tensor-parallel-size")``;
    ``nargs`` says how many words follow, as argparse has it, ``kind`` whether they are read as ``str``,
    ``int`` or ``float``, ``choices`` which ones there are. None is what the engine did not tell."""

    names: Collection[str]
    nargs: int | str | None = None
    choices: Collection[str] | None = None
    kind: str | None = None


Known = Sequence[Flag]


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
        if groups := [one.names for one in known if {f"--{name}", f"-{name}"} & set(one.names)]:
            spelt = (one.lstrip("-") for names in groups for one in names)
            yield from (one for one in spelt if one in reserved)
        else:
            yield from sorted(one for one in reserved if one.startswith(name))


def check_known(adapter: Adapter, args: Mapping[str, Any], key: str, known: Known, version: str) -> None:
    """Raises ConfigError for the first of ``args`` that is no flag of an engine whose flags are ``known``."""
    names = {name for one in known for name in one.names}
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


def check_values(adapter: Adapter, args: Mapping[str, Any], key: str, known: Known, version: str) -> None:
    """Raises ConfigError for the first of ``args`` whose value an engine whose flags are ``known`` refuses.
    Where the engine has several parsers, one that takes it is enough; what nobody told passes."""
    for name, value in args.items():
        if value is None or value is False:
            continue
        found = [one for one in known if f"--{flag_name(name)}" in one.names]
        allowed = [_refused(one, value) for one in found]
        if found and all(allowed):
            typed = " ".join(value_words(value)) if value is not True else "true"
            raise ConfigError(f"{key}.{name}={typed}: {adapter.name} {version} takes {allowed[0]}")


def _refused(flag: Flag, value: Any) -> str | None:
    """What ``flag`` takes, where that is not ``value``."""
    words = [] if value is True else value_words(value)
    counts: Mapping[object, tuple[bool, str]] = {
        0: (not words, "true or false, and no other value"),
        1: (len(words) == 1, "one value"),
        "+": (bool(words), "one value or several"),
        "?": (len(words) < 2, "one value at most"),
    }
    right, said = counts.get(flag.nargs, (True, ""))
    if flag.choices is not None and flag.kind is not None:
        right = right and all(_chosen(flag, word) for word in words)
        said = f"one of {', '.join(flag.choices)}"
    elif flag.kind is not None and flag.kind in _READ:
        kind = flag.kind
        right = right and all(_is_number(kind, word) for word in words)
        said = "a whole number" if flag.kind == "int" else "a number"
    return None if right else said


def _chosen(flag: Flag, word: str) -> bool:
    choices = flag.choices or ()
    if word in _NONE:
        return "None" in choices or word in choices
    read = _READ.get(flag.kind or "", str)
    with suppress(ValueError):
        return any(one not in _NONE and read(one) == read(word) for one in choices)
    return False


def _is_number(kind: str, word: str) -> bool:
    """As Python reads it; ``None`` and nothing stand for no number where vLLM's flag may have none."""
    with suppress(ValueError):
        _READ[kind](word)
        return True
    return word in _NONE


def known(launch: Launch, version: str) -> Known | None:
    """The flags of the engine that the launch's interpreter has, in ``version``; None where it does not tell
    them. Read once for each version and kept under `paths.home`: the help takes as long as importing the
    engine, half a minute."""
    needed = ADAPTERS[launch.engine].environment(launch) | dict(launch.env)
    needed.pop("ENGINE_API_KEY", None)
    return _known(launch.engine, launch.python, version, tuple(sorted(needed.items())))


@lru_cache
def _known(name: str, python: str, version: str, needed: tuple[tuple[str, str], ...]) -> Known | None:
    kept = paths.home() / "flags" / f"{name}-{version}.options.json"
    with suppress(OSError, ValueError, TypeError):
        return [Flag(**one) for one in json.loads(kept.read_text())]
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | dict(needed)
    env |= {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}  # a question touches no GPU
    words = [python, options.__file__, name, "serve", "--help=all" if name == "vllm" else "--help"]
    try:
        told = subprocess.run(
            words, env=env, cwd="/", capture_output=True, text=True, timeout=HELP_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    found = in_options(told.stdout) or in_help(told.stdout)
    if not found:
        return None
    with suppress(OSError):  # a home that cannot be written only costs time
        paths.made(kept.parent)
        fresh = kept.with_name(f".{kept.name}.{os.getpid()}")
        fresh.write_text(json.dumps([asdict(one) for one in found]))
        fresh.replace(kept)
    return found


def in_options(text: str) -> list[Flag]:
    """The options that `inside.options` tells, of every parser."""
    told = (line.removeprefix(options.MARK) for line in text.splitlines() if line.startswith(options.MARK))
    return [Flag(**one) for line in told for one in json.loads(line)]


def in_help(text: str) -> list[Flag]:
    """The spellings of each option that an argparse help lists: ``--model-path PATH, --model PATH``."""
    found = []
    for line in text.splitlines():
        if not re.match(r"  --?[A-Za-z0-9]", line):
            continue
        spelt = re.split(r"\s{2,}", line.strip())[0]  # what follows is its description
        spelt = re.sub(r"\{[^}]*\}?|\[[^\]]*\]?", "", spelt)
        words = [word.rstrip(",") for word in spelt.split()]
        found.append(Flag([word for word in words if _OPTION.fullmatch(word)]))
    return found

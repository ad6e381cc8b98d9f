"""The command line as Hydra's parser takes it, whatever order it was typed in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

# Hydra's flags that take a value; any unambiguous beginning of a long one stands for it.
_VALUED = ("--cfg", "--package", "--config-path", "--config-name", "--config-dir", "--experimental-rerun")
_VALUED_SHORT = ("-c", "-p", "-cp", "-cn", "-cd")
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")  # --info may go without

# Keys below these are the engine's or the template's own, so no schema knows them: Hydra wants `++`.
_OPEN = re.compile(r"(engine\.(args|env)|model\.chat_template_kwargs)(\.[^=]+)?=")


def arrange(arguments: Sequence[str]) -> list[str]:
    """Overrides first, then flags, each with its value: Hydra refuses ``key=value -m key=value``, and takes
    what follows ``--info`` for its value."""
    flags: list[str] = []
    overrides: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(_opened(word))
            continue
        flags.append(word)
        if rest and (_takes_value(word) or (_is_info(word) and rest[0] in _INFO)):
            flags.append(rest.pop(0))
    if any(len(flag) > 3 and "--hydra-help".startswith(flag) for flag in flags):
        # That page is about Hydra's settings alone, and other keys are unknown to it.
        overrides = [one for one in overrides if re.match(r"[+~]*hydra[./]", one)]
    return [*overrides, *flags]


def _takes_value(word: str) -> bool:
    long = word.startswith("--") and len(word) > 2
    return word in _VALUED_SHORT or (long and any(name.startswith(word) for name in _VALUED))


def _is_info(word: str) -> bool:
    return word == "-i" or (len(word) > 2 and "--info".startswith(word))


def _opened(override: str) -> str:
    """``engine.args.NAME=VALUE`` needs no ``++``, and its value may be JSON, as in the engines' manuals."""
    bare = override.lstrip("+")
    if _OPEN.match(bare) is None:
        return override
    key, value = bare.split("=", 1)
    if value.startswith("{") and _is_json(value):
        value = "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return f"{override[: len(override) - len(bare)] or '++'}{key}={value}"


def _is_json(text: str) -> bool:
    try:
        return '"' in text and isinstance(json.loads(text), dict)
    except ValueError:
        return False

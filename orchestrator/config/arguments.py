"""The command line as Hydra's parser takes it, whatever order it was typed in."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from orchestrator.config.schema import SweepConfig

# Hydra's flags that take a value; any unambiguous beginning of a long one stands for it.
_VALUED = ("--cfg", "--package", "--config-path", "--config-name", "--config-dir", "--experimental-rerun")
_VALUED_SHORT = ("-c", "-p", "-cp", "-cn", "-cd")
_INFO = ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath")  # --info may go without

# Keys below these are the engine's or the template's own, so no schema knows them: Hydra wants `++`.
_OPEN = re.compile(r"(engine\.(args|env)|model\.chat_template_kwargs)(\.[^=]+)?=")

# A flag with its dashes, as a command line has it, is the same flag; Hydra's grammar has no such key.
_DASHED = re.compile(r"([+~]*engine\.args\.)-{1,2}(?=[A-Za-z])")

# Keys whose texts an engine or a model reads: in double quotes they are JSON's or YAML's, where "\\n" is a
# line's end. Elsewhere, in a path, a backslash stays one, as in Hydra's grammar.
_ESCAPED = re.compile(r"(model\.)?sampling\.|model\.(think_tags|chat_template_kwargs)\b|engine\.(args|env)\b")
_QUOTED = re.compile(r""""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'|\\(?P<bare>.)""", re.DOTALL)

_STRUCTURED = ("{", "[", "'", '"')  # what begins so is a value of Hydra's grammar, well written or not


def arrange(arguments: Sequence[str]) -> list[str]:
    """Overrides first, then flags, each with its value: Hydra refuses ``key=value -m key=value``, and takes
    what follows ``--info`` for its value."""
    flags: list[str] = []
    overrides: list[str] = []
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-"):
            overrides.append(_read(word))
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


def _read(override: str) -> str:
    """As Hydra can read it: ``engine.args.NAME=VALUE`` needs no ``++``, its value may be JSON, as in the
    engines' manuals, and a text may hold what Hydra's grammar has other uses for (``=``, ``(``, a quote)."""
    override = _DASHED.sub(r"\1", override, count=1) if _DASHED.match(override) else override
    bare = override.lstrip("+")
    opened = _OPEN.match(bare) is not None
    if "=" not in bare:
        return override
    key, value = bare.split("=", 1)
    sign = override[: len(override) - len(bare)] or ("++" if opened else "")
    if not (opened or _is_text(key)) or _is_readable(f"k={value}"):
        if _ESCAPED.match(key):
            value = _QUOTED.sub(_unescaped, value)
    elif opened and _is_json(value):
        value = quoted(value)
    elif value[:1] not in _STRUCTURED:
        # A sweep's values one by one, as far as their commas tell them.
        value = ",".join(one if _is_readable(f"k={one}") else quoted(one) for one in value.split(","))
    return f"{sign}{key}={value}"


def as_typed(override: str) -> str:
    """An override of a job as it can be typed again, in one line: a sweeper has escaped colons and the like
    outside quotes, and `arrange` has read the escapes inside them."""
    key, equals, value = override.partition("=")
    escaped = _ESCAPED.match(key.lstrip("+")) is not None

    def typed(found: re.Match[str]) -> str:
        if found["bare"] is not None:
            return found["bare"]
        if not escaped or not re.search(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029]", found[0]):
            return found[0]
        return json.dumps(_plain(found[0]), ensure_ascii=not _plain(found[0]).isprintable())

    return f"{key}{equals}{_QUOTED.sub(typed, value)}"


def _plain(token: str) -> str:
    """What a quoted text of Hydra's grammar is."""
    inner, quote = token[1:-1], token[0]
    inner = re.sub(rf"(\\+){quote}", lambda one: "\\" * (len(one[1]) // 2) + quote, inner)
    return re.sub(r"(\\+)\Z", lambda one: "\\" * (len(one[1]) // 2), inner)


def _unescaped(found: re.Match[str]) -> str:
    """A text in double quotes with the escapes of JSON, or else YAML, as a text of Hydra's grammar, which has
    none; what is neither stays."""
    token = found[0]
    if not token.startswith('"') or "\\" not in token:
        return token
    for load in (json.loads, yaml.safe_load):
        with suppress(ValueError, yaml.YAMLError):
            return quoted(str(load(token)))
    return token


def quoted(text: str) -> str:
    """``text`` as a value of Hydra's grammar: only a quote, and backslashes before one, are escaped."""
    text = re.sub(r"(\\*)'", lambda found: found[1] * 2 + "\\'", text)
    return "'" + re.sub(r"(\\+)\Z", lambda found: found[1] * 2, text) + "'"


@cache
def _parser() -> OverridesParser:
    return OverridesParser.create()


def _is_readable(override: str) -> bool:
    try:
        _parser().parse_override(override)
    except HydraException:
        return False
    return True


def _is_text(key: str) -> bool:
    """Whether the schema has a text there, or may have one."""
    hint: Any = SweepConfig
    for part in key.split("."):
        if not (is_dataclass(hint) and isinstance(hint, type)):
            return False
        hint = get_type_hints(hint).get(part)
    return hint is Any or str in (get_args(hint) or (hint,))


def _is_json(text: str) -> bool:
    try:
        return '"' in text and isinstance(json.loads(text), dict | list)
    except ValueError:
        return False

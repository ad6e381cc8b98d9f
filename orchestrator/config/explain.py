"""What Hydra and OmegaConf say about a wrong configuration, in one line: key, value, what is allowed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_type_hints

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from orchestrator.config.arguments import quoted
from orchestrator.config.schema import SweepConfig
from orchestrator.errors import ConfigError
from orchestrator.paths import conf_dir


def explain(error: BaseException) -> str | None:
    """One line for an error of composing; None for any other error, which is then a bug to be shown whole."""
    if isinstance(error, ValueError) and re.match(r"Only one of --run|The --resolve flag", str(error)):
        return str(error)  # flags that do not go together
    if isinstance(error, ValueError) and str(error).startswith("Config group override must be"):
        groups = sorted(one.name for one in conf_dir().iterdir() if one.is_dir() and one.name != "hydra")
        return (
            f"one of {', '.join(groups)} is null or no text: must be the name of a config, or a list of such"
        )
    chain = list(_chain(error))
    if not any(isinstance(one, HydraException | OmegaConfBaseException) for one in chain):
        return None
    text = "\n".join(str(one) for one in chain)
    if found := re.search(r"Could not override '([^']+)'", text):
        return unknown_key(found[1])
    if found := re.search(
        r"Could not find '([^']+)/([^'/]+)'\n\nAvailable options in '[^']+':\n((?:\t.*\n?)+)", text
    ):
        options = found[3].split()
        return f"{found[1]}={found[2]}: unknown{_suggest(found[2], options)}; allowed: {', '.join(options)}"
    if found := re.search(r"Could not load '([^']+)/([^'/]+)'", text):
        return (
            f"{found[1]}={found[2]}: unknown; `--info defaults-tree` and conf/{found[1]}/ show what there is"
        )
    if found := re.search(r"Error merging override (\S+?)=(.*)\n", text):
        key, value = found[1].lstrip("+"), found[2]
        return f"{key}={value}: must be {_allowed_type(key) or _reason(text)}"
    if found := re.search(r"Ambiguous value for argument '([^']+)'", text):
        return f"{found[1]}: several values need -m, which sweeps over them"
    for one in chain:
        if isinstance(one, OverrideParseException) and "=" in one.override:
            key, value = one.override.lstrip("+").split("=", 1)
            return (
                f"{key}={value}: cannot be read; quote it for Hydra inside the shell's quotes: "
                f"{shlex.quote(f'{key}={quoted(value)}')}"
            )
    if found := re.search(r"Error parsing override '([^']*)'\n(.*)", text):
        return f"{found[1]}: is not key=value ({found[2]})"
    return " ".join(str(error).split())


def unknown_key(key: str) -> str:
    """The line for a key that no schema knows."""
    if of := _studies_with(key):
        return f"{key}: is a choice of some studies alone; allowed with {' or '.join(of)}"
    known = list(known_keys())
    name = key.rsplit(".", 1)[-1]
    parent = key.rsplit(".", 1)[0] if "." in key else ""
    near = (
        get_close_matches(key, known, 1, 0.75)
        or [one for one in known if one.rsplit(".", 1)[-1] in (name, f"{name}_name")][:1]
    )
    siblings = [k for k in known if k.rpartition(".")[0] == parent] or [k for k in known if "." not in k]
    hint = f" (did you mean {near[0]}?)" if near else ""
    return (
        f"{key}: unknown key{hint}; allowed{f' in {parent}' if parent else ''}: {', '.join(sorted(siblings))}"
    )


def _studies_with(group: str) -> list[str]:
    """The studies that have a choice of that group among their defaults."""
    line = re.compile(rf"^ *- /{re.escape(group)}:", re.MULTILINE)
    files = sorted((conf_dir() / "study").glob("*.yaml"))
    return [f"+study={one.stem}" for one in files if line.search(one.read_text(encoding="utf-8"))]


def known_keys(schema: type[Any] = SweepConfig, prefix: str = "") -> Iterator[str]:
    """Every dotted key of the schema."""
    hints = get_type_hints(schema)
    for field in fields(schema):
        yield prefix + field.name
        hint = hints[field.name]
        if is_dataclass(hint) and isinstance(hint, type):
            yield from known_keys(hint, f"{prefix}{field.name}.")


def check_known(composed: DictConfig, prefix: str = "") -> None:
    """Raises ConfigError for a key added with ``+`` that no schema knows: Hydra lets it pass, unused."""
    kind = composed._metadata.object_type
    names = {field.name for field in fields(kind)} if is_dataclass(kind) and isinstance(kind, type) else None
    for key in composed:
        name = str(key)
        if names is not None and name not in names:
            raise ConfigError(unknown_key(prefix + name))
        node = composed._get_node(name)
        if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing():
            check_known(node, f"{prefix}{name}.")


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _suggest(value: str, options: list[str]) -> str:
    near = get_close_matches(value, options, 1, 0.6)
    return f" (did you mean {near[0]}?)" if near else ""


def _allowed_type(key: str) -> str | None:
    """The type of a key in plain words."""
    schema: Any = SweepConfig
    for part in key.split("."):
        if not is_dataclass(schema) or not isinstance(schema, type):
            return None
        schema = get_type_hints(schema).get(part)
    if is_dataclass(schema):
        return "the name of one of its configs, or a key below it"
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    named = [words[one] for one in (get_args(schema) or (schema,)) if one in words]
    if not named:
        return None
    return named[0] + (", or null" if type(None) in get_args(schema) else "")


def _reason(text: str) -> str:
    return "of another type (" + " ".join(text.split("\n")[1].split()) + ")"

"""Secrets, known by their names and by their values: never stored or shown, and no part of a hash.

By name: a variable such as ``HF_TOKEN``. By value, wherever it stands: what such a variable holds, here or in
a configuration (`known`), and what is written as access keys are (``hf_…``, ``sk-…``, a password in a URL).
Standard library only: an engine's guard has it too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

MASK = "***"
SHORTEST = 6  # characters of a value that is looked for: shorter ones are words of other things too

# A word of its own, since engines have settings such as VLLM_MAX_TOKENS or TOKENIZERS_PARALLELISM.
_SECRET = re.compile(
    r"SECRET|PASSWORD|PASSWD|PASSPHRASE|PASSCODE|CREDENTIAL|AUTHORIZATION|COOKIE|CONNECTION_STRING"
    r"|(API|ACCESS|PRIVATE|AUTH|ENCRYPTION|SIGNING|SESSION|ACCOUNT|MASTER)_?KEY|(^|_)KEY$|TOKEN$|(^|_)TOKEN_"
    r"|(^|_)(PASS|AUTH|PRIVATE|SESSION|SIGNATURE|BEARER|JWT|SAS|PAT)$|_PWD$|SESSION_?ID$"
)
_SURELY = re.compile(
    r"SECRET|PASSWORD|PASSPHRASE|PASSWD|AUTHORIZATION|COOKIE"
    r"|(API|ACCESS|AUTH|PRIVATE)_?KEY$|(API|AUTH|ACCESS|HUB|HF)_?TOKEN$"
)
# What is no secret itself: the desktop's session, and the name of the variable that holds a secret.
_NONE = re.compile(r"(XDG|DESKTOP|DBUS|GDM|GNOME|WAYLAND)_|OLD_?PWD$|\w+_ENV$")
_ENGINES = re.compile(r"VLLM_|SGLANG_|SGL_|TORCH|PYTORCH_|NCCL_|FLASHINFER_|TRITON_|CUDA_")
# As Hugging Face, OpenAI and those like it, GitHub, AWS, NVIDIA and Slack write theirs; a signed token.
_WRITTEN = re.compile(
    r"\b(?:hf_[A-Za-z0-9]{20,}|sk-[\w-]{20,}|gh[opsu]_\w{30,}|github_pat_\w{30,}|(?:AKIA|ASIA)[A-Z0-9]{16}"
    r"|nvapi-[\w-]{20,}|xox[abprs]-[\w-]{10,}|eyJ[\w-]{10,}\.[\w-]{10,}\.[\w-]{10,})"
)
_BEGIN = ("hf_", "sk-", "gho_", "ghp_", "ghs_", "ghu_", "github_pat_", "AKIA", "ASIA", "nvapi-", "xox", "eyJ")
_IN_URL = re.compile(r"(?<=://)([^\s/:@'\"]*):[^\s/@'\"]+(?=@)")
_PAIR = re.compile(r"""(\w+)(['"]?\s*[:=]\s*)("[^"]*"|'[^']*'|[^,}\s]+)""")


@lru_cache(maxsize=4096)
def is_secret(name: str) -> bool:
    """Whether the variable holds a secret: ``HF_TOKEN``, ``OPENAI_API_KEY``, ``MY_SECRET``, ``DB_PASSWORD``.
    A setting of an engine (``SGLANG_PER_TOKEN_GROUP_QUANT``) only where it is surely an access key."""
    upper = name.upper()
    if _NONE.match(upper):
        return False
    return bool((_SURELY if _ENGINES.match(upper) else _SECRET).search(upper))


def is_secret_flag(flag: str) -> bool:
    """Whether an engine's flag takes a secret: ``hf-token``, ``admin-api-key``, ``ssl-keyfile-password``."""
    return _SURELY.search(flag.upper().replace("-", "_")) is not None


def known(*environments: Mapping[str, Any]) -> tuple[str, ...]:
    """The values of the secrets in ``environments`` and in this process's environment, longest first. Of the
    latter no paths: a variable that says where a token lies is named like one."""
    own = {name: value for name, value in os.environ.items() if not value.startswith(("/", "~"))}
    values = {
        str(value) for env in (own, *environments) for name, value in env.items() if is_secret(name) and value
    }
    return tuple(sorted((one for one in values if len(one) >= SHORTEST), key=lambda one: (-len(one), one)))


def hidden(text: str, values: Iterable[str]) -> str:
    """``text`` with ``***`` for each of ``values``, longest first, and for what is written as a secret is."""
    for value in values:
        if value in text:
            text = text.replace(value, MASK)
    if any(begin in text for begin in _BEGIN):  # far cheaper than the pattern, in long texts
        text = _WRITTEN.sub(MASK, text)
    return _IN_URL.sub(rf"\1:{MASK}", text) if "@" in text else text


def hidden_in(value: Any, values: Collection[str]) -> Any:
    """Plain mappings and lists with every text in them `hidden`."""
    if isinstance(value, str):
        return hidden(value, values)
    if isinstance(value, Mapping):
        return {key: hidden_in(one, values) for key, one in value.items()}
    return [hidden_in(one, values) for one in value] if isinstance(value, list | tuple) else value


def public(env: Mapping[str, Any]) -> dict[str, str]:
    """``env`` without its secrets: what may be hashed."""
    return {name: str(value) for name, value in env.items() if not is_secret(name)}


def masked(env: Mapping[str, Any]) -> dict[str, str]:
    """``env`` with ``***`` for every secret: what may be stored and shown."""
    return {name: MASK if is_secret(name) else str(value) for name, value in env.items()}


def masked_config(value: Any) -> Any:
    """A configuration as plain mappings and lists, with `masked` environments: each mapping named ``env``."""
    if isinstance(value, Mapping):
        return {
            key: masked(one) if key == "env" and isinstance(one, Mapping) else masked_config(one)
            for key, one in value.items()
        }
    return [masked_config(one) for one in value] if isinstance(value, list | tuple) else value


def masked_override(override: str, values: Iterable[str]) -> str:
    """An override as it was typed, with ``***`` for what a variable of an environment that is a secret is
    given, however it is quoted, and for all of ``values``."""
    key, equals, given = override.partition("=")
    where, _, name = key.rpartition(".")
    if equals and _gives_a_secret(where, name):
        return f"{key}={MASK}"
    if equals and key.endswith(".env"):
        given = _PAIR.sub(lambda pair: pair[1] + pair[2] + (MASK if is_secret(pair[1]) else pair[3]), given)
    return hidden(key + equals + given, values)


def _gives_a_secret(where: str, name: str) -> bool:
    """Whether a key ``WHERE.NAME`` of the configuration is a variable's or a flag's that holds a secret."""
    return (where.endswith("env") and is_secret(name)) or (where.endswith("args") and is_secret_flag(name))


def typed(words: Iterable[str]) -> tuple[str, ...]:
    """The values that a command line gives to secrets, longest first."""
    found: list[str] = []
    for word in words:
        key, _, given = word.partition("=")
        where, _, name = key.rpartition(".")
        if is_secret(name) or _gives_a_secret(where, name):
            found.append(given)
        elif key.endswith(".env"):
            found += [pair[3] for pair in _PAIR.finditer(given) if is_secret(pair[1])]
    values = {value.strip("'\"") for value in found}
    return tuple(sorted((one for one in values if len(one) >= SHORTEST), key=len, reverse=True))


def cover_command_line() -> None:
    """Covers what this process's command line gives to secrets, in its own memory, where ``ps`` and Ray's
    list of jobs read it. Until then, a fraction of a second, it could be read."""
    with suppress(OSError, ValueError, IndexError), Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()  # proc(5), from its third
        start, end = int(fields[45]), int(fields[46])
        memory.seek(start)
        line = memory.read(end - start) or b""
        words = [word.decode(errors="surrogateescape") for word in line.split(b"\0")]
        values = (*known(), *typed(words))
        at = start
        for word in words:
            written = word.encode(errors="surrogateescape")
            if masked_override(word, values) != word:
                kept = written.find(b"=") + 1  # 0 where there is none: then all of it
                memory.seek(at + kept)
                memory.write(b"*" * (len(written) - kept))
            at += len(written) + 1

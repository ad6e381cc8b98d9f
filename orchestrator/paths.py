"""Where things lie: the user's home for engines and models, the data files of this distribution, and what a
model's source names."""

from __future__ import annotations

import os
from pathlib import Path

PACKAGE = Path(__file__).parent
CHECKOUT = PACKAGE.parent


def in_checkout() -> bool:
    """Whether this package runs from its source tree rather than from an installed wheel."""
    return (CHECKOUT / "pyproject.toml").is_file() and (CHECKOUT / "conf").is_dir()


def home() -> Path:
    """The folder of what is made once and kept: ``engines/NAME`` (interpreters), ``models/NAME`` (weights).

    ``$ORCHESTRATOR_HOME``, else ``.orchestrator/`` of the checkout, else ``~/.cache/reasoning-orchestrator``.
    """
    if chosen := os.environ.get("ORCHESTRATOR_HOME"):
        return Path(chosen).expanduser().absolute()
    if in_checkout():
        return CHECKOUT / ".orchestrator"
    return Path.home() / ".cache" / "reasoning-orchestrator"


def conf_dir() -> Path:
    """The configuration groups that come with the package."""
    return _data("conf")


def requirements_dir() -> Path:
    """The pinned requirements of the engines' own environments."""
    return _data("requirements")


def _data(name: str) -> Path:
    return CHECKOUT / name if in_checkout() else PACKAGE / name


def is_path(source: str) -> bool:
    """Whether a model's source is a folder's path; else it is ``ID`` or ``ID@REVISION`` of the hub."""
    return source.startswith(("/", "~", "."))


def hub_parts(source: str) -> tuple[str, str | None]:
    """``ID`` and ``REVISION`` of a source; a path is whole, and has no revision."""
    hub_id, _, revision = (source, "", "") if is_path(source) else source.partition("@")
    return hub_id, revision or None


def made(folder: Path) -> Path:
    """``folder`` under `home`, created. What is there is no part of a surrounding git repository."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (ignore := home() / ".gitignore").exists():
        ignore.parent.mkdir(parents=True, exist_ok=True)
        ignore.write_text("*\n")
    return folder

"""Keeps the Report of Weights & Biases as a spec beside the page, and pushes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from orchestrator.errors import ConfigError, OrchestratorError
from orchestrator.report.options import Options

SPEC = "wandb-report.json"
MOST_SAID = 300  # characters of an error
_RETRIES, _TIMEOUT_S = 1, 10.0  # of one request: a service that cannot be reached is said within the minute


class PushError(OrchestratorError):
    """The report could not be pushed. One line; the page and the spec are there."""


def can_be_made(options: Options) -> bool:
    """Whether the library for it is installed. Raises ConfigError where it is not and a push is asked for."""
    found = find_spec("wandb_workspaces") is not None
    if options.wandb and not found:
        raise ConfigError("wandb=push: needs the package wandb-workspaces, which is not installed")
    return found


def keep(report: Any, out: Path, pushed: Mapping[str, str] | None = None) -> None:
    """Writes what a push sends. ``pushed`` names the report on the service, as the file does since its last
    push where this is none."""
    path = out / SPEC
    spec = report._to_model().spec.model_dump_json(by_alias=True, exclude_none=True)  # as `save` sends it
    content = {
        **{"title": report.title, "description": report.description},
        **{"entity": report.entity or None, "project": report.project},
        **{"pushed": pushed or _pushed(path), "spec": json.loads(spec)},
    }
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _pushed(path: Path) -> dict[str, str] | None:
    try:
        found = json.loads(path.read_text())["pushed"]
        return {key: str(found[key]) for key in ("entity", "project", "id", "url")}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def push(report: Any, out: Path) -> str:
    """Saves it on the service that `wandb` is set up for, in place of the one that was pushed from this
    folder to the same project before. Returns its address. Raises PushError."""
    import wandb

    try:
        wandb.setup(
            wandb.Settings(silent=True, x_graphql_retry_max=_RETRIES, x_graphql_timeout_seconds=_TIMEOUT_S)
        )
        report.entity = report.entity or wandb.Api().default_entity or ""
        if not report.entity:
            raise PushError("the account has no default entity; name one with wandb.entity=")
        place = {"entity": str(report.entity), "project": str(report.project)}
        before = _pushed(out / SPEC)
        if before is not None and place.items() <= before.items():
            report.id = before["id"]
        report.save()
        url = str(report.url)
        keep(report, out, place | {"id": str(report.id), "url": url})
    except Exception as error:  # whatever the library, the network or the service does
        said = " ".join(str(error).split()).replace("<no message>", "no answer") or type(error).__name__
        raise PushError(f"wandb=push: {said[:MOST_SAID]}; the report's spec is {out / SPEC}") from error
    finally:
        with suppress(Exception):
            wandb.teardown()  # its service would otherwise outlive the command
    return url

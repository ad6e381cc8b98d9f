"""Which commits of the hub's models and datasets a configuration loads: those that it leaves open, and what
they are by this machine's cache and by the hub."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from orchestrator.config.schema import DatasetConfig, DeploymentConfig, SweepConfig
from orchestrator.paths import hub_parts, is_path

ANSWERS_S = 5.0
DATASET = "datasets/"
_COMMIT = re.compile(r"[0-9a-f]{40}$")


def unpinned(config: SweepConfig) -> list[str]:
    """What this configuration downloads from the hub at no known commit: models as ``ID`` or ``ID@BRANCH``, a
    dataset with `DATASET` before it."""
    return list(dict.fromkeys([*unpinned_dataset(config.dataset), *unpinned_models(config)]))


def unpinned_dataset(dataset: DatasetConfig) -> list[str]:
    """As `unpinned`, of the dataset alone: one, or none."""
    found = (
        [] if dataset.path or not dataset.hub_id else [DATASET + _source(dataset.hub_id, dataset.revision)]
    )
    return [one for one in found if not _has_commit(one)]


def unpinned_models(config: DeploymentConfig) -> list[str]:
    """As `unpinned`, of the models alone."""
    found = [] if config.engine.name in ("external", "simulated") else _models(config)
    return [one for one in dict.fromkeys(found) if not _has_commit(one)]


def _models(config: DeploymentConfig) -> list[str]:
    model, opts = config.model, config.opt.values()
    found = [model.checkpoints[o.checkpoint] for o in opts if o.checkpoint in model.checkpoints]
    if model.hub_id and not model.path and not model.package:
        found.append(_source(model.hub_id, model.revision))  # of a checkpoint its tokenizer
    if config.weights == "dummy" and model.architecture and not model.path:
        found = []
    return found + [getattr(model, o.needs) for o in opts if o.needs and getattr(model, o.needs, None)]


def _source(hub_id: str, revision: str | None) -> str:
    return f"{hub_id}@{revision}" if revision else hub_id


def _has_commit(source: str) -> bool:
    """A path needs none: its content is hashed."""
    return is_path(source) or bool(_COMMIT.match(hub_parts(source)[1] or ""))


def cached(source: str) -> str | None:
    """The commit that the local cache last had for ``ID`` or ``ID@BRANCH``; None where it has none."""
    hub_id, branch = hub_parts(source)
    with suppress(OSError):
        kind = "datasets" if hub_id.startswith(DATASET) else "models"
        refs = _cache() / f"{kind}--{hub_id.removeprefix(DATASET).replace('/', '--')}" / "refs"
        return (refs / (branch or "main")).read_text().strip() or None
    return None


def asked(source: str) -> str | None:
    """The commit that the hub has for ``ID`` or ``ID@BRANCH`` now. None where it has no such model, or none
    that this machine may see. Raises OSError where the hub cannot be reached in a few seconds, or must not
    be."""
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        raise OSError("HF_HUB_OFFLINE is set")
    from huggingface_hub import HfApi  # takes a moment to import, and most runs never need it
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    hub_id, revision = hub_parts(source)
    try:
        api = HfApi()
        if hub_id.startswith(DATASET):
            name = hub_id.removeprefix(DATASET)
            return api.dataset_info(name, revision=revision, timeout=ANSWERS_S).sha
        return api.model_info(hub_id, revision=revision, timeout=ANSWERS_S).sha
    except (HfHubHTTPError, HFValidationError):
        return None
    except Exception as error:  # of whatever HTTP library this version of the client is built on
        raise OSError(f"the hub cannot be reached: {error}") from error


def _cache() -> Path:
    if cache := os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE"):
        return Path(cache).expanduser()
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(home).expanduser() / "hub"

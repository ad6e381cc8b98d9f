"""A job's configuration as it is planned: everything that depends on where and when the command runs is
replaced by what it stands for, so that a node elsewhere does the same and the cell's name says so."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.config.schema import (
    DatasetConfig,
    DeploymentConfig,
    EngineConfig,
    EngineOptConfig,
    LoadConfig,
    ModelConfig,
    OptConfig,
    SweepConfig,
)
from orchestrator.engines import environment
from orchestrator.engines.external import trimmed
from orchestrator.engines.revisions import unpinned_dataset, unpinned_models
from orchestrator.paths import hub_parts
from orchestrator.plan.known import Known
from orchestrator.plan.once import Once


def settled(config: SweepConfig, known: Known, inherited: Mapping[str, str], once: Once) -> SweepConfig:
    """``config`` with absolute paths, with commits in place of branches of the hub where ``known`` has them,
    and with what its engine takes from the driver's environment ``inherited``. Jobs that shared a section
    share what it is made into."""
    engine = once(_engine, config.engine, inherited)
    model, opt = once(_models, once.deployment(config), known.revisions)
    return replace(
        config,
        model=model,
        opt=opt,
        dataset=once(_dataset, config.dataset, known.revisions),
        load=once(_load, config.load),
        engine=engine,
        output_length=_absolute_trace(config.output_length),
        thinking_budget=None if is_off(config.thinking_budget) else config.thinking_budget,
    )


def is_off(budget: Any) -> bool:
    """YAML has false for ``off``; 0 is a budget."""
    return budget is None or budget is False or budget == "off"


def _engine(engine: EngineConfig, inherited: Mapping[str, str]) -> EngineConfig:
    own = {} if engine.name in ("external", "simulated") else environment.taken(inherited)
    python = engine.python
    return replace(
        engine,
        python=_absolute(python) if python and os.sep in python else python,
        env={**own, **engine.env},
        base_url=engine.base_url and trimmed(engine.base_url),
    )


def _load(load: LoadConfig) -> LoadConfig:
    return replace(load, path=_absolute(load.path))


def _dataset(dataset: DatasetConfig, revisions: Mapping[str, str]) -> DatasetConfig:
    changed = _changed(unpinned_dataset(dataset), revisions)
    revision = revisions[next(iter(changed))] if changed else dataset.revision
    return replace(dataset, path=_absolute(dataset.path), revision=revision)


def _models(
    config: DeploymentConfig, revisions: Mapping[str, str]
) -> tuple[ModelConfig, dict[str, OptConfig]]:
    """The model with the commits of ``revisions``, and the optimizations, whose arguments name drafts."""
    model = replace(config.model, path=_absolute(config.model.path))
    changed = _changed(unpinned_models(replace(config, model=model)), revisions)
    if not changed:
        return model, config.opt
    own = f"{model.hub_id}@{model.revision}" if model.revision else model.hub_id
    pinned: ModelConfig = replace(
        model,
        revision=revisions[own] if own in changed else model.revision,
        checkpoints={name: changed.get(one, one) for name, one in model.checkpoints.items()},
        draft=changed.get(model.draft or "", model.draft),
        eagle3=changed.get(model.eagle3 or "", model.eagle3),
    )
    drafts = {one: changed[one] for one in (model.draft, model.eagle3) if one in changed}
    return pinned, {name: _renamed(one, drafts) for name, one in config.opt.items()} if drafts else config.opt


def _changed(unpinned: Iterable[str], revisions: Mapping[str, str]) -> dict[str, str]:
    """Those of ``unpinned`` whose commit is known, each with its commit named."""
    return {one: f"{hub_parts(one)[0]}@{revisions[one]}" for one in unpinned if one in revisions}


def _renamed(opt: OptConfig, names: Mapping[str, str]) -> OptConfig:
    if opt.needs is None:
        return opt

    def entry(of: EngineOptConfig | None) -> EngineOptConfig | None:
        return of and replace(of, args=_replaced(of.args, names))

    return replace(opt, vllm=entry(opt.vllm), sglang=entry(opt.sglang))


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _replaced(one, names) for key, one in value.items()}
    return names.get(value, value) if isinstance(value, str) else value


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).expanduser().absolute())


def _absolute_trace(spec: Any) -> Any:
    if isinstance(spec, str) and spec.startswith("trace:") and spec != "trace:":
        return f"trace:{_absolute(spec.removeprefix('trace:'))}"
    return spec

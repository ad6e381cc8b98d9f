"""A job's configuration as it is planned: everything that depends on where and when the command runs is
replaced by what it stands for, so that a node elsewhere does the same and the cell's name says so."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestrator.config.schema import EngineOptConfig, ModelConfig, OptConfig, SweepConfig
from orchestrator.engines import environment
from orchestrator.engines.external import trimmed
from orchestrator.engines.revisions import DATASET, unpinned
from orchestrator.paths import hub_parts
from orchestrator.plan.known import Known


def settled(config: SweepConfig, known: Known, inherited: Mapping[str, str]) -> SweepConfig:
    """``config`` with absolute paths, with commits in place of branches of the hub where ``known`` has them,
    and with what its engine takes from the driver's environment ``inherited``."""
    engine = config.engine
    own = {} if engine.name in ("external", "simulated") else environment.taken(inherited)
    python = engine.python
    return _pinned(
        replace(
            config,
            model=replace(config.model, path=_absolute(config.model.path)),
            dataset=replace(config.dataset, path=_absolute(config.dataset.path)),
            load=replace(config.load, path=_absolute(config.load.path)),
            engine=replace(
                engine,
                python=_absolute(python) if python and os.sep in python else python,
                env={**own, **engine.env},
                base_url=engine.base_url and trimmed(engine.base_url),
            ),
            output_length=_absolute_trace(config.output_length),
            thinking_budget=None if is_off(config.thinking_budget) else config.thinking_budget,
        ),
        known.revisions,
    )


def is_off(budget: Any) -> bool:
    """YAML has false for ``off``; 0 is a budget."""
    return budget is None or budget is False or budget == "off"


def _pinned(config: SweepConfig, revisions: Mapping[str, str]) -> SweepConfig:
    """With the commits of ``revisions``, in the arguments of optimizations too, which name drafts."""
    changed = {one: f"{hub_parts(one)[0]}@{revisions[one]}" for one in unpinned(config) if one in revisions}
    if not changed:
        return config
    model, data = config.model, config.dataset
    items = DATASET + (f"{data.hub_id}@{data.revision}" if data.revision else f"{data.hub_id}")
    own = f"{model.hub_id}@{model.revision}" if model.revision else model.hub_id
    pinned: ModelConfig = replace(
        model,
        revision=revisions[own] if own in changed else model.revision,
        checkpoints={name: changed.get(one, one) for name, one in model.checkpoints.items()},
        draft=changed.get(model.draft or "", model.draft),
        eagle3=changed.get(model.eagle3 or "", model.eagle3),
    )
    drafts = {one: changed[one] for one in (model.draft, model.eagle3) if one in changed}
    opts = {name: _renamed(opt, drafts) for name, opt in config.opt.items()} if drafts else config.opt
    revision = revisions[items] if items in changed else data.revision
    return replace(config, model=pinned, opt=opts, dataset=replace(data, revision=revision))


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

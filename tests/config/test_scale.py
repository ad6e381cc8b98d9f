"""`scale=`: what a study asks at each, and what it sweeps over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from orchestrator.config.schema import SweepConfig
from orchestrator.paths import conf_dir

STUDIES = sorted(path.name for path in (conf_dir() / "study").iterdir() if path.is_dir())
SCALES = sorted(path.stem for path in (conf_dir() / "scale").glob("*.yaml"))


def composed(*overrides: str) -> Mapping[str, Any]:
    ConfigStore.instance().store(name="sweep_schema", node=SweepConfig)
    OmegaConf.register_new_resolver("orchestrator_scratch", lambda: "unused", replace=True)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        found = compose("sweep", list(overrides), return_hydra_config=True)
    return {
        "swept": OmegaConf.to_container(found.hydra.sweeper.params),
        **{name: found[name] for name in ("study_name", "limit", "load")},
    }


@pytest.mark.parametrize("study", STUDIES)
def test_a_study_has_a_form_of_each_scale_under_a_name_of_its_own(study: str) -> None:
    assert SCALES == ["full", "tiny"]
    assert sorted(path.stem for path in (conf_dir() / "study" / study).glob("*.yaml")) == SCALES
    found = [composed(f"+study={study}", f"scale={scale}") for scale in SCALES]
    assert len({one["study_name"] for one in found}) == len(SCALES)
    assert all(one["swept"] for one in found)
    assert composed(f"+study={study}") == found[0]


def test_the_tiny_scale_asks_fewer_questions_of_a_model_that_a_cpu_runs() -> None:
    full, tiny = (composed("+study=budget", f"scale={scale}") for scale in ("full", "tiny"))
    assert tiny["limit"] < full["limit"]
    assert tiny["load"].concurrency < full["load"].concurrency
    assert tiny["swept"]["model"] == "smollm2-135m-think"


def test_what_is_typed_goes_before_the_scale() -> None:
    assert composed("+study=budget", "scale=tiny", "limit=3")["limit"] == 3
    assert composed("limit=3", "scale=tiny", "+study=budget")["limit"] == 3

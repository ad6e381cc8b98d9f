"""Which variables are secrets, and that nothing that is stored or shown has their values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator.measure.row import cell_row
from orchestrator.plan.plan import Job, make_plan
from orchestrator.secrets import is_secret
from tests.support.compose import config_of

SECRETS = [
    "HF_TOKEN",
    "OPENAI_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "DB_PASSWORD",
    "hf_token",
    "MY_SECRET_2",
    "MYTOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "VLLM_API_KEY",
    "ENGINE_API_KEY",
]
SETTINGS = [
    "TOKENIZERS_PARALLELISM",
    "VLLM_MAX_TOKENS_PER_EXPERT_FUSED_MOE",
    "SGLANG_PER_TOKEN_GROUP_QUANT",
    "NCCL_ALGO",
    "OMP_NUM_THREADS",
    "KEYBOARD",
    "VLLM_USE_V1",
    "CUDA_VISIBLE_DEVICES",
]


@pytest.mark.parametrize("name", SECRETS)
def test_a_secret_is_known_by_its_name(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_none(name: str) -> None:
    assert not is_secret(name)


def test_no_value_of_a_secret_is_in_the_plan_or_a_row(tmp_path: Path) -> None:
    typed = ("engine=vllm", "hardware=h200", "+engine.env.HF_TOKEN=hf_hidden", "+engine.env.SHOWN=plain")
    plan = make_plan([Job(typed, config_of(*typed, f"results_dir={tmp_path}"))])
    (planned,) = plan.cells
    assert planned.cell.config.engine.env == {"HF_TOKEN": "hf_hidden", "SHOWN": "plain"}  # the engine gets it
    row = cell_row(
        planned.cell,
        study="s",
        status="done",
        attempts=1,
        gpus=1,
        nodes=1,
        items=1,
    )
    stored, printed = json.dumps(row), json.dumps(plan.to_json())
    for text in (stored, printed, plan.label(planned.cell)):
        assert "hf_hidden" not in text
    assert "HF_TOKEN=***" in printed
    assert "SHOWN=plain" in printed
    assert row["provenance"]["engine_env"] == {"HF_TOKEN": "***", "SHOWN": "plain"}


def test_another_secret_is_the_same_cell(tmp_path: Path) -> None:
    jobs = [("engine=vllm", "hardware=h200", f"+engine.env.HF_TOKEN={token}") for token in ("a1", "b2")]
    plan = make_plan([Job(job, config_of(*job, f"results_dir={tmp_path}")) for job in jobs])
    assert len({one.cell.cell_id for one in plan.cells}) == 1

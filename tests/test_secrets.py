"""Which variables are secrets, and that nothing that is stored or shown has their values."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.errors import ConfigError
from orchestrator.measure.row import cell_row
from orchestrator.plan.plan import Job, make_plan
from orchestrator.plan.rules import check_values
from orchestrator.secrets import (
    hidden,
    hidden_in,
    is_secret,
    is_secret_flag,
    known,
    masked_override,
    typed,
)
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
    *(
        "PASSPHRASE",
        "SSH_PASSPHRASE",
        "DB_PASSWD",
        "DB_PWD",
        "DB_PASS",
        "PASSCODE",
        "MY_CREDENTIAL",
        "CREDENTIALS",
    ),
    *("SIGNING_PRIVATE", "PRIVATE_KEY", "COOKIE", "MY_COOKIES", "SESSION", "SESSION_ID", "SESSION_KEY"),
    *(
        "PROXY_AUTH",
        "AUTHORIZATION",
        "SIGNATURE",
        "AWS_ACCESS_KEY_ID",
        "AZURE_STORAGE_SAS",
        "MY_JWT",
        "GITHUB_PAT",
    ),
    *("AZURE_STORAGE_CONNECTION_STRING", "VLLM_PASSPHRASE"),
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
    *("PWD", "OLDPWD", "XDG_SESSION_ID", "DESKTOP_SESSION", "PATH", "BYPASS_CACHE", "AUTHOR", "api_key_env"),
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


def test_the_name_of_a_variable_is_no_secret() -> None:
    assert typed(["engine.api_key_env=NAME_OF_ONE", "engine.env.PASSPHRASE=long-value"]) == ("long-value",)
    assert masked_override("engine.api_key_env=NAME_OF_ONE", ()) == "engine.api_key_env=NAME_OF_ONE"


@pytest.mark.parametrize(
    "url",
    [
        "http://h:1/?key=qz-secret",
        "http://h:1/v1#qz-secret",
        "http://h:x/?qz-secret",
        "http://u:qz-secret@h:x",
    ],
)
def test_what_may_be_a_secret_of_a_url_is_not_printed(url: str) -> None:
    for engine in ("external", "vllm"):
        config = config_of(f"engine={engine}", "hardware=h200")
        config.engine.base_url = url
        with pytest.raises(ConfigError, match=r"engine\.base_url=http://h:[1x]") as caught:
            check_values(config)
        assert "qz-secret" not in str(caught.value)


def jobs(tmp_path: Path, *sweep: tuple[str, ...]) -> list[Job]:
    return [Job(one, config_of(*one, f"results_dir={tmp_path}")) for one in sweep]


def test_neither_is_it_by_its_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable of a harmless name, an argument and a URL that hold one."""
    ids = set()
    for secret in ("first-secret", "other-secret"):
        monkeypatch.setenv("MY_TOKEN", secret)
        given = (f"+engine.env.PLAIN=x-{secret}", f"+engine.args.otlp-traces-endpoint={secret}")
        (planned,) = make_plan(jobs(tmp_path, ("engine=vllm", "hardware=h200", *given))).cells
        ids.add((planned.cell.cell_id, planned.cell.deployment_id, planned.cell.run_of))
        row = cell_row(
            planned.cell, study="s", status="failed", reason=f"not {secret}", attempts=1, gpus=1, nodes=1
        )
        assert secret not in json.dumps(row)
        assert (row["reason"], row["engine_args"]["otlp-traces-endpoint"]) == ("not ***", "***")
        assert row["provenance"]["engine_env"] == {"PLAIN": "x-***"}
        assert planned.cell.config.engine.env["PLAIN"] == f"x-{secret}"  # the engine gets it
    assert len(ids) == 1


def test_a_cell_without_secrets_keeps_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever secrets the environment has: the name goes by the configuration alone."""
    job = ("engine=vllm", "hardware=h200", "+engine.env.A=some-value")
    monkeypatch.delenv("MY_TOKEN", raising=False)
    (before,) = make_plan(jobs(tmp_path, job)).cells
    monkeypatch.setenv("MY_TOKEN", "another-value")
    (after,) = make_plan(jobs(tmp_path, job)).cells
    assert before.cell.cell_id == after.cell.cell_id


WRITTEN = [
    ("token hf_" + "a1B2" * 8, "token ***"),
    ("sk-proj-" + "x" * 24, "***"),
    ("id AKIA" + "ABCD1234" * 2 + ".", "id ***."),
    ("http://user:pass@proxy:80/x", "http://user:***@proxy:80/x"),
    ("https://:pass@host", "https://:***@host"),
    # What only looks like one.
    ("hf_hub", "hf_hub"),
    ("task-level-something-long-and-harmless", "task-level-something-long-and-harmless"),
    ("http://host:8000/a@b", "http://host:8000/a@b"),
    ("Qwen/Qwen3-8B@0123456789abcdef", "Qwen/Qwen3-8B@0123456789abcdef"),
]


@pytest.mark.parametrize(("text", "shown"), WRITTEN)
def test_a_secret_is_known_by_how_it_is_written(text: str, shown: str) -> None:
    assert hidden(text, ()) == shown
    assert hidden_in({"a": [text, 1, None]}, ()) == {"a": [shown, 1, None]}


def test_the_values_of_secrets_are_known_and_no_paths_and_no_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_TOKEN", "long-value")
    monkeypatch.setenv("MY_TOKEN_PATH", "/home/me/token")
    monkeypatch.setenv("MY_SECRET", "true")
    values = known({"HF_TOKEN": "longer-value-here", "SHOWN": "shown-value"})
    assert values[0] == "longer-value-here"  # longest first, so that no part of it stays
    assert {"long-value", "/home/me/token", "true", "shown-value"} & set(values) == {"long-value"}


OVERRIDES = [
    ("engine.env.HF_TOKEN=x", "engine.env.HF_TOKEN=***"),
    ("++engine.env.HF_TOKEN='a b,c'", "++engine.env.HF_TOKEN=***"),
    ("engine.env={HF_TOKEN: x1, B: 2}", "engine.env={HF_TOKEN: ***, B: 2}"),
    ("engine.env={A: 1, 'MY_SECRET': \"x, y\", B: 2}", "engine.env={A: 1, 'MY_SECRET': ***, B: 2}"),
    ("opt.fp8.vllm.env.API_KEY=x", "opt.fp8.vllm.env.API_KEY=***"),
    ("engine.args.hf-token=x", "engine.args.hf-token=***"),
    ("max_tokens=16", "max_tokens=16"),
    ("engine.env.A=known-value", "engine.env.A=***"),
    ("engine.args.num-token-groups=3", "engine.args.num-token-groups=3"),
]


@pytest.mark.parametrize(("override", "shown"), OVERRIDES)
def test_what_is_typed_is_shown_without_secrets(override: str, shown: str) -> None:
    assert masked_override(override, ("known-value",)) == shown


def test_what_a_command_line_gives_to_secrets_is_found() -> None:
    words = [
        "-m",
        "engine.env.HF_TOKEN='abc-def'",
        "engine.env={MY_KEY: ghi-jkl, A: 1}",
        "engine.emv.TOKEN=mno-pqr",
    ]
    assert set(typed([*words, "max_tokens=16", "a=b"])) == {"abc-def", "ghi-jkl", "mno-pqr"}


def test_ps_does_not_show_it() -> None:
    code = (
        "import sys; from pathlib import Path; from orchestrator.secrets import cover_command_line; "
        "cover_command_line(); seen = Path('/proc/self/cmdline').read_text().split(chr(0)); "
        "print(seen[3:-1], sys.argv[1:])"
    )
    words = ["engine.env.HF_TOKEN=canary", "shown=1", "hf_" + "a" * 24]
    said = subprocess.check_output([sys.executable, "-c", code, *words], text=True)
    assert said == f"{['engine.env.HF_TOKEN=******', 'shown=1', '*' * 27]} {words}\n"


@pytest.mark.parametrize("flag", ["hf-token", "admin_api_key", "ssl-keyfile-password", "watermark-secret"])
def test_no_secret_goes_where_everybody_reads_it(tmp_path: Path, flag: str) -> None:
    with pytest.raises(ConfigError, match=r"engine\.env\.NAME") as caught:
        make_plan(jobs(tmp_path, ("engine=vllm", "hardware=h200", f"+engine.args.{flag}=canary")))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "flag", ["max-num-batched-tokens", "speculative-token-map", "ssl-keyfile", "tokenizer"]
)
def test_a_flag_of_that_sound_is_none(flag: str) -> None:
    assert not is_secret_flag(flag)

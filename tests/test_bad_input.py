"""Each of these ends with exit code 2 and one line, before Ray or an engine starts.

Most run in this process, where nothing has to be imported again; some as a user runs them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from unittest.mock import patch

import pytest
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from orchestrator import interruption
from orchestrator import sweep as sweep_command
from tests.support.cli import ROOT, environment, sweep

Sweep = Callable[..., CompletedProcess[str]]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Sweep]:
    """The command in this process. What it leaves in Hydra and in the environment is put back."""

    def run(*arguments: str) -> CompletedProcess[str]:
        code = sweep_command.run(list(arguments))
        out, err = capsys.readouterr()
        return CompletedProcess(arguments, code, out, err)

    monkeypatch.setattr(interruption, "install", lambda: None)
    monkeypatch.setattr(sys, "argv", ["sweep.py"])
    monkeypatch.chdir(ROOT)
    with patch.dict(os.environ, environment()):
        yield run
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None


def check(done: CompletedProcess[str], says: list[str], *, planned: bool = False) -> None:
    """``planned``: it is found out with the plan before the user's eyes."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout.startswith("Plan of study") if planned else done.stdout == ""
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("error: ")
    for part in says:
        assert part in line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["model=smolm2-135m"], ["model=smolm2-135m", "did you mean smollm2-135m?", "r1-7b"]),
        (["max_token=64"], ["max_token: unknown key", "did you mean max_tokens?"]),
        (["study=s1"], ["study: unknown key", "did you mean study_name?"]),
        (["scale=tiny"], ["scale: is a choice of some studies alone", "+study=budget"]),
        (["-m", "+study=demo", "scale=tiny"], ["scale: is a choice", "+study=budget"]),
        (["+study=budget", "scale=small"], ["scale=small: unknown", "allowed: full, tiny"]),
        (["-m", "+study=budget", "scale=full,tiny"], ["study_name=budget and study_name=budget-tiny"]),
        (['model.think_tags=["<think>"]'], ["model.think_tags=['<think>']", "two different tags"]),
        (["model.think_tags=[a,a]"], ["model.think_tags=['a', 'a']", "two different tags"]),
        (["model.think_tags=[a,'']"], ["model.think_tags=['a', '']", "two different tags"]),
        (["+max_token=64"], ["max_token: unknown key", "did you mean max_tokens?"]),
        (["engine.pyton=python3"], ["engine.pyton: unknown key", "engine.python"]),
        (["max_tokens=-1"], ["max_tokens=-1", "a whole number from 1 to 2147483647"]),
        (["runs=0"], ["runs=0", "a whole number from 1 to 1000"]),
        (["runs=-1"], ["runs=-1", "a whole number from 1 to 1000"]),
        (["runs=1000000000"], ["runs=1000000000", "a whole number from 1 to 1000"]),
        (["repeats=1000000000"], ["repeats=1000000000", "a whole number from 1 to 10000"]),
        (["seed=99999999999999999999"], ["seed=99999999999999999999", "a whole number from 0 to"]),
        (["load.concurrency=99999999"], ["load.concurrency=99999999", "a whole number from 1 to 65535"]),
        (["load.warmup=99999999"], ["load.warmup=99999999", "a whole number from 0 to 1000000"]),
        (["load.processes=100000"], ["load.processes=100000", "a whole number from 1 to 1024"]),
        (["load=poisson", "load.rate=1e-300"], ["load.rate=1e-300", "from 0.0001 to 1000000"]),
        (["hardware.bandwidth_gb_s=0"], ["hardware.bandwidth_gb_s=0", "a number above 0, or null"]),
        (["hardware.bf16_tflops=-1"], ["hardware.bf16_tflops=-1", "a number above 0, or null"]),
        (["hardware.memory_gib=-1"], ["hardware.memory_gib=-1", "a number above 0, or null"]),
        (["dataset.size=-1"], ["dataset.size=-1", "a whole number from 1 up, or null"]),
        (["dataset.split=''"], ["dataset.split=: must be a text"]),
        (["model.name=''"], ["model.name=: must be a text"]),
        (["model.revision=''"], ["model.revision=: must be a text, or null"]),
        (["opt=null"], ["one of dataset, engine, hardware", "opt", "is null or no text"]),
        (["results_dir=/dev/null", "dry_run=true"], ["results_dir=/dev/null", "is no folder"]),
        (["results_dir=README.md/x", "dry_run=true"], ["cannot be written", "is no folder"]),
        (["runs=1.5"], ["runs=1.5", "a whole number"]),
        (["runs=null"], ["runs="]),
        (["max_tokens=many"], ["max_tokens=many", "a whole number"]),
        (["max_tokens=64,128"], ["max_tokens=64,128", "-m"]),
        (["dataset.path=/no/such/file.jsonl", "dataset=gsm8k"], ["dataset.path=/no/such/file.jsonl"]),
        (["sampling.min_p=2"], ["sampling.min_p=2", "from 0 to 1"]),
        (["model.sampling.min_p=-1"], ["model.sampling.min_p=-1"]),
        (["sampling.presence_penalty=3"], ["sampling.presence_penalty=3", "from -2 to 2"]),
        (["sampling.repetition_penalty=0"], ["sampling.repetition_penalty=0", "above 0"]),
        (["sampling.stop=[]"], ["sampling.stop=[]", "a list of texts"]),
        (["sampling.stop=[a,3]"], ["sampling.stop=['a', 3]"]),
        (["sampling.reasoning_effort=much"], ["sampling.reasoning_effort=much", "low, medium, high"]),
        (["weights=dummy", "sampling.stop=END"], ["sampling.stop=END", "output_length"]),
        (["load.cache=hot"], ["load.cache=hot", "one of cold, warm"]),
        (["load.rate=3"], ["load.rate=3", "load=closed"]),
        (["load=gamma", "load.burstiness=0"], ["load.burstiness=0", "above 0"]),
        (["objective=speed"], ["objective=speed", "output_token_per_s"]),
        (["engine.args.port=1"], ["engine.args.port"]),
        (["model.path=/no/such/folder"], ["model.path=/no/such/folder"]),
        (["weights=dummy", "output_length=uniform:9:5"], ["output_length=uniform:9:5", "uniform:LOW:HIGH"]),
        (["weights=dummy", "output_length=trace:/no/file.csv"], ["output_length=trace:/no/file.csv"]),
        (["dataset.prompt_tokens=64"], ["dataset.prompt_tokens=64", "dataset=random"]),
        (["output_length=128"], ["output_length=128", "weights=dummy"]),
        (["study_name=a/b"], ["study_name=a/b"]),
        (["nonsense"], ["nonsense", "key=value"]),
        (["load=gamma", "load.rate=inf"], ["load.rate=inf", "load=batch"]),
        (["load=gamma", "load.burstiness=nan"], ["load.burstiness=nan", "a finite number"]),
        (["timeout.cell_s=inf"], ["timeout.cell_s=inf"]),
        (["sampling.temperature=nan"], ["sampling.temperature=nan"]),
        (["engine.args.x=nan"], ["engine.args.x=nan"]),
        (["max_tokens=64("], ["max_tokens=64(", "quote it", "'max_tokens='"]),
        (["dataset.path=[a"], ["dataset.path=[a", "quote it"]),
        (["max_tokens=inf"], ["max_tokens=inf", "a whole number"]),
        (["repeats=nan"], ["repeats=nan", "a whole number"]),
        (["seed=inf"], ["seed=inf"]),
        (["load.concurrency=inf"], ["load.concurrency=inf"]),
        (["sampling.top_k=inf"], ["sampling.top_k=inf"]),
        (["tensor_parallel_size=inf"], ["tensor_parallel_size=inf"]),
        (["load=ramp", "load.rate_start=inf"], ["load.rate_start=inf", "load=batch"]),
        (["results_dir=s3://bucket/x"], ["results_dir=s3://bucket/x", "a folder's path"]),
        (["results_dir="], ["results_dir=", "a folder's path"]),
        (["ray.address="], ["ray.address=", "HOST:PORT"]),
        (["seed=1", "-m", "--cfg", "job"], ["Only one of --run"]),
        (["--resolve", "seed=1"], ["--resolve"]),
        (["seed=1", "--config-dir", "/no/such"], ["/no/such"]),
        (["+study=demo", "hydra.mode=RUN"], ["model, max_tokens", "-m"]),
        (["-m", "model=smollm2-135m,nosuch"], ["model=nosuch"]),
        (["-m", "max_tokens=64,-1"], ["max_tokens=-1"]),
    ],
    ids=lambda value: " ".join(value) if value and isinstance(value, list) else None,
)
def test_bad_input_is_said_in_one_line(arguments: list[str], says: list[str], here: Sweep) -> None:
    check(here("tracker=none", *arguments), says)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["model=smolm2-135m"], ["model=smolm2-135m", "did you mean smollm2-135m?", "r1-7b"]),
        (["nonsense"], ["nonsense", "key=value"]),
        (["-m", "max_tokens=64,-1"], ["max_tokens=-1"]),
    ],
    ids=str,
)
def test_a_user_sees_the_line_alone(arguments: list[str], says: list[str]) -> None:
    check(sweep("tracker=none", *arguments), says)


def test_batches_that_would_store_apart_are_refused(here: Sweep) -> None:
    batches = ("results_dir=/tmp/a,/tmp/b", "hydra.sweeper.max_batch_size=1", "dry_run=true")
    check(here("tracker=none", "-m", *batches), ["results_dir="], planned=True)


def test_an_optimization_that_the_engine_cannot_do_leaves_nothing_to_run(here: Sweep) -> None:
    done = here("tracker=none", "hardware=cpu", "opt=awq")
    assert done.returncode == 2
    assert "opt=awq" in done.stdout
    assert "0 cells to run" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["+study=demo"], ["+study=demo", "-m"], ["-m", "+study=demo", "seed=0"]]
)
def test_a_study_that_sweeps_is_planned_whole_with_and_without_m(arguments: list[str], here: Sweep) -> None:
    done = here("tracker=none", "dry_run=json", *arguments)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["totals"]["cells"] == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["model=r1-7b", "--info"], "name: r1-7b"),
        (["--info", "defaults-tree", "model=r1-7b"], "model: r1-7b"),
        (["--hydra-help", "model=r1-7b"], "--hydra-help"),
        (["--cfg", "job", "model=r1-7b", "--package", "model"], "name: r1-7b"),
    ],
    ids=str,
)
def test_what_hydra_shows_comes_with_overrides_at_any_place(arguments: list[str], says: str) -> None:
    done = sweep(*arguments)
    assert done.returncode == 0, done.stderr
    assert says in done.stdout + done.stderr


def test_results_that_cannot_be_written_are_said_before_anything_starts(tmp_path: Path, here: Sweep) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    check(here("tracker=none", f"results_dir={blocked}"), [f"results_dir={blocked}"], planned=True)


AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46,374,44\n2023-11-16 18:15:47,9,9\n"
EXTERNAL = "engine=external"
THEIRS = (EXTERNAL, "engine.base_url=http://h")
TRACE = ("load=trace", "load.path=FILE")
OWN = ("dataset.path=FILE", "dataset=math500")


@pytest.mark.parametrize(
    ("content", "arguments", "says"),
    [
        ('{"problem": "2?", "answer": ""}', OWN, ["row 1", "answer is empty"]),
        ('{"problem": "2?", "answer": "1"}', (*OWN, "dataset.shots=1"), ["dataset.shots=1"]),
        (AZURE.replace("18:15:47", "18:15:45"), TRACE, ["line 3", "in order"]),
        (AZURE, (*TRACE, "limit=1", "repeats=3"), ["2 arrivals for 3 requests"]),
        ('{"timestamp": "0"}', TRACE, ["line 1", "timestamp, input_length, output_length"]),
        (
            '{"timestamp": 0}',
            ("weights=dummy", "output_length=trace:FILE"),
            ["output_length=trace:", "line 1"],
        ),
        ("", (EXTERNAL,), ["engine.base_url=null", "http[s]://HOST"]),
        ("", (EXTERNAL, "engine.base_url=foo"), ["engine.base_url=foo", "http[s]://HOST"]),
        (
            "",
            (EXTERNAL, "engine.base_url=http://h", "engine.api_key_env=NOT_SET_HERE"),
            ["is not set in the environment"],
        ),
        ("", (*THEIRS, "engine.args.max-num-seqs=8"), ["engine.args.max-num-seqs=8", "engine=external"]),
        ("", (*THEIRS, "engine.args.enforce-eager=null"), ["engine.args.enforce-eager=null", "no effect"]),
        ("", (*THEIRS, "engine.env.NCCL_DEBUG=INFO"), ["engine.env.NCCL_DEBUG: ", "engine=external"]),
        ("", (*THEIRS, "weights=dummy"), ["weights=dummy", "engine=external"]),
    ],
)
def test_what_a_file_or_a_url_says_is_known_in_a_dry_run(
    content: str, arguments: tuple[str, ...], says: list[str], tmp_path: Path, here: Sweep
) -> None:
    file = tmp_path / "file.jsonl"
    file.write_text(content + "\n")
    named = [one.replace("FILE", str(file)) for one in arguments]
    check(here("tracker=none", "dry_run=true", *named), says)


def test_no_value_of_a_secret_for_an_external_server_is_shown(here: Sweep) -> None:
    for key in ("engine.args.hf-token", "engine.env.HF_TOKEN"):
        done = here("tracker=none", "dry_run=true", *THEIRS, f"{key}=whatStaysUnseen")
        check(done, [f"{key}: has no effect"])
        assert "whatStaysUnseen" not in done.stderr


def test_an_optimization_of_an_external_server_is_a_skipped_cell_with_its_reason(here: Sweep) -> None:
    done = here("tracker=none", "dry_run=true", *THEIRS, "opt=fp8")
    assert done.returncode == 2
    assert "opt=fp8: an external server is measured as it runs" in done.stdout + done.stderr

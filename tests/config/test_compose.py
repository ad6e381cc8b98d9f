"""Every job composed for a sweep equals Hydra's own, node by node, errors included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, Node, OmegaConf

from orchestrator.config.compose import SweepLoader, to_config
from orchestrator.config.explain import explain
from orchestrator.config.schema import SweepConfig
from orchestrator.paths import conf_dir

Pair = tuple[DictConfig, ConfigLoader, SweepLoader]


def open_pair(folder: Path, *overrides: str) -> Pair:
    """The configuration of a whole sweep, Hydra's own loader, and ours."""
    ConfigStore.instance().store(name="sweep_schema", node=SweepConfig)
    OmegaConf.register_new_resolver("orchestrator_scratch", lambda: "unused", replace=True)
    with initialize_config_dir(str(folder), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        master = loader.load_configuration("sweep", list(overrides), RunMode.MULTIRUN)
        return master, loader, SweepLoader(loader.get_search_path())


def nodes(node: Node, path: str = "") -> Iterator[tuple[str, str, str]]:
    """Everything that a node is: its kind, its type, its flags, its content in order, unresolved."""
    metadata = {key: value for key, value in vars(node._metadata).items() if key != "resolver_cache"}
    content = node.__dict__.get("_content", node.__dict__.get("_val"))
    inner: Sequence[tuple[object, Node]] = ()
    if isinstance(node, DictConfig) and isinstance(content, dict):
        inner = list(content.items())
    elif OmegaConf.is_list(node) and isinstance(content, list):
        inner = list(enumerate(content))
    yield path, type(node).__name__, f"{sorted(metadata.items())} {'' if inner else content!r}"
    for key, one in inner:
        assert one._get_parent() is node
        yield from nodes(one, f"{path}.{key}")


def attempt(act: Callable[[], object]) -> object:
    """What it returns, or what it raises, in Hydra's words and in ours."""
    try:
        return act()
    except Exception as error:
        return type(error), str(error), explain(error)


def check(pair: Pair, job: Sequence[str]) -> None:
    master, plain, ours = pair
    hydras = attempt(lambda: plain.load_sweep_config(master, list(job)))
    expected = list(nodes(hydras)) if isinstance(hydras, DictConfig) else hydras
    config = attempt(lambda: to_config(hydras)) if isinstance(hydras, DictConfig) else hydras
    assert attempt(lambda: list(nodes(ours.load_sweep_config(master, list(job))))) == expected, job
    # compared as they print: nan is not equal to itself
    assert repr(attempt(lambda: ours.sweep_config(master, list(job)))) == repr(config), job


PIECES = [
    *("model=r1-7b", "model=qwq-32b", "model=smollm2-135m.yaml", "model=nosuch", "model=7", "model=null"),
    *("opt=fp8", "opt=none", "opt=[fp8,kv-fp8]", "opt=[none]", "opt=[awq]", "opt=[fp8,fp8]", "opt=[]"),
    *("opt=[fp8,nosuch]", "opt={}", "~opt", "+opt=fp8", "~opt=none", "opt@other=fp8"),
    *("engine=vllm", "engine=sglang", "engine=external", "engine.args.x=3", "++engine.args.max-num-seqs=4"),
    *("+engine.args.a-b=[1,2]", "engine.args={}", "engine.python=null", "+engine.env.A='b c'"),
    *("dataset=gsm8k", "dataset=math500", "dataset.path=x.jsonl", "+dataset.path=y", "~dataset.size"),
    *(
        "load=batch",
        "load=gamma",
        "load.rate=3",
        "load.rate=fast",
        "load.batch_size=${limit}",
        "load={kind: a}",
    ),
    *("max_tokens=64", "max_tokens=many", "+max_tokens=1", "++max_tokens=2", "~max_tokens", "~limit"),
    *("limit=${max_tokens}", "limit=null", "max_token=3", "+unknown=3", "seed=7", "seed=0", "seed=1e1"),
    *("+study=pilot", "+study=demo", "study=demo", "+study=nosuch", "tracker=none", "tracker.mode=offline"),
    *("sampling.temperature=0.5", "sampling=${model.sampling}", "sampling.top_p=1", "+sampling.x=1"),
    *("model.sampling.top_k=4", "model.kind=standard", "model.chat_template_kwargs={a: 1}", "model.nosuch=1"),
    *("slo.ttft_s=1,2", "results_dir=${oc.env:HOME}/x", "nonsense", "hydra.job.chdir=true", "a.b=1", "=3"),
    *("+hydra.job.env_set.A=1", "hydra/launcher=basic", "tensor_parallel_size=auto", "dry_run=json"),
]


@pytest.fixture(scope="module")
def pair() -> Pair:
    return open_pair(conf_dir(), "model=r1-7b,qwq-32b", "hydra.sweeper.max_batch_size=4")


@pytest.mark.parametrize("piece", PIECES)
def test_each_override_alone_is_composed_as_hydra_does(pair: Pair, piece: str) -> None:
    check(pair, [piece])


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(job=st.lists(st.sampled_from(PIECES), max_size=6))
def test_random_jobs_are_composed_as_hydra_does(pair: Pair, job: list[str]) -> None:
    check(pair, job)


SOUND = {
    "model": ["r1-7b", "qwq-32b", "smollm2-135m"],
    "opt": ["none", "fp8", "[fp8,kv-fp8]", "[prefix-cache]"],
    "dataset": ["gsm8k", "math500"],
    "load": ["closed", "batch"],
    "+study": ["pilot", "demo"],
    "max_tokens": ["64", "128", "256"],
    "sampling.temperature": ["0.1", "0.7"],
    "++engine.args.max-num-seqs": ["4", "8"],
    "limit": ["${max_tokens}", "3"],
}


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), keys=st.permutations(list(SOUND)), count=st.integers(0, len(SOUND)))
def test_random_sweeps_are_composed_as_hydra_does(
    pair: Pair, data: st.DataObject, keys: list[str], count: int
) -> None:
    check(pair, [f"{key}={data.draw(st.sampled_from(SOUND[key]))}" for key in keys[:count]])


def test_hydra_composes_one_job_for_each_option_and_not_one_for_each_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    master, _, ours = open_pair(conf_dir())
    composed = []
    plain = ConfigLoaderImpl.load_sweep_config

    def counted(self: ConfigLoaderImpl, config: DictConfig, overrides: list[str]) -> DictConfig:
        composed.append(overrides)
        return plain(self, config, overrides)

    monkeypatch.setattr(ConfigLoaderImpl, "load_sweep_config", counted)
    jobs = [
        [f"model={model}", f"opt={opt}", f"dataset={dataset}", f"seed={seed}"]
        for model in ("r1-7b", "qwq-32b", "r1-8b")
        for opt in ("none", "fp8", "awq")
        for dataset in ("gsm8k", "math500")
        for seed in range(5)
    ]
    for job in jobs:
        ours.load_sweep_config(master, job)
        ours.sweep_config(master, job)
    assert len(composed) <= 3 + 3 + 2


@pytest.fixture
def tangled(tmp_path: Path) -> Pair:
    """Files that tie keys together: a choice that makes another, values for the root, interpolations."""
    files = {
        "sweep.yaml": "defaults:\n  - a: one\n  - b: x\n  - tied: ${a}_${b}\n  - optional c: ${b}\n"
        "  - _self_\nroot: 1\nsame: {x: 1}\nlink: ${same}\n",
        "a/one.yaml": "v: 1\nw: ${root}\n",
        "a/two.yaml": "defaults: [base]\nv: 2\n",
        "a/base.yaml": "u: ${b.v}\n",
        "a/all.yaml": "# @package _global_\nroot: 7\nb: {v: from-a}\nlink: {y: 2}\n",
        "a/moved.yaml": "# @package a.deep\nv: 5\n",
        "a/over.yaml": "defaults:\n  - /b@_global_.second: y\n  - _self_\nv: 3\n",
        "b/x.yaml": "v: x\n",
        "b/y.yaml": "v: y\nextra: [1, 2]\n",
        "b/list.yaml": "- 1\n- 2\n",
        "c/y.yaml": "here: true\n",
        **{
            f"tied/{a}_{b}.yaml": f"is: {a}{b}\n"
            for a in ("one", "two", "all", "moved", "over")
            for b in "xy"
        },
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return open_pair(tmp_path)


@pytest.mark.slow
def test_files_that_tie_keys_together_are_composed_as_hydra_does(tangled: Pair) -> None:
    extra = [[], ["root=2", "same.x=3"], ["link.x=4"], ["~root"], ["+b.more={a: 1}"], ["+d=1", "d=2"]]
    for number, a in enumerate(("one", "two", "all", "moved", "over", "none")):
        for b in ("x", "y", "list"):
            for more in ([], extra[number]):
                check(tangled, [f"a={a}", f"b={b}", *more])


@pytest.mark.slow
def test_options_that_change_nothing_else_replace_each_other_also_without_a_schema(tmp_path: Path) -> None:
    files = {
        "sweep.yaml": "defaults:\n  - a: one\n  - b: x\n  - _self_\nroot: 1\n",
        "a/one.yaml": "v: 1\n",
        "a/two.yaml": "# @package _global_\nb: {v: from-a}\nnew: 2\n",
        "a/deep.yaml": "# @package b.deep\nv: 5\n",
        "a/two.three.yaml": "v: 5\n",
        "b/x.yaml": "v: x\n",
        "b/y.yaml": "w: y\n",
        "b/null.yaml": "w: y\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    pair = open_pair(tmp_path)
    for a in ("one", "two", "deep", "two.three"):
        for b in ("x", "y", "null"):
            check(pair, [f"a={a}", f"b={b}"])
            check(pair, ["+b.deep.u=1", f"b={b}", "b.v=3", f"a={a}"])
            check(pair, [f"b={b}", "root=2", "+new=1"])

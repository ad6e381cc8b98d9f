"""Every form of override that Hydra knows, composed by it and by `orchestrator.config.compose`: equal in
every node, in the schema's objects, and in what is raised."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser

from orchestrator.paths import conf_dir
from tests.config.test_compose import Pair, check, open_pair

pytestmark = pytest.mark.slow  # a hundred seconds, nearly all of them Hydra's

OURS = """
model=r1-7b | model='r1-7b' | model="r1-7b" | model=[r1-7b] | model=[r1-7b,qwq-32b] | model=r1-7b.yaml
model=R1-7B | model=none | model=??? | model=true | model=1.5 | model={} | model={name: x} | model=
model=r1-7b model=qwq-32b | model=qwq-32b model=r1-7b | model=r1-7b +model=qwq-32b | ++model=r1-7b
+model=r1-7b | ~model | ~model=r1-7b | ~model=smollm2-135m | model@=r1-7b | model@model=r1-7b
model@other=r1-7b | +model@other=r1-7b | +model@_global_=r1-7b | model@model:other=r1-7b | ~model@other
+dataset@second=gsm8k | /model=r1-7b | model/=r1-7b | model.r1-7b=1 | model=../model/r1-7b
model=./r1-7b | opt=fp8 | opt=[fp8] | opt=[fp8,kv-fp8] | opt=[kv-fp8,fp8] | opt=[fp8,fp8] | opt=[]
opt=[none,fp8] | opt=[fp8] opt=[awq] | opt=fp8 opt=[awq] | opt='[fp8]' | opt=[[fp8]] | opt=[fp8,null]
opt=[fp8,nosuch] | +opt=fp8 | +opt=[fp8] | ++opt=fp8 | ~opt | ~opt=[none] | ~opt=none
opt.fp8.summary=x | opt=fp8 opt.fp8.summary=x | opt=[fp8,awq] opt.awq.vllm.args.x=1
opt=fp8 ++opt.fp8.vllm.args.x=1 | opt=fp8 ~opt.fp8 | opt=fp8 opt.none.summary=x | +opt.mine={summary: a}
opt.mine={summary: a} | +opt.mine.nosuch=1 | opt={} | opt={none: {summary: a}} | +study=demo
+study=pilot | study=demo | ++study=demo | +study=nosuch | +study=[demo] | +study=[demo,pilot] | ~study
+study=budget | +study=budget scale=tiny | scale=tiny +study=budget | scale=tiny | +scale=tiny
+study=budget scale=nosuch | +study=budget scale=tiny limit=3 model=r1-7b | +study=[budget,demo] scale=tiny
+study=demo limit=3 | limit=3 +study=demo | +study=demo load=batch
+study=pilot engine=sglang model=r1-7b | +study=demo +study=pilot | +study@model=demo
+study@_global_=demo | study_name=x +study=demo | max_tokens=64 | max_tokens='64' | max_tokens=6.5
max_tokens=6e1 | max_tokens=many | max_tokens=null | max_tokens= | max_tokens=true | max_tokens=[1]
max_tokens={} | max_tokens=??? | max_tokens=0x10 | max_tokens=1_000 | +max_tokens=3 | ++max_tokens=3
~max_tokens | ~max_tokens=256 | ~max_tokens=3 | ~max_tokens max_tokens=4 | max_tokens=3 max_tokens=4
max_tokens=3 ++max_tokens=4 ~max_tokens | +new=1 | ++new=1 | new=1 | +new.a.b=1 | ~new | +new=1 new=2
+new=1 ~new | +new=[1,{a: 2}] | +new={a: {b: [1, 2]}} new.a.b=3 | max_tokens.x=1 | +max_tokens.x=1
limit=${max_tokens} | limit=${nosuch} | limit=${max_tokens limit=3 | limit='${max_tokens}'
limit=\\${max_tokens} | limit=${max_tokens} max_tokens=9 | limit=${limit}
limit=${model.context} model=r1-7b | limit=${.max_tokens} | sampling=${model.sampling}
sampling=${model.sampling} sampling.top_p=0.5 | sampling=${slo} | sampling=${max_tokens}
model.name=${engine.name}-${dataset.name} | study_name=${model.name} model=r1-7b | study_name=a${seed}b
results_dir=${oc.env:HOME}/x | results_dir=${oc.env:NO_SUCH,y} | results_dir=${oc.env:NO_SUCH}
seed=${oc.decode:'7'} | study_name=${oc.select:model.name,x} | opt=${oc.create:{}}
study_name=${nosuch:1} | study_name=${hydra:job.name}
study_name=${hydra:runtime.choices.model} model=r1-7b | study_name=${hydra.job.name}
study_name=${now:%Y} | study_name='a b' | study_name="a b" | study_name=a\\,b | study_name='a,b'
study_name='it\\'s' | study_name=a b | study_name=a=b | study_name='a=b' | study_name=(a)
study_name='(a)' | study_name=[a] | study_name={a: 1} | study_name=中文 | study_name='中文' | study_name=a:b
study_name=a%b | study_name=a@b | study_name='' | study_name=~a | dataset.path=/a/b.jsonl
dataset.path=~/x | dataset.path=C:\\\\x | dataset.path='/a (1)/b=c.jsonl' | dataset.path=.
dataset=gsm8k dataset.limit=3 | dataset=gsm8k +dataset.path=x | dataset=gsm8k ~dataset.path
dataset.shots=two | load=gamma load.rate=3 | load.rate=3 load=gamma | load=gamma load.rate=inf
load=gamma load.rate=nan | load.rate=-1 | load=constant load.rate=1e-3 | load=nosuch load.rate=fast
load.kind=batch | load={kind: batch} | load.kind={a: 1} | engine=vllm ++engine.args.x=3
engine.args.x=3 | +engine.args={a: 1} | ++engine.args={a: 1} ++engine.args.a=2
++engine.args.a=[1,2] ++engine.args.a=[3] | +engine.args.a-b='{"c": 1}' | ++engine.args.a={b: {c: [1]}}
engine.args=null | ++engine.env.A=1 | ++engine.env.A=null | ++engine.env.A=${seed}
engine=sglang engine=vllm | engine.env={} ~engine.env | ~engine.python | ~engine.nosuch
~engine.args.nosuch | ~model.sampling | ~model.sampling.top_p | ~sampling sampling.top_p=1
model.sampling={top_p: 1} | model.sampling=null | model.sampling={nosuch: 1}
++model.sampling={top_k: 1} | model.chat_template_kwargs={a: [1,2]} | ++model.chat_template_kwargs.a.b=1
model.chat_template_kwargs=[1] | model.checkpoints.fp8=x | ++model.checkpoints.fp8=x
model.reasoning_parser={} | model.reasoning_parser=null | tensor_parallel_size=2
tensor_parallel_size=auto | tensor_parallel_size=[2] | dry_run=json | dry_run=yes | hydra.job.chdir=true
hydra.job.name=x model=r1-7b seed=3 | hydra/launcher=basic | hydra/launcher=nosuch
hydra.run.dir=${study_name} | hydra.searchpath=[/nosuch] | hydra.searchpath=[file:///nosuch] model=r1-7b
hydra.job.config.override_dirname.kv_sep=- model=r1-7b seed=3 | hydra.job.env_copy=[HOME] seed=1
~hydra | ~hydra.run.dir | +hydra.job.env_set.A=1 seed=3 | hydra.nosuch=1 | hydra.verbose=true
hydra.sweeper.params={a: 1} | hydra={}
hydra.job.config.override_dirname.exclude_keys=[seed] seed=1 max_tokens=2 | hydra.mode=MULTIRUN seed=3
max_tokens=1,2 | model=r1-7b,qwq-32b | seed=range(3) | seed=range(1,9,2) | seed=choice(1,2)
seed=interval(0,1) | model=glob(*) | model=glob([r1-*,q*],exclude=*-7b) | seed=shuffle(1,2)
seed=sort(2,1) | seed=tag(a,choice(1,2)) | seed=int(3.0) | seed=float(3) | seed=str(3) | seed=bool(1)
study_name=json_str({a: 1}) | max_tokens=extend_list(1) | seed=choice( | model=glob( | =3 | == | a | a.b
+ | ~ | ++ | ~~seed | +++seed=1 | a b=1 | seed = 3 | .seed=3 | seed.=3 | seed[0]=3 | model[name]=x
model["name"]=x | model.sampling[top_k]=3 | model[sampling].top_k=3 | [model].name=x
seed=3 max_tokens=4 limit=5
model=r1-7b opt=fp8 dataset=math500 load=batch engine=sglang seed=2 max_tokens=32
hardware=h200 model=r1-7b hardware.cpus=4 | tracker=none tracker.mode=online
slo.ttft_s=1 slo={tpot_s: 2} | timeout={cell_s: 1} | timeout.cell_s=1 timeout={engine_start_s: 2}
ray.address= | ray.address=null | ray={address: x}
"""

OTHERS = """
a=one | a=two | a=all | a=moved | a=over | a=deep/er | a/deep=er | +a/deep=er | +a/deep@a.x=er
a=nosuch | b=x | b=y | b=list | b=empty | b=null | ~b | ~a | ~b=x | ~b=y | +b@other=y | b@other=y
+b@_global_=y | +e=first | +e=second | +e=first b=y | b=y +e=second | +e=second a=two root=3
+e=[first,second] | e=first | +e=tied | +e=tied a=two | +e=tied b=y a=over | +e=packaged | +e=override
+e=override a=two | a=two +e=override | +e=nested | +e=nested b=y | +e=nested a=all e=first | +e=missing
+e=optional | +e=broken | +e=list | many=[m,n] | many=m | many=[n] | many=[m,n] many.m.v=2 | ~many
+many=n | many@few=[m] | +many@few=[m,n] | root=2 | root=${b.v} | same.x=3 link.x=4 | link.x=4
link={y: 1} | link.z=1 | +link.z=1 | ~link | same={} | ++same.y.z=1 | +b.more={a: 1} b=y | b.v=[1,2]
b.v={c: 1} b.v.d=2 | ~root root=1 | ~same.x | a=two b=y | a=all b=y | b=y a=all | a=one b=y root=7
a=one b=list | a=moved b=y | a=over b=y | p=${a.v} | +p=${a.v} a=two | +p=${link} | +p=${link} p.x=5
hydra.searchpath=[FOLDER/more] | hydra.searchpath=[FOLDER/more] b=added | b=added | +extra=one
hydra.searchpath=[FOLDER/more] +extra=one
"""

FILES = {
    "sweep.yaml": "defaults:\n  - a: one\n  - b: x\n  - many: [m]\n  - _self_\nroot: 1\nsame: {x: 1}\n",
    "a/one.yaml": "v: 1\n",
    "a/two.yaml": "defaults: [base]\nv: 2\n",
    "a/base.yaml": "u: 4\n",
    "a/all.yaml": "# @package _global_\nroot: 7\nb: {v: from-a}\nlink: {y: 2}\n",
    "a/moved.yaml": "# @package b.deep\nv: 5\n",
    "a/over.yaml": "defaults:\n  - /b@_global_.second: y\n  - _self_\nv: 3\n",
    "a/deep/er.yaml": "w: 1\n",
    "b/x.yaml": "v: x\n",
    "b/y.yaml": "v: y\nextra: [1, 2]\n",
    "b/list.yaml": "- 1\n- 2\n",
    "b/empty.yaml": "",
    "many/m.yaml": "# @package many.m\nv: 1\n",
    "many/n.yaml": "# @package many.n\nv: 1\nw: {x: null}\n",
    "e/first.yaml": "# @package _global_\nroot: 5\nb: {v: e, w: 1}\n",
    "e/second.yaml": "# @package _global_\ndefaults:\n  - override /b: y\n  - _self_\nroot: 6\n",
    "e/tied.yaml": "# @package _global_\nlink: ${same}\nalso: ${a}\nb: ${a}\n",
    "e/packaged.yaml": "# @package same.e\nx: 9\n",
    "e/override.yaml": "# @package _global_\ndefaults:\n  - override /a: all\n  - override /many: [n]\n",
    "e/nested.yaml": "# @package _global_\ndefaults:\n  - first\n  - /b@same.b: y\n  - _self_\nroot: 8\n",
    "e/missing.yaml": "# @package _global_\ndefaults: [nosuch]\n",
    "e/optional.yaml": "# @package _global_\ndefaults:\n  - optional /nosuch: one\n  - optional /c: ${b}\n",
    "e/broken.yaml": "a: [1\n",
    "e/list.yaml": "- 1\n",
    "c/y.yaml": "here: true\n",
    "more/b/added.yaml": "v: added\n",
    "more/extra/one.yaml": "v: 1\n",
}


def forms(text: str) -> list[str]:
    return [form.strip() for line in text.strip().splitlines() for form in line.split(" | ")]


def overrides_of(form: str) -> list[str]:
    """Blanks part overrides, but not within brackets, quotes or around what looks like no override."""
    if form in ("study_name='a b'", 'study_name="a b"', "study_name=a b", "a b=1", "seed = 3"):
        return [form]
    parts: list[str] = []
    for word in form.split(" "):
        whole = parts and all(parts[-1].count(a) == parts[-1].count(b) for a, b in ("{}", "[]", "()"))
        parts = [*parts, word] if not parts or whole else [*parts[:-1], f"{parts[-1]} {word}"]
    return parts


@pytest.fixture(scope="module")
def ours() -> Pair:
    return open_pair(conf_dir(), "model=r1-7b,qwq-32b")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("conf")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return open_pair(folder)


@pytest.mark.parametrize("form", forms(OURS))
def test_each_form_of_override_is_composed_as_hydra_does(ours: Pair, form: str) -> None:
    check(ours, overrides_of(form))


@pytest.mark.parametrize("form", forms(OTHERS))
def test_each_form_of_file_is_composed_as_hydra_does(others: Pair, form: str) -> None:
    (folder,) = (
        source["path"] for source in others[0].hydra.runtime.config_sources if source["provider"] == "main"
    )
    job = [one.replace("FOLDER", Path(folder).as_uri()) for one in overrides_of(form)]
    check(others, job)
    check(others, [*job, "++late=1"])  # and with what is kept of it


@pytest.mark.parametrize(
    "swept",
    [
        ["model=glob([r1-*,q*],exclude=*-7b)", "opt=fp8,[fp8,kv-fp8]"],
        ["seed=range(3)", "+study=glob(*)", "dataset=choice(gsm8k,math500)"],
        ["max_tokens=sort(64,32)", "~limit", "load=batch,closed", "limit=1,null"],
        ["model=r1-7b,nosuch", "+study=demo,pilot", "engine=vllm,sglang"],
        ["study_name='a,b','c d'", "++engine.args.x={a: 1},[1],null", "sampling=${model.sampling}"],
    ],
)
def test_what_a_sweeper_makes_of_a_sweep_is_composed_as_hydra_does(ours: Pair, swept: list[str]) -> None:
    parsed = OverridesParser.create(config_loader=ours[1]).parse_overrides(swept)
    (jobs,) = BasicSweeper.split_arguments(parsed, None)
    assert len(jobs) >= 4
    for job in jobs:
        check(ours, job)

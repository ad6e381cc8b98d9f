from __future__ import annotations

from itertools import permutations

import pytest
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.config.arguments import arrange, as_typed, quoted

FLAGS = [
    [["-m"]],
    [["--multirun"], ["--config-dir", "X"]],
    [["-cn", "X"], ["-m"]],
    [["-cp", "X"], ["--config-name=Y"]],
    [["--cfg", "job"], ["--package", "model"], ["--resolve"]],
    [["-c", "all"], ["-p", "model"]],
    [["-cjob"], ["--pack", "model"], ["--config-d", "X"]],
    [["--info"]],
    [["-i"], ["-cd", "X"]],
    [["--info", "defaults-tree"]],
    [["--experimental-rerun", "X"]],
    [["--help"]],
    [[]],
]


@pytest.mark.parametrize("flags", FLAGS, ids=str)
def test_flags_and_overrides_mean_the_same_in_every_order(flags: list[list[str]]) -> None:
    overrides = [["model=r1-7b"], ["~limit"], ["+study=demo"]]
    expected = get_args_parser().parse_args([word for part in [*overrides, *flags] for word in part])
    for order in permutations([*flags, *overrides]):
        parsed = get_args_parser().parse_args(arrange([word for part in order for word in part]))
        assert sorted(parsed.overrides) == sorted(expected.overrides)
        assert vars(parsed) | {"overrides": None} == vars(expected) | {"overrides": None}


def test_overrides_keep_their_order_and_what_is_none_is_left_for_hydra_to_refuse() -> None:
    assert arrange(["b=1", "-m", "a=2", "nonsense", "b=3"]) == ["b=1", "a=2", "nonsense", "b=3", "-m"]
    assert arrange(["--cfg"]) == ["--cfg"]


def test_hydras_own_help_gets_only_overrides_of_its_own_settings() -> None:
    words = ["model=r1-7b", "--hydra-help", "hydra/launcher=basic", "+hydra.job.env_set.A=1"]
    assert arrange(words) == ["hydra/launcher=basic", "+hydra.job.env_set.A=1", "--hydra-help"]


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("engine.args.x=3", "++engine.args.x=3"),
        ("+engine.env.A=b", "+engine.env.A=b"),
        ("engine.args={a: 1}", "++engine.args={a: 1}"),
        ("engine.args.c={a: 1}", "++engine.args.c={a: 1}"),
        ('engine.args.c={"a": "it\'s", "b": [1]}', '++engine.args.c=\'{"a": "it\\\'s", "b": [1]}\''),
        ('engine.args.c={"a": 1', '++engine.args.c={"a": 1'),
        ("engine.python=x", "engine.python=x"),
        ("model.path=/a=b", "model.path='/a=b'"),
        ("dataset.path=/a(b)/c[1].jsonl,/d", "dataset.path='/a(b)/c[1].jsonl',/d"),
        ("load.path=/it's", "load.path='/it\\'s'"),
        ("+model.path=/模型/ü", "+model.path='/模型/ü'"),
        ("engine.env.X=a=b;c", "++engine.env.X='a=b;c'"),
        ('engine.args.x=[{"a": 1}]', "++engine.args.x='[{\"a\": 1}]'"),
        ('engine.args.x=["a","b"]', '++engine.args.x=["a","b"]'),  # a list, which is several values
        ("model.path='/a=b'", "model.path='/a=b'"),
        ("max_tokens=64(", "max_tokens=64("),  # no text: Hydra is left to refuse it
        ("output_length=trace:/a=b.csv", "output_length='trace:/a=b.csv'"),
        ("opt=none,[fp8,kv-fp8]", "opt=none,[fp8,kv-fp8]"),
        ("~engine.args.x", "~engine.args.x"),
        ("engine.args.--max-num-seqs=8", "++engine.args.max-num-seqs=8"),  # as a command line has it
        ("++engine.args.-tp=2", "++engine.args.tp=2"),
    ],
)
def test_keys_that_are_the_engines_own_need_no_plus_and_take_json(typed: str, given: str) -> None:
    assert arrange([typed]) == [given]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1))
def test_any_text_is_read_back_once_it_is_quoted(text: str) -> None:
    parsed = OverridesParser.create().parse_override(f"model.path={quoted(text)}")
    assert parsed.value() == text


STOPS = [
    (r'sampling.stop=["\n\n","END"]', ["\n\n", "END"], r'sampling.stop=["\n\n","END"]'),
    (r'model.sampling.stop="\n"', "\n", r'model.sampling.stop="\n"'),
    (
        r'sampling.stop=["\u4f60\t\"x\"","a\\n"]',
        ['你\t"x"', "a\\n"],
        r'sampling.stop=["\u4f60\t\"x\"","a\\n"]',
    ),
    (
        r'sampling.stop=["\e[0m","\x41:"]',
        ["\x1b[0m", "A:"],
        r"""sampling.stop=["\u001b[0m",'A:']""",
    ),  # YAML's
    (r"sampling.stop=['\n']", [r"\n"], r'sampling.stop=["\\n"]'),  # Hydra's single quotes have no escapes
    (r'sampling.stop=["\d"]', [r"\d"], r'sampling.stop=["\\d"]'),  # none of either
    ("sampling.stop='a\nb'", "a\nb", r'sampling.stop="a\nb"'),
    ("sampling.stop=a:b", "a:b", "sampling.stop=a:b"),
    (r'engine.args.x=["\t","a:b"]', ["\t", "a:b"], r'++engine.args.x=["\t","a:b"]'),
    (r'model.path="/a\b"', r"/a\b", r'model.path="/a\b"'),  # a path has no escapes
]


@pytest.mark.parametrize(("typed", "value", "shown"), STOPS, ids=[one[0] for one in STOPS])
def test_escapes_in_double_quotes_are_read_and_printed_as_they_can_be_typed(
    typed: str, value: object, shown: str
) -> None:
    for _ in range(2):  # typed, and pasted back
        (word,) = arrange([typed])
        parsed = OverridesParser.create().parse_override(word)
        assert parsed.value() == value
        swept = f"{word.partition('=')[0]}={parsed.get_value_element_as_str()}"
        typed = as_typed(swept)
        assert typed == shown


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_can_be_typed_again_in_one_line(text: str) -> None:
    parse = OverridesParser.create().parse_override
    swept = f"sampling.stop={parse(f'sampling.stop={quoted(text)}').get_value_element_as_str()}"
    (again,) = arrange([as_typed(swept)])
    assert len(as_typed(swept).splitlines()) == 1
    assert parse(again).value() == text

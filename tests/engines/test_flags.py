from __future__ import annotations

import argparse
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.engines.adapter import flag_name, merge_args, parse_version, to_flags

names = st.from_regex(r"[a-z]{2,8}([-_][a-z]{2,6}){0,2}", fullmatch=True).filter(
    lambda name: not flag_name(name).startswith("no-")
)
texts = st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=1, max_size=12)
scalars = st.integers() | st.floats(allow_nan=False) | texts
mappings = st.dictionaries(texts, scalars, min_size=1, max_size=3)


@given(st.dictionaries(names, st.booleans() | scalars | mappings | st.none(), max_size=5))
def test_a_parser_reads_back_what_the_flags_say(args: dict[str, Any]) -> None:
    args = {flag_name(name): value for name, value in args.items()}
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    for name, value in args.items():
        if isinstance(value, bool):
            parser.add_argument(f"--{name}", dest=name, action=argparse.BooleanOptionalAction)
        else:
            parser.add_argument(f"--{name}", dest=name)
    read = vars(parser.parse_args(to_flags(args)))
    for name, value in args.items():
        if value is None or isinstance(value, bool):
            assert read[name] is value
        elif isinstance(value, dict):
            assert json.loads(read[name]) == value
        else:
            assert read[name] == str(value)


def test_each_kind_of_value_has_its_form() -> None:
    args = {
        "max_num_seqs": 64,
        "enforce-eager": True,
        "enable-prefix-caching": False,
        "--allowed-origins": ["a", "b"],
        "speculative-config": {"num_speculative_tokens": 3, "method": "ngram"},
        "absent": None,
        "offset": -1,
    }
    assert to_flags(args) == [
        *("--max-num-seqs", "64"),
        "--enforce-eager",
        "--no-enable-prefix-caching",
        *("--allowed-origins", "a", "b"),
        *("--speculative-config", '{"method":"ngram","num_speculative_tokens":3}'),
        "--offset=-1",
    ]


def test_later_layers_win_mappings_merge_and_none_takes_away() -> None:
    base = {
        "dtype": "bfloat16",
        "disable-radix-cache": True,
        "speculative-config": {"method": "ngram", "k": 3},
    }
    opts = {"disable_radix_cache": None, "kv-cache-dtype": "fp8"}
    user = {"speculative_config": {"k": 5}, "--dtype": "float16"}
    assert merge_args(base, opts, user) == {
        "dtype": "float16",
        "speculative-config": {"method": "ngram", "k": 5},
        "kv-cache-dtype": "fp8",
    }


@pytest.mark.slow
@given(st.lists(st.dictionaries(names, scalars | st.none()), max_size=4))
def test_merging_never_leaves_a_none_or_two_spellings(layers: list[dict[str, Any]]) -> None:
    merged = merge_args(*layers)
    assert None not in merged.values()
    assert set(merged) == {flag_name(name) for name in merged}


@given(
    st.lists(st.integers(0, 999), min_size=1, max_size=4),
    st.sampled_from(["", "+cpu", "rc1", ".dev2", ".post1"]),
)
def test_a_version_is_its_leading_numbers(numbers: list[int], suffix: str) -> None:
    assert parse_version(".".join(map(str, numbers)) + suffix) == tuple(numbers)


def test_a_json_text_is_the_mapping_that_it_is() -> None:
    merged = merge_args({"c": {"a": 1, "b": 2}}, {"c": '{"a": 3}', "template": "{% if x %}", "n": "{1"})
    assert merged == {"c": {"a": 3, "b": 2}, "template": "{% if x %}", "n": "{1"}

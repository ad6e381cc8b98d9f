from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ConfigError
from orchestrator.load import lengths

DATA = Path(__file__).parents[3] / "shared" / "data"
SPECS = (512, "fixed:512", "uniform:64:1024", "lognormal:512:0.8", "geometric:200")


@given(st.sampled_from(SPECS), st.integers(1, 300), st.integers(0, 9), st.integers(1, 2000))
def test_every_length_is_within_the_budget_and_the_same_each_time(
    spec: int | str, n: int, seed: int, longest: int
) -> None:
    drawn = lengths.draw(spec, n, seed, longest)
    assert drawn.shape == (n,)
    assert drawn.min() >= 1
    assert drawn.max() <= longest
    assert drawn.tolist() == lengths.draw(spec, n, seed, longest).tolist()


@pytest.mark.parametrize(
    ("spec", "mean", "variation"),
    [
        (512, 512, 0.0),
        ("fixed:512", 512, 0.0),
        ("uniform:64:1024", 544, 0.51),
        ("lognormal:512:0.8", 512, 0.8),
        ("geometric:200", 200, 1.0),
    ],
)
def test_the_moments_are_those_of_the_name(spec: int | str, mean: float, variation: float) -> None:
    drawn = lengths.draw(spec, 200_000, 1, 10**9)
    assert drawn.mean() == pytest.approx(mean, rel=0.02)
    assert drawn.std() / drawn.mean() == pytest.approx(variation, abs=0.02)


def test_both_ends_of_a_uniform_range_are_drawn_and_nothing_else() -> None:
    assert set(lengths.draw("uniform:3:5", 1000, 0, 99).tolist()) == {3, 4, 5}


def test_another_seed_draws_other_lengths() -> None:
    first, second = (lengths.draw("uniform:1:1000", 50, seed, 1000).tolist() for seed in (0, 1))
    assert first != second


@pytest.mark.parametrize("spec", [1, 512, "fixed:5", "uniform:5:5", "lognormal:9:0.1", "trace:lengths.csv"])
def test_what_can_be_drawn_is_valid(spec: int | str) -> None:
    assert lengths.valid(spec)


@pytest.mark.parametrize(
    "spec",
    [
        *(0, -1, True, 1.5, [1], "512", "uniform:9:5", "uniform:9", "lognormal:9:0", "geometric:0.5"),
        *("gamma:5", "trace:", "fixed:nan", "fixed:", "uniform:1:inf"),
    ],
)
def test_what_cannot_be_drawn_is_not(spec: object) -> None:
    assert not lengths.valid(spec)


def azure(path: Path, *output_tokens: int) -> str:
    rows = [f"2023-11-16 18:15:46.6805900,374,{tokens}" for tokens in output_tokens]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *rows]))
    return f"trace:{path}"


def test_a_trace_gives_the_lengths_that_were_seen(tmp_path: Path) -> None:
    spec = azure(tmp_path / "t.csv", 44, 109, 0)
    assert set(lengths.draw(spec, 200, 0, 1000).tolist()) == {44, 109}
    assert set(lengths.draw(spec, 200, 0, 100).tolist()) == {44, 100}


def test_a_stored_study_is_a_trace_of_its_requests_that_ended_well(tmp_path: Path) -> None:
    table = pa.table({"output_tokens": [7, 8, None, 9], "outcome": ["ok", "ok", "ok", "timeout"]})
    pq.write_table(table, tmp_path / "one.parquet")
    for place in (tmp_path, tmp_path / "one.parquet"):
        assert set(lengths.draw(f"trace:{place}", 100, 0, 1000).tolist()) == {7, 8}


def test_a_trace_is_identified_by_its_content_not_its_place(tmp_path: Path) -> None:
    first = lengths.revision(azure(tmp_path / "a.csv", 1, 2))
    assert first is not None
    assert first == lengths.revision(azure(tmp_path / "b.csv", 1, 2))
    assert first != lengths.revision(azure(tmp_path / "c.csv", 1, 3))
    assert lengths.revision("uniform:1:2") is lengths.revision(5) is lengths.revision(None) is None


@pytest.mark.parametrize("name", ["no.csv", "no.parquet"])
def test_a_trace_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^output_length=trace:.*{name}"):
        lengths.revision(f"trace:{tmp_path / name}")


def test_a_trace_without_a_length_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no request with output tokens"):
        lengths.revision(azure(tmp_path / "t.csv", 0))


@pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data")
def test_the_azure_trace_keeps_its_mean() -> None:
    spec = f"trace:{DATA / 'azure_llm_2023_conv.csv'}"
    drawn = lengths.draw(spec, 50_000, 0, 100_000)
    seen = np.loadtxt(DATA / "azure_llm_2023_conv.csv", delimiter=",", skiprows=1, usecols=2)
    assert drawn.mean() == pytest.approx(seen[seen > 0].mean(), rel=0.02)

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.records import Grade, Item, Sample
from orchestrator.store.schema import (
    CELLS,
    ENTRIES_AT_MOST,
    METRIC_COLUMNS,
    REQUESTS,
    _table,
    cell_table,
    request_rows,
    telemetry_rows,
)
from tests.support.timelines import record

REQUEST_COLUMNS = (
    "cell_id request_id item_id repeat scheduled_s sent_s first_token_s first_visible_s last_token_s end_s "
    "ttft_s ttfvt_s tpot_s e2e_s prompt_tokens output_tokens reasoning_tokens cached_tokens outcome "
    "finish_reason error http_status chunk_s chunk_tokens prompt_sha256 reasoning_text response_text "
    "reference predicted correct"
)
TELEMETRY_COLUMNS = (
    "cell_id t_s kv_usage running waiting preemptions_total prefix_queries_tokens_total "
    "prefix_hits_tokens_total spec_drafted_total spec_accepted_total prompt_tokens_total "
    "generation_tokens_total gpu_util gpu_memory_bytes gpu_power_w gpu_energy_j"
)
CELL_COLUMNS = (
    "cell_id deployment_id study model model_kind model_revision engine engine_version opt "
    "tensor_parallel_size gpu_type gpus nodes dataset dataset_revision items load concurrency request_rate "
    "burstiness max_tokens seed repeats engine_args provenance "
    "status reason flags attempts started_at duration_s deployment_start_s simulated"
)
LATENCIES = "ttft_s ttfvt_s tpot_s itl_s chunk_gap_s e2e_s"
METRICS = (
    "accuracy accuracy_low accuracy_high requests_total requests_ok error_rate truncated_rate request_per_s "
    "output_token_per_s total_token_per_s output_token_per_s_per_gpu visible_token_per_s goodput_per_s "
    "slo_attainment kv_usage_mean kv_usage_max preemptions prefix_hit_rate spec_acceptance_rate "
    "spec_tokens_per_step running_mean straggler_time_s straggler_share straggler_gpu_idle_share "
    "thinking_token_share energy_j joule_per_output_token send_lag_s_p99"
)
SAMPLE = Sample(1.0, gpu_util=(0.5,), gpu_memory_bytes=(7,), gpu_power_w=(300.0,), gpu_energy_j=(9.0,))


def test_requests_have_the_columns_of_the_contract() -> None:
    assert set(REQUEST_COLUMNS.split()) <= set(REQUESTS.names)


@pytest.mark.parametrize("gpus", [0, 1, 8])
def test_telemetry_has_the_columns_of_the_contract(gpus: int) -> None:
    assert set(TELEMETRY_COLUMNS.split()) <= set(telemetry_rows("c", [], gpus).column_names)


def test_cells_have_the_columns_of_the_contract() -> None:
    statistics = {f"{name}_{of}" for name in LATENCIES.split() for of in ("mean", "p50", "p90", "p95", "p99")}
    metrics = set(METRICS.split()) | statistics
    assert set(CELL_COLUMNS.split()) | metrics <= set(CELLS.names)
    assert metrics <= set(METRIC_COLUMNS)


def test_types_that_the_contract_names() -> None:
    assert REQUESTS.field("chunk_s").type == pa.list_(pa.float64())
    assert REQUESTS.field("chunk_tokens").type == pa.list_(pa.int32())
    assert REQUESTS.field("correct").type == pa.bool_()
    assert CELLS.field("opt").type == CELLS.field("flags").type == pa.list_(pa.string())
    assert CELLS.field("block").type == pa.string()
    assert CELLS.field("block_position").type == pa.int32()
    assert CELLS.field("started_at").type == pa.timestamp("us", tz="UTC")
    for schema in (REQUESTS, CELLS, telemetry_rows("c", [], 1).schema):
        seconds = [field for field in schema if field.name.endswith("_s") and field.name != "chunk_s"]
        assert {field.type for field in seconds} == {pa.float64()}
        assert schema.metadata[b"schema_version"].decode().isdigit()


def test_a_request_says_how_hard_its_item_is_and_of_which_kind() -> None:
    item = Item("q", ({"role": "user", "content": "?"},), "4", "math", group="story", level=3)
    rows = request_rows(
        "c", [record(1.0, item_id="q"), record(1.0, item_id="other")], None, items={"q": item}
    )
    found = [(row["family"], row["level"]) for row in rows.to_pylist()]
    assert found == [("story", 3), (None, None)]
    assert REQUESTS.field("level").type == pa.int64()


def test_a_request_keeps_its_timeline_and_what_follows_from_it() -> None:
    one = record(
        1.0, [(3.0, 2, 2), (4.0, 2, 1)], scheduled_s=0.5, end_s=5.0, reasoning_text="hm", item_id="q"
    )
    (row,) = request_rows("c", [one], [Grade("4", True)], {"q": "4"}).to_pylist()
    expected = {
        "cell_id": "c",
        "item_id": "q",
        "ttft_s": 2.0,
        "ttfvt_s": 3.0,
        "ttfvt_censored": False,
        "thinking_s": 1.0,
        "tpot_s": pytest.approx(1 / 3),
        "tpot_thinking_s": 0.5,
        "tpot_visible_s": None,
        "e2e_s": 3.0,
        "send_lag_s": 0.5,
        "chunk_s": [3.0, 4.0],
        "chunk_tokens": [2, 2],
        "chunk_reasoning_tokens": [2, 1],
        "reasoning_text": "hm",
        "reference": "4",
        "predicted": "4",
        "correct": True,
    }
    assert {name: row[name] for name in expected} == expected


def test_what_is_absent_is_null() -> None:
    refused = record(None, outcome="error", prompt_tokens=None, output_tokens=None, chunk_tokens=None)
    (row,) = request_rows("c", [refused], None).to_pylist()
    for name in ("sent_s", "ttft_s", "ttfvt_s", "tpot_s", "e2e_s", "send_lag_s", "output_tokens"):
        assert row[name] is None, name
    assert (row["chunk_s"], row["chunk_tokens"], row["correct"], row["reference"]) == ([], None, None, None)


def test_telemetry_of_one_gpu_and_of_several_has_one_schema() -> None:
    none, one = telemetry_rows("c", [Sample(1.0)], 0), telemetry_rows("c", [SAMPLE], 1)
    two = telemetry_rows("c", [replace(SAMPLE, gpu_util=(0.5, 0.6))], 2)
    assert none.schema == one.schema == two.schema
    rows = [table.to_pylist()[0] for table in (none, one, two)]
    assert [row["gpu_util"] for row in rows] == [None, [0.5], [0.5, 0.6]]
    assert [row["gpu_memory_bytes"] for row in rows] == [None, [7], [7]]
    for gpus in (0, 1):
        with pytest.raises(ValueError, match=f"2 GPUs were sampled, the deployment has {gpus}"):
            telemetry_rows("c", [replace(SAMPLE, gpu_util=(0.5, 0.6))], gpus)


def test_a_request_has_the_question_that_was_asked() -> None:
    asked = [record(0.0, item_id=item_id) for item_id in ("q", "r")]
    rows = request_rows("c", asked, None, None, {"q": "What is 1 + 1?"}).to_pylist()
    assert [row["question"] for row in rows] == ["What is 1 + 1?", None]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_neither_nan_nor_infinity_is_ever_stored(bad: float) -> None:
    with pytest.raises(ValueError, match="scheduled_s holds NaN"):
        request_rows("c", [record(0.0, scheduled_s=bad)], None)
    with pytest.raises(ValueError, match="chunk_s holds NaN"):
        request_rows("c", [record(0.0, [(1.0, 1, 0)], chunk_s=np.array([bad]))], None)
    with pytest.raises(ValueError, match="gpu_power_w holds NaN"):
        telemetry_rows("c", [replace(SAMPLE, gpu_power_w=(1.0, bad))], 2)
    with pytest.raises(ValueError, match="duration_s holds NaN"):
        cell_table({"cell_id": "c", "duration_s": bad})


def test_a_column_the_schema_does_not_know_is_an_error() -> None:
    with pytest.raises(ValueError, match="no such column in cells: tokens_per_sec"):
        cell_table({"cell_id": "c", "tokens_per_sec": 1.0})


def test_json_columns_take_mappings_with_their_keys_sorted() -> None:
    (row,) = cell_table({"engine_args": {"b": 1, "a": [2]}, "provenance": '{"x":1}'}).to_pylist()
    assert (row["engine_args"], row["provenance"]) == ('{"a":[2],"b":1}', '{"x":1}')


def test_half_a_surrogate_pair_from_a_model_can_be_stored() -> None:
    (row,) = request_rows("c", [record(0.0, response_text="a\ud83d")], [Grade("\ud83d", None)]).to_pylist()
    assert (row["response_text"], row["predicted"]) == ("a?", "?")


def test_grades_must_be_one_a_record() -> None:
    grades: Any = [Grade(None, None)]
    with pytest.raises(ValueError, match="shorter"):
        request_rows("c", [record(0.0), record(0.0)], grades)


@given(
    lengths=st.lists(st.none() | st.integers(0, 9), max_size=12),
    texts=st.lists(st.none() | st.text(max_size=5), min_size=12, max_size=12),
    at_most=st.integers(1, 12),
)
def test_columns_with_more_entries_than_offsets_can_count_are_cut_into_chunks(
    lengths: list[int | None], texts: list[str | None], at_most: int
) -> None:
    made = pa.schema({"n": pa.int64(), "of": pa.list_(pa.float64()), "text": pa.string()})
    rows = [
        {"n": n, "of": None if length is None else [float(n)] * length, "text": text}
        for n, (length, text) in enumerate(zip(lengths, texts, strict=False))
    ]
    table = _table(rows, made, None, at_most)
    assert table.to_pylist() == rows
    assert table["n"].num_chunks == 1
    for chunk in table["of"].chunks:
        sizes = [len(value) for value in chunk.to_pylist() if value is not None]
        assert sum(sizes) <= at_most or sum(size > 0 for size in sizes) == 1
    for chunk in table["text"].chunks:
        sizes = [len(value.encode()) for value in chunk.to_pylist() if value is not None]
        assert sum(sizes) <= at_most or sum(size > 0 for size in sizes) == 1


def test_infinity_is_found_in_whatever_chunk_it_is() -> None:
    made = pa.schema({"of": pa.list_(pa.float64())})
    with pytest.raises(ValueError, match="column of holds NaN or infinity"):
        _table([{"of": [1.0] * 5}, {"of": [1.0, math.inf]}], made, None, 5)


def test_offsets_of_thirty_two_bits_are_the_limit() -> None:
    assert ENTRIES_AT_MOST == 2**31 - 2

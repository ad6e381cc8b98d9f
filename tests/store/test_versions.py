"""Files of older and newer versions, and of other programs (`orchestrator.store.versions`)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestrator.errors import ConfigError
from orchestrator.records import Sample
from orchestrator.store.read import read_cells, read_requests, read_status, read_telemetry, statuses
from orchestrator.store.schema import GPU_COLUMNS, REQUESTS, TELEMETRY, VERSION
from orchestrator.store.versions import refuse_newer
from orchestrator.store.write import commit
from tests.store.commits import RECORDS, row

FOLDERS = ("cells", "requests", "telemetry")


def store(study: Path, cell_id: str, gpus: int = 1) -> None:
    samples = [Sample(0.0), Sample(1.0, gpu_util=(0.5,) * gpus, gpu_memory_bytes=(7,) * gpus)]
    commit(study, cell_id, row() | {"gpus": gpus}, RECORDS, None, samples, questions={"i": "How many?"})


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table], version: str | None = None) -> None:
    """The file as another version, or another program, would have written it."""
    table = pq.read_table(path)
    metadata = dict(table.schema.metadata)
    if version is not None:
        metadata[b"schema_version"] = version.encode()
    pq.write_table(change(table).replace_schema_metadata(metadata), path)


def holding(name: str, value: float) -> Callable[[pa.Table], pa.Table]:
    """The column's every value is this one, which the writer may refuse."""

    def change(table: pa.Table) -> pa.Table:
        place = table.column_names.index(name)
        return table.set_column(place, name, pa.array([value] * table.num_rows, pa.float64()))

    return change


def as_text(name: str) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        place = table.column_names.index(name)
        return table.set_column(place, name, pa.array(["x"] * table.num_rows))

    return change


def with_numbers(table: pa.Table) -> pa.Table:
    """One GPU's columns as version 1 had them."""
    for name in GPU_COLUMNS:
        values = [None if value is None else value[0] for value in table[name].to_pylist()]
        kind = table.schema.field(name).type.value_type
        table = table.set_column(table.column_names.index(name), name, pa.array(values, kind))
    return table


def test_a_study_of_one_and_of_several_gpus_reads_as_one_table(tmp_path: Path) -> None:
    for gpus in (1, 2):
        store(tmp_path, f"c{gpus}", gpus)
    files = sorted((tmp_path / "telemetry").glob("*.parquet"))
    assert pa.concat_tables([pq.read_table(path) for path in files])["gpu_util"].to_pylist() == [
        *(None, [0.5]),
        *(None, [0.5, 0.5]),
    ]


def test_older_telemetry_is_migrated(tmp_path: Path) -> None:
    store(tmp_path, "c")
    rewrite(tmp_path / "telemetry" / "c.parquet", with_numbers, "1")
    found = read_telemetry(tmp_path, "c")
    assert found.schema.equals(TELEMETRY)
    assert found["gpu_util"].to_pylist() == [None, [0.5]]
    assert found["gpu_memory_bytes"].to_pylist() == [None, [7]]


def test_older_requests_have_no_question(tmp_path: Path) -> None:
    for cell_id in ("a", "b"):
        store(tmp_path, cell_id)
    rewrite(tmp_path / "requests" / "a.parquet", lambda table: table.drop_columns(["question"]), "1")
    found = read_requests(tmp_path)
    assert found.column_names == REQUESTS.names
    assert found["question"].to_pylist() == [None] * len(RECORDS) + ["How many?"] * len(RECORDS)


def test_older_cells_are_in_no_block(tmp_path: Path) -> None:
    for cell_id in ("a", "b"):
        inside = row() | {"block": "drawn", "block_position": 2}
        commit(tmp_path, cell_id, inside, RECORDS, None, [])
    older = tmp_path / "cells" / "a.parquet"
    rewrite(older, lambda table: table.drop_columns(["block", "block_position"]))
    found = read_cells(tmp_path)
    assert found["block"].to_pylist() == [None, "drawn"]
    assert found["block_position"].to_pylist() == [None, 2]
    assert found.schema.field("block_position").type == pa.int32()


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("version", ["99", "next"])
def test_a_newer_file_is_refused_by_its_name(
    tmp_path: Path, folder: str, version: str, caplog: pytest.LogCaptureFixture
) -> None:
    store(tmp_path, "new")
    store(tmp_path, "own")
    path = tmp_path / folder / "new.parquet"
    rewrite(path, lambda table: table, version)
    if folder == "cells":
        assert read_cells(tmp_path)["cell_id"].to_pylist() == ["own"]
        status = read_status(tmp_path, "new")
        assert status is not None
        assert status.status == "corrupt"
        with pytest.raises(ConfigError, match=rf"{path}: schema_version={version}: .* up to {VERSION}"):
            refuse_newer(tmp_path)
    elif folder == "requests":
        assert set(read_requests(tmp_path)["cell_id"].to_pylist()) == {"own"}
    else:
        with pytest.raises(FileNotFoundError):
            read_telemetry(tmp_path, "new")
    assert f"{path} cannot be read: schema_version={version}" in caplog.text


def test_a_study_of_this_version_and_older_ones_is_not_refused(tmp_path: Path) -> None:
    refuse_newer(tmp_path / "none")
    store(tmp_path, "a")
    rewrite(tmp_path / "cells" / "a.parquet", lambda table: table, "1")
    (tmp_path / "cells" / "b.parquet").write_bytes(b"damaged")
    refuse_newer(tmp_path)


@pytest.mark.parametrize(
    ("folder", "column"),
    [
        *(("cells", name) for name in ("duration_s", "stored_at", "opt", "attempts", "accuracy")),
        *(("requests", name) for name in ("ttft_s", "chunk_s", "correct")),
        *(("telemetry", name) for name in ("t_s", "gpu_util")),
    ],
)
def test_a_column_of_a_foreign_type_is_a_warning(
    tmp_path: Path, folder: str, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    store(tmp_path, "bad")
    store(tmp_path, "own")
    path = tmp_path / folder / "bad.parquet"
    rewrite(path, as_text(column))
    cells, requests, found = read_cells(tmp_path), read_requests(tmp_path), statuses(tmp_path)
    assert cells["cell_id"].to_pylist() == (["own"] if folder == "cells" else ["bad", "own"])
    assert ("bad" in requests["cell_id"].to_pylist()) == (folder != "requests")
    assert found["own"].status == "done"
    if folder == "telemetry":
        with pytest.raises(FileNotFoundError):
            read_telemetry(tmp_path, "bad")
    assert str(path) in caplog.text


def test_columns_of_others_that_disagree_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for cell_id, value in (("a", 1), ("b", "x")):
        store(tmp_path, cell_id)
        for folder in ("cells", "requests"):

            def added(table: pa.Table, value: object = value) -> pa.Table:
                return table.append_column("note", pa.array([value] * table.num_rows))

            rewrite(tmp_path / folder / f"{cell_id}.parquet", added)
    assert read_cells(tmp_path)["cell_id"].to_pylist() == ["a"]
    assert set(read_requests(tmp_path)["cell_id"].to_pylist()) == {"a"}
    assert f"{tmp_path / 'cells' / 'b.parquet'} cannot be read with the others" in caplog.text

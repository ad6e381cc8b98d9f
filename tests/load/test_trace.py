"""Recorded arrivals (`orchestrator.load.trace`): rows as the public traces have them, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from orchestrator.config.schema import LoadConfig
from orchestrator.errors import ConfigError
from orchestrator.load.arrivals import Open, check_trace, draw
from orchestrator.load.lengths import draw as draw_lengths
from orchestrator.load.trace import read_trace

DATA = Path(__file__).parents[2] / "../shared/data"

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
AZURE_2023 = (
    HEADER + "2023-11-16 18:15:46.6805900,374,44\n"
    "2023-11-16 18:15:50.9951690,396,109\n"
    "2023-11-16 18:15:51.2225670,879,55\n"
)
AZURE_2024 = (
    HEADER + "2024-05-10 00:00:00.009930+00:00,2162,5\n"
    "2024-05-10 00:00:00.017335+00:00,2399,6\n"
    "2024-05-10 00:00:01+00:00,76,15\n"
)
BURST_6 = (
    "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "5,ChatGPT,472,18,490,Conversation log\n"
    "45,ChatGPT,1087,230,1317,Conversation log\n"
    "45,GPT-4,417,0,417,API log\n"
)
BURST_8 = (
    "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
    "19440110.0,1722ac82-0a46-4bf0-aa08-89794e7a2b3f,43,GPT-4,906,446,1352,Conversation log\n"
    "19440161.5,,2,ChatGPT,36,29,65,API log\n"
)
MOONCAKE = (
    '{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1, 2]}\n'
    '{"timestamp": 0, "input_length": 7322, "output_length": 490, "hash_ids": [0, 14, 15]}\n'
    '{"timestamp": 3000, "input_length": 13544, "output_length": 71, "hash_ids": [0, 219]}\n'
    '{"timestamp": 5999, "input_length": 1053, "output_length": 26, "hash_ids": [0, 773, 774]}\n'
)


def trace(folder: Path, text: str) -> str:
    path = folder / "trace.csv"
    path.write_text(text)
    return str(path)


def azure(*times: object) -> str:
    return HEADER + "".join(f"{time},1,2\n" for time in times)


@pytest.mark.parametrize(
    ("text", "times", "prompt", "output", "unit"),
    [
        (AZURE_2023, [0.0, 4.314579, 4.541977], [374, 396, 879], [44, 109, 55], "dates, taken as UTC"),
        (AZURE_2024, [0.0, 0.007405, 0.99007], [2162, 2399, 76], [5, 6, 15], "dates with their zone"),
        (BURST_6, [0.0, 40.0, 40.0], [472, 1087, 417], [18, 230, 0], "s from the trace's own zero"),
        (BURST_8, [0.0, 51.5], [906, 36], [446, 29], "s from the trace's own zero"),
        (
            MOONCAKE,
            [0.0, 0.0, 3.0, 5.999],
            [6758, 7322, 13544, 1053],
            [500, 490, 71, 26],
            "ms from the trace's own zero",
        ),
    ],
    ids=["azure 2023", "azure 2024", "burstgpt of 6", "burstgpt of 8", "mooncake"],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_public_layouts(
    tmp_path: Path,
    text: str,
    times: list[float],
    prompt: list[int],
    output: list[int],
    unit: str,
    ends: str,
    start: str,
) -> None:
    path = tmp_path / "trace"
    path.write_bytes((start + text.replace("\n", ends)).encode())
    found = read_trace(path)
    assert found.times_s == pytest.approx(times, abs=1e-9)
    assert found.prompt_tokens.tolist() == prompt
    assert found.output_tokens.tolist() == output
    assert found.unit == unit


@pytest.mark.parametrize(
    ("scale", "unit"), [(1, "s"), (10**3, "ms"), (10**6, "µs"), (10**9, "ns")], ids=["s", "ms", "us", "ns"]
)
def test_numbers_since_1970_are_read_by_their_size(tmp_path: Path, scale: int, unit: str) -> None:
    first = 1_700_158_546
    found = read_trace(trace(tmp_path, azure(first * scale, (first + 2) * scale, (first + 7) * scale)))
    assert found.times_s.tolist() == [0.0, 2.0, 7.0]
    assert found.unit == f"{unit} since 1970"
    assert f"{unit} since 1970: 3 arrivals in 7.0 s" in found.told


def test_fractions_of_seconds_since_1970_keep_their_digits(tmp_path: Path) -> None:
    found = read_trace(trace(tmp_path, azure("1700158546.123456789", "1700158546.123456790")))
    assert found.times_s.tolist() == [0.0, 1e-9]


def test_dates_of_several_zones_are_of_one_clock(tmp_path: Path) -> None:
    zones = ("2024-05-10 00:00:00+00:00", "2024-05-10T02:00:01+02:00", "2024-05-09 19:00:03-0500")
    assert read_trace(trace(tmp_path, azure(*zones))).times_s.tolist() == [0.0, 1.0, 3.0]
    mixed = ("2024-05-10 00:00:00.009930+00:00", "2024-05-10 00:00:01", "2024-05-10 00:00:02Z")
    assert read_trace(trace(tmp_path, azure(*mixed))).times_s == pytest.approx([0.0, 0.99007, 1.99007])


def test_a_file_that_changes_is_read_again(tmp_path: Path) -> None:
    path = trace(tmp_path, azure("2024-05-10 00:00:00", "2024-05-10 00:00:01"))
    assert len(read_trace(path).times_s) == 2
    trace(tmp_path, azure("2024-05-10 00:00:00"))
    assert len(read_trace(path).times_s) == 1


def test_a_trace_is_replayed_from_its_first_arrival_at_the_asked_speed(tmp_path: Path) -> None:
    schedule = draw(LoadConfig(kind="trace", path=trace(tmp_path, AZURE_2023), speedup=2.0), 2, 1)
    assert isinstance(schedule, Open)
    assert schedule.times_s == pytest.approx([0.0, 4.314579 / 2])


def test_lengths_can_be_those_of_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "mooncake.jsonl"
    path.write_text(MOONCAKE)
    assert set(draw_lengths(f"trace:{path}", 100, 0, 4096).tolist()) == {500, 490, 71, 26}


@pytest.mark.parametrize(("name", "count"), [("conv", 19_366), ("code", 8_819)])
def test_the_public_azure_traces_are_read_whole(name: str, count: int) -> None:
    """Every row of a real trace: the rows above are a few of each layout."""
    file = DATA / f"azure_llm_2023_{name}.csv"
    if not file.is_file():
        pytest.skip(f"needs ../shared/data/{file.name}")
    found = read_trace(file)
    assert len(found.times_s) == count
    assert found.times_s[0] == 0
    assert 3400 < found.times_s[-1] < 3700
    assert (np.diff(found.times_s) >= 0).all()


def mooncake(**change: object) -> str:
    row = {"timestamp": 3000, "input_length": 5, "output_length": 5} | change
    return MOONCAKE[: MOONCAKE.index("\n") + 1] + json.dumps(row) + "\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the header is ''"),
        ("a,b\n1,2\n", "the header is 'a,b'"),
        ("version https://git-lfs.github.com/spec/v1\n", "the header is 'version https://git-lfs"),
        (HEADER, "no rows"),
        (AZURE_2023 + "yesterday,1,2\n", "line 5"),
        (AZURE_2023 + ",1,2\n", "line 5"),
        (AZURE_2023 + "2023-11-16 18:15:52,1\n", "line 5 has 2 columns, the header 3"),
        (AZURE_2023 + "2023-11-16 18:15:52,1,2,3\n", "line 5 has 4 columns, the header 3"),
        (AZURE_2023 + "2023-11-16 18:15:52,1,-2\n", "line 5"),
        (AZURE_2023 + "2023-11-16 18:15:52,1,2.5\n", "line 5"),
        (AZURE_2023 + "2023-11-16 18:15:52,1_000,2\n", "line 5"),
        (AZURE_2023 + "2023-11-16 18:15:46,1,2\n", "is earlier than the line before"),
        (AZURE_2023 + "2023-13-16 18:15:52,1,2\n", "line 5"),
        (AZURE_2023 + "1700158552,1,2\n", "line 5"),
        (AZURE_2023 + "2023-11-16 18:15:52+02:00,1,2\n", "names a time zone, unlike the first line"),
        (azure("2023-11-16 18:15:52+02:00", "2023-11-16 18:15:53"), "names no time zone"),
        (azure("2024-05-10 00:00:01+00:00", "2024-05-10 00:00:02+02:00"), "is earlier"),
        (azure("2024-05-10 00:00:01+99:00"), "no time zone that there is"),
        (azure("1970-01-01 00:00:01"), "an implausible year"),
        (azure("16/11/2023 18:15:46"), "has no time"),
        (azure("2023-11-16"), "has no time"),
        (azure("5", "6"), "neither a date nor a time since 1970"),
        (azure("20231116181546"), "none since 1970"),
        (azure("1700158546", "1700158547000"), "is none of s since 1970"),
        (azure("1700158546", "2023-11-16 18:15:52"), "no number of s since 1970"),
        (azure("2020-05-10 00:00:00", "2024-05-10 00:00:00"), "is years after the first line"),
        ("Timestamp,Request tokens,Response tokens\nnan,1,2\n", "line 2"),
        ("Timestamp,Request tokens,Response tokens\ninf,1,2\n", "line 2"),
        ("Timestamp,Request tokens,Response tokens\n-1,1,2\n", "line 2"),
        ("Timestamp,Request tokens,Response tokens\n45,1,2\n5.5,1,2\n", "line 3"),
        ("Timestamp,Request tokens,Response tokens\n0,1,2\n400000000,1,2\n", "is years after the first line"),
        (mooncake(timestamp="3000"), "line 2 must be a JSON object with numbers"),
        (mooncake(timestamp=None), "line 2 must be a JSON object with numbers"),
        (mooncake(output_length=True), "line 2 must be a JSON object with numbers"),
        (mooncake(timestamp=float("nan")), "line 2 must be a JSON object with numbers"),
        (mooncake(timestamp=-1), "line 2"),
        (mooncake(timestamp=3.25), "line 2 is '3.25,5,5', which has a fraction of a millisecond"),
        (mooncake(input_length=1.5), "line 2"),
        (MOONCAKE + "[1]\n", "line 5 must be a JSON object"),
        (MOONCAKE + '{"timestamp": 6000\n', "line 5 is not JSON"),
        (MOONCAKE + MOONCAKE, "is earlier than the line before"),
        ("{}\n", "timestamp, input_length, output_length"),
    ],
)
def test_a_bad_trace_is_refused_in_one_line_with_its_path(tmp_path: Path, text: str, says: str) -> None:
    path = trace(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_trace(path)
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"load.path={path}: ")
    assert "\n" not in str(caught.value)


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    for content in (b"\xff\xfe\x00T", HEADER.encode() + b"\xff,1,2\n"):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=r"load\.path=.*cannot be read as a trace"):
            read_trace(path)
    with pytest.raises(ConfigError, match=r"load\.path=.*none\.csv"):
        read_trace(tmp_path / "none.csv")
    with pytest.raises(ConfigError, match=r"load\.path="):
        read_trace(tmp_path)


def test_no_more_is_read_than_is_sent(tmp_path: Path) -> None:
    path = trace(tmp_path, AZURE_2023 + "no time at all\n")
    first = read_trace(path, 2)
    assert (len(first.times_s), first.whole) == (2, False)
    with pytest.raises(ConfigError, match="line 5"):
        read_trace(path, 4)
    assert read_trace(trace(tmp_path, AZURE_2023), 4).whole


def test_a_trace_shorter_than_the_cell_is_refused(tmp_path: Path) -> None:
    load = LoadConfig(kind="trace", path=trace(tmp_path, AZURE_2023))
    check_trace(load, 3)
    check_trace(load, None)
    for check in (lambda: draw(load, 4, 0), lambda: check_trace(load, 4)):
        with pytest.raises(ConfigError, match="3 arrivals for 4 requests"):
            check()

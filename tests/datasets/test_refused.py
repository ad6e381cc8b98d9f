"""Datasets that cannot be loaded (`orchestrator.datasets`): what is said of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from orchestrator.config.schema import DatasetConfig
from orchestrator.datasets import fingerprint, load
from orchestrator.errors import ConfigError
from tests.datasets.test_load import write


def fail(error: Exception, monkeypatch: pytest.MonkeyPatch, **config: Any) -> str:
    import datasets

    def load_dataset(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(ConfigError) as caught:
        load(DatasetConfig(**config), 1)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_gated_dataset_says_how_to_get_access(monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets.exceptions import DatasetNotFoundError

    error = DatasetNotFoundError("Dataset 'Idavidrein/gpqa' is a gated dataset on the Hub.\nLog in.")
    message = fail(error, monkeypatch, name="gpqa-diamond", hub_id="Idavidrein/gpqa", gated=True)
    assert "huggingface.co/datasets/Idavidrein/gpqa" in message
    assert "HF_TOKEN" in message


def test_an_unreachable_hub_names_dataset_path(monkeypatch: pytest.MonkeyPatch) -> None:
    message = fail(
        ConnectionError("Couldn't reach\nthe hub"), monkeypatch, name="gsm8k", hub_id="openai/gsm8k"
    )
    assert "dataset.path" in message


def test_an_unknown_split_names_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ValueError('Unknown split "tset". Should be one of ["train", "test"].')
    message = fail(error, monkeypatch, name="gsm8k", hub_id="openai/gsm8k", split="tset")
    assert "dataset.split=tset" in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "No such file"),
        ("", "no rows"),
        ("not json\n", "line 1 is not JSON"),
        ('{"problem": "a", "answer": "1"}\n[1]\n', "line 2 is a JSON list"),
        ('{"problem": "a"}\n', "row 1 lacks answer; math500 needs problem, answer"),
    ],
)
def test_a_bad_file_is_named_when_planning_and_when_loading(
    tmp_path: Path, content: str | None, expected: str
) -> None:
    path = tmp_path / "bad.jsonl"
    if content is not None:
        path.write_text(content)
    dataset = DatasetConfig(name="math500", path=str(path))
    for call in (lambda: fingerprint(dataset), lambda: load(dataset, None)):
        with pytest.raises(ConfigError, match=expected) as caught:
            call()
        assert str(caught.value).startswith(f"dataset.path={path}: ")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "says"),
    [
        ("utf-16", "the file is written in UTF-16; it must be UTF-8"),
        ("utf-16-le", "the file is written in UTF-16"),
        ("utf-32", "the file is written in UTF-32"),
        ("utf-32-be", "the file is written in UTF-32"),
        ("latin-1", "line 1 is not written in UTF-8"),
    ],
)
def test_a_file_of_another_encoding_is_named_as_such(tmp_path: Path, encoding: str, says: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"problem": "é", "answer": "1"}\n', encoding=encoding)
    with pytest.raises(ConfigError, match=says):
        fingerprint(DatasetConfig(name="math500", path=str(path)))
    path.write_text('{"problem": "é", "answer": "1"}\n', encoding="utf-8-sig")
    assert fingerprint(DatasetConfig(name="math500", path=str(path)))


def test_a_row_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", [{"question": "How many?", "answer": "I do not know"}])
    with pytest.raises(ConfigError, match="row 1 is not a gsm8k item"):
        load(DatasetConfig(name="gsm8k", path=path), None)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"name": "gsm9k"}, "dataset.name=gsm9k: unknown; allowed: arithmetic, gsm8k"),
        (
            {"name": "arithmetic", "prompt": "poem"},
            "dataset.prompt=poem: unknown; allowed: plain, cot",
        ),
        ({"name": "arithmetic", "sample": "tail"}, "dataset.sample=tail: unknown; allowed: hash, head"),
        ({"name": "gsm8k", "shots": 9}, "dataset.shots=9: gsm8k allows 0 to 8"),
        ({"name": "gsm8k", "shots": -1}, "dataset.shots=-1"),
        ({"name": "arithmetic", "path": "x.jsonl"}, "dataset.path=x.jsonl: arithmetic is generated"),
    ],
)
def test_a_wrong_key_is_named_with_what_is_allowed(config: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        fingerprint(DatasetConfig(**config))


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="limit=0"):
        load(DatasetConfig(name="arithmetic"), 0)

from __future__ import annotations

import pytest

from tests.support.compose import config_of

BASE_URL = "engine.base_url=http://127.0.0.1:8000"


@pytest.mark.parametrize(
    ("overrides", "inline"),
    [
        (("model=r1-7b", "engine=vllm"), False),
        (("model=r1-7b", "engine=vllm", "model.reasoning_parser.vllm=null"), True),
        (("model=r1-7b", "engine=sglang", "model.reasoning_parser.vllm=null"), False),
        (("model=r1-7b", "engine=external", BASE_URL), False),
        (("model=smollm2-135m", "engine=vllm"), False),
    ],
)
def test_reasoning_is_inline_where_no_parser_of_the_server_takes_it_out(
    overrides: tuple[str, ...], inline: bool
) -> None:
    assert config_of(*overrides).reasoning_inline == inline


@pytest.mark.parametrize(("model", "opened"), [("r1-7b", True), ("r1-70b", True), ("qwen3-8b", False)])
def test_the_catalogue_knows_whose_prompt_opens_the_reasoning(model: str, opened: bool) -> None:
    assert config_of(f"model={model}").model.think_opened == opened

"""How often a model is right on what it was not taught, and how long it thinks, by level and family."""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass
from typing import Any

import torch

from orchestrator import worked
from training.batches import chat
from training.settings import Settings

LOW, HIGH = 0.6, 0.99  # between these a level tells two servings of the model apart
SLOWEST_S = 120.0
_BOXED = re.compile(r"\\boxed\{(-?\d+)\}")


@dataclass(frozen=True, slots=True)
class Answer:
    """``thinking`` in tokens, the tags not counted; None when the thought was not closed."""

    problem: worked.Problem
    text: str
    right: bool
    thinking: int | None


def ask(
    model: Any, tokenizer: Any, settings: Settings, problems: list[worked.Problem], budget: int
) -> list[Answer]:
    """All at once, by the settings' own sampling, at most ``budget`` tokens each."""
    torch.manual_seed(settings.seed)
    prompts = [chat(tokenizer, f"{problem.text}\n\n{worked.BOXED}") for problem in problems]
    put = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
    put = put.to(model.device)
    with torch.no_grad():
        made = model.generate(
            **put,
            max_new_tokens=budget,
            max_time=SLOWEST_S,
            do_sample=True,
            temperature=settings.temperature,
            top_p=settings.top_p,
            top_k=0,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    new = made[:, put.input_ids.shape[1] :].tolist()
    return [_answer(tokenizer, problem, ids) for problem, ids in zip(problems, new, strict=True)]


def _answer(tokenizer: Any, problem: worked.Problem, ids: list[int]) -> Answer:
    if tokenizer.eos_token_id in ids:
        ids = ids[: ids.index(tokenizer.eos_token_id)]
    close = tokenizer.convert_tokens_to_ids("</think>")
    thinking = ids.index(close) - 1 if close in ids else None
    text = tokenizer.decode(ids)
    found = _BOXED.findall(text.rpartition("</think>")[2])
    return Answer(problem, text, bool(found) and int(found[-1]) == problem.answer, thinking)


def table(answers: list[Answer]) -> dict[str, object]:
    """Shares and means, by level and by family."""
    by_level = {str(n): _shares([each for each in answers if each.problem.level == n]) for n in worked.LEVELS}
    by_family = {
        name: _shares([each for each in answers if each.problem.family == name]) for name in worked.FAMILIES
    }
    return {"all": _shares(answers), "level": by_level, "family": by_family}


def _shares(chosen: list[Answer]) -> dict[str, float | int | None]:
    """Empty without any."""
    if not chosen:
        return {}
    thinking = [each.thinking for each in chosen if each.thinking is not None]
    return {
        "questions": len(chosen),
        "right": round(sum(each.right for each in chosen) / len(chosen), 4),
        "closed": round(len(thinking) / len(chosen), 4),
        "thinking": round(statistics.mean(thinking), 1) if thinking else None,
        "most": max(thinking, default=None),
        "corrected": round(sum(", not " in each.text for each in chosen) / len(chosen), 4),
        "checked": round(sum("let me check" in each.text for each in chosen) / len(chosen), 4),
    }


def spread(answers: list[Answer]) -> tuple[int, float]:
    """How many levels are between `LOW` and `HIGH`, and the share of right answers: more is better."""
    rights = [
        statistics.mean(each.right for each in answers if each.problem.level == level)
        for level in worked.LEVELS
        if any(each.problem.level == level for each in answers)
    ]
    return sum(LOW <= right <= HIGH for right in rights), statistics.mean(each.right for each in answers)


def printed(found: dict[str, Any]) -> str:
    lines = [f"{'':12}{'n':>6}{'right':>8}{'closed':>8}{'thinking':>10}{'most':>6}{'corrected':>11}"]
    rows = {"all": found["all"]}
    rows |= {f"level {level}": row for level, row in found["level"].items()} | found["family"]
    for name, row in rows.items():
        if row:
            thinking, most = row["thinking"] or 0, row["most"] or 0
            lines.append(
                f"{name:12}{row['questions']:>6}{row['right']:>8.1%}{row['closed']:>8.1%}"
                f"{thinking:>10.0f}{most:>6}{row['corrected']:>11.1%}"
            )
    return "\n".join(lines)

"""The multiple-choice datasets: GPQA-Diamond, SuperGPQA, CommonsenseQA and the STEM part of MMLU."""

from __future__ import annotations

from orchestrator.datasets import fields
from orchestrator.datasets.options import Options, options
from orchestrator.datasets.question import Family, Question, Row, choice, content_id

# Hendrycks et al. 2021, category STEM: 18 subjects, 3,018 test questions.
_STEM = frozenset(
    {
        "abstract_algebra",
        "astronomy",
        "college_biology",
        "college_chemistry",
        "college_computer_science",
        "college_mathematics",
        "college_physics",
        "computer_security",
        "conceptual_physics",
        "electrical_engineering",
        "elementary_mathematics",
        "high_school_biology",
        "high_school_chemistry",
        "high_school_computer_science",
        "high_school_mathematics",
        "high_school_physics",
        "high_school_statistics",
        "machine_learning",
    }
)


_GPQA = ("Question", "Correct Answer", *(f"Incorrect Answer {number}" for number in (1, 2, 3)))


def gpqa(row: Row) -> Question:
    """Rein et al. 2023: the correct answer has its own column."""
    text = fields.text(row, "Question")
    texts = [fields.answer(row, name) for name in _GPQA[1:]]
    item_id = fields.name(row, "Record ID") or content_id(text)
    return choice(item_id, text, texts, 0, fields.name(row, "High-level domain"))


def supergpqa(row: Row) -> Question:
    """M-A-P 2025: up to ten options, the correct one named by its letter."""
    text, given = fields.text(row, "question"), options(row, "options")
    item_id = fields.name(row, "uuid") or content_id(text, *given.texts)
    correct = given.labelled(row, "answer_letter")
    return choice(item_id, text, given.texts, correct, fields.name(row, "discipline"))


def commonsenseqa(row: Row) -> Question:
    """Talmor et al. 2019: ``choices`` is a mapping of two lists, ``label`` and ``text``. The test split has
    no answers, so the validation split is the one used."""
    text, given = fields.text(row, "question"), options(row, "choices")
    if row["answerKey"] == "":
        raise ValueError("answerKey is empty (the test split has no answers: use dataset.split=validation)")
    item_id = fields.name(row, "id") or content_id(text, *given.texts)
    return choice(item_id, text, given.texts, given.labelled(row, "answerKey"))


def mmlu_stem(row: Row) -> Question | None:
    """The subject is ``subject`` on the hub and ``type`` in files made of the STEM part alone. ``answer`` is
    a label of the options, or counts from 0 where none of their labels is a number."""
    subject = fields.name(row, "subject") or fields.name(row, "type")
    if subject and subject not in _STEM:
        return None
    text, given = fields.text(row, "question"), options(row, "choices")
    return choice(content_id(text, *given.texts), text, given.texts, _place(row, given), subject)


def _place(row: Row, given: Options) -> int:
    """The index of the correct option. Raises ValueError for what is none, or may be one of two."""
    answer = row["answer"]
    written = answer.strip() if isinstance(answer, str) else str(answer)
    if not written.isdigit() or any(label.isdigit() for label in given.labels):
        place = given.labelled(row, "answer")
    else:
        numbered = given._replace(labels=[str(place) for place in range(len(given.labels))])
        place = numbered.labelled(row, "answer")
        if given.moved:
            raise ValueError(f"answer is {written}, a place, and the options are not in their labels' order")
    if (
        isinstance(answer, str)
        and not given.told
        and written in given.texts
        and given.texts[place] != written
    ):
        raise ValueError(f"answer is {written!r}, which is one option's place and another's text")
    return place


GPQA = Family(fields=_GPQA, question=gpqa)
SUPERGPQA = Family(fields=("question", "options", "answer_letter"), question=supergpqa)
COMMONSENSEQA = Family(fields=("question", "choices", "answerKey"), question=commonsenseqa)
MMLU_STEM = Family(
    fields=("question", "choices", "answer"),
    question=mmlu_stem,
    repeated=frozenset({"cb8c13598bd6", "8c6977650399", "0762795f5418", "efadeba51ef1"}),
)

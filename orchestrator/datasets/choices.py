"""The multiple-choice datasets: GPQA-Diamond, SuperGPQA, CommonsenseQA and the STEM part of MMLU."""

from __future__ import annotations

from orchestrator.datasets import fields
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
    options = [fields.answer(row, name) for name in _GPQA[1:]]
    item_id = fields.name(row, "Record ID") or content_id(text)
    return choice(item_id, text, options, 0, fields.name(row, "High-level domain"))


def supergpqa(row: Row) -> Question:
    """M-A-P 2025: up to ten options, the correct one named by its letter."""
    text, (labels, options) = fields.text(row, "question"), fields.options(row, "options")
    item_id = fields.name(row, "uuid") or content_id(text, *options)
    correct = fields.labelled(row, "answer_letter", labels)
    return choice(item_id, text, options, correct, fields.name(row, "discipline"))


def commonsenseqa(row: Row) -> Question:
    """Talmor et al. 2019: ``choices`` is a mapping of two lists, ``label`` and ``text``. The test split has
    no answers, so the validation split is the one used."""
    text, (labels, options) = fields.text(row, "question"), fields.options(row, "choices")
    if not row["answerKey"]:
        raise ValueError("answerKey is empty (the test split has no answers: use dataset.split=validation)")
    item_id = fields.name(row, "id") or content_id(text, *options)
    return choice(item_id, text, options, fields.labelled(row, "answerKey", labels))


def mmlu_stem(row: Row) -> Question | None:
    """The subject is ``subject`` on the hub and ``type`` in files made of the STEM part alone. ``answer``
    counts from 0, or is a letter."""
    subject = fields.name(row, "subject") or fields.name(row, "type")
    if subject and subject not in _STEM:
        return None
    text, (labels, options) = fields.text(row, "question"), fields.options(row, "choices")
    places = [str(place) for place in range(len(labels))]
    by_letter = isinstance(row["answer"], str) and not row["answer"].strip().isdigit()
    correct = fields.labelled(row, "answer", labels if by_letter else places)
    return choice(content_id(text, *options), text, options, correct, subject)


GPQA = Family(fields=_GPQA, question=gpqa)
SUPERGPQA = Family(fields=("question", "options", "answer_letter"), question=supergpqa)
COMMONSENSEQA = Family(fields=("question", "choices", "answerKey"), question=commonsenseqa)
MMLU_STEM = Family(fields=("question", "choices", "answer"), question=mmlu_stem)

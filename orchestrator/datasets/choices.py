"""The multiple-choice datasets: GPQA-Diamond, SuperGPQA, CommonsenseQA and the STEM part of MMLU."""

from __future__ import annotations

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


def gpqa(row: Row) -> Question:
    """Rein et al. 2023: the correct answer has its own column."""
    text = str(row["Question"]).strip()
    options = [str(row["Correct Answer"]), *(str(row[f"Incorrect Answer {i}"]) for i in (1, 2, 3))]
    item_id = str(row.get("Record ID") or content_id(text))
    return choice(item_id, text, [o.strip() for o in options], 0, row.get("High-level domain"))


def supergpqa(row: Row) -> Question:
    """M-A-P 2025: up to ten options, the correct one named by its letter."""
    text, options = str(row["question"]).strip(), [str(o).strip() for o in row["options"]]
    item_id = str(row.get("uuid") or content_id(text, *options))
    return choice(item_id, text, options, _index(row["answer_letter"], options), row.get("discipline"))


def commonsenseqa(row: Row) -> Question:
    """Talmor et al. 2019: ``choices`` is a mapping of two lists, ``label`` and ``text``. The test split has
    no answers, so the validation split is the one used."""
    text, options = str(row["question"]).strip(), [str(o).strip() for o in row["choices"]["text"]]
    if not row["answerKey"]:
        raise ValueError("answerKey is empty (the test split has no answers: use dataset.split=validation)")
    correct = list(row["choices"]["label"]).index(row["answerKey"])
    return choice(str(row.get("id") or content_id(text, *options)), text, options, correct)


def mmlu_stem(row: Row) -> Question | None:
    """The subject is ``subject`` on the hub and ``type`` in files made of the STEM part alone."""
    subject = str(row.get("subject") or row.get("type") or "")
    if subject and subject not in _STEM:
        return None
    text, options = str(row["question"]).strip(), [str(o).strip() for o in row["choices"]]
    return choice(content_id(text, *options), text, options, int(row["answer"]), subject or None)


def _index(letter: object, options: list[str]) -> int:
    index = ord(str(letter).strip().upper()[:1] or "?") - ord("A")
    if not 0 <= index < len(options):
        raise ValueError(f"the answer {letter!r} is none of the {len(options)} options")
    return index


GPQA = Family(
    fields=(
        "Question",
        "Correct Answer",
        "Incorrect Answer 1",
        "Incorrect Answer 2",
        "Incorrect Answer 3",
    ),
    question=gpqa,
)
SUPERGPQA = Family(fields=("question", "options", "answer_letter"), question=supergpqa)
COMMONSENSEQA = Family(fields=("question", "choices", "answerKey"), question=commonsenseqa)
MMLU_STEM = Family(fields=("question", "choices", "answer"), question=mmlu_stem)

"""What an accuracy can be held against: guessing, and what a model's card says of the model.

Published values are pass@1 in shares with the card's own settings (up to 32,768 tokens, temperature 0.6).
"""

from __future__ import annotations

CHANCE = {  # by dataset: of an answer drawn at random from the options
    "gpqa-diamond": 1 / 4,
    "mmlu-stem": 1 / 4,
    "commonsenseqa": 1 / 5,
    "supergpqa": 1 / 10,  # most questions have ten options, some fewer
}

R1_CARD = "DeepSeek-R1 model card, table of distilled models (huggingface.co/deepseek-ai/DeepSeek-R1)"
PUBLISHED: dict[str, dict[str, float]] = {  # by model of the catalogue, then dataset
    "r1-1.5b": {"aime24": 0.289, "math500": 0.839, "gpqa-diamond": 0.338},
    "r1-7b": {"aime24": 0.555, "math500": 0.928, "gpqa-diamond": 0.491},
    "r1-8b": {"aime24": 0.504, "math500": 0.891, "gpqa-diamond": 0.490},
    "r1-14b": {"aime24": 0.697, "math500": 0.939, "gpqa-diamond": 0.591},
    "r1-32b": {"aime24": 0.726, "math500": 0.943, "gpqa-diamond": 0.621},
    "r1-70b": {"aime24": 0.700, "math500": 0.945, "gpqa-diamond": 0.652},
}
FAR = 0.10  # below the published value by more than this is told

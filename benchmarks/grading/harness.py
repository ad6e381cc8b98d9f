"""lm-evaluation-harness's verdict on stored responses: JSON lines in, ``true`` or ``false`` a line out.

Run by `agree` with an interpreter that has ``lm-eval[math]`` (it pins another ANTLR than Hydra does), so it
imports nothing of this project. MATH-500 goes through the harness's ``minerva_math`` (its ``math_verify``
metric), everything else through the ``flexible-extract`` filter and ``exact_match`` of its ``gsm8k`` task.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml
from lm_eval import tasks
from lm_eval.api.metrics import exact_match_hf_evaluate
from lm_eval.filters.extraction import RegexFilter
from lm_eval.tasks.minerva_math.utils import process_results


def gsm8k_task() -> tuple[RegexFilter, dict[str, Any]]:
    text = (Path(tasks.__file__).parent / "gsm8k/gsm8k.yaml").read_text()
    task = yaml.safe_load(text)
    flexible = next(f for f in task["filter_list"] if f["name"] == "flexible-extract")
    regex = {key: value for key, value in flexible["filter"][0].items() if key != "function"}
    names = ("ignore_case", "ignore_punctuation", "regexes_to_ignore")
    return RegexFilter(**regex), {name: task["metric_list"][0][name] for name in names}


def main() -> None:
    regex, metric = gsm8k_task()
    for line in sys.stdin:
        row = json.loads(line)
        if row["dataset"].startswith("math500"):
            document = {"solution": f"$\\boxed{{{row['reference']}}}$", "answer": row["reference"]}
            right = bool(process_results(document, [row["response"]])["math_verify"])
        else:
            ((extracted, *_),) = regex.apply([[row["response"]]], [{}])
            result = exact_match_hf_evaluate([extracted], [row["reference"]], **metric)
            right = bool(result["exact_match"])
        print(json.dumps(right), flush=True)


if __name__ == "__main__":
    main()

"""``python -m orchestrator.report results_dir=results study=NAME out=report``: docs/report.md."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

from orchestrator.errors import ConfigError
from orchestrator.report.options import parse

DONE, NOT_PUSHED, WRONG, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code; a ConfigError is said in one line."""
    from rich.console import Console

    from orchestrator.report.build import make_report
    from orchestrator.report.progress import shown
    from orchestrator.report.wandb_push import PushError

    if any(one in ("-h", "--help", "help") for one in arguments):
        print(
            "usage: python -m orchestrator.report results_dir=results study=NAME out=report [KEY=VALUE ...]"
        )
        print("keys: docs/report.md")
        return DONE
    command = f"python -m orchestrator.report {shlex.join(arguments)}"
    console = Console(stderr=True)
    try:
        options = parse(arguments)
        with shown(console) as say:
            made = make_report(options, command, say)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    except PushError as error:
        print(f"report: {options.out / 'index.html'}")
        print(f"error: {error}", file=sys.stderr)
        return NOT_PUSHED
    except KeyboardInterrupt:
        print("interrupted: run the command again for a whole report", file=sys.stderr)
        return INTERRUPTED
    print(f"report: {made.page}")
    for said in (made.url, made.note):
        if said is not None:
            print(f"Weights & Biases: {said}")
    return DONE


def run() -> None:
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()

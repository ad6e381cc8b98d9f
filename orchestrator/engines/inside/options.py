"""What an engine's command takes, run as a file by the engine's own interpreter:

    python options.py vllm serve --help=all

After each parser's help comes one line with `MARK` and a JSON list of its options: ``names``, ``nargs`` (as
argparse has it, 1 where that is None), ``choices`` and ``kind``, what its words are read as: ``str``, ``int``
or ``float``, null for anything else. Standard library only.
"""

import argparse
import importlib
import json
import sys
from typing import TextIO
from unittest import mock

MARK = "the options of this parser: "
_KINDS: dict[object, str] = {None: "str", str: "str", int: "int", float: "float"}


def told(parser: argparse.ArgumentParser) -> list[dict[str, object]]:
    return [
        {
            "names": list(one.option_strings),
            "nargs": 1 if one.nargs is None else one.nargs,
            "choices": None if one.choices is None else [str(choice) for choice in one.choices],
            "kind": _kind(one.type),
        }
        for one in parser._actions
        if one.option_strings
    ]


def _kind(read: object) -> str | None:
    """Of vLLM's ``optional_type(int)`` too, a function around the type that reads all but ``None``."""
    if read is None or isinstance(read, type):
        return _KINDS.get(read)
    if "optional_type" not in getattr(read, "__qualname__", ""):
        return None
    around = [cell.cell_contents for cell in getattr(read, "__closure__", None) or ()]
    return _KINDS.get(around[0]) if len(around) == 1 and isinstance(around[0], type) else None


if __name__ == "__main__":
    print_help = argparse.ArgumentParser.print_help

    def printed(parser: argparse.ArgumentParser, file: TextIO | None = None) -> None:
        print_help(parser, file)
        sys.stdout.write(f"\n{MARK}{json.dumps(told(parser))}\n")

    with mock.patch.object(argparse.ArgumentParser, "print_help", printed):
        importlib.import_module("entry").main(sys.argv[1:])

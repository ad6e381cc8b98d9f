"""What `vllm serve` and `sglang serve` are, run as a file by the engine's own interpreter:

    ENGINE_API_KEY=... python entry.py vllm serve MODEL --flag ...

Standard library only until the engine is imported. The key stands before every route (`engine_key`). vLLM's
own command needs a distribution of that very name, which its CPU build is not; only its ``--version`` is left
out here.
"""

import importlib
import os
import sys
from pathlib import Path


def main(words: list[str]) -> None:
    """Becomes the engine ``words[0]``; does not return before it ends."""
    inside = str(Path(__file__).parent)
    sys.path[:] = [one for one in sys.path if one != inside] + [
        inside
    ]  # nothing here comes before the engine's
    keyed = importlib.import_module("engine_key").flags("--middleware" if words[0] == "vllm" else None)
    sys.argv = [*words, *keyed]
    if words[0] == "vllm":
        _vllm()
    else:
        _pin_tokenizer(sys.argv)
        importlib.import_module("sglang.cli.main").main()


def _pin_tokenizer(words: list[str]) -> None:
    """``--tokenizer-path ORG/NAME@REVISION`` as the folder of that revision: SGLang would ask for the model's
    own revision there."""
    if "--tokenizer-path" not in words:
        return
    at = words.index("--tokenizer-path") + 1
    hub_id, _, revision = words[at].partition("@")
    if revision and not hub_id.startswith(("/", ".", "~")):
        hub = importlib.import_module("huggingface_hub")
        files = ["*.json", "*.jinja", "*.txt", "*.model"]
        words[at] = hub.snapshot_download(
            hub_id, revision=revision, allow_patterns=files, ignore_patterns=["*.safetensors*", "original/*"]
        )


def _vllm() -> None:
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # as `vllm serve` does
    serve = importlib.import_module("vllm.entrypoints.cli.serve").ServeSubcommand()
    parser = importlib.import_module("vllm.utils.argparse_utils").FlexibleArgumentParser(prog="vllm")
    serve.subparser_init(parser.add_subparsers(dest="subparser"))
    arguments = parser.parse_args()
    serve.validate(arguments)
    serve.cmd(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])

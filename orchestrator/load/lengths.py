"""How long forced answers are: ``output_length`` as a pure seeded draw, one length per request.

512                  that many tokens; so does fixed:512
uniform:LOW:HIGH     every whole number of them equally often
lognormal:MEAN:CV    mean and coefficient of variation (standard deviation / mean) of the lengths themselves
geometric:MEAN       what answers are that end with the same chance at every token
trace:FILE           lengths that were seen, drawn with replacement: a file of `trace.read_trace`'s
                     layouts, or a Parquet file (or folder of them) of a stored study's requests
"""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from orchestrator.errors import ConfigError
from orchestrator.load.trace import read_trace

Lengths = NDArray[np.int64]

ALLOWED = (
    "a whole number from 1 up, fixed:N, uniform:LOW:HIGH, lognormal:MEAN:CV, geometric:MEAN or trace:FILE"
)
_PARAMETERS = {"fixed": 1, "uniform": 2, "lognormal": 2, "geometric": 1}
_STREAM = 0x1E96  # keeps these draws apart from the schedule's, which the same seed makes


def valid(spec: Any) -> bool:
    """Whether ``spec`` can be drawn from; whether a trace's file can be read is `revision`'s question."""
    if isinstance(spec, bool):
        return False
    if isinstance(spec, int):
        return spec >= 1
    if not isinstance(spec, str):
        return False
    name, _, rest = spec.partition(":")
    if name == "trace":
        return bool(rest)
    try:
        values = [float(word) for word in rest.split(":")]
    except ValueError:
        return False
    if len(values) != _PARAMETERS.get(name) or not all(map(math.isfinite, values)) or values[0] < 1:
        return False
    if name == "uniform":
        return values[0] <= values[1]
    return name != "lognormal" or values[1] > 0


def draw(spec: int | str, n: int, seed: int, longest: int) -> Lengths:
    """``n`` lengths in tokens, from 1 to ``longest``; what the distribution has beyond is cut off there.

    Raises ConfigError when a trace cannot be read.
    """
    random = np.random.default_rng([_STREAM, seed])
    name, _, rest = f"fixed:{spec}".partition(":") if isinstance(spec, int) else spec.partition(":")
    if name == "trace":
        drawn = random.choice(_seen(Path(rest)), size=n).astype(float)
    else:
        drawn = _named(name, [float(word) for word in rest.split(":")], n, random)
    return np.asarray(np.clip(np.rint(drawn), 1, longest), np.int64)


def _named(name: str, values: list[float], n: int, random: np.random.Generator) -> NDArray[np.float64]:
    if name == "uniform":
        return random.integers(round(values[0]), round(values[1]), size=n, endpoint=True).astype(float)
    if name == "lognormal":
        mean, variation = values
        sigma = math.sqrt(math.log1p(variation**2))
        return random.lognormal(math.log(mean) - sigma**2 / 2, sigma, size=n)
    if name == "geometric":
        return random.geometric(1 / values[0], size=n).astype(float)
    return np.full(n, values[0])


def revision(spec: Any) -> str | None:
    """What identifies a trace's content: ``trace:`` and 16 hex digits of its lengths' SHA-256. None for
    everything but a trace. Raises ConfigError when it cannot be read."""
    if not isinstance(spec, str) or not spec.startswith("trace:"):
        return None
    lengths = _seen(Path(spec.removeprefix("trace:")))
    return f"trace:{hashlib.sha256(lengths.astype('<i8').tobytes()).hexdigest()[:16]}"


def _seen(path: Path) -> Lengths:
    """Lengths above 0: an answer without a token cannot be asked for."""
    key = f"output_length=trace:{path}"
    if path.suffix in (".csv", ".jsonl"):
        try:
            lengths = read_trace(path).output_tokens
        except ConfigError as error:
            raise ConfigError(str(error).replace("load.path=", "output_length=trace:", 1)) from None
    else:
        lengths = _stored(path, key)
    if not len(lengths := lengths[lengths > 0]):
        raise ConfigError(f"{key}: has no request with output tokens")
    return lengths


def _stored(path: Path, key: str) -> Lengths:
    try:
        table = pq.read_table(path, columns=["output_tokens", "outcome"])
        ok = table.filter(pc.equal(table["outcome"], "ok"))["output_tokens"].drop_null()
        return np.asarray(ok.cast(pa.int64()).to_numpy(), np.int64)
    except (OSError, pa.ArrowException) as error:
        reason = (str(error).splitlines() or [""])[0]
        said = f"must be a CSV or JSON-lines trace, or Parquet with output_tokens ({reason})"
        raise ConfigError(f"{key}: {said}") from None

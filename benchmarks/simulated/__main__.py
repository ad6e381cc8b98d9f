"""How close the simulated engine comes to the engine it is calibrated on:

    python -m benchmarks.simulated

The model's side runs through the scheduler and the latency model alone, on their own clock: a closed load of
256-token prompts and 512-token answers, four rounds of it. The measured side is vLLM 0.25.1 on one H200,
DeepSeek-R1-Distill-Qwen-7B's architecture with random weights, the same load (docs/engines.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf
from rich.console import Console
from rich.table import Table

from orchestrator.config.schema import SweepConfig
from orchestrator.engines.launch import build_launch
from orchestrator.engines.simulated.batching import Batch, Stream
from orchestrator.engines.simulated.latency import start_s
from orchestrator.engines.simulated.settings import Settings
from orchestrator.paths import conf_dir

PROMPT, OUTPUT, ROUNDS = 256, 512, 4


@dataclass(frozen=True)
class Figures:
    """Seconds, tokens per second. ``start_s`` is the middle of those seen, ``kv_tokens`` the cache's room."""

    ttft_s: float
    tpot_s: float
    token_per_s: float
    start_s: float
    kv_tokens: int


# Four client processes at 256, where one was too slow for the server.
MEASURED = {
    ("none", 64): Figures(0.392, 0.0055, 10_055, 102.5, 2_062_544),
    ("none", 256): Figures(0.442, 0.0128, 18_741, 102.5, 2_062_544),
    ("fp8", 64): Figures(0.294, 0.0043, 12_977, 103.0, 2_228_464),
    ("fp8", 256): Figures(0.586, 0.0144, 16_701, 103.0, 2_228_464),
}


def settings_of(opt: str) -> Settings:
    """What planning tells the engine of this deployment."""
    ConfigStore.instance().store(name="sweep_schema", node=SweepConfig)
    OmegaConf.register_new_resolver("orchestrator_scratch", lambda: "unused", replace=True)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("sweep", ["engine=simulated", "hardware=h200", "model=r1-7b", f"opt={opt}"])
    config = OmegaConf.to_object(composed)
    assert isinstance(config, SweepConfig)
    args = build_launch(config, hardware="gpu", tensor_parallel_size=1).args
    return Settings(**{name.replace("-", "_"): value for name, value in args.items()})


def simulate(settings: Settings, concurrency: int) -> Figures:
    """A closed load on the model's own clock: each answer's end sends the next request."""
    batch, clock_s, left = Batch(settings, 1), 0.0, concurrency * (ROUNDS - 1)
    sent: dict[int, float] = {}
    first: dict[int, float] = {}
    streams, ttfts, tpots = [], list[float](), list[float]()

    def send() -> None:
        stream = Stream(PROMPT, OUTPUT)
        streams.append(stream)
        sent[id(stream)] = clock_s
        batch.submit(stream)

    for _ in range(concurrency):
        send()
    while not batch.idle:
        step = batch.step()
        clock_s += step.duration_s
        for stream in step.produced:
            first.setdefault(id(stream), clock_s)
            if stream.generated == stream.length:
                ttfts.append(first[id(stream)] - sent[id(stream)])
                tpots.append((clock_s - first[id(stream)]) / (OUTPUT - 1))
                if left:
                    left -= 1
                    send()
    rate = len(streams) * OUTPUT / clock_s
    return Figures(median(ttfts), median(tpots), rate, start_s(settings, 1), batch.capacity * 16)


def main() -> None:
    table = Table(title="model / measured (difference)", title_justify="left", box=None, pad_edge=False)
    for name in ("opt", "in flight", "TTFT p50", "TPOT p50", "tokens/s", "start", "KV tokens"):
        table.add_column(name, justify="left" if name == "opt" else "right")
    for (opt, concurrency), real in MEASURED.items():
        model = simulate(settings_of(opt), concurrency)
        table.add_row(
            opt,
            str(concurrency),
            _beside(1000 * model.ttft_s, 1000 * real.ttft_s, "{:.0f} ms"),
            _beside(1000 * model.tpot_s, 1000 * real.tpot_s, "{:.1f} ms"),
            _beside(model.token_per_s, real.token_per_s, "{:,.0f}"),
            _beside(model.start_s, real.start_s, "{:.0f} s"),
            _beside(model.kv_tokens, real.kv_tokens, "{:,.0f}"),
        )
    Console(width=150).print(table)


def _beside(model: float, real: float, form: str) -> str:
    return f"{form.format(model)} / {form.format(real)} ({100 * (model / real - 1):+.0f} %)"


if __name__ == "__main__":
    main()

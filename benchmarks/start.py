"""How long a GPU idles between two engines: from one's last token to the next one's first, started plainly
and started from a standby that was prepared while the first still served.

``python -m benchmarks.start --engine vllm --times 3 [OVERRIDE...]`` takes a sweep's own overrides, and goes
through the worker that a sweep uses. The two kinds take turns; all that is printed was measured in that run.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

from orchestrator.cluster.spec import WorkerSpec
from orchestrator.cluster.worker import EngineWorker
from orchestrator.config.compose import to_config
from orchestrator.config.schema import SweepConfig
from orchestrator.errors import OrchestratorError
from orchestrator.paths import conf_dir
from orchestrator.plan.plan import Job, make_plan
from orchestrator.records import Endpoint

TOKENS = 32
PREPARE_S = 600.0


@dataclass(frozen=True)
class Switch:
    """One engine's end and the next one's start, seconds; ``start_cpu_s`` is what the engine's processes took
    of the CPUs during ``start_s``, which tells the two kinds apart on a busy machine too. ``alone`` and
    ``beside`` are the output tokens per second of one stream on the first engine, without and with the
    preparation of the next."""

    to: str
    prepared: bool
    gap_s: float
    stop_s: float
    start_s: float
    start_cpu_s: float
    first_token_s: float
    prepare_s: float | None
    alone: float
    beside: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", default="vllm")
    parser.add_argument("--times", type=int, default=3, help="switches of each kind")
    parser.add_argument("--other", default="", help="an override that every second engine of a kind has")
    parser.add_argument("--logs", type=Path, help="where the engines' logs are kept")
    parser.add_argument("overrides", nargs="*", help="as of a sweep")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.logs or Path(scratch)).absolute()
        spec = _spec(arguments.engine, arguments.overrides, folder)
        more = [arguments.other] if arguments.other else []
        other = _spec(arguments.engine, [*arguments.overrides, *more], folder)
        where = f"{spec.gpus} GPUs" if spec.gpus else "CPU"
        print(f"{platform.platform()}, {len(os.sched_getaffinity(0))} cores, {where}: {spec.label}")
        _table(list(_switches(spec, other, arguments.times)))


def _spec(engine: str, overrides: list[str], folder: Path) -> WorkerSpec:
    ConfigStore.instance().store(name="sweep_schema", node=SweepConfig)
    OmegaConf.register_new_resolver("orchestrator_scratch", lambda: "unused", replace=True)
    own = [f"engine={engine}", "tracker=none", "prepare=on", *overrides, f"results_dir={folder}"]
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        config = to_config(compose("sweep", own))
    plan = make_plan([Job(tuple(own), config)])
    if not plan.deployments:
        raise SystemExit(f"cannot run: {plan.cells[0].reason}")
    (deployment,) = plan.deployments
    plan.study_dir.mkdir(parents=True, exist_ok=True)
    return WorkerSpec(
        deployment_id="",
        label=deployment.label,
        study=plan.study,
        study_dir=plan.study_dir.resolve(),
        config=config,
        tensor_parallel_size=deployment.fit.tensor_parallel_size,
        nodes=deployment.nodes,
        gpus=deployment.gpus,
    )


def _switches(spec: WorkerSpec, other: WorkerSpec, times: int) -> Iterator[Switch]:
    """One to ``other``, two to ``spec``, two to ``other`` and so on, by turns prepared and plain."""
    worker = EngineWorker()
    try:
        first = worker.start(replace(spec, deployment_id="engine-0"))
        print(f"first start {first.seconds:.1f} s (not counted: its caches may be cold)", flush=True)
        for number in range(2 * times):
            next_one = other if (number + 1) // 2 % 2 == 0 else spec
            following = replace(next_one, deployment_id=f"engine-{number + 1}")
            done = _switch(worker, following, prepared=number % 2 == 0)
            print(done, flush=True)
            yield done
    finally:
        worker.stop()


def _switch(worker: EngineWorker, following: WorkerSpec, *, prepared: bool) -> Switch:
    serving = worker.endpoint()
    alone = _rate(serving)
    prepare_s: float | None = None
    beside: list[float] = []
    if prepared:
        began = time.perf_counter()
        ready: list[bool] = []
        thread = threading.Thread(target=lambda: ready.append(worker.prepare(following)))
        thread.start()
        while thread.is_alive() and time.perf_counter() - began < PREPARE_S:
            beside.append(_rate(serving))
        thread.join()
        if ready != [True]:
            raise SystemExit(f"the next engine was not prepared\n{_log_tail(following)}")
        prepare_s = time.perf_counter() - began
    _, last_token = _stream(serving)
    worker.end()
    ended, cpu_s = time.perf_counter(), _cpu_s()
    started = worker.start(following)
    healthy, cpu_s = time.perf_counter(), _cpu_s() - cpu_s
    first_token, _ = _stream(worker.endpoint())
    return Switch(
        to=following.label,
        prepared=started.prepared,
        gap_s=first_token - last_token,
        stop_s=ended - last_token,
        start_s=started.seconds,
        start_cpu_s=cpu_s,
        first_token_s=first_token - healthy,
        prepare_s=prepare_s,
        alone=alone,
        beside=statistics.median(beside) if beside else None,
    )


def _log_tail(spec: WorkerSpec) -> str:
    logs = sorted((spec.study_dir / "logs" / spec.deployment_id).glob("*.log"))
    return "\n".join(line for log in logs for line in log.read_text(errors="replace").splitlines()[-20:])


def _cpu_s() -> float:
    """What the processes below this one have taken of the CPUs, those that they have waited for included."""
    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            total += sum(process.cpu_times()[:4])
    return total


def _rate(endpoint: Endpoint) -> float:
    first, last = _stream(endpoint)
    return (TOKENS - 1) / (last - first)


def _stream(endpoint: Endpoint) -> tuple[float, float]:
    """When the first and the last token of one answer came."""
    body = {
        "model": endpoint.model,
        "messages": [{"role": "user", "content": "Count from one to one hundred."}],
        "max_tokens": TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=300)
    headers = {"Authorization": f"Bearer {endpoint.api_key}", "Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    answer = connection.getresponse()
    if answer.status != 200:
        raise SystemExit(f"HTTP {answer.status}: {answer.read()[:500]!r}")
    times = []
    for line in answer:
        if line.startswith(b"data: {") and _has_token(json.loads(line[6:])):
            times.append(time.perf_counter())
    connection.close()
    return times[0], times[-1]


def _has_token(event: dict[str, list[dict[str, dict[str, str]]]]) -> bool:
    fields = ("content", "reasoning", "reasoning_content")
    return any(choice.get("delta", {}).get(field) for choice in event.get("choices", ()) for field in fields)


def _table(switches: list[Switch]) -> None:
    columns = f"{'last token to first':>21}{'stop':>8}{'go to healthy':>15}{'of CPU':>8}{'first token':>13}"
    print(f"\nmedian, s {columns}")
    for prepared in (False, True):
        kind = [each for each in switches if each.prepared == prepared]
        if not kind:
            continue
        gaps = [each.gap_s for each in kind]
        span = f"{statistics.median(gaps):.1f} [{min(gaps):.1f}, {max(gaps):.1f}]"
        middle = [
            statistics.median(each.stop_s for each in kind),
            statistics.median(each.start_s for each in kind),
            statistics.median(each.start_cpu_s for each in kind),
            statistics.median(each.first_token_s for each in kind),
        ]
        name = "prepared" if prepared else "plain"
        print(f"{name:10}{span:>21}{middle[0]:>8.1f}{middle[1]:>15.1f}{middle[2]:>8.1f}{middle[3]:>13.2f}")
    beside = [(each.alone, each.beside, each.prepare_s) for each in switches if each.beside is not None]
    for alone, during, took_s in beside:
        print(f"prepared in {took_s:.1f} s; one stream {alone:.1f} tokens/s alone, {during:.1f} beside it")


if __name__ == "__main__":
    try:
        main()
    except OrchestratorError as error:
        raise SystemExit(str(error)) from None

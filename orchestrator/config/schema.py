"""The schema of ``conf/``: what every key is, and nothing with side effects.

Hydra composes ``conf/*.yaml`` into these classes, so an unknown key or a wrong type is an error before
anything starts. They are not frozen only because OmegaConf would then refuse overrides; nobody changes one
after a job was composed. What a value may be beyond its type is said in `orchestrator.plan.rules`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from omegaconf import MISSING


@dataclass
class SamplingConfig:
    """Sampling parameters. At the top level, None means what the model's card recommends; what is None there
    too is left to the server. All but ``seeded`` are sent by their names.

    ``stop``: a text, or several, at which an answer ends; in reasoning too, as the servers look at all text.
    ``seeded``: each request carries a seed of its own. Not unless asked for: vLLM then samples request by
    request, past its fast kernels, and what users would wait for is no longer what is measured.
    """

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seeded: bool | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    stop: Any = None
    reasoning_effort: str | None = None


@dataclass
class DraftShape:
    """What planning must know of a draft model. It counts for ``hub_id`` alone, so that another one named by
    ``model.draft`` or ``model.eagle3`` is not taken for it."""

    hub_id: str = MISSING
    parameters_b: float | None = None  # total parameters that it adds, in units of 1e9
    layers: int | None = None
    heads: int | None = None  # None: not known, and no size is refused for them
    kv_heads: int | None = None
    head_dim: int | None = None
    dtype: str = "bfloat16"


@dataclass
class ModelConfig:
    """One model. ``path`` (a local folder) comes before ``package`` (a Python package that carries the
    weights as GGUF) before ``hub_id``."""

    name: str = MISSING
    kind: str = "standard"  # reasoning | standard
    hub_id: str | None = None
    revision: str | None = None
    path: str | None = None
    package: str | None = None
    lora: str | None = None  # with a package: an adapter of engines/lora, merged into its weights
    pair: str | None = None  # the standard counterpart of a reasoning model, and the reverse
    parameters_b: float | None = None  # total parameters, in units of 1e9
    layers: int | None = None
    hidden_size: int | None = None
    heads: int | None = None
    kv_heads: int | None = None
    head_dim: int | None = None
    kv_lora_rank: int | None = None  # MLA: the latent that is cached per token and layer, with the next
    qk_rope_head_dim: int | None = None
    sliding_window: int | None = None  # tokens that a layer with a window keeps of a request
    sliding_window_layers: int | None = None  # how many layers have it; None: all
    experts: int | None = None  # routed experts of a layer
    experts_per_token: int | None = None
    expert_parameters_b: float | None = None  # of parameters_b: all routed experts'
    weight_bytes: float | None = None  # per parameter, where the model is published quantized
    weight_bytes_of: str = "linear"  # what is: linear (all but embedding and output layer) | experts
    vocab_size: int | None = None
    architecture: str | None = None  # as config.json names it; with it weights=dummy needs no hub
    intermediate_size: int | None = None
    tied_embeddings: bool = False
    dtype: str = "bfloat16"
    context: int = 4096  # the longest prompt plus output, tokens
    reasoning_parser: dict[str, str | None] = field(default_factory=dict)  # engine -> its parser's name
    think_opened: bool = False  # its chat template puts <think> into the prompt, the answer only closes it
    think_tags: list[str] | None = None  # around its reasoning, opening and closing; None: <think>, </think>
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    checkpoints: dict[str, str] = field(default_factory=dict)  # quantization -> hub id
    quantization: dict[str, Any] = field(default_factory=dict)  # weights=dummy: set by an optimization
    draft: str | None = None  # hub id of a draft model for spec-draft
    eagle3: str | None = None  # hub id of an EAGLE-3 head for spec-eagle3
    draft_shapes: dict[str, DraftShape] = field(default_factory=dict)  # of those two, by their key


@dataclass
class EngineConfig:
    """One engine. ``args`` are passed to it as its own flags: ``{max-num-seqs: 64}`` becomes
    ``--max-num-seqs 64``, True a bare flag, False ``--no-...``, a list several values, a mapping JSON."""

    name: str = MISSING  # vllm | sglang | simulated | external
    python: str | None = None  # the interpreter that has the engine; None: this one
    version: str | None = None  # None: read from the interpreter
    args: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    # Whether it can sleep between its cells, its weights in host memory, while another of its slot is awake:
    # auto (where runs > 1 and it is known to) | on | off. Planned, it is on or off.
    sleep: str = "off"
    sleepers: int = 5  # with sleep: how many may sleep on one slot; each keeps some of the GPU's memory
    base_url: str | None = None  # external only
    api_key_env: str | None = None  # external only: the environment variable that holds the key
    served_model: str | None = None  # external only: the model's name there; None: the first it lists

    @property
    def simulated(self) -> bool:
        """Whether what it measures is no measurement."""
        return self.name == "simulated"


@dataclass
class EngineOptConfig:
    """What an optimization is for one engine. ``hardware`` limits it to cpu or gpu."""

    args: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    overhead_gib: float = 0.0  # memory that the engine takes for it on each GPU, of its fraction
    unsupported: str | None = None  # why this engine cannot do it
    unsupported_on: dict[str, str] = field(default_factory=dict)  # hardware's name -> why not there
    hardware: str | None = None


@dataclass
class OptConfig:
    """One optimization. An engine without an entry cannot do it."""

    summary: str = ""
    excludes: list[str] = field(default_factory=list)
    checkpoint: str | None = None  # the key of ``model.checkpoints`` it needs
    quantization: dict[str, Any] = field(default_factory=dict)  # what such a checkpoint's config.json says
    needs: str | None = None  # a key of the model it needs: draft, eagle3
    weight_bytes: float | None = None  # per parameter, where it changes the weights
    kv_bytes: float | None = None  # per cached element, where it changes the KV cache
    vllm: EngineOptConfig | None = None
    sglang: EngineOptConfig | None = None
    simulated: EngineOptConfig | None = None


@dataclass
class DatasetConfig:
    """One dataset. ``path`` is a local JSON-lines file read by the same loader instead of the hub."""

    name: str = MISSING  # the loader's family, a key of orchestrator.datasets.FAMILIES
    hub_id: str | None = None
    subset: str | None = None
    split: str = "test"
    revision: str | None = None
    path: str | None = None
    prompt: str = "boxed"  # a key of orchestrator.datasets.prompts.STYLES
    shots: int = 0
    sample: str = "hash"  # hash: the first `limit` by a hash of the item's id | head: in the file's order
    gated: bool = False
    size: int | None = None  # how many items the split has, for estimates made before it is loaded
    prompt_tokens: int | None = None  # random only: words of a prompt, each of one token


@dataclass
class LoadConfig:
    """How requests are sent. Which keys count depends on ``kind``."""

    kind: str = MISSING  # batch | closed | constant | poisson | gamma | trace | ramp
    batch_size: int | None = None  # batch
    concurrency: int | None = None  # closed: at most this many in flight. Open loads: no limit
    rate: float | None = None  # constant, poisson, gamma, ramp (at its end): requests per second
    rate_start: float | None = None  # ramp: requests per second at its start
    burstiness: float | None = None  # gamma: 1 is Poisson, below is burstier
    normalize: bool = False  # gamma: rescale so that N requests take N / rate
    path: str | None = None  # trace: a file of arrivals
    speedup: float = 1.0  # trace
    duration_s: float | None = None  # stop sending (and cancel what is in flight) after this long
    processes: int | None = None  # client processes; None: chosen from the expected token rate
    request_timeout_s: float = 1800.0
    idle_timeout_s: float = 300.0  # no byte for this long on an open stream
    usage: str = "continuous"  # continuous: counts on every chunk | final: at the end only
    # What of the prefix cache is there at the start: cold: nothing | warm: what the prompts share
    cache: str = "cold"
    warmup: int | None = None  # distinct warm-up prompts; None: one full wave
    telemetry_hz: float = 5.0


@dataclass
class HardwareConfig:
    """What a deployment's workers need of a node. ``auto`` looks at this machine."""

    name: str = MISSING
    kind: str = "auto"  # auto | cpu | gpu
    ray_accelerator_type: str | None = None  # Ray's label of the node, such as H200; None: any
    memory_gib: float | None = None  # per GPU; on a CPU, what an engine may use
    bandwidth_gb_s: float | None = None  # per GPU, of its memory, by the vendor's datasheet
    bf16_tflops: float | None = None  # per GPU, dense, by the vendor's datasheet
    gpus_per_node: int = 8
    cpus: float = 2.0  # CPUs reserved per deployment, client included
    gpu_memory_utilization: float = 0.9


@dataclass
class TrackerConfig:
    """Where each cell is logged besides Parquet."""

    name: str = "none"  # wandb | none
    project: str | None = None  # None: what WANDB_PROJECT says, else reasoning-orchestrator
    entity: str | None = None  # None: what WANDB_ENTITY says, else the user's own
    mode: str = "auto"  # auto: online when logged in, else offline | online | offline


@dataclass
class SloConfig:
    """Limits a request must meet to count as goodput; None is no limit. Seconds."""

    ttft_s: float | None = None
    ttfvt_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None
    itl_s: float | None = None  # of each single token after the first chunk


@dataclass
class RayConfig:
    """``address`` None is the cluster that RAY_ADDRESS names, else a local Ray that ends with the sweep;
    ``local`` is that in any case."""

    address: str | None = None
    dashboard: bool = True


@dataclass
class TimeoutConfig:
    """Seconds."""

    engine_start_s: float = 1200.0
    weights_s: float = 7200.0  # what downloading a model's weights may add to that
    cell_s: float = 14400.0
    engine_stop_s: float = 30.0
    # For nodes that could hold a deployment; None: 600 where an autoscaler can bring them, 300 for one that
    # was there to come back, else 0.
    resources_s: float | None = None


@dataclass
class DeploymentConfig:
    """What one engine process group is made of and how it is kept: the same for each of its cells. Of
    ``timeout`` only ``cell_s`` is a cell's own."""

    model: ModelConfig = field(default_factory=ModelConfig)
    engine: EngineConfig = field(default_factory=EngineConfig)
    opt: dict[str, OptConfig] = field(default_factory=dict)
    hardware: HardwareConfig = field(default_factory=HardwareConfig)
    weights: str = "auto"  # auto | dummy
    prepare: str = "auto"  # the next engine's start beside a measurement: auto (where it pays) | on | off
    timeout: TimeoutConfig = field(default_factory=TimeoutConfig)

    @property
    def deployment(self) -> DeploymentConfig:
        """The deployment's part alone."""
        return DeploymentConfig(**{one.name: getattr(self, one.name) for one in fields(DeploymentConfig)})


@dataclass
class SweepConfig(DeploymentConfig):
    """One composed job: everything a cell is made of, and how the sweep is run."""

    dataset: DatasetConfig = field(default_factory=DatasetConfig)
    load: LoadConfig = field(default_factory=LoadConfig)
    tracker: TrackerConfig = field(default_factory=TrackerConfig)

    study_name: str = "default"  # the folder of its results, under results_dir
    results_dir: str = "results"
    seed: int = 0  # of arrivals, drawn output lengths and, where sampling.seeded, the requests
    repeats: int = 1  # passes over the items inside one measurement
    runs: int = 1  # measurements of the same cell, apart in time, each a cell of its own
    max_tokens: int = 256  # the budget of an answer, its reasoning included
    max_tokens_fit: bool = False  # true: where the model's context does not take that, the most that it takes
    thinking_budget: Any = None  # tokens after which reasoning is ended, from 0; off or null: none
    limit: int | None = None  # items of the dataset; None: all
    tensor_parallel_size: Any = "auto"  # auto, or a number
    output_length: Any = None  # weights=dummy only
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    slo: SloConfig = field(default_factory=SloConfig)
    objective: str = "output_token_per_s"  # what an optimizing sweeper is given, of docs/metrics.md
    dry_run: Any = False  # true, false, json
    report: bool = False  # write the study's report when the sweep has ended
    rerun: str = "failed"  # which stored cells run again: failed (and invalid ones) | none | all
    ray: RayConfig = field(default_factory=RayConfig)

    @property
    def reasoning_inline(self) -> bool:
        """Whether the answer's text is known to begin with its reasoning, as no parser on the server splits
        it off: what arrives decides (`load.stream`), and this where nothing that arrives tells. A server that
        is not started here is taken to have one where the catalogue names one."""
        parsers, engine = self.model.reasoning_parser, self.engine.name
        splits = parsers.get(engine) if engine in ("vllm", "sglang") else any(parsers.values())
        return self.model.kind == "reasoning" and not splits

"""`ajet.rollout`: running the workflow, many episodes at once."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from ajet.config.loading.class_paths import ClassPath
from ajet.config.sections.section import BaseConfig, FreeConfig
from ajet.config.sections.types import Available, Count, Positive, Share, Temperature


class VllmConfig(BaseConfig):
    """vLLM as the engine: servers that the run starts, or servers that already run."""

    base_url: str | list[str] | None = None
    """URLs of running servers, with or without `/v1`. Null: the run starts its own servers."""
    api_key_env: str = "VLLM_API_KEY"
    """Name of the environment variable with the API key for `base_url`. Servers that the run starts
    get a generated key."""
    python: str | None = None
    """Path of the Python that has vLLM, if it has its own environment. Null: the run's Python."""
    num_engines: Count = 1
    """Number of servers to start; each episode uses one of them."""
    options: FreeConfig = FreeConfig()
    """Additional options of `vllm serve`, for example `max_num_batched_tokens: 4096`."""
    kv_cache_gb: Positive | None = None
    """Memory for the KV cache in GB. Null: 1 on a CPU; on a GPU, `options.gpu_memory_utilization`
    decides."""
    start_timeout_s: Positive = 600.0
    """Time limit in seconds for the start of a server."""
    update_timeout_s: Positive = 120.0
    """Time limit in seconds for one weight update."""


ENGINES = ("embedded", "vllm")


class MultiTurnConfig(BaseConfig):
    """Limits for episodes with many calls."""

    max_steps: Count = 30
    """Maximum model calls of an agent. Not enforced: the workflow reads it."""
    max_sample_per_task: Count | None = None
    """Maximum training samples of one episode; later ones are dropped and counted in
    `tokens/dropped`. Null: no limit."""


class ValidationConfig(BaseConfig):
    """How validation tasks are run."""

    temperature: Temperature | None = None
    """Temperature of the sampled pass. Null: `rollout.temperature`."""
    greedy: bool = True
    """Also run every validation task at temperature 0."""
    top_p: Annotated[float, Gt(0), Le(1)] | None = None
    """`top_p` of the sampled pass. Null: `rollout.top_p`."""
    top_k: Annotated[int, Ge(0)] | None = None
    """`top_k` of the sampled pass. Null: `rollout.top_k`."""
    num_tasks: Count | None = None
    """Number of validation tasks to run. Null: all."""
    task_choice: Literal["first", "random"] = "first"
    """Which tasks, where `num_tasks` is less than all: the first ones, or a random choice that
    `trainer_common.seed` fixes. They are the same in every evaluation."""


class RolloutConfig(BaseConfig):
    """How episodes are run and how the model samples."""

    user_workflow: ClassPath
    """The workflow: `path/to/file.py->Class` or `package.module->Class`."""
    name: Annotated[Literal["embedded", "vllm"], Available(ENGINES)] = "embedded"
    """The inference engine: `embedded` in this process, or `vllm` in its own processes."""
    vllm: VllmConfig = VllmConfig()
    num_repeat: Count = 8
    """Episodes per task in a step: the group whose rewards are compared."""
    max_env_worker: Count = 64
    """Episodes that run at the same time."""
    ray_actors: Annotated[int, Ge(0)] = 0
    """Number of Ray actors that run the episodes, spread over the nodes. 0: the run's own process
    runs them. Only with the backbone verl."""
    max_num_seqs: Count = 128
    """Sequences that the engine decodes at the same time."""
    temperature: Temperature = 1.0
    """Temperature of requests that set none; 0: greedy."""
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    """Top-p of requests that set none; 1: no restriction."""
    top_k: Annotated[int, Ge(0)] = 0
    """Top-k of requests that set none; 0: no restriction."""
    max_response_length_in_one_turn: Count = 512
    """Maximum tokens of one completion, for requests that set no limit."""
    max_model_len: Count | None = None
    """Maximum tokens of prompt and completion together. Null: the model's own limit."""
    multi_turn: MultiTurnConfig = MultiTurnConfig()
    call_timeout_s: Positive = 300.0
    """Time limit in seconds for one model call."""
    episode_timeout_s: Positive = 1800.0
    """Time limit in seconds for one episode; beyond it, the episode fails."""
    max_retries: Annotated[int, Ge(0)] = 2
    """Retries of an episode that ended with an infrastructure fault, and of a judge whose network
    fails. Errors of the workflow are never retried."""
    max_failure_share: Share = 0.5
    """The run stops if more than this share of a step's episodes fail."""
    dynamic_sampling: bool = False
    """Replace groups whose rewards are all equal by groups of other tasks, as in DAPO."""
    dynamic_sampling_max_rounds: Count = 3
    """Maximum rounds of dynamic sampling per step."""
    schedule: Literal["lockstep", "continuous"] = "lockstep"
    """`lockstep`: the engine advances only when every open episode waits for it, so that runs
    repeat bit by bit. `continuous`: it never waits."""
    lockstep_patience_s: Positive = 30.0
    """Seconds after which `lockstep` continues without an episode that does not call the model; at
    most a quarter of the shorter of `call_timeout_s` and `episode_timeout_s`."""
    response_format: Literal["prompt", "constrain", "refuse"] = "prompt"
    """What a request for an answer in a JSON schema gets: the schema as part of the prompt; the
    same, and the engine samples only tokens that fit (`constrain`: with the backbone local and the
    engine embedded); or a refusal."""
    compute_madness_checklist: list[Literal["nonsense", "wrong_toolcall", "non_ascii"]] = []
    """Rules for degenerate completions, checked on every completion of a trained agent.
    `nonsense`: loops and broken characters; `wrong_toolcall`: a tool call that cannot be parsed or
    names no offered tool; `non_ascii`: any non-ASCII character."""
    agent_madness_reward: float = -1.0
    """Reward of an episode in which a completion fails one of these rules; it is no success."""
    agent_madness_termination: bool = False
    """End an episode at its first completion that fails one of these rules."""
    force_disable_toolcalls: bool = False
    """Keep tools out of the prompt and leave tool calls in the completion's text, for agents that
    read actions from the text."""
    validation: ValidationConfig = ValidationConfig()

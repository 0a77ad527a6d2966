"""`ajet.rollout`: running the workflow, many episodes at once."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from ajet.config.loading.class_paths import ClassPath
from ajet.config.sections.section import BaseConfig, FreeConfig
from ajet.config.sections.types import Available, Count, Positive, Share, Temperature


class VllmConfig(BaseConfig):
    """vLLM as the engine: servers that the run starts, or that are there already."""

    base_url: str | list[str] | None = None
    """Of servers that are there already, with `/v1` or without. Null: the run starts its own."""
    api_key_env: str = "VLLM_API_KEY"
    """The environment variable with the key for `base_url`; servers that the run starts get a
    fresh one."""
    python: str | None = None
    """The Python with vLLM, where that has an environment of its own; null is the one that runs."""
    num_engines: Count = 1
    """Servers to start; an episode stays with one of them."""
    options: FreeConfig = FreeConfig()
    """More options of `vllm serve`, by their names: `max_num_batched_tokens: 4096`."""
    kv_cache_gb: Positive | None = None
    """Memory for key-values. Null is 1 on a CPU; on a GPU `options.gpu_memory_utilization` is
    what counts."""
    start_timeout_s: Positive = 600.0
    """Seconds until a server must answer."""
    update_timeout_s: Positive = 120.0
    """Seconds that one update of the weights may take."""


ENGINES = ("embedded", "vllm")


class MultiTurnConfig(BaseConfig):
    """Limits on an episode with many calls."""

    max_steps: Count = 30
    """Model calls that an agent may make; the workflow reads it and keeps to it."""
    max_sample_per_task: Count | None = None
    """Training samples of one episode at most; later ones are dropped and counted in
    `tokens/dropped`. Null is no limit."""


class ValidationConfig(BaseConfig):
    """How validation tasks are run."""

    temperature: Temperature | None = None
    """Of the sampled pass; null is `rollout.temperature`."""
    greedy: bool = True
    """Also run every validation task at temperature 0."""
    num_tasks: Count | None = None
    """The first so many validation tasks; null is all."""


class RolloutConfig(BaseConfig):
    """Running the workflow, many episodes at once."""

    user_workflow: ClassPath
    """The workflow: `path/to/file.py->Class` or `package.module->Class`."""
    name: Annotated[Literal["embedded", "vllm"], Available(ENGINES)] = "embedded"
    """The inference engine: the one of this process, or vLLM in processes of its own."""
    vllm: VllmConfig = VllmConfig()
    num_repeat: Count = 8
    """Episodes of each task in a step: the group whose rewards are compared."""
    max_env_worker: Count = 64
    """Episodes that run at the same time."""
    ray_actors: Annotated[int, Ge(0)] = 0
    """Processes that run the episodes, spread over the nodes of Ray; 0: the run's own process does.
    With the backbone verl."""
    max_num_seqs: Count = 128
    """Sequences that the engine decodes at the same time."""
    temperature: Temperature = 1.0
    """Of requests that name none; 0 is greedy."""
    top_p: Annotated[float, Gt(0), Le(1)] = 1.0
    """Of requests that name none; 1 keeps every token."""
    top_k: Annotated[int, Ge(0)] = 0
    """Of requests that name none; 0 keeps every token."""
    max_response_length_in_one_turn: Count = 512
    """Tokens of one completion at most, for requests that name no limit."""
    max_model_len: Count | None = None
    """Prompt and completion together, in tokens; null is what the model takes."""
    multi_turn: MultiTurnConfig = MultiTurnConfig()
    call_timeout_s: Positive = 300.0
    """Seconds that one model call may take."""
    episode_timeout_s: Positive = 1800.0
    """Seconds that one episode may take; one that takes longer has failed."""
    max_retries: Annotated[int, Ge(0)] = 2
    """New attempts at an episode that an infrastructure fault ended; the workflow's own errors
    are never tried again. A judge whose network fails is asked again as often."""
    max_failure_share: Share = 0.5
    """The run stops when more than this share of a step's episodes fail."""
    dynamic_sampling: bool = False
    """Sample other tasks in place of groups whose rewards are all equal, as DAPO does."""
    dynamic_sampling_max_rounds: Count = 3
    """Rounds of such sampling in a step at most."""
    schedule: Literal["lockstep", "continuous"] = "lockstep"
    """`lockstep` advances only when every open episode waits for the engine, so that a run can
    be repeated bit by bit; `continuous` waits for nobody."""
    lockstep_patience_s: Positive = 30.0
    """Seconds after which `lockstep` goes on without an episode that is busy elsewhere; a quarter
    of the shorter of the two timeouts above, if that is less."""
    compute_madness_checklist: list[Literal["nonsense", "wrong_toolcall", "non_ascii"]] = []
    """Rules for degenerate completions, checked on every completion of a trained agent.
    `nonsense`: loops and broken characters; `wrong_toolcall`: a tool call that cannot be read or
    names no offered tool; `non_ascii`: any character outside of ASCII."""
    agent_madness_reward: float = -1.0
    """Reward of an episode in which a completion fails one of these rules; it is no success."""
    agent_madness_termination: bool = False
    """End an episode at its first completion that fails one of these rules."""
    force_disable_toolcalls: bool = False
    """Keep tools out of the prompt and leave tool calls in the completion's text, for agents that
    read actions from the text."""
    validation: ValidationConfig = ValidationConfig()

"""The settings of AgentJet's YAML files that have another name here, or no meaning.

One table: it translates old files, feeds the messages, and makes `docs/from_agentjet.md`. Settings
that have the same name and meaning in both are not listed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ajet.config.sections.algorithm import OptimConfig

MARK = "ajet_default"
"""An entry of the top-level list `defaults:`. It marks a file that was written for AgentJet."""


@dataclass(frozen=True, slots=True)
class Renamed:
    """The same setting under another name."""

    to: str
    """Our key, below `ajet.`."""
    convert: Callable[[Any], Any] | None = None
    """From the old value to ours; None keeps the value. Raises ValueError."""
    drop: tuple[Any, ...] = ()
    """Values that change nothing: the key is removed."""
    note: str = ""
    """What else a reader of the page should know."""


@dataclass(frozen=True, slots=True)
class NoEffect:
    """Accepted with a notice, whatever the value."""

    why: str


@dataclass(frozen=True, slots=True)
class OnlyValues:
    """Accepted where the value is one of these, refused otherwise."""

    values: tuple[Any, ...]
    instead: str
    """What to use for other values."""


@dataclass(frozen=True, slots=True)
class ForVerl:
    """Handed to verl under `ajet.verl.TO` by the backbone `verl`."""

    to: str
    neutral: tuple[Any, ...] = ()
    """Values that change nothing, so that every backbone accepts them in silence."""
    elsewhere: str = ""
    """With another backbone: why the value has no effect. Empty: it is refused there."""


@dataclass(frozen=True, slots=True)
class Divides:
    """A factor that has the same effect as dividing another setting by it."""

    to: str
    """Our key, below `ajet.`, whose value is divided."""
    default: float
    """Ours, for a file that leaves the key out and does not take AgentJet's defaults."""
    why: str


Rule = Renamed | NoEffect | OnlyValues | ForVerl | Divides


def _number(value: Any) -> Any:
    """YAML 1.1 reads `1e-6` as a text; a text that is a number is taken as one."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


def _all_tokens(value: Any) -> Any:
    return 0 if value == -1 else value


def _none_if_negative(value: Any) -> Any:
    return None if isinstance(value, int) and value < 0 else value


def _no_checks(value: Any) -> Any:
    return [] if value == "None" else value


def _port(value: Any) -> Any:
    return 0 if value == "auto" else value


_SCHEDULER = "the run's own scheduler runs every workflow in a thread with an event loop of its own"
_SERVER = "the HTTP endpoint starts by itself when a workflow asks for it"
_PROBE = "a probe of AgentJet's own test suite"
_LORA = "it is about the way in which verl sends weights to vLLM"
_SWARM = "training for agents that run elsewhere is not part of this version"

KEYS: Mapping[str, Rule] = {
    "enable_swarm_mode": OnlyValues(
        (False, None),
        f"tuner.as_oai_baseurl_apikey() in a workflow for an agent in another process; {_SWARM}",
    ),
    "swarm_mode_sample_collection_method": NoEffect(_SWARM),
    "swarm_mode_sample_collection_max_cached_episodes": NoEffect(_SWARM),
    "execute_test": NoEffect(_PROBE),
    "execute_testing_lambda": NoEffect(_PROBE),
    "enable_interchange_server": NoEffect(_SERVER),
    "enable_experimental_interchange_server": NoEffect(_SERVER),
    "interchange_server.already_started": NoEffect(_SERVER),
    "interchange_server.interchange_method": NoEffect(_SERVER),
    "interchange_server.interchange_server_port": Renamed("interchange_server.port", _port),
    "interchange_server.num_fastapi_process": NoEffect("one process serves all requests"),
    "interchange_server.max_fastapi_threads": NoEffect("requests need no thread of their own"),
    "interchange_server.max_inference_tracker_threads": NoEffect(
        "requests need no thread of their own"
    ),
    "lora.load_format": ForVerl("actor_rollout_ref.rollout.load_format", elsewhere=_LORA),
    "lora.layered_summon": ForVerl("actor_rollout_ref.rollout.layered_summon", elsewhere=_LORA),
    "rollout.tensor_model_parallel_size": Renamed(
        "rollout.vllm.options.tensor_parallel_size", drop=(1,)
    ),
    "rollout.n_vllm_engine": Renamed("rollout.vllm.num_engines"),
    "rollout.gpu_memory_utilization": Renamed("rollout.vllm.options.gpu_memory_utilization"),
    "rollout.top_k": Renamed("rollout.top_k", _all_tokens, note="-1 is 0: every token"),
    "rollout.multi_turn.expected_steps": NoEffect("batch sizes follow from the samples themselves"),
    "rollout.enable_oversample": OnlyValues((False, None), "rollout.dynamic_sampling"),
    "rollout.max_env_len": NoEffect("observations are not cut; data.max_prompt_length limits them"),
    "rollout.compute_madness_checklist": Renamed(
        "rollout.compute_madness_checklist", _no_checks, note="the word None is an empty list"
    ),
    "rollout.mode": NoEffect("calls are always asynchronous"),
    "rollout.gamma": OnlyValues((1, 1.0), "a reward per call (a list in WorkflowOutput.reward)"),
    "rollout.val_kwargs.temperature": Renamed("rollout.validation.temperature"),
    "rollout.val_kwargs.top_p": Renamed("rollout.validation.top_p"),
    "rollout.val_kwargs.top_k": Renamed(
        "rollout.validation.top_k", _all_tokens, note="-1 is 0: every token"
    ),
    "rollout.val_kwargs.num_repeat": Renamed("trainer_common.val_pass_n", drop=(1,)),
    "rollout.val_kwargs.do_sample": NoEffect(
        "temperature 0 is greedy, any other temperature samples"
    ),
    "debug.debug_first_n_tasks": Renamed("debug.num_tasks"),
    "debug.debug_max_parallel": NoEffect("a debug run runs one episode after the other"),
    "debug.debug_vllm_port": NoEffect("see `debug.engine`"),
    "debug.debug_vllm_seed": NoEffect("seeds derive from trainer_common.seed"),
    "debug.debug_tensor_parallel_size": NoEffect("see `debug.engine`"),
    "context_tracker.log_tool_format_check": NoEffect("malformed tool calls are in the metrics"),
    "context_tracker.log_tool_format_error_detail": NoEffect(
        "malformed tool calls are in the metrics"
    ),
    "context_tracker.alien_llm_model": NoEffect("the context tracker asks no model"),
    "context_tracker.alien_llm_response_length": NoEffect("the context tracker asks no model"),
    "task_runner.llm_infer_submit_method": NoEffect(_SCHEDULER),
    "task_runner.wrapper_type": NoEffect(_SCHEDULER),
    "task_runner.wrapper_multiprocessing_timeout": NoEffect("see rollout.episode_timeout_s"),
    "task_reader.dataset_file": Renamed("task_reader.jsonl_dataset_file"),
    "task_reader.feedback_tracing": Renamed("task_reader.tracing"),
    "trainer_common.mini_batch_num": Renamed("trainer_common.optim.num_updates_per_step"),
    "trainer_common.val_max_num_task_each_validation": Renamed(
        "rollout.validation.num_tasks", _none_if_negative
    ),
    "trainer_common.val_max_num_task_clip_method": OnlyValues(
        ("first_n", None), "rollout.validation.num_tasks, which takes the first tasks"
    ),
    "trainer_common.val_print_to_markdown_file_path": NoEffect(
        "see transcripts/ in the run folder"
    ),
    "trainer_common.train_print_to_markdown_file_path": NoEffect(
        "see transcripts/ in the run folder"
    ),
    "trainer_common.save_trajectory_as_json_file": NoEffect(
        "every call of every episode is in calls/ of the run folder"
    ),
    "trainer_common.checkpoint_base_dir": NoEffect(
        "checkpoints are in checkpoints/ of the run folder; experiment_dir moves that"
    ),
    "trainer_common.kl_loss_type": ForVerl(
        "actor_rollout_ref.actor.kl_loss_type", ("low_var_kl", "k3")
    ),
    "trainer_common.fsdp_config": ForVerl(
        "actor_rollout_ref.actor.fsdp_config", elsewhere="it is about verl's sharding"
    ),
    "trainer_common.ulysses_sequence_parallel_size": ForVerl(
        "actor_rollout_ref.actor.ulysses_sequence_parallel_size",
        (1,),
        elsewhere="it spreads one sequence over several GPUs, which only verl does; the result is "
        "the same",
    ),
    "trainer_common.ppo_epochs": ForVerl("actor_rollout_ref.actor.ppo_epochs", (1,)),
    "trainer_common.loss_extra_scale_ratio": Divides(
        "trainer_common.optim.grad_clip",
        OptimConfig().grad_clip,
        "AdamW's steps do not depend on the scale of the loss, only the clipping before them does",
    ),
    "trainer_common.use_kl_in_reward": ForVerl("algorithm.use_kl_in_reward", (False,)),
    "trainer_common.kl_penalty_type": ForVerl("algorithm.kl_penalty", ("kl",)),
    "trainer_common.algorithm.use_kl_in_reward": ForVerl("algorithm.use_kl_in_reward", (False,)),
    "trainer_common.optim.lr": Renamed("trainer_common.optim.lr", _number),
    "trainer_common.optim.lr_scheduler_type": Renamed("trainer_common.optim.lr_schedule"),
    "trainer_common.optim.lr_warmup_steps": Renamed(
        "trainer_common.optim.warmup_steps", lambda value: max(0, value)
    ),
    "trainer_common.optim.lr_warmup_steps_ratio": OnlyValues(
        (0, 0.0, None), "trainer_common.optim.warmup_steps"
    ),
    "trainer_common.optim.min_lr_ratio": Renamed("trainer_common.optim.lr_min_ratio", _number),
    "trainer_common.optim.num_cycles": OnlyValues((0.5, None), "lr_schedule: cosine"),
    "trainer_common.optim.optimizer": OnlyValues(("AdamW", "adamw", None), "AdamW"),
    "trainer_common.optim.optimizer_impl": NoEffect("the optimizer is torch's AdamW"),
    "trainer_common.optim.zero_indexed_step": NoEffect("steps are counted from 1"),
    "trainer_common.optim.total_training_steps": Renamed(
        "trainer_common.total_training_steps", _none_if_negative
    ),
}
"""Old key, below `ajet.`, to what happens to it."""

VALUES: Mapping[str, Mapping[Any, Any]] = {
    "task_reader.type": {"dataset_file": "jsonl_dataset_file", "feedback_tracing": "tracing"},
}
"""Values that have another name here."""

SINKS = ("swanlab", "wandb")
"""Metric services of AgentJet. One that has no sink here is replaced by TensorBoard."""

VERL_SECTIONS = ("actor_rollout_ref", "algorithm", "critic", "data", "reward_model", "trainer")
"""Top-level sections of verl's own configuration, which stand below `verl:` here."""

DOCUMENTED_DEFAULTS: Mapping[str, Any] = {
    "data.max_prompt_length": 3000,
    "data.max_response_length": 15000,
    "data.train_batch_size": 32,
    "rollout.agent_madness_termination": True,
    "rollout.compute_madness_checklist": ["nonsense"],
    "rollout.max_model_len": 18000,
    "rollout.max_num_seqs": 10,
    "rollout.max_response_length_in_one_turn": 4096,
    "rollout.multi_turn.max_sample_per_task": 30,
    "rollout.multi_turn.max_steps": 30,
    "rollout.num_repeat": 4,
    "rollout.temperature": 0.9,
    "rollout.validation.greedy": False,
    "rollout.validation.temperature": 0.0,
    "context_tracker.timeline_merging_policy.ignore_tools": True,
    "context_tracker.timeline_merging_policy.timeline_compare_level": "text",
    "task_reader.type": "huggingface_dat_repo",
    "trainer_common.kl_loss_coef": 0.002,
    "trainer_common.n_gpus_per_node": 8,
    "trainer_common.optim.betas": [0.9, 0.999],
    "trainer_common.optim.grad_clip": 20.0,
    "trainer_common.save_freq": 20,
    "trainer_common.test_freq": 20,
    "trainer_common.total_epochs": 50,
    "trainer_common.use_kl_loss": True,
    "trainer_common.val_before_train": False,
    "trainer_common.val_pass_n": 4,
}
"""AgentJet's defaults where they differ from ours, under our names."""

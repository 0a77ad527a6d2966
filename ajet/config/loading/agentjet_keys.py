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
    in_section: Callable[[Any, Mapping[str, Any]], Any] | None = None
    """Like `convert`, where other keys of the old section matter; it gets that section, too."""
    drop: tuple[Any, ...] = ()
    """Values that change nothing: the key is removed."""
    note: str = ""
    """What else a reader of the page should know."""


@dataclass(frozen=True, slots=True)
class NoEffect:
    """Accepted with a notice, whatever the value."""

    why: str
    quiet: tuple[Any, ...] = ()
    """Values that mean the same here, so that no notice is needed."""


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
    return [] if value in ("None", None) else value


def _none_if_zero(value: Any) -> Any:
    return None if value == 0 and value is not False else value


def _text_level(value: Any) -> Any:
    return "text" if value == "text_and_image" else value


def _isolation(value: Any) -> Any:
    return {"multi-processing": "process"}.get(value, value) if isinstance(value, str) else value


def _unit_of_the_loss(value: Any) -> Any:
    return "episodes" if value is True else value


def _task_choice(value: Any, section: Mapping[str, Any]) -> Any:
    """Without a maximum, all tasks are run, and the method has no effect."""
    if value == "random_n":
        if section.get("val_max_num_task_each_validation") in (None, -1):
            return "first"
        raise ValueError('got "random_n", expected "first_n" or "fix_seed_random_n"')
    names = {None: "first", "first_n": "first", "fix_seed_random_n": "random"}
    return names.get(value, value) if value is None or isinstance(value, str) else value


def _share_of_the_scale(value: Any, section: Mapping[str, Any]) -> Any:
    """A score between `min_score` and `max_score` as a reward between 0 and 1."""
    worst, best = section.get("min_score", 0), section.get("max_score", 1)
    numbers = all(type(each) in (int, float) for each in (value, worst, best))
    return (value - worst) / (best - worst) if numbers and best > worst else value


def _port(value: Any) -> Any:
    return 0 if value == "auto" else value


_SCHEDULER = "the run's own scheduler runs every workflow in a thread with an event loop of its own"
_SERVER = "the HTTP endpoint starts by itself when a workflow asks for it"
_PROBE = "a probe of AgentJet's own test suite"
_RUBRIC = "the rubric is written once, from all labelled samples"
_UPDATES = "trainer_common.optim.num_updates_per_step"
_TRACKER = "there is one context tracker"
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
    "rollout.agentscope_learn_protocol": Renamed("rollout.user_workflow"),
    "rollout.agentscope_workflow": Renamed("rollout.user_workflow"),
    "rollout.agentscope_disable_toolcalls": Renamed("rollout.force_disable_toolcalls"),
    "rollout.use_agentscope_protocol": NoEffect("a workflow may use any client"),
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
        "rollout.compute_madness_checklist", _no_checks, note="None and null are an empty list"
    ),
    "rollout.mode": NoEffect("calls are always asynchronous"),
    "rollout.gamma": OnlyValues((1, None), "a reward per call (a list in WorkflowOutput.reward)"),
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
    "context_tracker.context_tracker_type": NoEffect(_TRACKER),
    "context_tracker.max_env_len": NoEffect(
        "observations are not cut; data.max_prompt_length limits them"
    ),
    "context_tracker.fix_retokenization_drift": NoEffect(
        "sampled tokens are never decoded and encoded again, so there is no drift", quiet=(True,)
    ),
    "context_tracker.timeline_merging_policy.timeline_compare_level": Renamed(
        "context_tracker.timeline_merging_policy.timeline_compare_level",
        _text_level,
        note="text_and_image is text",
    ),
    "context_tracker.log_tool_format_check": NoEffect("malformed tool calls are in the metrics"),
    "context_tracker.log_tool_format_error_detail": NoEffect(
        "malformed tool calls are in the metrics"
    ),
    "context_tracker.alien_llm_model": NoEffect("the context tracker asks no model"),
    "context_tracker.alien_llm_response_length": NoEffect("the context tracker asks no model"),
    "task_runner.llm_infer_submit_method": NoEffect(_SCHEDULER),
    "task_runner.wrapper_type": Renamed(
        "task_runner.isolation",
        _isolation,
        drop=("asyncio", "asyncio-with-gc", None),
        note="multi-processing is process",
    ),
    "task_runner.wrapper_multiprocessing_timeout": NoEffect("see rollout.episode_timeout_s"),
    "task_judge.rubrics_auto_grader.success_threshold": Renamed(
        "task_judge.rubrics_auto_grader.success_at",
        in_section=_share_of_the_scale,
        note="as a share of the scale from min_score to max_score",
    ),
    "task_judge.rubrics_auto_grader.generate_number": Renamed(
        "task_judge.rubrics_auto_grader.query_specific_generate_number"
    ),
    "task_judge.rubrics_auto_grader.num_reference_samples": Renamed(
        "task_judge.rubrics_auto_grader.max_samples"
    ),
    "task_judge.rubrics_auto_grader.dataset_file": Renamed(
        "task_judge.rubrics_auto_grader.jsonl_dataset_file"
    ),
    "task_judge.rubrics_auto_grader.sampling_mode": NoEffect(_RUBRIC),
    "task_judge.rubrics_auto_grader.aggregation_mode": NoEffect(_RUBRIC),
    "task_judge.rubrics_auto_grader.max_epochs": NoEffect(_RUBRIC),
    "task_judge.rubrics_auto_grader.max_retries": NoEffect("see task_judge.model.max_retries"),
    "task_reader.dataset_file": Renamed("task_reader.jsonl_dataset_file"),
    "task_reader.data_generation.query_reader.dataset_file": Renamed(
        "task_reader.data_generation.query_reader.jsonl_dataset_file"
    ),
    "task_reader.huggingface_dat_repo.http_proxy_address": NoEffect(
        "the environment variable HTTPS_PROXY names a proxy", quiet=("", None)
    ),
    "task_reader.feedback_tracing": Renamed("task_reader.tracing"),
    "trainer_common.mini_batch_num": Renamed("trainer_common.optim.num_updates_per_step"),
    "trainer_common.val_max_num_task_clip_method": Renamed(
        "rollout.validation.task_choice",
        in_section=_task_choice,
        note="first_n is first, fix_seed_random_n is random; random_n is refused",
    ),
    "trainer_common.val_max_num_task_each_validation": Renamed(
        "rollout.validation.num_tasks", _none_if_negative
    ),
    "trainer_common.save_freq": Renamed(
        "trainer_common.save_freq", _none_if_zero, note="0 is null: only at the end"
    ),
    "trainer_common.test_freq": Renamed(
        "trainer_common.test_freq", _none_if_zero, note="0 is null: only at the end"
    ),
    "trainer_common.loss_weight_normalization_episode_level": Renamed(
        "trainer_common.algorithm.loss_agg",
        _unit_of_the_loss,
        drop=(False, None),
        note="true is episodes",
    ),
    "trainer_common.advantage_estimation_episode_level": NoEffect(
        "each episode counts once in its group, however many samples it has", quiet=(True,)
    ),
    "trainer_common.trinity_only__n_vllm_engine": Renamed("rollout.vllm.num_engines"),
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

OTHER_SECTIONS = ("rollout.val_kwargs",)
"""Sections below `ajet.` that have rules for their keys above, and do not exist here."""

NAMES_ELSEWHERE: Mapping[str, str] = {
    "data.batch_size": "data.train_batch_size",
    "data.val_batch_size": "rollout.max_env_worker, the episodes that run at the same time",
    "rollout.agent": "rollout.user_workflow",
    "rollout.dtype": "rollout.vllm.options.dtype, or model.dtype for the trainer",
    "rollout.enforce_eager": "rollout.vllm.options.enforce_eager",
    "rollout.group_size": "rollout.num_repeat",
    "rollout.max_new_tokens": "rollout.max_response_length_in_one_turn",
    "rollout.max_steps": "rollout.multi_turn.max_steps",
    "rollout.max_tokens": "rollout.max_response_length_in_one_turn",
    "rollout.multi_turn.max_turns": "rollout.multi_turn.max_steps",
    "rollout.n": "rollout.num_repeat",
    "rollout.prompt_length": "data.max_prompt_length",
    "rollout.repeat_times": "rollout.num_repeat",
    "rollout.response_length": "rollout.max_response_length_in_one_turn",
    "rollout.tensor_parallel_size": "rollout.vllm.options.tensor_parallel_size",
    "rollout.workflow": "rollout.user_workflow",
    "trainer_common.epochs": "trainer_common.total_epochs",
    "trainer_common.learning_rate": "trainer_common.optim.lr",
    "trainer_common.max_steps": "trainer_common.total_training_steps",
    "trainer_common.mini_batch_size": f"{_UPDATES}, a number of parts",
    "trainer_common.ppo_mini_batch_size": f"{_UPDATES}, a number of parts",
    "trainer_common.optim.learning_rate": "trainer_common.optim.lr",
    "trainer_common.optim.min_lr": "trainer_common.optim.lr_min_ratio, a share of lr",
}
"""Names that other trainers use, and what they are here. They are refused with that hint, which
similarity of names would get wrong."""

VALUES: Mapping[str, Mapping[Any, Any]] = {
    "task_reader.type": {"dataset_file": "jsonl_dataset_file", "feedback_tracing": "tracing"},
    "task_reader.data_generation.query_reader.type": {"dataset_file": "jsonl_dataset_file"},
    "task_judge.rubrics_auto_grader.input_data_type": {"dataset_file": "jsonl_dataset_file"},
}
"""Values that have another name here."""

SINKS = ("swanlab", "wandb")
"""Metric services of AgentJet. One that has no sink here is replaced by TensorBoard."""

VERL_SECTIONS = (
    "actor_rollout_ref",
    "algorithm",
    "critic",
    "custom_reward_function",
    "data",
    "ray_init",
    "ray_kwargs",
    "reward_model",
    "trainer",
)
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
    "rollout.validation.task_choice": "random",
    "rollout.validation.temperature": 0.0,
    "context_tracker.timeline_merging_policy.ignore_tools": True,
    "context_tracker.timeline_merging_policy.timeline_compare_level": "text",
    "task_judge.rubrics_auto_grader.enable_categorization": False,
    "task_judge.rubrics_auto_grader.max_score": 1.0,
    "task_judge.rubrics_auto_grader.reference_field": "answer",
    "task_reader.type": "huggingface_dat_repo",
    "task_reader.huggingface_dat_repo.validation_split": "validation",
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

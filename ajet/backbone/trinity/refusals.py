"""Refuses settings that the Trinity backbone cannot honour, before anything starts."""

from __future__ import annotations

from collections.abc import Iterator

from ajet.backbone.ray_common.owned_settings import refuse_owned
from ajet.config.sections.root import AjetConfig
from ajet.errors import ConfigError

OURS = {
    "algorithm.advantage_fn": "ajet.trainer_common.algorithm.adv_estimator",
    "algorithm.advantage_fn_args": "ajet.trainer_common.algorithm.adv_estimator",
    "algorithm.algorithm_type": "ajet.trainer_common.algorithm",
    "algorithm.bypass_old_logprobs": "nothing: they are always compared",
    "algorithm.entropy_loss_fn": "ajet.trainer_common.algorithm.entropy_coeff",
    "algorithm.kl_loss_fn": "ajet.trainer_common.use_kl_loss",
    "algorithm.kl_penalty_fn": "nothing: there is no KL in the reward",
    "algorithm.loss_agg_mode": "ajet.trainer_common.algorithm.loss_agg",
    "algorithm.optimizer": "ajet.trainer_common.optim",
    "algorithm.policy_loss_fn": "ajet.trainer_common.algorithm",
    "algorithm.repeat_times": "ajet.rollout.num_repeat",
    "algorithm.rollout_correction": "trinity.algorithm.sample_strategy_args.importance_cap",
    "algorithm.sample_strategy": "nothing: a step is whole groups",
    "buffer.batch_size": "ajet.data.train_batch_size",
    "buffer.explorer_input": "ajet.task_reader",
    "buffer.total_epochs": "ajet.trainer_common.total_epochs",
    "buffer.total_steps": "ajet.trainer_common.total_training_steps",
    "buffer.train_batch_size": "ajet.data.train_batch_size",
    "buffer.trainer_input.experience_buffer.replay_buffer": "nothing: a group is trained once",
    "checkpoint_root_dir": "ajet.experiment_dir",
    "cluster": "ajet.trainer_common.n_gpus_per_node and .nnodes",
    "continue_from_checkpoint": "--resume",
    "data_processor": "nothing: the buffer holds groups of episodes",
    "explorer.concurrent_mode": "ajet.rollout.max_env_worker",
    "explorer.eval_interval": "ajet.trainer_common.test_freq",
    "explorer.eval_on_startup": "ajet.trainer_common.val_before_train",
    "explorer.max_retry_times": "ajet.rollout.max_retries",
    "explorer.max_timeout": "ajet.rollout.episode_timeout_s",
    "explorer.name": "nothing: the run sets it",
    "explorer.over_rollout": "nothing: a step waits for its whole batch",
    "explorer.rollout_model.dtype": "ajet.model.dtype",
    "explorer.rollout_model.engine_num": "ajet.rollout.vllm.num_engines",
    "explorer.rollout_model.engine_type": "nothing: it is vllm",
    "explorer.rollout_model.extra_engine_args": "ajet.rollout.vllm.options",
    "explorer.rollout_model.max_model_len": "ajet.rollout.max_model_len",
    "explorer.rollout_model.temperature": "ajet.rollout.temperature",
    "mode": "nothing: a run both explores and trains",
    "model": "ajet.model and ajet.lora",
    "monitor": "ajet.trainer_common.logger",
    "name": "ajet.experiment_name",
    "project": "ajet.project_name",
    "ray_namespace": "nothing: each run has its own",
    "stages": "nothing: a run has one stage",
    "trainer.grad_clip": "ajet.trainer_common.optim.grad_clip",
    "trainer.max_checkpoints_to_keep": "ajet.trainer_common.max_checkpoints_to_keep",
    "trainer.max_token_len_per_gpu": "ajet.trainer_common.micro_batch_tokens",
    "trainer.name": "nothing: the run sets it",
    "trainer.save_hf_checkpoint": "nothing: every checkpoint is in Hugging Face format",
    "trainer.save_interval": "ajet.trainer_common.save_freq",
    "trainer.total_steps": "ajet.trainer_common.total_training_steps",
    "trainer.trainer_strategy": "nothing: it is fsdp2",
    "trainer.trainer_type": "nothing: it is verl",
}
"""Trinity's settings that AgentJet decides, with what to use instead."""

SYNC_STYLES = ("fixed", "fully_async")


def refuse(ajet: AjetConfig) -> None:
    """Refuse settings that this backbone cannot honour.

    Raises:
        ConfigError: names the setting and what to use instead.
    """
    refuse_owned("trinity", ajet.trinity, OURS)
    style = ajet.trinity.get("synchronizer", {}).get("sync_style", "fixed")
    if style not in SYNC_STYLES:
        expected = " or ".join(SYNC_STYLES)
        raise ConfigError(f'trinity.synchronizer.sync_style: got "{style}", expected {expected}')
    for path, value, reason in _unfit(ajet):
        raise ConfigError(f"ajet.{path}: {value} {reason}")


def _unfit(ajet: AjetConfig) -> Iterator[tuple[str, object, str]]:
    """Path, value and reason of each setting of ours that cannot be honoured."""
    rollout = ajet.rollout
    cut = "would give vLLM's logprobs after the cut, but the trainer computes those before it; use"
    if rollout.top_p != 1.0:
        yield "rollout.top_p", rollout.top_p, f"{cut} 1.0"
    if rollout.top_k != 0:
        yield "rollout.top_k", rollout.top_k, f"{cut} 0"
    if rollout.temperature == 0:
        yield "rollout.temperature", 0, "samples only one answer, so there is nothing to learn"
    if rollout.vllm.base_url is not None:
        yield (
            "rollout.vllm.base_url",
            rollout.vllm.base_url,
            "is not used: Trinity starts its own engines",
        )
    if rollout.dynamic_sampling:
        yield "rollout.dynamic_sampling", True, "is not possible with the backbone trinity"
    if ajet.trainer_common.use_kl_loss:
        yield "trainer_common.use_kl_loss", True, "is not possible with the backbone trinity"
    if ajet.trainer_common.val_only:
        yield (
            "trainer_common.val_only",
            True,
            "is not possible with the backbone trinity; use verl or local",
        )
    if ajet.model.dtype == "float16":
        yield "model.dtype", "float16", "is not tested with Trinity; use bfloat16"

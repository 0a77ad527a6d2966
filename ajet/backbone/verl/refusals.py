"""Refuses settings that the verl backbone cannot honour, before anything starts."""

from __future__ import annotations

from ajet.backbone.ray_common.owned_settings import refuse_owned
from ajet.config.sections.root import AjetConfig
from ajet.errors import ConfigError

OURS = {
    "actor_rollout_ref.actor.clip_ratio": "ajet.trainer_common.algorithm.clip_ratio_low and _high",
    "actor_rollout_ref.actor.data_loader_seed": "ajet.trainer_common.seed",
    "actor_rollout_ref.actor.entropy_coeff": "ajet.trainer_common.algorithm.entropy_coeff",
    "actor_rollout_ref.actor.grad_clip": "ajet.trainer_common.optim.grad_clip",
    "actor_rollout_ref.actor.kl_loss_coef": "ajet.trainer_common.kl_loss_coef",
    "actor_rollout_ref.actor.kl_loss_type": "nothing: the KL is the k3 estimate",
    "actor_rollout_ref.actor.loss_agg_mode": "ajet.trainer_common.algorithm.loss_agg",
    "actor_rollout_ref.actor.loss_scale_factor": "ajet.trainer_common.algorithm.loss_agg",
    "actor_rollout_ref.actor.optim": "ajet.trainer_common.optim",
    "actor_rollout_ref.actor.policy_loss": "ajet.trainer_common.algorithm",
    "actor_rollout_ref.actor.ppo_epochs": "ajet.trainer_common.optim.num_updates_per_step",
    "actor_rollout_ref.actor.ppo_mini_batch_size": (
        "ajet.trainer_common.optim.num_updates_per_step"
    ),
    "actor_rollout_ref.actor.shuffle": "ajet.trainer_common.seed",
    "actor_rollout_ref.actor.strategy": "nothing: it is fsdp2",
    "actor_rollout_ref.actor.use_kl_loss": "ajet.trainer_common.use_kl_loss",
    "actor_rollout_ref.hybrid_engine": "nothing: engine and trainer share the GPUs",
    "actor_rollout_ref.model.lora": (
        "nothing: ajet.lora.lora_rank, lora_alpha and target_modules are those of FSDP, and vLLM "
        "gets the weights with the adapter merged in"
    ),
    "actor_rollout_ref.model.path": "ajet.model.path",
    "actor_rollout_ref.rollout.agent": "ajet.rollout.user_workflow",
    "actor_rollout_ref.rollout.calculate_log_probs": "nothing: they are always compared",
    "actor_rollout_ref.rollout.logprobs_mode": "nothing: the trainer must compute the same",
    "actor_rollout_ref.rollout.max_model_len": "ajet.rollout.max_model_len",
    "actor_rollout_ref.rollout.max_num_seqs": "ajet.rollout.max_num_seqs",
    "actor_rollout_ref.rollout.mode": "nothing: it is async",
    "actor_rollout_ref.rollout.multi_turn": "ajet.rollout.multi_turn",
    "actor_rollout_ref.rollout.n": "ajet.rollout.num_repeat",
    "actor_rollout_ref.rollout.name": "nothing: it is vllm",
    "actor_rollout_ref.rollout.temperature": "ajet.rollout.temperature",
    "actor_rollout_ref.rollout.top_k": "nothing: it is off, see ajet.rollout.top_k",
    "actor_rollout_ref.rollout.top_p": "nothing: it is off, see ajet.rollout.top_p",
    "actor_rollout_ref.rollout.val_kwargs": "ajet.rollout.validation",
    "algorithm": "ajet.trainer_common.algorithm",
    "critic.cliprange_value": "ajet.trainer_common.critic.value_clip",
    "critic.data_loader_seed": "ajet.trainer_common.seed",
    "critic.enable": "ajet.trainer_common.algorithm.adv_estimator",
    "critic.loss_agg_mode": "nothing: each token weighs the same",
    "critic.loss_scale_factor": "nothing: each token weighs the same",
    "critic.optim": "ajet.trainer_common.critic and ajet.trainer_common.optim",
    "critic.ppo_epochs": "ajet.trainer_common.optim.num_updates_per_step",
    "critic.ppo_mini_batch_size": "ajet.trainer_common.optim.num_updates_per_step",
    "critic.rollout_n": "ajet.rollout.num_repeat",
    "critic.shuffle": "ajet.trainer_common.seed",
    "critic.strategy": "nothing: it is fsdp2",
    "custom_reward_function": "ajet.task_judge",
    "data": "ajet.data and ajet.task_reader",
    "distillation": "nothing: there is no teacher",
    "global_profiler": "nothing: verl's profiler belongs to its own loop",
    "ray_kwargs": "--with-ray or --with-ray-cluster",
    "reward": "ajet.task_judge",
    "reward_model": "ajet.task_judge",
    "skip": "nothing: the rollouts are AgentJet's",
    "trainer.balance_batch": "nothing: it always is",
    "trainer.critic_warmup": "nothing: policy and critic are trained from the first step",
    "trainer.default_local_dir": "ajet.experiment_dir",
    "trainer.device": "ajet.model.device",
    "trainer.experiment_name": "ajet.experiment_name",
    "trainer.log_val_generations": "nothing: see episodes.jsonl",
    "trainer.logger": "ajet.trainer_common.logger",
    "trainer.max_actor_ckpt_to_keep": "ajet.trainer_common.max_checkpoints_to_keep",
    "trainer.max_critic_ckpt_to_keep": "ajet.trainer_common.max_checkpoints_to_keep",
    "trainer.n_gpus_per_node": "ajet.trainer_common.n_gpus_per_node",
    "trainer.nnodes": "ajet.trainer_common.nnodes",
    "trainer.project_name": "ajet.project_name",
    "trainer.resume_from_path": "--resume",
    "trainer.resume_mode": "--resume",
    "trainer.rollout_data_dir": "nothing: see rollouts/ in the run's folder",
    "trainer.save_freq": "ajet.trainer_common.save_freq",
    "trainer.test_freq": "ajet.trainer_common.test_freq",
    "trainer.total_epochs": "ajet.trainer_common.total_epochs",
    "trainer.total_training_steps": "ajet.trainer_common.total_training_steps",
    "trainer.use_v1": "nothing: it is verl's V1 trainer",
    "trainer.v1": "nothing: it is the synchronous trainer",
    "trainer.val_before_train": "ajet.trainer_common.val_before_train",
    "trainer.val_only": "ajet.trainer_common.val_only",
    "trainer.validation_data_dir": "nothing: see episodes.jsonl",
}
"""verl's settings that AgentJet decides, with what to use instead."""


def lora_rank(ajet: AjetConfig) -> int:
    """Rank of the LoRA adapter that verl trains; 0: no adapter."""
    model = ajet.verl.get("actor_rollout_ref", {}).get("model", {})
    return int(model.get("lora_rank", ajet.lora.lora_rank))


def refuse(ajet: AjetConfig) -> None:
    """Refuse settings that this backbone cannot honour.

    Raises:
        ConfigError: names the setting and what to use instead.
    """
    refuse_owned("verl", ajet.verl, OURS)
    rollout = ajet.rollout
    for name, off in (("top_p", 1.0), ("top_k", 0)):
        if getattr(rollout, name) != off:
            raise ConfigError(
                f"ajet.rollout.{name}: with the verl backbone, vLLM would give logprobs after the "
                f"cut, but the trainer computes those before it; use {off}"
            )
    if rollout.ray_actors > rollout.max_env_worker:
        raise ConfigError(
            f"ajet.rollout.ray_actors: {rollout.ray_actors} processes for at most "
            f"{rollout.max_env_worker} episodes at a time (ajet.rollout.max_env_worker); lower the "
            "first or raise the second"
        )
    if rollout.ray_actors and ajet.interchange_server.port:
        raise ConfigError(
            "ajet.interchange_server.port: each process of ajet.rollout.ray_actors has its own "
            "server, and they cannot share a port; use 0, so that each takes a free one"
        )
    if rollout.temperature == 0:
        raise ConfigError(
            "ajet.rollout.temperature: 0 samples only one answer, so there is nothing to learn"
        )
    if rollout.vllm.base_url is not None or rollout.vllm.num_engines != 1:
        raise ConfigError(
            "ajet.rollout.vllm.base_url, .num_engines: verl starts its own engines; their number "
            "is the number of GPUs divided by "
            "verl.actor_rollout_ref.rollout.tensor_model_parallel_size"
        )
    if ajet.model.dtype == "float16":
        raise ConfigError("ajet.model.dtype: float16 is not tested with verl; use bfloat16")

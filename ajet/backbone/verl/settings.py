"""Composes verl's configuration from AgentJet's, with the user's `verl:` section on top."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ajet.algorithm.credit import credit_rule
from ajet.backbone.verl.refusals import lora_rank
from ajet.config.sections.algorithm import OptimConfig
from ajet.config.sections.root import AjetConfig
from ajet.config.sections.section import plain
from ajet.config.sections.trainer_common import TrainerCommonConfig
from ajet.errors import ConfigError, did_you_mean

NO_REQUESTS = "ajet.engine.vllm.key_guard.NoRequests"
_SHORT_DTYPES = {"float32": "fp32", "bfloat16": "bf16"}


@dataclass(slots=True, kw_only=True, frozen=True)
class RankResources:
    """The model and device of a run, which its settings leave open."""

    model_folder: Path
    max_model_len: int
    device: str
    """`cpu` or `cuda`."""


def compose_config(ajet: AjetConfig, resources: RankResources) -> DictConfig:
    """Compose verl's whole configuration and resolve its references.

    Raises:
        ConfigError: the user's `verl:` section does not fit.
    """
    with initialize_config_module(version_base=None, config_module="verl.trainer.config"):
        config = compose(config_name="ppo_trainer")
    _refuse_unknown(ajet.verl, config)
    OmegaConf.set_struct(config, False)
    layers = [_ours(ajet, resources)]
    if resources.device == "cpu":
        from ajet.backbone.verl.cpu.settings import CPU

        layers.append(CPU)
    try:
        merged = OmegaConf.merge(config, *layers, plain(ajet.verl))
        OmegaConf.resolve(merged)
    except OmegaConfBaseException as error:
        raise ConfigError(f"ajet.verl: {error}") from error
    assert isinstance(merged, DictConfig)
    _check_dtypes(merged)
    return merged


def _refuse_unknown(section: Mapping[str, Any], known: DictConfig, prefix: str = "") -> None:
    """Refuse names that verl does not have, where verl itself would not notice them."""
    # Sections with `_target_` become dataclasses, which refuse unknown fields by themselves.
    is_checked = not known or "_target_" in known
    for key, value in section.items():
        if key in known:
            if isinstance(value, Mapping) and isinstance(known[key], DictConfig):
                _refuse_unknown(value, known[key], f"{prefix}{key}.")
        elif not is_checked:
            hint = did_you_mean(key, [str(name) for name in known])
            raise ConfigError(f"verl.{prefix}{key}: verl has no such setting{hint}")


def _ours(ajet: AjetConfig, resources: RankResources) -> dict[str, Any]:
    common = ajet.trainer_common
    return {
        "actor_rollout_ref": {
            # verl's names are the same.
            "model": {**_model(ajet, resources), **ajet.lora.model_dump()},
            "actor": _actor(ajet, resources),
            "ref": {"fsdp_config": _fsdp(ajet, resources)},
            "rollout": _rollout(ajet, resources),
        },
        "algorithm": _algorithm(common),
        "critic": _critic(ajet, resources),
        "data": {
            "train_batch_size": ajet.data.train_batch_size,
            "max_prompt_length": resources.max_model_len,
            "max_response_length": resources.max_model_len,
        },
        "reward": {"num_workers": 0},
        "transfer_queue": {
            "enable": True,
            "backend": {"SimpleStorage": {"num_data_storage_units": common.nnodes}},
        },
        "trainer": {
            "device": resources.device,
            "n_gpus_per_node": common.n_gpus_per_node,
            "nnodes": common.nnodes,
            "project_name": ajet.project_name,
            "experiment_name": ajet.experiment_name,
            "logger": [],
        },
    }


def _model(ajet: AjetConfig, resources: RankResources) -> dict[str, Any]:
    attention = ajet.model.attn_implementation
    if resources.device == "cuda" and attention == "sdpa" and find_spec("flash_attn"):
        attention = "flash_attention_2"
    return {
        "path": str(resources.model_folder),
        "lora": {"merge": True},
        "override_config": {"attn_implementation": attention},
    }


def _actor(ajet: AjetConfig, resources: RankResources) -> dict[str, Any]:
    common = ajet.trainer_common
    # With LoRA, `LoraPolicyWorker` writes the merged model instead.
    hugging_face = [] if lora_rank(ajet) else ["hf_model"]
    return {
        "strategy": "fsdp2",
        "use_dynamic_bsz": True,
        "ppo_max_token_len_per_gpu": _max_tokens(ajet, resources),
        "ppo_mini_batch_size": ajet.data.train_batch_size,
        "use_kl_loss": common.use_kl_loss,
        "optim": _optim(common.optim),
        "checkpoint": {"save_contents": ["model", "optimizer", "extra", *hugging_face]},
        "fsdp_config": _fsdp(ajet, resources),
    }


def _algorithm(common: TrainerCommonConfig) -> dict[str, Any]:
    """The algorithm section; AgentJet's loss and credit replace most of it."""
    # Without a critic, verl is never asked for advantages; any estimator without one will do.
    has_critic = credit_rule(common.algorithm.adv_estimator).needs_critic
    return {
        "adv_estimator": "gae" if has_critic else "grpo",
        "gamma": common.critic.gamma,
        "lam": common.critic.lam,
        "use_kl_in_reward": False,
    }


def _critic(ajet: AjetConfig, resources: RankResources) -> dict[str, Any]:
    common = ajet.trainer_common
    return {
        "enable": credit_rule(common.algorithm.adv_estimator).needs_critic,
        "strategy": "fsdp2",
        "model": _model(ajet, resources),
        "use_dynamic_bsz": True,
        "ppo_max_token_len_per_gpu": _max_tokens(ajet, resources),
        "ppo_infer_max_token_len_per_gpu": _max_tokens(ajet, resources),
        "cliprange_value": common.critic.value_clip,
        "loss_agg_mode": "token-mean",
        "optim": {**_optim(common.optim), "lr": common.critic.lr},
        "fsdp": _fsdp(ajet, resources),
    }


def _optim(settings: OptimConfig) -> dict[str, Any]:
    return {
        "optimizer_impl": "ajet.backbone.verl_common.optimizer",
        "optimizer": "AdamWOnMatrices",
        "lr": settings.lr,
        "weight_decay": settings.weight_decay,
        "betas": list(settings.betas),
        "clip_grad": settings.grad_clip,
    }


def _max_tokens(ajet: AjetConfig, resources: RankResources) -> int:
    return max(ajet.trainer_common.micro_batch_tokens, resources.max_model_len)


def _fsdp(ajet: AjetConfig, resources: RankResources) -> dict[str, Any]:
    dtype = _dtype(ajet, resources)
    mixed = {"param_dtype": _SHORT_DTYPES[dtype], "reduce_dtype": "fp32", "buffer_dtype": "fp32"}
    return {"dtype": dtype, "mixed_precision": mixed}


def _rollout(ajet: AjetConfig, resources: RankResources) -> dict[str, Any]:
    settings = ajet.rollout
    return {
        "name": "vllm",
        "mode": "async",
        "n": settings.num_repeat,
        "seed": ajet.trainer_common.seed,
        "temperature": settings.temperature,
        "dtype": _dtype(ajet, resources),
        "tensor_model_parallel_size": 1,
        "max_model_len": resources.max_model_len,
        "max_num_seqs": settings.max_num_seqs,
        "calculate_log_probs": True,
        "engine_kwargs": {"vllm": {"middleware": [NO_REQUESTS], **plain(settings.vllm.options)}},
    }


def _dtype(ajet: AjetConfig, resources: RankResources) -> str:
    if ajet.model.dtype == "auto":
        return "float32" if resources.device == "cpu" else "bfloat16"
    return ajet.model.dtype


def _check_dtypes(config: DictConfig) -> None:
    """Refuse dtypes that disagree: verl's queue would only log it and train on."""
    part = config.actor_rollout_ref
    dtypes = {
        "actor.fsdp_config.dtype": part.actor.fsdp_config.dtype,
        "ref.fsdp_config.dtype": part.ref.fsdp_config.dtype,
        "rollout.dtype": part.rollout.dtype,
    }
    if len(set(dtypes.values())) > 1:
        found = ", ".join(f"verl.actor_rollout_ref.{key}: {dtype}" for key, dtype in dtypes.items())
        raise ConfigError(f"{found}: they must be the same; ajet.model.dtype sets all of them")

"""Composes Trinity's configuration from AgentJet's, with the user's `trinity:` section on top."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from trinity.common.config import Config, LoRAConfig, TasksetConfig
from trinity.common.constants import SyncMethod

from ajet.backbone.ray_common.resources import trinity_needs
from ajet.backbone.trinity.run_context import TrinityRunContext
from ajet.config.sections.section import plain
from ajet.errors import ConfigError
from ajet.task_reader.task_batches import TaskBatches

MAX_STALENESS = 3
"""Default of `max_staleness` in a fully asynchronous run, in versions."""
_HERE = "ajet.backbone.trinity"
_SHORT_DTYPES = {"float32": "fp32", "bfloat16": "bf16"}


def compose_config(context: TrinityRunContext, batches: TaskBatches) -> Config:
    """Compose Trinity's whole configuration and let Trinity check it.

    Raises:
        ConfigError: Trinity refuses the configuration, usually the user's part of it.
    """
    layers = [_ours(context)]
    if context.device == "cpu":
        from ajet.backbone.trinity.cpu.settings import CPU

        layers.append(CPU)
    if context.is_async:
        layers.append(_asynchronous(context))
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), *layers, plain(context.ajet.trinity))
        config: Config = OmegaConf.to_object(merged)
        if context.device == "cpu" and config.synchronizer.sync_method == SyncMethod.NCCL:
            raise ValueError("trinity.synchronizer.sync_method: nccl is for GPUs; use memory")
        config.buffer.explorer_input.taskset = TasksetConfig(
            name="tasks",
            path="in ajet.task_reader",
            storage_type=f"{_HERE}.tasks.TaskStream",
            default_workflow_type=f"{_HERE}.workflow.BatchOfEpisodes",
            workflow_args={"context": context, "batches": batches},
        )
        config.model.lora_configs = _lora_configs(context)
        return _with_merged_lora(config.check_and_update())
    except (OmegaConfBaseException, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"Trinity-RFT refuses its configuration: {error}") from error


def _ours(context: TrinityRunContext) -> dict[str, Any]:
    ajet, nodes = context.ajet, context.ajet.trainer_common.nnodes
    return {
        "mode": "both",
        "project": ajet.project_name,
        "name": context.namespace,
        "ray_namespace": context.namespace,
        "checkpoint_root_dir": str(context.run_folder / "trinity"),
        "continue_from_checkpoint": False,
        "ignore_validator_suggestions": True,
        "model": _model(context),
        "algorithm": _algorithm(context),
        "cluster": {
            "node_num": nodes,
            "gpu_per_node": trinity_needs(ajet, context.device).gpus // nodes,
        },
        "buffer": {
            "batch_size": min(context.num_runners, ajet.data.train_batch_size),
            "train_batch_size": ajet.data.train_batch_size,
            "trainer_input": {
                "experience_buffer": {
                    "name": "groups",
                    "storage_type": "queue",
                    "path": "in memory",
                    "max_read_timeout": 600 + 2 * ajet.rollout.episode_timeout_s,
                }
            },
        },
        "data_processor": {"experience_pipeline": {"save_input": False}},
        "explorer": _explorer(context),
        "trainer": _trainer(context),
        "monitor": {"monitor_type": f"{_HERE}.monitor.MailboxMonitor"},
        "synchronizer": {"sync_method": "nccl", "sync_style": "fixed", "sync_interval": 1},
    }


def _asynchronous(context: TrinityRunContext) -> dict[str, Any]:
    """Settings of a fully asynchronous run: how far rollout may be ahead of training."""
    return {
        "algorithm": {"sample_strategy_args": {"max_staleness": MAX_STALENESS}},
        "buffer": {"trainer_input": {"experience_buffer": {"capacity": 1}}},
        "explorer": {"max_inflight_batches": 2},
    }


def _model(context: TrinityRunContext) -> dict[str, Any]:
    return {
        "model_path": str(context.model_folder),
        "max_model_len": context.max_model_len,
        "temperature": context.ajet.rollout.temperature,
        "enable_prompt_truncation": False,
    }


def _lora_configs(context: TrinityRunContext) -> list[LoRAConfig] | None:
    """Trinity's section for an adapter; None: all weights are trained."""
    lora = context.ajet.lora
    if not lora.lora_rank:
        return None
    # With a path that is marked as made up, Trinity writes no random adapter for vLLM.
    return [LoRAConfig(name="policy", path="", is_dummy=True, **lora.model_dump())]


def _with_merged_lora(config: Config) -> Config:
    """Only the trainer knows about the adapter: vLLM gets merged weights."""
    model = config.explorer.rollout_model
    model.enable_lora, model.lora_modules, model.lora_kwargs = False, None, {}
    return config


def _algorithm(context: TrinityRunContext) -> dict[str, Any]:
    """The algorithm section; AgentJet's loss replaces Trinity's losses."""
    common = context.ajet.trainer_common
    return {
        "algorithm_type": "dapo",
        "repeat_times": 1,
        "advantage_fn": f"{_HERE}.credit.GroupCredit",
        "advantage_fn_args": {"estimator": common.algorithm.adv_estimator},
        "sample_strategy": f"{_HERE}.sampler.FreshGroups",
        "sample_strategy_args": {"max_staleness": None, "importance_cap": 2.0},
        "kl_loss_fn": "none",
        "entropy_loss_fn": "none",
        "optimizer": {
            "lr": common.optim.lr,
            "betas": list(common.optim.betas),
            "weight_decay": common.optim.weight_decay,
            "clip_grad": common.optim.grad_clip,
        },
    }


def _explorer(context: TrinityRunContext) -> dict[str, Any]:
    rollout = context.ajet.rollout
    return {
        "runner_per_model": context.num_runners,
        "max_timeout": 10**6,  # effectively off: AgentJet ends episodes at their own deadlines
        "max_retry_times": 0,
        "concurrent_mode": "sequential",
        "eval_on_startup": False,
        "rollout_model": {
            "engine_type": "vllm",
            "engine_num": rollout.vllm.num_engines,
            "dtype": context.dtype,
            "seed": context.ajet.trainer_common.seed,
            "extra_engine_args": {
                "max_num_seqs": rollout.max_num_seqs,
                **plain(rollout.vllm.options),
            },
        },
    }


def _trainer(context: TrinityRunContext) -> dict[str, Any]:
    ajet = context.ajet
    # With LoRA, `TrinityPolicyWorker` writes the merged model instead.
    hugging_face = [] if ajet.lora.lora_rank else ["hf_model"]
    fsdp = {
        "dtype": context.dtype,
        "mixed_precision": {
            "param_dtype": _SHORT_DTYPES[context.dtype],
            "reduce_dtype": "fp32",
            "buffer_dtype": "fp32",
        },
    }
    return {
        "trainer_type": "verl",
        "trainer_strategy": "fsdp2",
        "grad_clip": ajet.trainer_common.optim.grad_clip,
        "total_steps": context.total_steps,
        "max_token_len_per_gpu": max(ajet.trainer_common.micro_batch_tokens, context.max_model_len),
        "trainer_config": {
            "model": {"override_config": {"attn_implementation": ajet.model.attn_implementation}},
            "actor": {
                "fsdp_config": fsdp,
                "optim": {
                    "optimizer_impl": "ajet.backbone.verl_common.optimizer",
                    "optimizer": "AdamWOnMatrices",
                },
                "checkpoint": {"save_contents": ["model", "optimizer", "extra", *hugging_face]},
            },
        },
    }

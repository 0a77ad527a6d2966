"""Trinity's configuration, composed from ours and the user's `trinity:` section on top."""

from __future__ import annotations

from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from trinity.common.config import Config, TasksetConfig
from trinity.common.constants import SyncMethod

from ajet.backbone.ray_common.resources import trinity_needs
from ajet.backbone.trinity.plan import TrinityRunContext
from ajet.config.sections.free_section import plain
from ajet.errors import ConfigError
from ajet.task_reader.task_batches import TaskBatches

MAX_STALENESS = 3
"""Of a fully asynchronous run, where none is given."""
_HERE = "ajet.backbone.trinity"
_SHORT_DTYPES = {"float32": "fp32", "bfloat16": "bf16"}


def compose_config(plan: TrinityRunContext, batches: TaskBatches) -> Config:
    """Trinity's whole configuration, checked by Trinity.

    Raises:
        ConfigError: the user's part of it does not fit.
    """
    layers = [_ours(plan)]
    if plan.device == "cpu":
        from ajet.backbone.trinity.cpu.settings import CPU

        layers.append(CPU)
    if plan.is_async:
        layers.append(_asynchronous(plan))
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), *layers, plain(plan.ajet.trinity))
        config: Config = OmegaConf.to_object(merged)
        if plan.device == "cpu" and config.synchronizer.sync_method == SyncMethod.NCCL:
            raise ValueError("trinity.synchronizer.sync_method: nccl is for GPUs; use memory")
        config.buffer.explorer_input.taskset = TasksetConfig(
            name="tasks",
            path="in ajet.task_reader",
            storage_type=f"{_HERE}.tasks.TaskStream",
            default_workflow_type=f"{_HERE}.workflow.BatchOfEpisodes",
            workflow_args={"plan": plan, "batches": batches},
        )
        return config.check_and_update()
    except (OmegaConfBaseException, ValueError, TypeError, AssertionError) as error:
        raise ConfigError(f"Trinity-RFT does not take its configuration: {error}") from error


def _ours(plan: TrinityRunContext) -> dict[str, Any]:
    ajet, nodes = plan.ajet, plan.ajet.trainer_common.nnodes
    return {
        "mode": "both",
        "project": ajet.project_name,
        "name": plan.namespace,
        "ray_namespace": plan.namespace,
        "checkpoint_root_dir": str(plan.run_folder / "trinity"),
        "continue_from_checkpoint": False,
        "ignore_validator_suggestions": True,
        "model": _model(plan),
        "algorithm": _algorithm(plan),
        "cluster": {
            "node_num": nodes,
            "gpu_per_node": trinity_needs(ajet, plan.device).gpus // nodes,
        },
        "buffer": {
            "batch_size": min(plan.num_runners, ajet.data.train_batch_size),
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
        "explorer": _explorer(plan),
        "trainer": _trainer(plan),
        "monitor": {"monitor_type": f"{_HERE}.monitor.DeskMonitor"},
        "synchronizer": {"sync_method": "nccl", "sync_style": "fixed", "sync_interval": 1},
    }


def _asynchronous(plan: TrinityRunContext) -> dict[str, Any]:
    """What differs in a fully asynchronous run: how far rollout may be ahead of training."""
    return {
        "algorithm": {"sample_strategy_args": {"max_staleness": MAX_STALENESS}},
        "buffer": {"trainer_input": {"experience_buffer": {"capacity": 1}}},
        "explorer": {"max_inflight_batches": 2},
    }


def _model(plan: TrinityRunContext) -> dict[str, Any]:
    return {
        "model_path": str(plan.model_folder),
        "max_model_len": plan.max_model_len,
        "temperature": plan.ajet.rollout.temperature,
        "enable_prompt_truncation": False,
    }


def _algorithm(plan: TrinityRunContext) -> dict[str, Any]:
    """Of Trinity's own losses none is used."""
    common = plan.ajet.trainer_common
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


def _explorer(plan: TrinityRunContext) -> dict[str, Any]:
    rollout = plan.ajet.rollout
    return {
        "runner_per_model": plan.num_runners,
        "max_timeout": 10**6,  # episodes have deadlines of their own
        "max_retry_times": 0,
        "concurrent_mode": "sequential",
        "eval_on_startup": False,
        "rollout_model": {
            "engine_type": "vllm",
            "engine_num": rollout.vllm.num_engines,
            "dtype": plan.dtype,
            "seed": plan.ajet.trainer_common.seed,
            "extra_engine_args": {
                "max_num_seqs": rollout.max_num_seqs,
                **plain(rollout.vllm.options),
            },
        },
    }


def _trainer(plan: TrinityRunContext) -> dict[str, Any]:
    ajet = plan.ajet
    fsdp = {
        "dtype": plan.dtype,
        "mixed_precision": {
            "param_dtype": _SHORT_DTYPES[plan.dtype],
            "reduce_dtype": "fp32",
            "buffer_dtype": "fp32",
        },
    }
    return {
        "trainer_type": "verl",
        "trainer_strategy": "fsdp2",
        "grad_clip": ajet.trainer_common.optim.grad_clip,
        "total_steps": plan.total_steps,
        "max_token_len_per_gpu": max(ajet.trainer_common.micro_batch_tokens, plan.max_model_len),
        "trainer_config": {
            "model": {"override_config": {"attn_implementation": ajet.model.attn_implementation}},
            "actor": {
                "fsdp_config": fsdp,
                "optim": {
                    "optimizer_impl": "ajet.backbone.verl_common.optimizer",
                    "optimizer": "AdamWOnMatrices",
                },
                "checkpoint": {"save_contents": ["model", "optimizer", "extra", "hf_model"]},
            },
        },
    }

"""Starts and stops verl's queue, training ranks and vLLM replicas."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import ray
import transfer_queue as tq
from omegaconf import DictConfig
from transformers import AutoConfig
from verl.trainer.constants_ppo import get_ppo_ray_runtime_env
from verl.utils.config import validate_config

from ajet.backbone.ray_common.cluster import connected
from ajet.backbone.ray_common.output import redirect_output
from ajet.backbone.ray_common.resources import verl_needs
from ajet.backbone.verl.actor_executor import ActorExecutor
from ajet.backbone.verl.critic import CriticWorker
from ajet.backbone.verl.engine import VerlEngine
from ajet.backbone.verl.episode_actor import EpisodeActor, EpisodeRunContext
from ajet.backbone.verl.policy import VerlPolicy
from ajet.backbone.verl.settings import RankResources, compose_config
from ajet.backbone.verl.timeouts import call_with_timeout
from ajet.backbone.verl.trainer import RankWorkers, VerlTrainer
from ajet.backbone.verl.worker import LoraPolicyWorker
from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.errors import ConfigError, TrainingError
from ajet.monitor.progress import Progress
from ajet.training.checkpoints import Position
from ajet.training.model_folder import chat_format_of
from ajet.training.protocols import Policy

CLOSE_TIMEOUT_S = 30.0
PASSED_ON = ("TRANSFER_QUEUE_", "VERL_", "VLLM_", "OMP_", "TORCHDYNAMO_", "TOKENIZERS_", "HF_HUB_")
"""Prefixes of the environment variables that verl's processes on all nodes get from this one."""


@dataclass(slots=True, kw_only=True)
class VerlRunContext:
    """What a run with the verl backbone is started with."""

    config: RootConfig
    run_folder: Path
    model_folder: Path
    device: str
    total_steps: int
    checkpoint: Path | None
    """The checkpoint to resume from; None: start from the base model."""
    position: Position | None
    """Where the run stood when the checkpoint was written; None without one."""

    @property
    def ajet(self) -> AjetConfig:
        """The section `ajet` of the configuration."""
        return self.config.ajet

    @property
    def policy_version(self) -> int:
        """Version of the initial weights."""
        return self.position.policy_version if self.position else 0


@contextmanager
def started(context: VerlRunContext, progress: Progress) -> Iterator[Policy]:
    """Start everything and give the policy; stop everything at the end of the block.

    Raises:
        ConfigError: verl refuses the configuration.
        TrainingError: a process did not start.
    """
    log = context.run_folder / "logs" / "verl.log"
    with redirect_output(log):
        config = _checked(compose_config(context.ajet, _rank_resources(context)))
    with ExitStack() as stack:
        with progress.phase("starting verl and vLLM"), redirect_output(log):
            needs = verl_needs(context.ajet, context.device)
            stack.enter_context(connected(_runtime_env(config), needs))
            stack.callback(_close_queue)
            trainer = _trainer(context, config)
            call_with_timeout(
                context.ajet.rollout.vllm.start_timeout_s,
                "the start",
                lambda: _start_queue_and_trainer(config, trainer),
            )
        yield _policy(context, trainer)


def _start_queue_and_trainer(config: DictConfig, trainer: VerlTrainer) -> None:
    """Start both at the same time: each spends most of it waiting for imports of its processes."""
    # TransferQueue warns at every step that the machine has few cores.
    logging.getLogger("transfer_queue.utils.common").setLevel(logging.ERROR)
    with ThreadPoolExecutor(max_workers=1) as pool:
        queue = pool.submit(tq.init, config.transfer_queue)
        trainer.init()
        queue.result()


def _close_queue() -> None:
    with suppress(TrainingError):
        call_with_timeout(CLOSE_TIMEOUT_S, "the end of the queue", tq.close)


def _trainer(context: VerlRunContext, config: DictConfig) -> VerlTrainer:
    workers = RankWorkers(policy=LoraPolicyWorker, critic=CriticWorker)
    if context.device == "cpu":
        from ajet.backbone.verl.cpu.workers import CpuCriticWorker, CpuPolicyWorker

        workers = RankWorkers(policy=CpuPolicyWorker, critic=CpuCriticWorker)
    common = context.ajet.trainer_common
    is_exact = config.actor_rollout_ref.rollout.dtype == "float32"
    return VerlTrainer(
        config,
        common,
        total_steps=context.total_steps,
        workers=workers,
        checkpoint=context.checkpoint,
        policy_version=context.policy_version,
        logprob_diff_bound=common.logprob_diff_bound if is_exact else None,
    )


def _policy(context: VerlRunContext, trainer: VerlTrainer) -> Policy:
    episodes = EpisodeRunContext(
        config=context.config,
        run_folder=context.run_folder,
        model_folder=context.model_folder,
        client=trainer.get_llm_client(),
        max_model_len=trainer.config.actor_rollout_ref.rollout.max_model_len,
    )
    engine = VerlEngine(
        episodes.client, max_model_len=episodes.max_model_len, policy_version=context.policy_version
    )
    policy = VerlPolicy(
        trainer,
        engine,
        context.ajet.trainer_common,
        update_timeout_s=context.ajet.rollout.vllm.update_timeout_s,
    )
    return Policy(
        chat_format=chat_format_of(context.ajet.model, context.model_folder),
        serving=policy,
        trainer=policy,
        save=partial(policy.save, context.run_folder / "checkpoints"),
        logprob_diff_bound=None,
        executor=_make_executor(episodes) if context.ajet.rollout.ray_actors else None,
    )


def _make_executor(context: EpisodeRunContext) -> ActorExecutor:
    settings = context.config.ajet.rollout
    # Each actor has room for all episodes, because the others may have ended.
    actor_class = ray.remote(EpisodeActor).options(
        num_cpus=1, scheduling_strategy="SPREAD", max_concurrency=settings.max_env_worker
    )
    return ActorExecutor(lambda: actor_class.remote(context), settings.ray_actors)


def _rank_resources(context: VerlRunContext) -> RankResources:
    model = AutoConfig.from_pretrained(context.model_folder).get_text_config()
    return RankResources(
        model_folder=context.model_folder,
        max_model_len=context.ajet.rollout.max_model_len or model.max_position_embeddings,
        device=context.device,
    )


def _checked(config: DictConfig) -> DictConfig:
    try:
        validate_config(
            config,
            use_reference_policy=config.actor_rollout_ref.actor.use_kl_loss,
            use_critic=config.critic.enable,
        )
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"verl refuses its configuration: {error}") from error
    return config


def _runtime_env(config: DictConfig) -> dict[str, Any]:
    runtime_env: dict[str, Any] = get_ppo_ray_runtime_env(config)
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    runtime_env["env_vars"] |= passed_on
    return runtime_env

"""verl's queue, its workers and its vLLM replicas: from nothing to a policy, and back."""

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
from ajet.backbone.verl.actor_crew import ActorExecutor
from ajet.backbone.verl.critic import CriticWorker
from ajet.backbone.verl.engine import VerlEngine
from ajet.backbone.verl.episode_actor import EpisodeActor, EpisodeRunContext
from ajet.backbone.verl.policy import VerlPolicy
from ajet.backbone.verl.settings import RankResources, compose_config
from ajet.backbone.verl.trainer import RankWorkers, VerlTrainer
from ajet.backbone.verl.waiting import call_with_timeout
from ajet.backbone.verl.worker import LoraPolicyWorker
from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.errors import ConfigError, TrainingError
from ajet.monitor.progress import Progress
from ajet.training.checkpoints import Position
from ajet.training.model_folder import chat_format_of
from ajet.training.protocols import Policy

CLOSE_TIMEOUT_S = 30.0
PASSED_ON = ("TRANSFER_QUEUE_", "VERL_", "VLLM_", "OMP_", "TORCHDYNAMO_", "TOKENIZERS_", "HF_HUB_")
"""Variables that verl's processes get from this one, wherever they are."""


@dataclass(slots=True, kw_only=True)
class VerlRunContext:
    """What a run is started from."""

    config: RootConfig
    run_folder: Path
    model_folder: Path
    device: str
    total_steps: int
    checkpoint: Path | None
    """To resume from."""
    position: Position | None
    """Where the run stood at the checkpoint."""

    @property
    def ajet(self) -> AjetConfig:
        """The section `ajet`."""
        return self.config.ajet

    @property
    def policy_version(self) -> int:
        """Of the weights to begin with."""
        return self.position.policy_version if self.position else 0


@contextmanager
def started(start: VerlRunContext, progress: Progress) -> Iterator[Policy]:
    """A policy that is served, and that can be trained and saved until the block is left.

    Raises:
        ConfigError: verl does not take the configuration.
        TrainingError: something did not start.
    """
    log = start.run_folder / "logs" / "verl.log"
    with redirect_output(log):
        config = _checked(compose_config(start.ajet, _place(start)))
    with ExitStack() as stack:
        with progress.phase("starting verl and vLLM"), redirect_output(log):
            needs = verl_needs(start.ajet, start.device)
            stack.enter_context(connected(_runtime_env(config), needs))
            stack.callback(_close_queue)
            trainer = _trainer(start, config)
            call_with_timeout(
                start.ajet.rollout.vllm.start_timeout_s,
                "the start",
                lambda: _start_queue_and_trainer(config, trainer),
            )
        yield _policy(start, trainer)


def _start_queue_and_trainer(config: DictConfig, trainer: VerlTrainer) -> None:
    """At the same time: each starts processes, and waits for their imports."""
    # At every step it warns that the machine has fewer cores than it would like.
    logging.getLogger("transfer_queue.utils.common").setLevel(logging.ERROR)
    with ThreadPoolExecutor(max_workers=1) as pool:
        queue = pool.submit(tq.init, config.transfer_queue)
        trainer.init()
        queue.result()


def _close_queue() -> None:
    with suppress(TrainingError):
        call_with_timeout(CLOSE_TIMEOUT_S, "the end of the queue", tq.close)


def _trainer(start: VerlRunContext, config: DictConfig) -> VerlTrainer:
    workers = RankWorkers(policy=LoraPolicyWorker, critic=CriticWorker)
    if start.device == "cpu":
        from ajet.backbone.verl.cpu.workers import CpuCriticWorker, CpuPolicyWorker

        workers = RankWorkers(policy=CpuPolicyWorker, critic=CpuCriticWorker)
    common = start.ajet.trainer_common
    is_exact = config.actor_rollout_ref.rollout.dtype == "float32"
    return VerlTrainer(
        config,
        common,
        total_steps=start.total_steps,
        workers=workers,
        checkpoint=start.checkpoint,
        policy_version=start.policy_version,
        logprob_diff_bound=common.logprob_diff_bound if is_exact else None,
    )


def _policy(start: VerlRunContext, trainer: VerlTrainer) -> Policy:
    plan = EpisodeRunContext(
        config=start.config,
        run_folder=start.run_folder,
        model_folder=start.model_folder,
        client=trainer.get_llm_client(),
        max_model_len=trainer.config.actor_rollout_ref.rollout.max_model_len,
    )
    engine = VerlEngine(
        plan.client, max_model_len=plan.max_model_len, policy_version=start.policy_version
    )
    policy = VerlPolicy(
        trainer,
        engine,
        start.ajet.trainer_common,
        update_timeout_s=start.ajet.rollout.vllm.update_timeout_s,
    )
    return Policy(
        chat_format=chat_format_of(start.ajet.model, start.model_folder),
        serving=policy,
        trainer=policy,
        save=partial(policy.save, start.run_folder / "checkpoints"),
        logprob_diff_bound=None,
        executor=_crew(plan) if start.ajet.rollout.ray_actors else None,
    )


def _crew(plan: EpisodeRunContext) -> ActorExecutor:
    """Each actor can run all episodes at once, where the others are gone."""
    settings = plan.config.ajet.rollout
    kind = ray.remote(EpisodeActor).options(
        num_cpus=1, scheduling_strategy="SPREAD", max_concurrency=settings.max_env_worker
    )
    return ActorExecutor(lambda: kind.remote(plan), settings.ray_actors)


def _place(start: VerlRunContext) -> RankResources:
    model = AutoConfig.from_pretrained(start.model_folder).get_text_config()
    return RankResources(
        model_folder=start.model_folder,
        max_model_len=start.ajet.rollout.max_model_len or model.max_position_embeddings,
        device=start.device,
    )


def _checked(config: DictConfig) -> DictConfig:
    try:
        validate_config(
            config,
            use_reference_policy=config.actor_rollout_ref.actor.use_kl_loss,
            use_critic=config.critic.enable,
        )
    except (AssertionError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"verl does not take its configuration: {error}") from error
    return config


def _runtime_env(config: DictConfig) -> dict[str, Any]:
    runtime_env: dict[str, Any] = get_ppo_ray_runtime_env(config)
    passed_on = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    runtime_env["env_vars"] |= passed_on
    return runtime_env

"""Starts and stops the actors of a Trinity run."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from trinity.common.constants import SyncMethod

from ajet.backbone.ray_common.cluster import cause_of, connected
from ajet.backbone.ray_common.output import redirect_output
from ajet.backbone.ray_common.resources import trinity_needs
from ajet.backbone.trinity.engine import rollout_models
from ajet.backbone.trinity.explorer import PolicyExplorer
from ajet.backbone.trinity.mailbox import open_mailbox
from ajet.backbone.trinity.run_context import TrinityRunContext
from ajet.backbone.trinity.settings import compose_config
from ajet.backbone.trinity.trainer import TrinityPolicyTrainer
from ajet.errors import TrainingError
from ajet.monitor.progress import Progress
from ajet.task_reader.task_batches import TaskBatches

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 20.0
PASSED_ON = ("HF_", "OMP_", "RAY_ACCEL_", "TOKENIZERS_", "TORCHDYNAMO_", "VLLM_")
"""Prefixes of the environment variables that actors on all nodes get from this process."""


@dataclass(slots=True, kw_only=True, frozen=True)
class Actors:
    """The actors of a run that its main process talks to."""

    mailbox: ActorHandle
    """An actor of class `Mailbox`."""
    explorer: ActorHandle
    """An actor of class `PolicyExplorer`."""
    trainer: ActorHandle
    """An actor of class `TrinityPolicyTrainer`."""
    models: list[ActorHandle]
    """Actors of class `PolicyModel`: the vLLM engines."""


@contextmanager
def started(
    context: TrinityRunContext, batches: TaskBatches, progress: Progress
) -> Iterator[Actors]:
    """Start explorer, trainer and engines; stop them at the end of the block.

    Raises:
        ConfigError: Trinity refuses the configuration.
        TrainingError: an actor did not start.
    """
    log = context.run_folder / "logs" / "trinity.log"
    with redirect_output(log):
        config = compose_config(context, batches)
    environment = {
        **{name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)},
        **config.get_envs(),
        "TRINITY_LOG_DIR": str(context.run_folder / "logs" / "trinity"),
    }
    with connected({"env_vars": environment}, trinity_needs(context.ajet, context.device)):
        with progress.phase("starting Trinity-RFT"), redirect_output(log):
            mailbox = open_mailbox(context.namespace)
            explorer, trainer = (
                ray.remote(kind)
                .options(name=name, namespace=context.namespace)
                .remote(config, context)
                for kind, name in (
                    (PolicyExplorer, config.explorer.name),
                    (TrinityPolicyTrainer, config.trainer.name),
                )
            )
            _prepare(context, config.synchronizer.sync_method, explorer, trainer)
        actors = Actors(
            mailbox=mailbox, explorer=explorer, trainer=trainer, models=rollout_models(context)
        )
        try:
            yield actors
        finally:
            shutil.rmtree(context.run_folder / "trinity", ignore_errors=True)
            # Without `shutdown`, vLLM's engine processes would outlive their actors.
            with suppress(RayError):
                ray.get([m.shutdown.remote() for m in actors.models], timeout=CLOSE_TIMEOUT_S)


def _prepare(
    context: TrinityRunContext, sync_method: SyncMethod, explorer: ActorHandle, trainer: ActorHandle
) -> None:
    timeout_s = context.ajet.rollout.vllm.start_timeout_s
    try:
        ray.get([explorer.prepare.remote(), trainer.prepare.remote()], timeout=timeout_s)
        if sync_method == SyncMethod.NCCL:
            synchronizer = ray.get_actor("synchronizer", namespace=context.namespace)
            ray.get(synchronizer.coordinate_weight_sync_setup.remote(), timeout=timeout_s)
    except RayError as error:
        raise TrainingError(f"Trinity-RFT did not start: {cause_of(error)}") from error

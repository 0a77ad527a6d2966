"""Ray, Trinity's explorer and trainer: from nothing to a run that can begin, and back."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import ray
from ray.actor import ActorHandle
from ray.exceptions import RayError
from trinity.common.constants import SyncMethod

from ajet.backbone.ray_common.cluster import connected
from ajet.backbone.ray_common.failures import cause_of
from ajet.backbone.ray_common.output import redirect_output
from ajet.backbone.ray_common.resources import trinity_needs
from ajet.backbone.trinity.actors import Actors
from ajet.backbone.trinity.engine import rollout_models
from ajet.backbone.trinity.explorer import PolicyExplorer
from ajet.backbone.trinity.mailbox import open_desk
from ajet.backbone.trinity.plan import TrinityRunContext
from ajet.backbone.trinity.settings import compose_config
from ajet.backbone.trinity.trainer import TrinityPolicyTrainer
from ajet.errors import TrainingError
from ajet.monitor.progress import Progress
from ajet.task_reader.task_batches import TaskBatches

logger = logging.getLogger(__name__)

CLOSE_TIMEOUT_S = 20.0
PASSED_ON = ("HF_", "OMP_", "RAY_ACCEL_", "TOKENIZERS_", "TORCHDYNAMO_", "VLLM_")
"""Variables that the actors get from this process, wherever they are."""


@contextmanager
def started(plan: TrinityRunContext, batches: TaskBatches, progress: Progress) -> Iterator[Actors]:
    """Explorer, trainer and engines, until the block is left.

    Raises:
        ConfigError: Trinity does not take the configuration.
        TrainingError: something did not start.
    """
    log = plan.run_folder / "logs" / "trinity.log"
    with redirect_output(log):
        config = compose_config(plan, batches)
    environment = {
        **{name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)},
        **config.get_envs(),
        "TRINITY_LOG_DIR": str(plan.run_folder / "logs" / "trinity"),
    }
    with connected({"env_vars": environment}, trinity_needs(plan.ajet, plan.device)):
        with progress.phase("starting Trinity-RFT"), redirect_output(log):
            desk = open_desk(plan.namespace)
            explorer, trainer = (
                ray.remote(kind).options(name=name, namespace=plan.namespace).remote(config, plan)
                for kind, name in (
                    (PolicyExplorer, config.explorer.name),
                    (TrinityPolicyTrainer, config.trainer.name),
                )
            )
            _prepare(plan, config.synchronizer.sync_method, explorer, trainer)
        actors = Actors(desk=desk, explorer=explorer, trainer=trainer, models=rollout_models(plan))
        try:
            yield actors
        finally:
            shutil.rmtree(plan.run_folder / "trinity", ignore_errors=True)
            with suppress(RayError):  # vLLM's own processes would outlive their actors
                ray.get([m.shutdown.remote() for m in actors.models], timeout=CLOSE_TIMEOUT_S)


def _prepare(
    plan: TrinityRunContext, sync_method: SyncMethod, explorer: ActorHandle, trainer: ActorHandle
) -> None:
    timeout_s = plan.ajet.rollout.vllm.start_timeout_s
    try:
        ray.get([explorer.prepare.remote(), trainer.prepare.remote()], timeout=timeout_s)
        if sync_method == SyncMethod.NCCL:
            synchronizer = ray.get_actor("synchronizer", namespace=plan.namespace)
            ray.get(synchronizer.coordinate_weight_sync_setup.remote(), timeout=timeout_s)
    except RayError as error:
        raise TrainingError(f"Trinity-RFT did not start: {cause_of(error)}") from error

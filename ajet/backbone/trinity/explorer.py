"""Trinity's explorer: runs batches of episodes into the buffer, takes new weights."""

from __future__ import annotations

import asyncio

import trinity.common.models.vllm_model as of_trinity
from ray.exceptions import RayError
from trinity.common.config import Config
from trinity.explorer.explorer import Explorer

from ajet.backbone.ray_common.failures import cause_of
from ajet.backbone.trinity.engine import rollout_models
from ajet.backbone.trinity.mailbox import dumps, find_mailbox
from ajet.backbone.trinity.mailbox_messages import Arrived, Failed
from ajet.backbone.trinity.plan import TrinityRunContext


class PolicyExplorer(Explorer):
    """Lets errors out, which Trinity's own loop only logs; waits for leave to use new weights.

    Args:
        config: Trinity's.
        plan: the run's.
    """

    def __init__(self, config: Config, plan: TrinityRunContext) -> None:
        if plan.device == "cpu":
            from ajet.backbone.trinity.cpu.model import CpuPolicyModel as model
        else:
            from ajet.backbone.trinity.model import PolicyModel as model
        of_trinity.vLLMRolloutModel = model  # what Trinity's allocator starts
        super().__init__(config)
        self._plan = plan
        self._desk = find_mailbox(plan.namespace)
        self._begun = asyncio.Event()
        self._first_version = plan.first_version
        self.explore_step_num = self.last_monitored_step = self._first_version

    async def explore(self) -> str:
        """Run batch after batch: as many as there are steps, or, asynchronous, without an end.

        Raises:
            AjetError: the run cannot go on.
        """
        self._begun.set()
        while self._plan.is_async or self.explore_step_num < self._plan.total_steps:
            await self.explore_step()
            if await self.need_sync():
                await self.sync_weight()
        await self.finish_current_steps()
        if self.model_version < self._plan.total_steps:
            await self.sync_weight()
        name: str = self.config.explorer.name
        return name

    async def _watch_trainer_sync_signal(self) -> None:
        """Not before the weights to begin with are there."""
        await self._begun.wait()
        await super()._watch_trainer_sync_signal()

    async def _pull_latest_weights(self) -> None:
        before = self.model_version
        try:
            await self._first_weights_are_there()
            await super()._pull_latest_weights()
        except (RayError, TimeoutError) as error:
            # Asynchronous, Trinity would only log it, and go on with the old weights.
            letter = dumps(Failed(message=f"new weights: {cause_of(error)}"))
            await self._desk.report.remote(letter)
            raise
        if self.model_version != before:
            await self._wait_for_leave()

    async def _first_weights_are_there(self) -> None:
        """Of a resumed run: a checkpoint for the engines is written beside everything else."""
        async with asyncio.timeout(self._plan.ajet.rollout.vllm.update_timeout_s):
            while await self.synchronizer.get_latest_model_version.remote() < self._first_version:
                await asyncio.sleep(0.1)

    async def _nccl_weights_update(self) -> None:
        before = self.model_version
        await super()._nccl_weights_update()
        if self.model_version != before:
            await self._wait_for_leave()

    async def _wait_for_leave(self) -> None:
        """Until the main process has compared and, where it is due, evaluated these weights."""
        probes = [
            (await model.logprobs.remote(self._plan.probe, temperature=1.0)).tolist()
            for model in rollout_models(self._plan)
        ]
        letter = Arrived(version=self.model_version, probes=probes)
        await self._desk.report.remote(dumps(letter))
        await self._desk.wait_for_leave.remote(self.model_version)

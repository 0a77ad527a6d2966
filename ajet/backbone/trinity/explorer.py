"""Trinity's explorer: runs batches of episodes into the buffer and takes new weights."""

from __future__ import annotations

import asyncio

import trinity.common.models.vllm_model as trinity_model
from ray.exceptions import RayError
from trinity.common.config import Config
from trinity.explorer.explorer import Explorer

from ajet.backbone.ray_common.cluster import cause_of
from ajet.backbone.trinity.engine import rollout_models
from ajet.backbone.trinity.mailbox import Arrived, Failed, dumps, find_mailbox
from ajet.backbone.trinity.run_context import TrinityRunContext


class PolicyExplorer(Explorer):
    """Reports errors that Trinity only logs, and uses new weights only when they are released.

    Args:
        config: Trinity's configuration.
        context: the run's context.
    """

    def __init__(self, config: Config, context: TrinityRunContext) -> None:
        if context.device == "cpu":
            from ajet.backbone.trinity.cpu.model import CpuPolicyModel as model
        else:
            from ajet.backbone.trinity.model import PolicyModel as model
        # Trinity 0.6's allocator has no setting for the class of its engines: it looks it up here.
        trinity_model.vLLMRolloutModel = model
        super().__init__(config)
        self._context = context
        self._mailbox = find_mailbox(context.namespace)
        self._begun = asyncio.Event()
        self._first_version = context.first_version
        self.explore_step_num = self.last_monitored_step = self._first_version

    async def explore(self) -> str:
        """Run one batch per step; in an asynchronous run, batches until the run is stopped.

        Raises:
            AjetError: the run cannot continue.
        """
        self._begun.set()
        while self._context.is_async or self.explore_step_num < self._context.total_steps:
            await self.explore_step()
            if await self.need_sync():
                await self.sync_weight()
        await self.finish_current_steps()
        if self.model_version < self._context.total_steps:
            await self.sync_weight()
        name: str = self.config.explorer.name
        return name

    async def _watch_trainer_sync_signal(self) -> None:
        """Watch only once `explore` runs: the first weights are synced before, on request."""
        await self._begun.wait()
        await super()._watch_trainer_sync_signal()

    async def _pull_latest_weights(self) -> None:
        before = self.model_version
        try:
            await self._wait_for_first_weights()
            await super()._pull_latest_weights()
        except (RayError, TimeoutError) as error:
            # In an asynchronous run, Trinity would only log this and keep the old weights.
            message = dumps(Failed(reason=f"new weights: {cause_of(error)}"))
            await self._mailbox.report.remote(message)
            raise
        if self.model_version != before:
            await self._wait_for_release()

    async def _wait_for_first_weights(self) -> None:
        """Wait for the weights of a resumed run: the trainer writes them in the background."""
        async with asyncio.timeout(self._context.ajet.rollout.vllm.update_timeout_s):
            while await self.synchronizer.get_latest_model_version.remote() < self._first_version:
                await asyncio.sleep(0.1)

    async def _nccl_weights_update(self) -> None:
        before = self.model_version
        await super()._nccl_weights_update()
        if self.model_version != before:
            await self._wait_for_release()

    async def _wait_for_release(self) -> None:
        """Wait until the main process has checked and, if due, evaluated these weights."""
        probes = [
            (await model.logprobs.remote(self._context.probe, temperature=1.0)).tolist()
            for model in rollout_models(self._context)
        ]
        message = Arrived(version=self.model_version, probes=probes)
        await self._mailbox.report.remote(dumps(message))
        await self._mailbox.wait_for_release.remote(self.model_version)

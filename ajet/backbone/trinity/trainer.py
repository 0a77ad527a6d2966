"""Trinity's trainer: takes groups from the buffer, makes steps, sends the weights."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from functools import partial
from statistics import fmean

import trinity.trainer.verl.trainer as of_trinity
from trinity.common.config import Config
from trinity.common.experience import Experience
from trinity.trainer.trainer import Trainer

from ajet.backbone.trinity.group_payload import GroupPayload, unpack
from ajet.backbone.trinity.mailbox import dumps, find_mailbox
from ajet.backbone.trinity.mailbox_messages import Letter, Published, Trained
from ajet.backbone.trinity.plan import TrinityRunContext
from ajet.backbone.trinity.verl_step import StepTrainer
from ajet.monitor.stopwatch import Stopwatch
from ajet.task_rollout.rollout_report import rollout_metrics
from ajet.training.checkpoints import Position

logger = logging.getLogger(__name__)


class TrinityPolicyTrainer(Trainer):
    """Lets errors out, which Trinity's own loop only logs.

    Args:
        config: Trinity's.
        plan: the run's.
    """

    def __init__(self, config: Config, plan: TrinityRunContext) -> None:
        of_trinity.VERLTrainer = partial(StepTrainer, plan=plan)  # what `Trainer` makes of it
        super().__init__(config)
        self._plan = plan
        self._desk = find_mailbox(plan.namespace)
        self._stop = asyncio.Event()
        self._position = plan.position
        self._saved_step = self._position.step if self._position else 0

    async def train(self) -> str:
        """Train to the last step, or until `stop`; what was done is saved.

        Raises:
            AjetError: the run cannot go on.
        """
        save_freq = self._plan.ajet.trainer_common.save_freq
        try:
            while self.train_step_num < self._plan.total_steps and not self._stop.is_set():
                await self._step()
                if save_freq and self.train_step_num % save_freq == 0:
                    self._save()
            if self.last_sync_step != self.train_step_num:
                await self.sync_weight()
        finally:
            self._save()
        name: str = self.config.trainer.name
        return name

    async def stop(self) -> None:
        """End after the step that is under way."""
        self._stop.set()

    async def sync_weight(self) -> dict[str, float]:
        """Send the weights, after what they compute for the probe."""
        await self._tell(Published(version=self.train_step_num, probe=self.engine.probe()))
        await super().sync_weight()
        return {}

    async def train_step(self, exps: list[Experience]) -> dict[str, float]:
        """Make a step of these groups."""
        parcels = [unpack(entry) for entry in exps]
        samples = [sample for parcel in parcels for sample in parcel.samples]
        metrics: dict[str, float] = self.engine.train(samples)
        if not samples:
            logger.warning(
                "step %d: every group's rewards are all equal: nothing to learn from",
                self.train_step_num,
            )
        return metrics

    async def _step(self) -> None:
        watch = Stopwatch()
        with watch.part("wait"):
            entries = await self._next_entries()
        if entries is None:
            return
        parcels = [unpack(entry) for entry in entries]
        stale: list[GroupPayload] = self.sample_strategy.stale
        with watch.part("train"):
            metrics = await self.train_step(entries)
        if await self.need_sync():
            with watch.part("sync"):
                await self.sync_weight()
        metrics |= _group_metrics(parcels, stale) | _timings(parcels, watch)
        step = self.train_step_num
        newest = max([*parcels, *stale], key=lambda parcel: parcel.position)
        self._position = Position(step=step, policy_version=step, reader_state=newest.reader_state)
        await self._tell(
            Trained(
                step=step,
                groups=[parcel.group for parcel in parcels],
                stale=[parcel.group for parcel in stale],
                metrics=metrics,
                num_samples=sum(len(parcel.samples) for parcel in parcels),
                num_stale_samples=sum(len(parcel.samples) for parcel in stale),
            )
        )

    async def _next_entries(self) -> list[Experience] | None:
        """A step's; None where the run is stopped first."""
        sampling = asyncio.create_task(self.sample_strategy.sample(self.train_step_num + 1))
        stopping = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait([sampling, stopping], return_when=asyncio.FIRST_COMPLETED)
            return sampling.result()[0] if sampling in done else None
        finally:
            sampling.cancel()
            stopping.cancel()

    def _save(self) -> None:
        if self.engine.is_unfinished or self._position is None:
            return
        if self._position.step > self._saved_step:
            self.engine.save(self._position)
            self._saved_step = self._position.step

    async def _tell(self, letter: Letter) -> None:
        await self._desk.report.remote(dumps(letter))


def _group_metrics(
    parcels: Sequence[GroupPayload], stale: Sequence[GroupPayload]
) -> dict[str, float]:
    """Of the step's episodes; what was too old for it counts as dropped."""
    metrics = rollout_metrics([parcel.group for parcel in parcels])
    metrics["group/zero_variance"] = fmean(not parcel.gives_gradient for parcel in parcels)
    metrics["tokens/dropped"] += _sampled_tokens(stale)
    metrics["trinity/stale_groups"] = len(stale)
    return metrics


def _sampled_tokens(parcels: Sequence[GroupPayload]) -> int:
    episodes = [episode for parcel in parcels for episode in parcel.group.valid]
    return sum(sample.num_trained for episode in episodes for sample in episode.samples)


def _timings(parcels: Sequence[GroupPayload], watch: Stopwatch) -> dict[str, float]:
    """Of the step. Its rollout may have been beside earlier steps."""
    rollout_s = max(parcel.rollout_s for parcel in parcels)
    trained = sum(len(sample) for parcel in parcels for sample in parcel.samples)
    return watch.metrics() | {
        "time/rollout_s": rollout_s,
        "time/step_s": watch.total_wall_s,
        "rollout/tokens_per_s": _sampled_tokens(parcels) / rollout_s,
        "train/tokens_per_s": trained / watch.wall_s["train"],
    }

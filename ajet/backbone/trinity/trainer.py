"""Trinity's trainer: takes groups from the buffer, trains steps and sends the weights."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from statistics import fmean

import trinity.trainer.verl.trainer as trinity_verl
from trinity.common.config import Config
from trinity.common.experience import Experience
from trinity.trainer.trainer import Trainer

from ajet.backbone.trinity.group_payload import GroupPayload
from ajet.backbone.trinity.mailbox import Message, Published, Trained, dumps, find_mailbox
from ajet.backbone.trinity.run_context import TrinityRunContext
from ajet.backbone.trinity.verl_step import StepTrainer
from ajet.monitor.progress import Stopwatch
from ajet.task_rollout.rollout import rollout_metrics
from ajet.training.checkpoints import Position
from ajet.training.no_gradient import why_no_gradient
from ajet.training.schedule import is_due, warn_of_nothing_to_train


class TrinityPolicyTrainer(Trainer):
    """Trains step by step and raises errors that Trinity's own loop only logs.

    Args:
        config: Trinity's configuration.
        context: the run's context.
    """

    def __init__(self, config: Config, context: TrinityRunContext) -> None:
        # Trinity 0.6 has no setting for the class of its verl trainer: it looks it up here.
        trinity_verl.VERLTrainer = partial(StepTrainer, context=context)
        super().__init__(config)
        self._context = context
        self._mailbox = find_mailbox(context.namespace)
        self._stop = asyncio.Event()
        self._position = context.position
        self._saved_step = self._position.step if self._position else 0

    async def train(self) -> str:
        """Train to the last step or until `stop`, and save a checkpoint at the end.

        Raises:
            AjetError: the run cannot continue.
        """
        save_freq = self._context.ajet.trainer_common.save_freq
        try:
            while self.train_step_num < self._context.total_steps and not self._stop.is_set():
                await self._step()
                if is_due(self.train_step_num, save_freq):
                    self._save()
            if self.last_sync_step != self.train_step_num:
                await self.sync_weight()
        finally:
            self._save()
        name: str = self.config.trainer.name
        return name

    async def stop(self) -> None:
        """Make `train` end after the current step."""
        self._stop.set()

    async def sync_weight(self) -> dict[str, float]:
        """Report the probe's logprobs under the current weights, then send the weights."""
        await self._send(Published(version=self.train_step_num, probe=self.engine.probe()))
        await super().sync_weight()
        return {}

    def _train(self, payloads: Sequence[GroupPayload]) -> dict[str, float]:
        """Train one step on these groups, whose samples then have the trainer's logprobs."""
        samples = [sample for payload in payloads for sample in payload.samples]
        metrics: dict[str, float] = self.engine.train(samples)
        if not samples:
            reason = why_no_gradient([payload.group for payload in payloads])
            warn_of_nothing_to_train(self.train_step_num, reason)
        return metrics

    async def _step(self) -> None:
        watch = Stopwatch()
        with watch.part("wait"):
            entries = await self._next_entries()
        if entries is None:
            return
        payloads = [GroupPayload.decode(entry) for entry in entries]
        stale: list[GroupPayload] = self.sample_strategy.stale
        with watch.part("train"):
            metrics = self._train(payloads)
        if await self.need_sync():
            with watch.part("sync"):
                await self.sync_weight()
        metrics |= _group_metrics(payloads, stale) | _timings(payloads, watch)
        step = self.train_step_num
        newest = max([*payloads, *stale], key=lambda payload: payload.position)
        self._position = Position(step=step, policy_version=step, reader_state=newest.reader_state)
        await self._send(
            Trained(
                step=step,
                groups=[payload.group for payload in payloads],
                stale=[payload.group for payload in stale],
                results=[p.result for p in (*payloads, *stale) if p.result is not None],
                metrics=metrics,
                num_samples=sum(len(payload.samples) for payload in payloads),
                num_stale_samples=sum(len(payload.samples) for payload in stale),
            )
        )

    async def _next_entries(self) -> list[Experience] | None:
        """Wait for the entries of a step; None if the run is stopped first."""
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

    async def _send(self, message: Message) -> None:
        await self._mailbox.report.remote(dumps(message))


def _group_metrics(
    payloads: Sequence[GroupPayload], stale: Sequence[GroupPayload]
) -> dict[str, float]:
    """Metrics of the step's episodes. Tokens of stale groups count as dropped."""
    metrics = rollout_metrics([payload.group for payload in payloads])
    metrics["group/zero_variance"] = fmean(not payload.gives_gradient for payload in payloads)
    metrics["tokens/dropped"] += _sampled_tokens(stale)
    metrics["trinity/stale_groups"] = len(stale)
    return metrics


def _sampled_tokens(payloads: Sequence[GroupPayload]) -> int:
    episodes = [episode for payload in payloads for episode in payload.group.valid]
    return sum(sample.num_trained for episode in episodes for sample in episode.samples)


def _timings(payloads: Sequence[GroupPayload], watch: Stopwatch) -> dict[str, float]:
    """Timings of the step. Its rollout may have run in parallel with earlier steps."""
    rollout_s = max(payload.rollout_s for payload in payloads)
    trained = sum(len(sample) for payload in payloads for sample in payload.samples)
    return watch.metrics() | {
        "time/rollout_s": rollout_s,
        "time/step_s": watch.total_wall_s,
        "rollout/tokens_per_s": _sampled_tokens(payloads) / rollout_s,
        "train/tokens_per_s": trained / watch.wall_s["train"],
    }

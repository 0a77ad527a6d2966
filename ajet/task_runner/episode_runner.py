"""What all episodes of a phase share: the workflow's class, the gateway, the judge."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ajet.context_tracker.samples import SampleLimits
from ajet.environment.episode_environment import EnvironmentSource
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.gateway.gateway import Gateway
from ajet.schema.episode import Episode
from ajet.task_judge.base_judge import BaseJudge
from ajet.task_runner.attempt import Attempt
from ajet.task_runner.episode_run import EpisodeRun
from ajet.workflow import Workflow


@dataclass(slots=True, kw_only=True, frozen=True)
class EpisodeRunner:
    """Makes the runs of single episodes. One per phase: a greedy evaluation has its own gateway."""

    workflow_class: type[Workflow]
    gateway: Gateway
    http_endpoint: HttpEndpoint = field(default_factory=HttpEndpoint)
    config: Any = None
    """The whole resolved configuration, for `tuner.config`."""
    judge: BaseJudge | None = None
    """Asked where a workflow gives no reward."""
    environments: EnvironmentSource | None = None
    """Where an episode's environment comes from; None: there is none."""
    tokenizer: Any = None
    """For `workflow_task.tokenizer`."""
    limits: SampleLimits = field(default_factory=SampleLimits)

    def start(self, attempt: Attempt) -> EpisodeRun:
        """The run of one attempt, for `await run.run()`; it can be stopped from outside."""
        return EpisodeRun(self, attempt)

    def settle(self) -> None:
        """Wait for environments that are being released; called when no episode runs any more."""
        if self.environments:
            self.environments.settle()

    async def run(self, attempt: Attempt) -> Episode:
        """Run one attempt to its end, without a deadline."""
        return await self.start(attempt).run()

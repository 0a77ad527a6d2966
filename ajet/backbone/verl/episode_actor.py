"""A Ray actor that runs episodes on any node and calls verl's replicas itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from ray import cloudpickle
from verl.workers.rollout.llm_server import LLMServerClient

from ajet.backbone.verl.engine import VerlEngine
from ajet.boundary import guard_log_handlers
from ajet.config.sections.root import RootConfig
from ajet.gateway.request import SamplingDefaults
from ajet.schema.episode import Episode
from ajet.task_rollout.isolation.isolated_run import pickled
from ajet.task_rollout.workers import EpisodeLimits, ThreadExecutor
from ajet.task_runner.episode_run import Attempt
from ajet.training.episodes import make_runner, open_http_endpoint
from ajet.training.inputs import UserCode
from ajet.training.model_folder import chat_format_of


@dataclass(slots=True, kw_only=True, frozen=True)
class EpisodeRunContext:
    """What an `EpisodeActor` needs to know about the run."""

    config: RootConfig
    run_folder: Path
    model_folder: Path
    client: LLMServerClient
    max_model_len: int


class EpisodeActor:
    """Runs one episode per call, and many calls at a time.

    Args:
        context: what the actor needs to know about the run.
    """

    def __init__(self, context: EpisodeRunContext) -> None:
        ajet = context.config.ajet
        guard_log_handlers()
        engine = VerlEngine(context.client, max_model_len=context.max_model_len, policy_version=0)
        chat_format = chat_format_of(ajet.model, context.model_folder)
        endpoint, code = open_http_endpoint(ajet), UserCode.load(context.config)
        self._runner = make_runner(
            context.config, chat_format, engine, endpoint, code, context.run_folder
        )

    def run(self, attempt: Attempt, defaults: SamplingDefaults, limits: EpisodeLimits) -> bytes:
        """Run an attempt with its retries and return the final episode, pickled."""
        gateway = replace(self._runner.gateway, defaults=defaults)
        ended: list[Episode] = []
        ThreadExecutor().run(
            replace(self._runner, gateway=gateway),
            [attempt],
            replace(limits, num_at_once=1),
            lambda _, episode: ended.append(episode),
        )
        return pickled(ended[0], cloudpickle.dumps)

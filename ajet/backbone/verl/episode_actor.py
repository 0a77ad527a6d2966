"""A process on any node that runs episodes; its calls go to verl's replicas like ours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from pickle import PicklingError

from ray import cloudpickle
from verl.workers.rollout.llm_server import LLMServerClient

from ajet.backbone.verl.engine import VerlEngine
from ajet.config.sections.root import RootConfig
from ajet.gateway.apis.chat_completions.request import SamplingDefaults
from ajet.schema.episode import Episode, Failure
from ajet.task_rollout.executor import EpisodeLimits, ThreadExecutor
from ajet.task_runner.attempt import Attempt
from ajet.training.episodes import make_runner, open_http_endpoint
from ajet.training.inputs import UserCode
from ajet.training.model_folder import chat_format_of


@dataclass(slots=True, kw_only=True, frozen=True)
class EpisodeRunContext:
    """What such a process must know."""

    config: RootConfig
    run_folder: Path
    model_folder: Path
    client: LLMServerClient
    max_model_len: int


class EpisodeActor:
    """Runs one episode a call, many calls at once.

    Args:
        plan: the run's.
    """

    def __init__(self, plan: EpisodeRunContext) -> None:
        ajet = plan.config.ajet
        engine = VerlEngine(plan.client, max_model_len=plan.max_model_len, policy_version=0)
        chat_format = chat_format_of(ajet.model, plan.model_folder)
        endpoint, code = open_http_endpoint(ajet), UserCode.load(plan.config)
        self._runner = make_runner(
            plan.config, chat_format, engine, endpoint, code, plan.run_folder
        )

    def run(self, attempt: Attempt, defaults: SamplingDefaults, limits: EpisodeLimits) -> bytes:
        """The episode, pickled, of the last try at it."""
        gateway = replace(self._runner.gateway, defaults=defaults)
        ended: list[Episode] = []
        ThreadExecutor().run(
            replace(self._runner, gateway=gateway),
            [attempt],
            replace(limits, num_at_once=1),
            lambda _, episode: ended.append(episode),
        )
        return packed(ended[0])


def packed(episode: Episode) -> bytes:
    """What of it cannot be sent makes it a failed one."""
    try:
        return bytes(cloudpickle.dumps(episode))
    except (TypeError, AttributeError, PicklingError) as error:
        text = f"what the workflow returned cannot be sent to the run's process: {error}"
        failed = Episode(
            episode_id=episode.episode_id,
            task=episode.task,
            repeat_index=episode.repeat_index,
            retries=episode.retries,
            calls=episode.calls,
            failure=Failure(kind="invalid_output", message=text),
            started_s=episode.started_s,
            ended_s=episode.ended_s,
        )
        return bytes(cloudpickle.dumps(failed))

"""Builds what runs episodes, for every backbone: gateway, workflow, judge and rollout."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ajet.config.sections.rollout import RolloutConfig
from ajet.config.sections.root import AjetConfig, RootConfig
from ajet.context_tracker.chat_format import ChatFormat
from ajet.context_tracker.samples import SampleLimits
from ajet.engine.base import Engine
from ajet.environment.registry import make_source
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.gateway.gateway import Gateway
from ajet.gateway.request import SamplingDefaults
from ajet.model_client import PLACE
from ajet.task_rollout.rollout import Rollout
from ajet.task_rollout.workers import EpisodeExecutor, ThreadExecutor
from ajet.task_runner.episode_run import EpisodeRunner
from ajet.training.inputs import UserCode


def open_http_endpoint(ajet: AjetConfig) -> HttpEndpoint:
    """The HTTP endpoint of the gateway, with room for a request of every running episode.

    A lockstep engine waits for all episodes: one that queued for a place would block the others.
    """
    settings = ajet.interchange_server
    places = max(settings.max_concurrent_requests, ajet.rollout.max_env_worker)
    return HttpEndpoint(settings.model_copy(update={"max_concurrent_requests": places}))


def make_runner(
    config: RootConfig,
    chat_format: ChatFormat,
    engine: Engine,
    http_endpoint: HttpEndpoint,
    code: UserCode,
    run_folder: Path | None = None,
) -> EpisodeRunner:
    """What all episodes of a phase share: the user's code, and the engine behind its model.

    Args:
        config: the whole configuration.
        chat_format: of the model.
        engine: samples from the model.
        http_endpoint: of the gateway, for agents in other processes.
        code: the user's classes.
        run_folder: where open environments are recorded, for `ajet kill`, and the calls of other
            models.

    Raises:
        ConfigError: the environment that the configuration names cannot be loaded.
    """
    ajet = config.ajet
    settings = ajet.rollout
    if settings.force_disable_toolcalls:
        chat_format = chat_format.without_tool_calls()
    gateway = Gateway(
        chat_format=chat_format,
        engine=engine,
        defaults=sampling_defaults(settings),
        call_timeout_s=settings.call_timeout_s,
        response_format=settings.response_format,
        checklist=tuple(settings.compute_madness_checklist),
        ends_at_failed_check=settings.agent_madness_termination,
    )
    if run_folder is not None:
        PLACE.set_run(run_folder)
    PLACE.policy = partial(_client_for_judge, gateway)
    return EpisodeRunner(
        workflow_class=code.workflow_class,
        gateway=gateway,
        http_endpoint=http_endpoint,
        config=config,
        judge=code.judge,
        judge_retries=settings.max_retries,
        environments=make_source(ajet, run_folder),
        tokenizer=chat_format.tokenizer,
        limits=sample_limits(ajet),
        madness_reward=settings.agent_madness_reward,
    )


def _client_for_judge(gateway: Gateway, episode_id: str) -> Any:
    from ajet.gateway.clients.openai_client import untracked_client

    return untracked_client(gateway, episode_id)


def sample_limits(ajet: AjetConfig) -> SampleLimits:
    """The configured size limits of training samples."""
    return SampleLimits(
        max_prompt_length=ajet.data.max_prompt_length,
        max_response_length=ajet.data.max_response_length,
        max_samples=ajet.rollout.multi_turn.max_sample_per_task,
    )


def make_rollout(
    ajet: AjetConfig, runner: EpisodeRunner, executor: EpisodeExecutor | None = None
) -> Rollout:
    """Runs many episodes of `runner` within the configured limits.

    Args:
        ajet: the configuration.
        runner: runs one episode.
        executor: where they run; None: in threads of this process.
    """
    return Rollout(
        runner=runner,
        seed=ajet.trainer_common.seed,
        max_env_worker=ajet.rollout.max_env_worker,
        episode_timeout_s=ajet.rollout.episode_timeout_s,
        max_retries=ajet.rollout.max_retries,
        max_failure_share=ajet.rollout.max_failure_share,
        executor=executor or ThreadExecutor(),
    )


def sampling_defaults(settings: RolloutConfig) -> SamplingDefaults:
    """What requests of training episodes get where they name nothing."""
    return SamplingDefaults(
        max_tokens=settings.max_response_length_in_one_turn,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
    )


def validation_sampling(settings: RolloutConfig) -> SamplingDefaults:
    """The same for the validation pass that samples."""
    own = settings.validation
    given = {name: getattr(own, name) for name in ("temperature", "top_p", "top_k")}
    update = {name: value for name, value in given.items() if value is not None}
    return sampling_defaults(settings).model_copy(update=update)

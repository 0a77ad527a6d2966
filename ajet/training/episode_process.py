"""What runs in a process of `isolation: process`: gateway, workflow and judge of one episode."""

from __future__ import annotations

import asyncio
import importlib
import os
import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from ajet.boundary import guard_log_handlers
from ajet.config.sections.root import RootConfig
from ajet.context_tracker.chat_format import ChatFormat
from ajet.engine.base import OnToken
from ajet.errors import EngineError, RequestError
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.schema.episode import Episode, Generation, SamplingParams, max_new_tokens
from ajet.task_rollout.isolation.isolated_run import (
    IsolatedRunner,
    SharedByEpisodes,
    pickled,
)
from ajet.task_rollout.isolation.processes import EpisodeProcesses, ProcessSettings, memory_bytes
from ajet.task_rollout.workers import run_in_new_loop
from ajet.task_runner.episode_run import Attempt, EpisodeRun, EpisodeRunner
from ajet.task_runner.failures import failure_of
from ajet.training.episodes import make_runner, open_http_endpoint
from ajet.training.inputs import UserCode
from ajet.training.model_folder import chat_format_of, model_folder
from ajet.workflow import load_workflow

PREPARE = f"{__name__}->prepare"


@dataclass(slots=True, kw_only=True, frozen=True)
class EpisodeProcessContext:
    """What a process needs to know about the run."""

    config: RootConfig
    run_folder: Path


def isolated(runner: EpisodeRunner, config: RootConfig, run_folder: Path) -> EpisodeRunner:
    """The runner that runs its episodes where `task_runner.isolation` says.

    Args:
        runner: runs episodes in this process.
        config: the whole configuration.
        run_folder: of the run; what the processes print goes to `logs/episodes.log` there.
    """
    settings = config.ajet.task_runner
    if settings.isolation == "threads":
        return runner
    processes = EpisodeProcesses(
        ProcessSettings(
            prepare=PREPARE,
            context=EpisodeProcessContext(config=config, run_folder=run_folder),
            memory_mb=settings.process_memory_mb,
            log=run_folder / "logs" / "episodes.log",
        )
    )
    shared = {field.name: getattr(runner, field.name) for field in fields(runner)}
    return IsolatedRunner(**shared, processes=processes)


def prepare(context: EpisodeProcessContext) -> Callable[[Connection], None]:
    """Load once what all episodes share; returns what runs them in a process."""
    config = context.config
    chat_format = chat_format_of(config.ajet.model, model_folder(config.ajet.model.path))
    load_workflow(config.ajet.rollout.user_workflow)
    # Loaded here once, and not in each process. It costs nothing where it is not used.
    importlib.import_module("ajet.gateway.clients.openai_client")

    def serve(connection: Connection) -> None:
        _Episodes(connection, context, chat_format).serve()

    return serve


class PipeEngine:
    """The run's engine, seen from the process of an episode; see `isolated_run`."""

    def __init__(self, connection: Connection) -> None:
        self.max_model_len = 0
        """Longest prompt plus completion, in tokens."""
        self.policy_version = 0
        """0 for the base model; one more after each weight update."""
        self._connection = connection
        self._numbers = count()
        self._lock = threading.Lock()
        self._pending: dict[int, tuple[Future[Generation], OnToken | None]] = {}

    def send(self, message: tuple[Any, ...]) -> None:
        """Send a message to the run; from any thread."""
        with self._lock:
            self._connection.send(message)

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        session: str,
        on_token: OnToken | None = None,
    ) -> Generation:
        """Ask the run for one completion.

        Raises:
            ContextLengthError: the prompt leaves no room for a token.
            EngineError: the engine failed.
        """
        max_new_tokens(len(prompt_ids), params, self.max_model_len)
        number, future = next(self._numbers), Future[Generation]()
        self._pending[number] = future, on_token
        self.send(("generate", number, list(prompt_ids), params, on_token is not None))
        try:
            generation = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._pending.pop(number, None)
            self.send(("cancel", number))
            raise
        if generation.policy_versions:
            self.policy_version = max(self.policy_version, *generation.policy_versions)
        return generation

    def answered(self, kind: str, number: int, *content: Any) -> None:
        """Take one message of the run about a request."""
        if number not in self._pending:
            return  # cancelled meanwhile
        future, on_token = self._pending[number]
        if kind == "tokens":
            for token, logprob in content[0]:
                if on_token:
                    on_token(token, logprob)
            return
        del self._pending[number]
        if not future.set_running_or_notify_cancel():
            return
        if kind == "generation":
            future.set_result(content[0])
        else:
            text, is_refusal = content
            future.set_exception(RequestError(text) if is_refusal else EngineError(text))

    def open_session(self, session: str) -> None:
        """Do nothing: the run opens the sessions of the engine."""

    def close_session(self, session: str) -> None:
        """Do nothing: the run closes the sessions of the engine."""

    async def aclose(self) -> None:
        """Do nothing: the engine is the run's."""


class _Episodes:
    """Runs episodes in the main thread while another thread reads what the run sends."""

    def __init__(
        self, connection: Connection, context: EpisodeProcessContext, chat_format: ChatFormat
    ) -> None:
        config = context.config
        guard_log_handlers()
        self._connection = connection
        self._engine = PipeEngine(connection)
        self._endpoint = _endpoint(config)
        self._runner = make_runner(
            config,
            chat_format,
            self._engine,
            self._endpoint,
            UserCode.load(config),
            context.run_folder,
        )
        self._runner.gateway.notices.report = lambda found: self._engine.send(("notices", found))
        self._memory_mb = config.ajet.task_runner.process_memory_mb
        self._memory_at_start = memory_bytes() or 0
        self._attempts: list[tuple[Attempt, SharedByEpisodes]] = []
        self._run: EpisodeRun | None = None
        self._changed = threading.Condition()
        self._is_closed = False

    def serve(self) -> None:
        threading.Thread(target=self._read, daemon=True).start()
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._attempts or self._is_closed)
                if self._is_closed:
                    return
                attempt, shared = self._attempts.pop()
                self._engine.max_model_len = shared.max_model_len
                self._engine.policy_version = shared.policy_version
                gateway = replace(self._runner.gateway, defaults=shared.defaults)
                run = self._run = EpisodeRun(replace(self._runner, gateway=gateway), attempt)
            run.before_judge = partial(self._engine.send, ("judging",))
            episode = _episode_of(run)
            self._runner.settle()
            with self._changed:
                self._run = None
            self._engine.send(("ended", pickled(episode, pickle.dumps), self._may_go_on()))

    def _read(self) -> None:
        """Runs in a thread: takes the run's messages until it closes the connection."""
        while True:
            try:
                kind, *content = self._connection.recv()
            except (EOFError, OSError):
                # The run has ended. Code that still runs here is for nobody.
                os._exit(0)
            if kind == "run":
                with self._changed:
                    self._attempts.append((content[0], content[1]))
                    self._changed.notify()
            elif kind == "stop":
                with self._changed:
                    if self._run:
                        self._run.stop(content[0])
            else:
                self._engine.answered(kind, *content)

    def _may_go_on(self) -> bool:
        """Whether the last episode left nothing here that would disturb or burden the next one."""
        own = threading.main_thread()
        if any(each is not own and not each.daemon for each in threading.enumerate()):
            return False
        children = Path(f"/proc/self/task/{threading.get_native_id()}/children")
        if children.exists() and children.read_text().strip():
            return False
        grown = (memory_bytes() or 0) - self._memory_at_start
        return grown < self._memory_mb * 1e6 / 2


def _episode_of(run: EpisodeRun) -> Episode:
    """Run an episode to its end; whatever its code raises ends only this episode."""
    try:
        return run_in_new_loop(run.run())
    except BaseException as error:
        run.stop(failure_of(error, "workflow_error"))
        return run.episode()


def _endpoint(config: RootConfig) -> HttpEndpoint:
    """The HTTP endpoint of this process, on a port of its own."""
    server = config.ajet.interchange_server.model_copy(update={"port": 0})
    return open_http_endpoint(config.ajet.model_copy(update={"interchange_server": server}))

"""An episode whose workflow and judge run in a process of their own.

The process has the gateway and the tracker of the episode. It asks for completions and sends the
finished episode; here are the engine, the deadline and the record of how it ended. Messages to the
process are tuples, and so are those from it:

- `("run", attempt, SharedByEpisodes)`, `("stop", Failure)`
- `("generate", number, prompt_ids, params, stream)`, answered by any number of
  `("tokens", number, [(id, logprob), ...])` if it streams, and by `("generation", number,
  Generation)` or `("error", number, text, is_refusal)`; `("cancel", number)`
- `("notices", {parameter: reason})` for what requests set without effect
- `("judging",)` when only the judge is left, and `("ended", pickled episode, may_go_on)`
"""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ajet.boundary import caught_error
from ajet.errors import RequestError
from ajet.gateway.request import SamplingDefaults
from ajet.schema.episode import Episode, Failure, SamplingParams, Waiting
from ajet.task_rollout.isolation.processes import EpisodeProcess, EpisodeProcesses
from ajet.task_runner.episode_run import Attempt, EpisodeRunner

KILL_S = 3.0
"""Seconds that an episode may take to end after it was asked to; less than `workers.GRACE_S`."""


@dataclass(slots=True, kw_only=True, frozen=True)
class SharedByEpisodes:
    """What a phase decides and a process must know."""

    defaults: SamplingDefaults
    policy_version: int
    max_model_len: int


@dataclass(slots=True, kw_only=True, frozen=True)
class IsolatedRunner(EpisodeRunner):
    """Runs every episode in a process; the rest is as in `EpisodeRunner`."""

    processes: EpisodeProcesses

    def start(self, attempt: Attempt) -> IsolatedRun:
        """The run of one attempt, in a process."""
        return IsolatedRun(self, attempt)


class IsolatedRun:
    """One attempt in a process: the same methods as `EpisodeRun`."""

    def __init__(self, runner: IsolatedRunner, attempt: Attempt) -> None:
        self.attempt = attempt
        self.before_judge: Callable[[], None] | None = None
        """Called when the agents are done and only the judge is left."""
        self._runner = runner
        self._engine = runner.gateway.engine
        self._process: EpisodeProcess | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._requests: dict[int, asyncio.Task[None]] = {}
        self._episode: Episode | None = None
        self._stopped: Failure | None = None
        self._is_broken = False
        """The process has ended, or can run no further episode."""
        self._stacks = ""
        self._num_sampled = 0
        self._is_judged = False
        self._last_s = time.time()
        """When the process last sent something or got an answer."""
        self._started_s = time.time()

    async def run(self) -> Episode:
        """Run to the end.

        Raises:
            ConfigError: the process cannot load the user's code.
        """
        self._loop, self._ended = asyncio.get_running_loop(), asyncio.Event()
        process = self._process = await asyncio.to_thread(self._runner.processes.take)
        self._loop.add_reader(process.connection.fileno(), self._receive)
        try:
            shared = SharedByEpisodes(
                defaults=self._runner.gateway.defaults,
                policy_version=self._engine.policy_version,
                max_model_len=self._engine.max_model_len,
            )
            if not process.send(("run", self.attempt, shared)):
                self._break()
            if self._stopped:  # `stop` came before there was a process to stop
                self._ask_to_stop()
            await self._ended.wait()
        finally:
            self._loop.remove_reader(process.connection.fileno())
            for request in self._requests.values():
                request.cancel()
        if self._is_broken:
            how = await asyncio.to_thread(self._runner.processes.remove, process)
            self._episode = self._episode or self._lost(how)
        else:
            self._runner.processes.give_back(process)
        return self.episode()

    def stop(self, cause: Failure) -> None:
        """Ask the episode to end; `KILL_S` later its process is killed."""
        self._stopped = cause
        if self._loop:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the episode has ended
                self._loop.call_soon_threadsafe(self._ask_to_stop)

    def release_environment(self) -> None:
        """Kill the process, which holds the environment, if the episode has not ended."""
        if self._process and self._episode is None:
            self._process.kill()

    def episode(self) -> Episode:
        """The finished episode, or the record of one that is lost."""
        return self._episode or self._lost("was given up")

    def _lost(self, how: str) -> Episode:
        failure = self._stopped or Failure(
            kind="workflow_error", message=f"the episode's process {how}"
        )
        return Episode(
            episode_id=self.attempt.episode_id,
            task=self.attempt.task,
            repeat_index=self.attempt.repeat_index,
            retries=self.attempt.retries,
            failure=replace(failure, traceback=self._stacks or failure.traceback),
            dropped_tokens={"failed_episode": self._num_sampled} if self._num_sampled else {},
            started_s=self._started_s,
            ended_s=time.time(),
        )

    def waiting(self, thread: threading.Thread | None = None) -> list[Waiting]:
        """What the episode waits for now; from any thread."""
        if self._process is None or self._episode:
            return []
        what = "judge" if self._is_judged else "workflow"
        if self._requests:
            what = "engine"
        who = f"task {self.attempt.task.task_id}, episode {self.attempt.episode_id[:8]}"
        return [Waiting(what=what, who=who, since_s=self._last_s)]

    # The methods below run in the event loop of `run`.

    def _ask_to_stop(self) -> None:
        if self._process is None:
            return  # it is on its way, and `run` looks whether the episode was stopped
        assert self._loop and self._ended
        if not self._ended.is_set() and self._process.send(("stop", self._stopped)):
            self._loop.call_later(KILL_S, self._kill)

    def _kill(self) -> None:
        assert self._process and self._ended
        if not self._ended.is_set():
            self._stacks = self._process.stacks()
            self._process.kill()  # its connection closes, which ends `run`

    def _break(self) -> None:
        assert self._ended
        self._is_broken = True
        self._ended.set()

    def _receive(self) -> None:
        """Handle one message of the process."""
        assert self._process and self._ended and self._loop
        try:
            kind, *content = self._process.connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            self._loop.remove_reader(self._process.connection.fileno())
            self._break()
            return
        self._last_s = time.time()
        if kind == "generate":
            number = content[0]
            self._requests[number] = self._loop.create_task(self._generate(*content))
        elif kind == "cancel":
            if request := self._requests.get(content[0]):
                request.cancel()
        elif kind == "notices":
            self._runner.gateway.notices.add(*content)
        elif kind == "judging":
            self._is_judged = True
            if self.before_judge:
                self.before_judge()
        else:
            episode, may_go_on = content
            self._episode = pickle.loads(episode)
            if may_go_on:
                self._ended.set()
            else:
                self._break()

    async def _generate(
        self, number: int, prompt_ids: Sequence[int], params: SamplingParams, stream: bool
    ) -> None:
        assert self._process
        tokens = _TokenStream(self._process, number) if stream else None
        with caught_error() as caught:
            generation = await self._engine.generate(
                prompt_ids,
                params,
                session=self.attempt.episode_id,
                on_token=tokens.add if tokens else None,
            )
            self._num_sampled += len(generation.token_ids)
            if tokens:
                tokens.flush()
            self._last_s = time.time()
            self._process.send(("generation", number, generation))
        if caught.error:
            refused = isinstance(caught.error, RequestError)
            self._process.send(("error", number, str(caught.error), refused))
        self._requests.pop(number, None)


class _TokenStream:
    """Sends sampled tokens from the episode's loop: a thread of the engine must never block."""

    def __init__(self, process: EpisodeProcess, number: int) -> None:
        self._process = process
        self._number = number
        self._loop = asyncio.get_running_loop()
        self._tokens: deque[tuple[int, float]] = deque()

    def add(self, token: int, logprob: float) -> None:
        """Take a token; called by the engine."""
        self._tokens.append((token, logprob))
        with contextlib.suppress(RuntimeError):  # the loop is closed: the episode has ended
            self._loop.call_soon_threadsafe(self.flush)

    def flush(self) -> None:
        """Send what has come since the last time."""
        tokens = [self._tokens.popleft() for _ in range(len(self._tokens))]
        if tokens:
            self._process.send(("tokens", self._number, tokens))


def pickled(episode: Episode, dumps: Callable[[Any], bytes]) -> bytes:
    """Pickle an episode for another process. One that cannot be pickled becomes a failed episode.

    Args:
        episode: it has ended.
        dumps: of the library that pickles, such as `pickle.dumps`.
    """
    try:
        return dumps(episode)
    except (TypeError, AttributeError, pickle.PicklingError) as error:
        text = f"the workflow's output cannot be sent to the run's process: {error}"
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
        return dumps(failed)

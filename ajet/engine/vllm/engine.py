"""Many episodes on one or several vLLM servers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from ajet.engine.base import OnToken
from ajet.engine.completion_room import max_new_tokens
from ajet.engine.vllm.client import ServerLost, VllmClient
from ajet.engine.vllm.server import KEEPALIVE_S, VllmServer
from ajet.errors import EngineError, ServiceError
from ajet.schema.generation import Generation, SamplingParams

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TRIES = 4
"""Of one call, on servers that are lost meanwhile."""


@dataclass(slots=True, eq=False)
class Replica:
    """One server, as the engine sees it."""

    client: VllmClient
    process: VllmServer | None = None
    """None: not ours to start again."""
    is_up: bool = True
    was_restarted: bool = False
    num_sessions: int = 0


class VllmEngine:
    """Sends each call to the server of its episode, which has the episode's key-values.

    A lost server that is ours is started again once, with the current weights; meanwhile and
    afterwards its episodes go to the others. Calls that were under way there are made again, unless
    a part of their answer was already given away. `generate` may be awaited on any loop; the
    connections belong to a thread of the engine's own.

    Args:
        servers: processes of ours, started; the engine stops them at its end.
        urls: servers that are there already.
        api_key: for those.
        max_model_len: None: what the servers take.
        policy_version: of their weights.
        update_timeout_s: for calls under way to end before an update, and for the update.

    Raises:
        EngineError: a server does not answer, or serves something else than the others.
        ServiceError: a server did not start.
    """

    def __init__(
        self,
        *,
        servers: Sequence[VllmServer] = (),
        urls: Sequence[str] = (),
        api_key: str | None = None,
        max_model_len: int | None = None,
        policy_version: int = 0,
        update_timeout_s: float = 120.0,
    ) -> None:
        self._policy_version = policy_version
        self._update_timeout_s = update_timeout_s
        self._weights: Path | None = None
        self._replica_of: dict[str, Replica] = {}
        self._in_flight = 0
        self._is_updating = False
        self._end: EngineError | None = None
        self._revivals: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="ajet-vllm-engine", daemon=True
        )
        self._thread.start()
        self._servers = servers
        try:
            for server in servers:
                server.wait_until_ready()
            self._replicas = self._start(self._connect(servers, urls, api_key)).result()
        except BaseException:
            self._stop_servers()
            raise
        taken = min(replica.client.max_model_len for replica in self._replicas)
        self._max_model_len = min(max_model_len or taken, taken)

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus completion, in tokens."""
        return self._max_model_len

    @property
    def policy_version(self) -> int:
        """0 for the base model; one more after each weight update."""
        return self._policy_version

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        session: str,
        on_token: OnToken | None = None,
    ) -> Generation:
        """Sample one completion. Cancelling it cancels it in the server.

        Raises:
            ContextLengthError: the prompt leaves no room for a token.
            EngineError: no server answers, or they refuse the request.
        """
        max_new = max_new_tokens(len(prompt_ids), params, self._max_model_len)
        call = self._generate(prompt_ids, params, max_new, session, on_token)
        return await asyncio.wrap_future(self._start(call))

    def open_session(self, session: str) -> None:
        """Announce an episode; its first call chooses the server."""

    def close_session(self, session: str) -> None:
        """The episode is over: its server has one less. Any thread."""
        self._loop.call_soon_threadsafe(self._leave_home, session)

    async def prompt_logprobs(self, prompt_ids: Sequence[int]) -> list[list[float]]:
        """[servers, L - 1] natural log of each id but the first, at temperature 1.

        Raises:
            EngineError: no server answers.
        """
        return await asyncio.wrap_future(self._start(self._prompt_logprobs(prompt_ids)))

    async def update_weights(self, folder: Path, policy_version: int) -> None:
        """Serve the weights in a folder's safetensors files, as this version.

        Calls under way end with the weights that they began with; new ones wait until the update
        is done, so that every completion has one version. All key-values are forgotten. The folder
        must stay as it is until the next update: a server that is brought back reads it again.

        Raises:
            EngineError: calls under way did not end in time, or a server did not take the weights.
        """
        await asyncio.wrap_future(self._start(self._update_weights(folder, policy_version)))

    async def aclose(self) -> None:
        """Stop the servers that are ours. Pending and later calls end in `EngineError`."""
        await asyncio.wrap_future(self._start(self._close()))
        await asyncio.to_thread(self._stop_servers)

    def _start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _stop_servers(self) -> None:
        for server in self._servers:
            server.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _connect(
        self, servers: Sequence[VllmServer], urls: Sequence[str], api_key: str | None
    ) -> list[Replica]:
        self._changed = asyncio.Condition()
        replicas = [
            Replica(VllmClient(server.base_url, server.api_key, KEEPALIVE_S / 2), server)
            for server in servers
        ] + [Replica(VllmClient(url, api_key)) for url in urls]
        try:
            for replica in replicas:
                await replica.client.connect()
                if replica.process:
                    await replica.client.check_extension()
        except BaseException:
            for replica in replicas:
                await replica.client.aclose()
            raise
        return replicas

    async def _generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        max_new: int,
        session: str,
        on_token: OnToken | None,
    ) -> Generation:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._is_updating)
            self._in_flight += 1
        try:
            return await self._on_some_server(prompt_ids, params, max_new, session, on_token)
        finally:
            async with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    async def _on_some_server(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        max_new: int,
        session: str,
        on_token: OnToken | None,
    ) -> Generation:
        lost: ServerLost | None = None
        for _ in range(_TRIES):
            replica = await self._home(session)
            arguments = prompt_ids, params, max_new, self._policy_version
            told = 0

            def tell(token: int, logprob: float) -> None:
                nonlocal told
                assert on_token is not None
                told += 1
                on_token(token, logprob)

            try:
                if on_token is None:
                    return await replica.client.complete(*arguments)
                return await replica.client.stream(*arguments, tell)
            except ServerLost as error:
                self._lose(replica, error)
                if told:
                    raise
                lost = error
        raise EngineError(f"no vLLM server answers, {_TRIES} times: {lost}")

    async def _home(self, session: str) -> Replica:
        """The episode's server, or another where that is lost; waits for one to be up."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._end is not None or any(r.is_up for r in self._replicas)
            )
        if self._end is not None:
            raise EngineError(*self._end.args) from self._end
        home = self._replica_of.get(session)
        if home is None or not home.is_up:
            self._leave_home(session)
            home = min((r for r in self._replicas if r.is_up), key=lambda r: r.num_sessions)
            home.num_sessions += 1
            self._replica_of[session] = home
        return home

    def _leave_home(self, session: str) -> None:
        home = self._replica_of.pop(session, None)
        if home is not None:
            home.num_sessions -= 1

    def _lose(self, replica: Replica, error: ServerLost) -> None:
        """The server does not answer: bring it back in the background. Many calls may say so."""
        if replica.is_up and self._end is None:
            replica.is_up = False
            task = self._loop.create_task(self._revive(replica, error))
            self._revivals.add(task)
            task.add_done_callback(self._revivals.discard)

    async def _revive(self, replica: Replica, error: ServerLost) -> None:
        try:
            if await self._has_ended(replica):
                await self._restart(replica, error)
            elif replica.process is None and self._weights is not None:
                await self._give_weights(replica, self._weights)  # it may be another by now
        except (EngineError, ServiceError) as failure:
            logger.error("%s is lost for good: %s", replica.client.base_url, failure)
            self._replicas.remove(replica)
            await replica.client.aclose()
            if not self._replicas:
                self._end = EngineError(f"no vLLM server is left: {failure}")
        else:
            replica.is_up = True
        async with self._changed:
            self._changed.notify_all()

    async def _has_ended(self, replica: Replica) -> bool:
        """A connection may break although the server lives; an engine's end shows in `/health`."""
        for _ in range(3):
            if not await replica.client.is_healthy():
                return True
            await asyncio.sleep(0.2)  # a process that ends takes a moment to be seen as ended
        return replica.process is not None and replica.process.how_it_ended() is not None

    async def _restart(self, replica: Replica, error: ServerLost) -> None:
        if replica.process is None:
            raise error
        how = await _exit_reason(replica.process, error)
        if replica.was_restarted:
            raise EngineError(f"{how}\nIt was started again before, and is not any more")
        replica.was_restarted = True
        logger.error("a vLLM server is lost; it is started again, once: %s", how)
        await asyncio.to_thread(replica.process.start)
        await asyncio.to_thread(replica.process.wait_until_ready)
        await replica.client.connect()
        await replica.client.check_extension()
        if self._weights is not None:
            await replica.client.load_weights(self._weights)
        logger.info("%s is back", replica.client.base_url)

    async def _prompt_logprobs(self, prompt_ids: Sequence[int]) -> list[list[float]]:
        return [
            await replica.client.prompt_logprobs(prompt_ids)
            for replica in self._replicas
            if replica.is_up
        ]

    async def _update_weights(self, folder: Path, policy_version: int) -> None:
        async with self._changed:
            self._is_updating = True
        try:
            async with asyncio.timeout(self._update_timeout_s):
                await self._quiet()
                self._weights = folder
                await asyncio.gather(*(self._load(each, folder) for each in list(self._replicas)))
                await asyncio.gather(*self._revivals)
        except TimeoutError:
            raise EngineError(
                f"new weights could not be served within {self._update_timeout_s:g} s (see "
                f"ajet.rollout.vllm.update_timeout_s): {self._in_flight} calls were under way"
            ) from None
        finally:
            async with self._changed:
                self._is_updating = False
                self._changed.notify_all()
        if self._end is not None:
            raise EngineError(*self._end.args) from self._end
        self._policy_version = policy_version

    async def _quiet(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._in_flight)
        await asyncio.gather(*self._revivals)

    async def _give_weights(self, replica: Replica, folder: Path) -> None:
        if replica.process is None:  # ours was asked when it started
            await replica.client.check_extension()
        await replica.client.load_weights(folder)

    async def _load(self, replica: Replica, folder: Path) -> None:
        try:
            await self._give_weights(replica, folder)
        except ServerLost as error:
            self._lose(replica, error)

    async def _close(self) -> None:
        self._end = self._end or EngineError("the engine was closed")
        for task in self._revivals:
            task.cancel()
        for replica in self._replicas:
            await replica.client.aclose()
        async with self._changed:
            self._changed.notify_all()


async def _exit_reason(process: VllmServer, error: ServerLost) -> str:
    """How the process ended, which takes a moment to be known; else what a call saw."""
    for _ in range(20):
        if ended := process.how_it_ended():
            return ended
        await asyncio.sleep(0.1)
    return str(error)

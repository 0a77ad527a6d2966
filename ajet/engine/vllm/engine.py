"""An engine over one or several vLLM servers."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from ajet.engine.base import OnToken
from ajet.engine.vllm.client import ServerLost, VllmClient
from ajet.engine.vllm.replica import Replica
from ajet.engine.vllm.server import KEEPALIVE_S, VllmServer
from ajet.errors import EngineError, ServiceError
from ajet.schema.episode import Generation, SamplingParams, max_new_tokens

logger = logging.getLogger(__name__)

T = TypeVar("T")

_TRIES = 4
"""How often a call is tried if its servers are lost meanwhile."""


class VllmEngine:
    """Sends all calls of an episode to one server, which caches the episode's key-values.

    If a server that we started is lost, it is restarted once with the current weights. Its episodes
    move to other servers, and its running calls are repeated there, unless a part of their answer
    was already passed to `on_token`. `generate` may be awaited on any event loop: the connections
    belong to the event loop of a thread of the engine.

    Args:
        servers: started server processes; the engine stops them when it is closed.
        urls: servers that were started by others.
        api_key: the key of the servers in `urls`.
        max_model_len: longest prompt plus completion, in tokens; None: the servers' own limit.
        policy_version: version of the servers' weights.
        update_timeout_s: time limit for an update, including the wait for running calls.

    Raises:
        EngineError: a server does not answer.
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
        """0 for the base model; one more after each update of the weights."""
        return self._policy_version

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        session: str,
        on_token: OnToken | None = None,
    ) -> Generation:
        """Sample one completion. Cancelling the call also aborts it in the server.

        Raises:
            ContextLengthError: the prompt leaves no room for a token.
            EngineError: no server answers, or the server refuses the request.
        """
        max_new = max_new_tokens(len(prompt_ids), params, self._max_model_len)
        call = self._generate(prompt_ids, params, max_new, session, on_token)
        return await asyncio.wrap_future(self._start(call))

    def open_session(self, session: str) -> None:
        """Do nothing: the first call of an episode chooses its server."""

    def close_session(self, session: str) -> None:
        """Forget an episode that is over. May be called from any thread."""
        # Sessions are counted on the engine's loop only, so that they need no lock.
        self._loop.call_soon_threadsafe(self._leave_replica, session)

    async def prompt_logprobs(self, prompt_ids: Sequence[int]) -> list[list[float]]:
        """[servers, L - 1] logprob of each id but the first, at temperature 1.

        Raises:
            EngineError: a server does not answer.
        """
        return await asyncio.wrap_future(self._start(self._prompt_logprobs(prompt_ids)))

    async def update_weights(self, folder: Path, policy_version: int) -> None:
        """Serve the weights in a folder's safetensors files as version `policy_version`.

        Running calls finish on the old weights first, and new calls wait for the update, so that
        every completion has one version. All cached key-values are dropped. The folder must not
        change until the next update: a restarted server reads it again.

        Raises:
            EngineError: running calls did not end in time, or a server did not load the weights.
        """
        await asyncio.wrap_future(self._start(self._update_weights(folder, policy_version)))

    async def aclose(self) -> None:
        """Stop our own servers. Running and later calls fail with `EngineError`."""
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
            replica = await self._replica_for(session)
            arguments = prompt_ids, params, max_new, self._policy_version
            emitted = 0

            def emit(token: int, logprob: float) -> None:
                nonlocal emitted
                assert on_token is not None
                emitted += 1
                on_token(token, logprob)

            try:
                if on_token is None:
                    return await replica.client.complete(*arguments)
                return await replica.client.stream(*arguments, emit)
            except ServerLost as error:
                self._lose(replica, error)
                if emitted:
                    raise
                lost = error
        raise EngineError(f"no vLLM server answers, {_TRIES} times: {lost}")

    async def _replica_for(self, session: str) -> Replica:
        """The episode's server, or another one if that is lost; waits until a server is up."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._end is not None or any(r.is_up for r in self._replicas)
            )
        if self._end is not None:
            raise EngineError(*self._end.args) from self._end
        replica = self._replica_of.get(session)
        if replica is None or not replica.is_up:
            self._leave_replica(session)
            replica = min((r for r in self._replicas if r.is_up), key=lambda r: r.num_sessions)
            replica.num_sessions += 1
            self._replica_of[session] = replica
        return replica

    def _leave_replica(self, session: str) -> None:
        replica = self._replica_of.pop(session, None)
        if replica is not None:
            replica.num_sessions -= 1

    def _lose(self, replica: Replica, error: ServerLost) -> None:
        """Start to bring a server back in the background."""
        # All calls on a lost server end up here; only the first one starts the revival.
        if replica.is_up and self._end is None:
            replica.is_up = False
            # The set keeps a reference: asyncio itself holds tasks only weakly.
            task = self._loop.create_task(self._revive(replica, error))
            self._revivals.add(task)
            task.add_done_callback(self._revivals.discard)

    async def _revive(self, replica: Replica, error: ServerLost) -> None:
        try:
            if await replica.has_ended():
                await replica.restart(error)
                if self._weights is not None:
                    await replica.client.load_weights(self._weights)
                logger.info("%s answers again", replica.client.base_url)
            elif replica.process is None and self._weights is not None:
                # The server answers, but it may be a new process with the base model's weights.
                await replica.load_weights(self._weights)
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
                await self._wait_until_idle()
                # Set before loading: a server that is lost meanwhile restarts with these weights.
                self._weights = folder
                await asyncio.gather(*(self._load(each, folder) for each in list(self._replicas)))
                await asyncio.gather(*self._revivals)
        except TimeoutError:
            raise EngineError(
                f"the update of the weights took more than {self._update_timeout_s:g} s (see "
                f"ajet.rollout.vllm.update_timeout_s); {self._in_flight} calls were still running"
            ) from None
        finally:
            async with self._changed:
                self._is_updating = False
                self._changed.notify_all()
        if self._end is not None:
            raise EngineError(*self._end.args) from self._end
        self._policy_version = policy_version

    async def _wait_until_idle(self) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: not self._in_flight)
        await asyncio.gather(*self._revivals)

    async def _load(self, replica: Replica, folder: Path) -> None:
        try:
            await replica.load_weights(folder)
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

"""Instances of an environment service, one per episode.

An instance is noted as open before the service is asked for it, and released on every path.
Releasing runs in the background: a service that hangs then delays no episode.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
import threading
import uuid
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any

from ajet.config.sections.root import AjetConfig
from ajet.config.sections.task_reader import EnvServiceConfig
from ajet.environment import protocol
from ajet.environment.client import EnvironmentClient, UnknownInstance
from ajet.environment.episode_environment import (
    EnvironmentSource,
    EpisodeEnvironment,
    StepResult,
    checked_action,
)
from ajet.environment.messages import Message, finite
from ajet.environment.open_instances import OpenInstance, OpenInstances
from ajet.environment.protocol import ServiceRequest, State
from ajet.errors import EnvironmentFault
from ajet.schema.task import Task

logger = logging.getLogger(__name__)

_MIN_HEARTBEAT_S = 0.2


class ServiceEnvironment(EpisodeEnvironment):
    """One instance of a service.

    Args:
        source: of the run.
        task: its id and `env_type` name the environment.
        instance_id: the episode's id.
    """

    def __init__(self, source: ServiceSource, task: Task, instance_id: str) -> None:
        super().__init__()
        self._source = source
        self._env_type = task.env_type or source.env_type
        self._task_id = task.task_id
        self._instance_id = instance_id
        self._steps_may_repeat = False
        self._lock = threading.Lock()
        self._calls: set[Future[Any]] = set()
        self._is_stopped = False
        self._is_released = False
        self._was_opened = False
        self._heartbeat: Future[None] | None = None

    async def create(self) -> list[Message]:
        """See the base class."""
        self._was_opened = True
        self._source.note_open(self._request())
        # Repeated where the answer was lost: the id is the episode's own, so there is one instance.
        data = await self._awaited(self._call(protocol.CREATE, params=self._source.params))
        state = self._state(data, protocol.CREATE)
        self._steps_may_repeat = bool(state.info.get("accepts_idempotency_key"))
        lease_s = state.info.get("lease_s")
        if isinstance(lease_s, int | float) and lease_s > 0:
            self._heartbeat = self._source.client.submit(self._keep_lease(lease_s / 3))
        return self.messages

    def step(self, action: Message) -> StepResult:
        """See the base class."""
        return self._result(self._blocking(self._call_step(action)))

    async def step_async(self, action: Message) -> StepResult:
        """See the base class."""
        return self._result(await self._awaited(self._call_step(action)))

    def evaluate(
        self, episode_uuid: str | None = None, params: dict[str, Any] | None = None
    ) -> float:
        """See the base class."""
        return self._score(self._blocking(self._call(protocol.EVALUATE, params=params)))

    async def evaluate_async(
        self, episode_uuid: str | None = None, params: dict[str, Any] | None = None
    ) -> float:
        """See the base class."""
        return self._score(await self._awaited(self._call(protocol.EVALUATE, params=params)))

    def stop(self) -> None:
        """See the base class."""
        with self._lock:
            self._is_stopped = True
            calls = list(self._calls)
        for call in calls:
            call.cancel()

    def release(self) -> None:
        """Start to give the instance back; `ServiceSource.settle` waits for it."""
        self.stop()
        with self._lock:
            if self._is_released or not self._was_opened:
                return
            self._is_released = True
        if self._heartbeat:
            self._heartbeat.cancel()
        self._source.start_release(self._request())

    def _request(self, **fields: Any) -> ServiceRequest:
        return ServiceRequest(
            env_type=self._env_type,
            task_id=self._task_id,
            instance_id=self._instance_id,
            **fields,
        )

    def _call_step(self, action: Message) -> Future[Any]:
        message = checked_action(action)
        return self._call(protocol.STEP, messages=message, may_repeat=self._steps_may_repeat)

    def _call(
        self,
        route: str,
        *,
        messages: Message | None = None,
        params: dict[str, Any] | None = None,
        may_repeat: bool = True,
    ) -> Future[Any]:
        client = self._source.client
        with self._lock:
            if self._is_stopped:
                raise self._fail(EnvironmentFault(f"{client.url}{route}: the episode is over"))
            call = client.submit(
                client.call_async(
                    route,
                    self._request(messages=messages or {}, params=params or {}),
                    idempotency_key=uuid.uuid4().hex,
                    may_repeat=may_repeat,
                )
            )
            self._calls.add(call)
        call.add_done_callback(self._calls.discard)
        return call

    def _blocking(self, call: Future[Any]) -> Any:
        try:
            return call.result()
        except EnvironmentFault as fault:
            raise self._fail(fault) from None
        except FutureCancelled:
            raise self._fail(EnvironmentFault("the episode was ended from outside")) from None

    async def _awaited(self, call: Future[Any]) -> Any:
        try:
            return await asyncio.wrap_future(call)
        except EnvironmentFault as fault:
            raise self._fail(fault) from None

    def _state(self, data: Any, route: str) -> State:
        try:
            state = protocol.read_state(data, of_step=route == protocol.STEP)
        except ValueError as error:
            raise self._nonsense(route, error) from None
        self.messages = state.messages
        return state

    def _result(self, data: Any) -> StepResult:
        state = self._state(data, protocol.STEP)
        assert state.reward is not None, "a step has one"
        return state.text, state.reward, state.is_terminated, state.info

    def _score(self, data: Any) -> float:
        try:
            return finite(data, "data")
        except ValueError as error:
            raise self._nonsense(protocol.EVALUATE, error) from None

    def _nonsense(self, route: str, error: ValueError) -> EnvironmentFault:
        return self._fail(EnvironmentFault(f"{self._source.client.url}{route}: {error}"))

    async def _keep_lease(self, pause_s: float) -> None:
        """Tell the service now and then that the episode lives, however long the model takes."""
        while True:
            await asyncio.sleep(max(pause_s, _MIN_HEARTBEAT_S))
            with contextlib.suppress(EnvironmentFault):  # the next step says what is wrong
                await self._source.client.call_async(
                    protocol.GET_INFO, self._request(), timeout_s=pause_s * 2
                )


class ServiceSource:
    """Makes and releases the instances of a run.

    Args:
        client: of the service.
        env_type: for tasks that name none.
        params: sent with `/create`.
        open_instances: where they are noted; None: nowhere.
        release_timeout_s: for one release, in the background.
    """

    def __init__(
        self,
        client: EnvironmentClient,
        *,
        env_type: str = "",
        params: dict[str, Any] | None = None,
        open_instances: OpenInstances | None = None,
        release_timeout_s: float = 30.0,
    ) -> None:
        self.client = client
        self.env_type = env_type
        self.params = params or {}
        self.open_instances = OpenInstances(None) if open_instances is None else open_instances
        self._release_timeout_s = release_timeout_s
        self._lock = threading.Lock()
        self._in_use: set[str] = set()
        """Instances of episodes that are running."""
        self._releasing: dict[Future[bool], ServiceRequest] = {}

    @classmethod
    def configured(cls, ajet: AjetConfig, run_folder: Path | None) -> EnvironmentSource:
        """The service of `ajet.environment`, or those of the readers `env_service`."""
        reader, opened = ajet.task_reader, OpenInstances(run_folder)
        if ajet.environment.type is None and reader.type == "mixture":
            services = [s.env_service for s in reader.mixture.sources if s.type == "env_service"]
            return ServicesOfMixture(
                {service.env_type: cls._of(ajet, service, opened) for service in services}
            )
        return cls._of(ajet, reader.env_service, opened)

    @classmethod
    def _of(
        cls, ajet: AjetConfig, service: EnvServiceConfig, open_instances: OpenInstances
    ) -> ServiceSource:
        settings = ajet.environment
        client = EnvironmentClient(
            settings.url or service.env_url,
            timeout_s=settings.request_timeout_s,
            max_tries=settings.max_tries,
        )
        return cls(
            client,
            env_type=service.env_type,
            params={"env_action_preference": service.env_action_preference},
            open_instances=open_instances,
            release_timeout_s=settings.release_timeout_s,
        )

    def open(self, task: Task, episode_uuid: str) -> ServiceEnvironment:
        """The environment of one episode."""
        return ServiceEnvironment(self, task, episode_uuid)

    def note_open(self, request: ServiceRequest) -> None:
        """An instance is about to be made."""
        instance = OpenInstance(
            instance_id=str(request.instance_id),
            url=self.client.url,
            env_type=request.env_type or "",
            task_id=str(request.task_id),
            host=platform.node(),
        )
        with self._lock:
            self._in_use.add(instance.instance_id)
            self.open_instances.add(instance)

    def start_release(self, request: ServiceRequest) -> None:
        """Give an instance back, in the background."""
        with self._lock:
            self._in_use.discard(str(request.instance_id))
            release = self.client.submit(self._release(request))
            self._releasing[release] = request
        release.add_done_callback(self._forget_if_done)

    def settle(self) -> None:
        """Wait until everything is released; what the service did not take is tried once more.

        What is left then stays noted in the run folder, and its lease ends it.
        """
        failed = self._finish_releases()
        for request in failed:
            self.start_release(request)
        if failed and (left := self._finish_releases()):
            logger.warning(
                "%d environment instances could not be released: %s. A service with leases "
                "releases them by itself",
                len(left),
                ", ".join(str(request.instance_id) for request in left[:3]),
            )
        with self._lock:
            if not self._in_use and not self._releasing:  # other threads may run episodes still
                self.client.close()
                self.open_instances.clear_file()

    def _forget_if_done(self, release: Future[bool]) -> None:
        if not release.cancelled() and release.result():
            # Without the lock: `settle` holds it while it waits for the thread that runs this.
            self._releasing.pop(release, None)

    def _finish_releases(self) -> list[ServiceRequest]:
        """Wait for all releases; those that failed."""
        with self._lock:
            releasing, self._releasing = list(self._releasing.items()), {}
        done, _ = wait([release for release, _ in releasing], timeout=self._release_timeout_s)
        for release, _ in releasing:
            if release not in done:
                release.cancel()
        return [
            request for release, request in releasing if release not in done or not release.result()
        ]

    async def _release(self, request: ServiceRequest) -> bool:
        """Whether the service has the instance no longer."""
        try:
            await self.client.call_async(
                protocol.RELEASE, request, timeout_s=self._release_timeout_s
            )
        except UnknownInstance:
            pass  # it never came to be, or its lease ended
        except EnvironmentFault as fault:
            logger.debug("instance %s: %s", request.instance_id, fault)
            return False
        self.open_instances.remove(str(request.instance_id))
        return True


class ServicesOfMixture:
    """The services of a mixture's sources; tasks of other sources have no environment.

    Args:
        sources: by the `env_type` of their tasks.
    """

    def __init__(self, sources: dict[str, ServiceSource]) -> None:
        self._sources = sources

    def open(self, task: Task, episode_uuid: str) -> ServiceEnvironment | None:
        """The environment of one episode, if its task comes from a service."""
        source = self._sources.get(task.env_type)
        return source.open(task, episode_uuid) if source else None

    def settle(self) -> None:
        """See `ServiceSource.settle`."""
        for source in self._sources.values():
            source.settle()

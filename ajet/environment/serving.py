"""An `EnvironmentService` as a FastAPI application, and its process.

The rules for a call:

1. It is refused before user code runs: wrong key (401), not JSON (415, 400), too long (413),
   another `env_type` or an unknown instance (404), an instance id that is taken (409), no place
   for another instance (503).
2. Calls for one instance wait for each other. A call with the key of the newest one gets the
   answer of that again.
3. `/release` answers also where there is nothing to release. An instance whose call is running is
   released when that ends.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hmac
import inspect
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import ValidationError
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request as HttpRequest
from starlette.responses import Response
from starlette.routing import Route

from ajet.boundary import caught_error
from ajet.environment import protocol
from ajet.environment.instances import Instance, InstanceTable
from ajet.environment.messages import as_messages, finite
from ajet.environment.protocol import (
    API_KEY_VARIABLE,
    IDEMPOTENCY_KEY,
    LOOPBACK,
    ServiceRequest,
)
from ajet.environment.service_base import BaseEnvironmentService

logger = logging.getLogger(__name__)

RETRY_AFTER_S = 1
_KEEP_ALIVE_S = 120


class _Refused(Exception):
    """A call that is answered without the user's code, or whose code failed."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class EnvironmentApp:
    """The routes of one service. Belongs to one event loop."""

    def __init__(self, service: BaseEnvironmentService, *, api_key: str | None = None) -> None:
        self._service = service
        self._api_key = api_key
        self._instances = InstanceTable(
            max_instances=service.max_instances, lease_s=service.lease_s
        )
        self._threads = ThreadPoolExecutor(service.max_concurrent_calls, "environment")
        self._calls = asyncio.Semaphore(service.max_concurrent_calls)
        self._closing: set[asyncio.Task[None]] = set()
        self._routes: dict[str, Callable[[ServiceRequest, str | None], Any]] = {
            protocol.GET_ENV_PROFILE: self._task_ids,
            protocol.GET_INFO: self._info,
            protocol.CREATE: self._create,
            protocol.STEP: self._step,
            protocol.EVALUATE: self._evaluate,
            protocol.RELEASE: self._release,
        }

    def app(self, hosts: Sequence[str] | None = None) -> FastAPI:
        """The application.

        Args:
            hosts: what a request's `Host` may be; None: anything. With names of this machine only,
                a web page cannot reach a service that listens on a loopback address.
        """
        app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, lifespan=self._lifespan)
        for path in self._routes:
            app.router.routes.append(Route(path, self._answer, methods=["POST"]))
        for path in ("/health", "/healthz"):
            app.router.routes.append(Route(path, self._health, methods=["GET"]))
        if hosts is not None:
            names = [f"[{host}]" if ":" in host else host for host in hosts]
            app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*hosts, *names])
        return app

    # HTTP.

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(self._end_leases())
        try:
            yield
        finally:
            sweeper.cancel()
            for instance in self._instances.all():
                self._start_closing(instance)
            if self._closing:
                await asyncio.wait(self._closing, timeout=5.0)
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _health(self, http: HttpRequest) -> Response:
        facts = {
            "status": "ok",
            "env_type": self._service.env_type,
            "open_instances": self._instances.num_open,
            "max_instances": self._service.max_instances,
        }
        return Response(json.dumps(facts), media_type="application/json")

    async def _answer(self, http: HttpRequest) -> Response:
        route = http.url.path
        with caught_error() as caught:
            self._check_key(http)
            request = await self._read(http)
            key = http.headers.get(IDEMPOTENCY_KEY)
            body = await self._routes[route](request, key)
            return Response(body, media_type="application/json")
        error = caught.error
        assert error is not None, "without an error the block returned"
        refused = error if isinstance(error, _Refused) else _failed(error)
        headers = {"Retry-After": str(RETRY_AFTER_S)} if refused.status == 503 else {}
        text = json.dumps({"success": False, "data": None, "detail": str(refused)})
        return Response(text, refused.status, headers, "application/json")

    def _check_key(self, http: HttpRequest) -> None:
        if self._api_key is None:
            return
        given = http.headers.get("authorization", "").removeprefix("Bearer ")
        if not hmac.compare_digest(given.encode(), self._api_key.encode()):
            raise _Refused(401, "the service needs its key as a bearer token")

    async def _read(self, http: HttpRequest) -> ServiceRequest:
        if http.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise _Refused(415, "expected content-type application/json")
        limit = self._service.max_request_bytes
        body = bytearray()
        async for chunk in http.stream():
            body += chunk
            if len(body) > limit:
                raise _Refused(413, f"the body has more than {limit} bytes")
        try:
            request = ServiceRequest.model_validate_json(bytes(body))
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            raise _Refused(400, f"not a call of this protocol: {why}") from None
        own = self._service.env_type
        if own and request.env_type and request.env_type != own:
            raise _Refused(404, f'this service has env_type "{own}", not "{request.env_type}"')
        return request

    # Calls. Each returns the body of its answer.

    async def _task_ids(self, request: ServiceRequest, key: str | None) -> bytes:
        split = str((request.params or {}).get("split", "train"))
        found = await self._user_code(self._service.task_ids, split)
        # In a thread: the ids may be an iterator that reads a file.
        loop = asyncio.get_running_loop()
        return _body(await loop.run_in_executor(self._threads, _ids, found))

    async def _info(self, request: ServiceRequest, key: str | None) -> bytes:
        instance = self._known(request) if request.instance_id else None
        return _body(
            {
                "env_type": self._service.env_type,
                "lease_s": self._service.lease_s,
                "task_id": instance.task_id if instance else None,
            }
        )

    async def _create(self, request: ServiceRequest, key: str | None) -> bytes:
        if not request.instance_id or request.task_id is None:
            raise _Refused(400, "/create needs instance_id and task_id")
        if instance := self._instances.find(request.instance_id):
            async with instance.lock:
                if key and instance.last_key == key:
                    return instance.last_answer
            raise _Refused(409, f"instance {request.instance_id} exists already")
        if self._instances.is_full:
            raise _Refused(503, f"max_instances = {self._service.max_instances} are open")
        instance = self._instances.add(request.instance_id, str(request.task_id))
        async with instance.lock:
            try:
                made = await self._user_code(
                    self._service.create, instance.task_id, request.params or {}
                )
                instance.value, observation = _values(made, "create", (2, 2))
                instance.is_made = True
                terms = {"lease_s": self._service.lease_s, "accepts_idempotency_key": True}
                body = _state_body(instance, observation, 0.0, False, terms)
            except BaseException:
                self._start_closing(instance)
                raise
            if instance.is_released:  # meanwhile; whoever did it closes it now
                raise _Refused(404, f"instance {instance.instance_id} was released")
            return _keep(instance, key, body)

    async def _step(self, request: ServiceRequest, key: str | None) -> bytes:
        sent = request.messages
        action = sent[-1] if sent and isinstance(sent, list) else sent
        if not action or "content" not in action:
            raise _Refused(400, '/step needs messages: {"role": ..., "content": ...}')
        instance = self._known(request)
        async with self._turn(instance):
            if key and instance.last_key == key:
                return instance.last_answer
            result = await self._user_code(self._service.step, instance.value, action)
            observation, reward, is_terminated, *more = _values(result, "step", (3, 4))
            info = (more[0] if more else None) or {}
            return _keep(
                instance, key, _state_body(instance, observation, reward, is_terminated, info)
            )

    async def _evaluate(self, request: ServiceRequest, key: str | None) -> bytes:
        instance = self._known(request)
        async with self._turn(instance):
            score = await self._user_code(
                self._service.evaluate, instance.value, request.params or {}
            )
            return _body(finite(score, "score"))

    async def _release(self, request: ServiceRequest, key: str | None) -> bytes:
        instance = self._instances.find(request.instance_id or "")
        if instance is None:
            return json.dumps({"success": False, "data": False}).encode()
        is_busy = instance.lock.locked()
        closing = self._start_closing(instance)
        if not is_busy:
            await asyncio.shield(closing)
        return _body(True)

    # Instances.

    def _known(self, request: ServiceRequest) -> Instance:
        instance = self._instances.find(request.instance_id or "")
        if instance is None:
            raise _Refused(
                404,
                f"there is no instance {request.instance_id}: it was released, its lease of "
                f"{self._service.lease_s:g} s ended, or the service was started again",
            )
        return instance

    @contextlib.asynccontextmanager
    async def _turn(self, instance: Instance) -> AsyncIterator[None]:
        async with instance.lock:
            if instance.is_released or not instance.is_made:
                raise _Refused(404, f"instance {instance.instance_id} was released")
            yield

    def _start_closing(self, instance: Instance) -> asyncio.Task[None]:
        self._instances.remove(instance)
        self._instances.num_closing += 1
        task = asyncio.create_task(self._close(instance))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task

    async def _close(self, instance: Instance) -> None:
        try:
            with caught_error() as caught:
                async with instance.lock:
                    if instance.is_made:
                        await self._user_code(self._service.release, instance.value)
        finally:
            self._instances.num_closing -= 1
        if caught.error:
            text = "releasing instance %s failed"
            logger.error(text, instance.instance_id, exc_info=caught.error)

    async def _end_leases(self) -> None:
        while True:
            await asyncio.sleep(min(self._service.lease_s / 4, 5.0))
            for instance in self._instances.expired():
                logger.warning("the lease of instance %s ended", instance.instance_id)
                self._start_closing(instance)

    async def _user_code(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if inspect.iscoroutinefunction(function):
            async with self._calls:
                return await function(*arguments)
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self._threads, function, *arguments)
        if not inspect.isawaitable(result):
            return result
        async with self._calls:  # of a decorated `async def`
            return await result


def serve_from_command_line(
    service: BaseEnvironmentService, arguments: Sequence[str] | None = None
) -> None:
    """Serve until SIGTERM or Ctrl-C. The options overrule the attributes of the class."""
    parser = argparse.ArgumentParser(description=type(service).__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=8080)
    for name in ("lease_s", "max_instances", "max_concurrent_calls", "max_request_bytes"):
        default = getattr(service, name)
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=type(default), default=default, help=f"default {default}")
    options = vars(parser.parse_args(arguments))
    host, port = options.pop("host"), options.pop("port")
    for name, value in options.items():
        setattr(service, name, value)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asyncio.run(_serve(service, host, port))
    os._exit(0)  # a thread that a method blocks for ever must not keep the process


async def _serve(service: BaseEnvironmentService, host: str, port: int) -> None:
    api_key = os.environ.get(API_KEY_VARIABLE)
    is_loopback = host in LOOPBACK
    if not is_loopback:
        needs = "need the key" if api_key else f"need no key; set {API_KEY_VARIABLE} to ask for one"
        logger.warning("%s: other machines can reach this service, and %s", host, needs)
    app = EnvironmentApp(service, api_key=api_key).app(LOOPBACK if is_loopback else None)
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=5,
        backlog=2048,
    )
    logger.info("%s: http://%s:%d", type(service).__name__, host, port)
    await uvicorn.Server(config).serve()


def _keep(instance: Instance, key: str | None, body: bytes) -> bytes:
    instance.last_key, instance.last_answer = key, body
    return body


def _body(data: Any) -> bytes:
    return json.dumps({"success": True, "data": data}, default=_plain).encode()


def _plain(value: Any) -> Any:
    """The value of a number or array of numpy."""
    if callable(to_list := getattr(value, "tolist", None)):
        return to_list()
    raise TypeError(f"got {value!r:.200}, which has no JSON form")


def _ids(found: Any) -> list[str]:
    if isinstance(found, str | bytes | Mapping) or not isinstance(found, Iterable):
        raise TypeError(f"task_ids() returned {found!r:.200}, expected a list of task ids")
    ids = [_plain(one) if hasattr(one, "tolist") else one for one in found]
    for one in ids:
        if type(one) not in (str, int) or one == "":
            raise TypeError(f"task_ids() has the id {one!r:.200}, expected a text or an integer")
    return [str(one) for one in ids]


def _values(result: Any, method: str, limits: tuple[int, int]) -> Sequence[Any]:
    """What a method returned, as so many values."""
    if isinstance(result, tuple | list) and limits[0] <= len(result) <= limits[1]:
        return result
    got = f"{len(result)} values" if isinstance(result, tuple | list) else f"{result!r:.200}"
    raise TypeError(f"{method}() returned {got}, expected {_EXPECTED[method]}")


_EXPECTED = {
    "create": "an object and the first observation",
    "step": "observation, reward, is_terminated and maybe info",
}


def _state_body(
    instance: Instance, observation: Any, reward: Any, is_terminated: Any, info: Any
) -> bytes:
    messages = as_messages(observation)
    if type(is_terminated).__name__ not in ("bool", "bool_"):  # the second is numpy's
        raise TypeError(f"is_terminated: got {is_terminated!r:.200}, expected True or False")
    if not isinstance(info, Mapping):
        raise TypeError(f"info: got {info!r:.200}, expected a dict")
    ids = {"instance_id": instance.instance_id, "task_id": instance.task_id}
    return _body(
        {
            "state": messages[0] if len(messages) == 1 else messages,
            "reward": finite(reward, "reward"),
            "is_terminated": bool(is_terminated),
            "info": {**info, **ids},
        }
    )


def _failed(error: BaseException) -> _Refused:
    logger.error("the environment failed", exc_info=error)
    return _Refused(500, f"{type(error).__name__}: {error}")

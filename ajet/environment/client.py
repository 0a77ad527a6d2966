"""HTTP calls to an environment service: kept connections, deadlines, retries.

All calls run on one event loop in a thread of the client's own. So a blocking caller can be freed
from another thread, by cancelling the future that it waits for.

A call is sent again, with growing pauses, only where that is safe: it never reached the service,
the service said that it is busy (429, 503), or the call may be repeated and its answer was lost.
An answer that says 500, or that is no answer of the protocol, is final; only a release, which harms
nothing when it is made twice, is tried again then.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from http import HTTPStatus
from typing import Any, TypeVar

import aiohttp
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type, wait_random_exponential

from ajet.environment import protocol
from ajet.environment.protocol import ServiceRequest
from ajet.errors import EnvironmentFault

logger = logging.getLogger(__name__)

T = TypeVar("T")

MAX_ANSWER_BYTES = 64 * 2**20
KEEPALIVE_S = 4.0
"""An idle connection is used again for so long: less than the time of common servers."""
CLOSE_S = 5.0
_BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_SHOWN = 300
"""Characters of an unexpected answer in messages."""


class UnknownInstance(EnvironmentFault):
    """The service does not have the instance: it released it, or it was started again."""


class _SendAgain(EnvironmentFault):
    """The call failed in a way that allows another try."""

    def __init__(self, message: str, *, is_busy: bool = False) -> None:
        super().__init__(message)
        self.is_busy = is_busy


class CannotConnect(_SendAgain):
    """Nothing listens at the service's address."""


class EnvironmentClient:
    """Calls one service. Any thread.

    Args:
        url: of the service, without a route.
        timeout_s: for a call with all of its tries.
        max_tries: how often a call is sent at most; a busy service is asked until the time is up.
    """

    def __init__(self, url: str, *, timeout_s: float = 300.0, max_tries: int = 4) -> None:
        self.url = url.rstrip("/")
        self.timeout_s = timeout_s
        self._max_tries = max_tries
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._http: aiohttp.ClientSession | None = None

    def call(self, route: str, request: ServiceRequest) -> Any:
        """The `data` of the answer; blocks. For calls that may be repeated. See `call_async`."""
        return self.submit(self.call_async(route, request)).result()

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Run it on the client's loop, which is started where necessary."""
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="ajet-environment-client", daemon=True
                )
                self._thread.start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """End what is running and close all connections. A later call starts anew."""
        with self._lock:
            loop, thread = self._loop, self._thread
            if loop is None or thread is None:
                return
            self._loop = self._thread = None
            asyncio.run_coroutine_threadsafe(self._end(), loop)
            thread.join(CLOSE_S)
            if not thread.is_alive():
                loop.close()

    async def call_async(
        self,
        route: str,
        request: ServiceRequest,
        *,
        idempotency_key: str | None = None,
        may_repeat: bool = True,
        timeout_s: float | None = None,
    ) -> Any:
        """The `data` of the answer. On the client's loop only.

        Args:
            route: of the protocol.
            request: the body.
            idempotency_key: sent along, the same for all tries.
            may_repeat: whether the call may be sent again when its answer was lost.
            timeout_s: for all tries; None is the client's.

        Raises:
            UnknownInstance: the service answered 404.
            EnvironmentFault: no answer in time, or one that is an error or not of the protocol.
        """
        limit_s = self.timeout_s if timeout_s is None else timeout_s
        body = request.model_dump_json().encode()
        headers = {"Content-Type": "application/json"}
        if idempotency_key:
            headers[protocol.IDEMPOTENCY_KEY] = idempotency_key
        try:
            async with asyncio.timeout(limit_s):
                try:
                    return await self._post(route, body, headers, may_repeat)
                except _SendAgain as error:
                    return await self._again(error, route, body, headers, may_repeat)
        except TimeoutError:
            raise EnvironmentFault(
                f"{self.url}{route}: no answer within {limit_s:g} s; see the service's log"
            ) from None

    async def _again(self, first: _SendAgain, *call: Any) -> Any:
        """Further tries of a call that failed once.

        Not used for the first try: a call that works would cost a quarter more CPU time.
        """
        failed: list[_SendAgain] = [first]

        async def attempt() -> Any:
            if failed:
                raise failed.pop()
            return await self._post(*call)

        retrying = AsyncRetrying(
            stop=self._is_last,
            wait=wait_random_exponential(multiplier=0.2, max=5.0),
            retry=retry_if_exception_type(_SendAgain),
            reraise=True,
        )
        return await retrying(attempt)

    def _is_last(self, state: RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        is_busy = isinstance(error, _SendAgain) and error.is_busy
        return not is_busy and state.attempt_number >= self._max_tries

    async def _post(
        self, route: str, body: bytes, headers: dict[str, str], may_repeat: bool
    ) -> Any:
        where = f"{self.url}{route}"
        try:
            async with self._session().post(where, data=body, headers=headers) as response:
                if response.method != "POST":
                    raise EnvironmentFault(
                        f"{where}: the service redirects to {response.url}: set that address"
                    )
                text = await _read(response, where)
                return _data(where, response.status, text, is_release=route == protocol.RELEASE)
        except aiohttp.ClientConnectorError as error:
            raise CannotConnect(f"{where}: cannot connect: {error.strerror or error}") from error
        except aiohttp.InvalidURL as error:
            raise EnvironmentFault(f"{where}: not a valid address") from error
        except (aiohttp.ClientError, OSError) as error:
            fault = _SendAgain if may_repeat else EnvironmentFault
            what = f"{where}: the connection broke before the answer was complete"
            raise fault(f"{what}: {type(error).__name__}: {error}") from error

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            key = os.environ.get(protocol.API_KEY_VARIABLE)
            self._http = aiohttp.ClientSession(
                headers={"Authorization": f"Bearer {key}"} if key else {},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10.0),
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEPALIVE_S),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._http

    async def _end(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=1.0)
            if self._http is not None:
                await self._http.close()
                self._http = None
        finally:
            loop.stop()


async def _read(response: aiohttp.ClientResponse, where: str) -> bytes:
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > MAX_ANSWER_BYTES:
            raise EnvironmentFault(f"{where}: the answer has more than {MAX_ANSWER_BYTES} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _data(where: str, status: int, text: bytes, *, is_release: bool) -> Any:
    shown = text[:_SHOWN].decode(errors="replace")
    if status in _BUSY:
        raise _SendAgain(f"{where}: the service is busy ({status}): {shown}", is_busy=True)
    if status == HTTPStatus.NOT_FOUND:
        raise UnknownInstance(f"{where}: the service answered 404: {shown}")
    if status == HTTPStatus.UNAUTHORIZED:
        raise EnvironmentFault(f"{where}: 401: put its key into {protocol.API_KEY_VARIABLE}")
    if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        fault = _SendAgain if is_release else EnvironmentFault
        raise fault(f"{where}: the service answered {status}: {shown}")
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        raise EnvironmentFault(f"{where}: the answer is not JSON: {shown}") from None
    if not isinstance(answer, dict):
        raise EnvironmentFault(f"{where}: expected a JSON object, got {shown}")
    if is_release:  # it may report that there was nothing to do
        return answer.get("data")
    if "data" not in answer or answer.get("success") is False:
        raise EnvironmentFault(f"{where}: expected an answer with data, got {shown}")
    return answer["data"]

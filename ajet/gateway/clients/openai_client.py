"""The client of the OpenAI SDK, in process: how it is made, how its requests travel and are cheap.

1. `openai` speaks HTTP through `httpx2`. With one of the transports below, its genuine client talks
   to the gateway without a socket: on the caller's own event loop, or, for code that blocks, on a
   loop in another thread.
2. Before each request, the library walks through the body along its parameter types, to convert
   what is not JSON yet: pydantic models, iterators, files. That takes 0.15 ms for each message of
   the history, although nearly all messages are plain dicts, which the walk returns as they are.
   `without_walk` calls it only for the rest. Whether a body is JSON is found out by encoding it, so
   the library gets the encoded body and does not encode it once more. `create` itself stays the
   library's own code.
"""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping
from concurrent.futures import wait
from functools import cache, partial, wraps
from types import FunctionType, MethodType
from typing import Any, TypeVar

import httpx2
from openai import APIError, AsyncOpenAI, NotGiven, Omit, OpenAI
from openai._base_client import Platform, get_platform
from openai._utils import async_maybe_transform, maybe_transform

from ajet.background_loop import start
from ajet.context_tracker.tracker import ContextTracker, EpisodeRecord
from ajet.errors import RequestError
from ajet.gateway.apis.routes import respond
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.gateway.gateway import MODEL_NAME, AgentSession, Gateway

T = TypeVar("T")

BASE_URL = "http://ajet.invalid/v1"
"""Never dialled: `.invalid` is reserved for names that do not exist (RFC 2606)."""

CLOSED_CHECK_S = 0.5
"""How often a blocked call checks whether its episode is over."""

HISTORIES = ("messages", "input")
"""Parameters that hold the history, which grows with each call."""


def openai_client(session: AgentSession, http_endpoint: HttpEndpoint | None = None) -> AsyncOpenAI:
    """A genuine client of the OpenAI SDK, in process.

    It does not retry: whether a failed episode is retried is the rollout's decision.
    """
    client = AsyncOpenAI(
        base_url=BASE_URL, api_key="in-process", http_client=http_client(session), max_retries=0
    )
    prepare(client)
    completions = client.chat.completions
    completions.create = _with_defaults(completions.create)  # type: ignore[method-assign]
    completions.parse = _with_defaults(completions.parse)  # type: ignore[method-assign]
    completions.stream = _with_defaults(completions.stream)  # type: ignore[method-assign]
    return client


def untracked_client(gateway: Gateway, episode_id: str) -> AsyncOpenAI:
    """A client of the policy for a judge: nothing that it asks is recorded or trained.

    Args:
        gateway: answers.
        episode_id: of the judged episode, for whose session a lockstep engine waits anyway.
    """
    tracker = ContextTracker(gateway.chat_format, episode_id=episode_id, task_id="judge")
    record = EpisodeRecord(tracker)
    session = AgentSession(gateway, record, agent_name="judge", target_tag="judge", trained=False)
    if gateway.make_upstream:
        session.upstream = gateway.make_upstream(record, "judge", "judge")
    return openai_client(session)


async def streamed_text(
    client: AsyncOpenAI, messages: list[dict[str, str]]
) -> AsyncGenerator[str, None]:
    """The parts of an answer as they come.

    Raises:
        RequestError: the model refuses the request, or fails.
    """
    try:
        stream: Any = await client.chat.completions.create(  # type: ignore[call-overload]
            messages=messages, stream=True
        )
        async for chunk in stream:
            if chunk.choices and (part := chunk.choices[0].delta.content):
                yield part
    except APIError as error:
        raise RequestError(error.message) from error


def _with_defaults(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method with an optional `model` and with messages that may be positional.

    Workflows written for AgentJet call it like that; any model name means the policy here.
    """

    @wraps(method)
    def call(*messages: Any, **fields: Any) -> Any:
        if len(messages) == 1:
            fields, messages = {"messages": messages[0], **fields}, ()
        return method(*messages, **{"model": MODEL_NAME, **fields})

    return call


def http_client(session: AgentSession) -> httpx2.AsyncClient:
    """An HTTP client whose requests all go to the session."""
    # No timeout: the gateway has its own limit per call (rollout.call_timeout_s).
    return httpx2.AsyncClient(transport=InProcessTransport(session), trust_env=False, timeout=None)


def blocking_http_client(session: AgentSession) -> httpx2.Client:
    """A blocking HTTP client whose requests all go to the session."""
    return httpx2.Client(transport=BlockingTransport(session), trust_env=False, timeout=None)


def prepare(client: AsyncOpenAI | OpenAI) -> None:
    """Make the requests of an in-process client cheap; what they contain stays the same."""
    completions: Any = client.chat.completions
    completions.create = without_walk(completions.create)
    completions.parse = without_walk(completions.parse)
    responses: Any = client.responses
    responses.create = without_walk(responses.create)
    if isinstance(client, AsyncOpenAI):
        # The value of a header, for which each client would start a thread to find out.
        client._platform = _platform()


@cache
def _platform() -> Platform:
    return get_platform()


class InProcessTransport(httpx2.AsyncBaseTransport):
    """Answers requests to `BASE_URL` from an agent's session, on the caller's event loop."""

    def __init__(self, session: AgentSession) -> None:
        self._session = session

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request."""
        body = await request.aread()
        reply = await respond(self._session, request.method, request.url.path, body)
        if reply.events is None:
            return httpx2.Response(reply.status, headers=reply.headers, content=reply.body)
        stream = _AsyncEventStream(reply.events)
        return httpx2.Response(reply.status, headers=reply.headers, stream=stream)


class BlockingTransport(httpx2.BaseTransport):
    """Answers requests to `BASE_URL` from an agent's session, for clients that block.

    The call often blocks the very event loop that the episode runs on, so that loop cannot answer
    it: the request runs on the background loop.
    """

    def __init__(self, session: AgentSession) -> None:
        self._session = session

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer one request and wait for it."""
        body = request.read()
        work = respond(self._session, request.method, request.url.path, body)
        reply = _wait(self._session, work)
        if reply.events is None:
            return httpx2.Response(reply.status, headers=reply.headers, content=reply.body)
        stream = _BlockingEventStream(self._session, reply.events)
        return httpx2.Response(reply.status, headers=reply.headers, stream=stream)


class _AsyncEventStream(httpx2.AsyncByteStream):
    """The events of a reply; closing the stream cancels the request."""

    def __init__(self, events: AsyncGenerator[bytes, None]) -> None:
        self._events = events

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._events

    async def aclose(self) -> None:
        await self._events.aclose()


class _BlockingEventStream(httpx2.SyncByteStream):
    """The events of a reply, for code that blocks; closing the stream cancels the request."""

    def __init__(self, session: AgentSession, events: AsyncGenerator[bytes, None]) -> None:
        self._session = session
        self._events = events

    def __iter__(self) -> Iterator[bytes]:
        while (event := _wait(self._session, self._next())) is not None:
            yield event

    def close(self) -> None:
        # On the loop that the generator ran on so far: it must not be closed from another thread.
        start(self._events.aclose()).result()

    async def _next(self) -> bytes | None:
        return await anext(self._events, None)


def _wait(session: AgentSession, work: Coroutine[Any, Any, T]) -> T:
    """The result of the work; `ConnectError` if the episode ends before that."""
    future = start(work)
    # Polling: a blocked thread cannot be cancelled from outside, and an episode that was stopped
    # must not wait for an engine that never answers.
    while not wait([future], CLOSED_CHECK_S).done:
        if session.closed:
            future.cancel()
            raise httpx2.ConnectError("this episode is over")
    return future.result()


def without_walk(create: Callable[..., Any]) -> Callable[..., Any]:
    """The same bound method of a client, with a body that is converted only where needed."""
    method = getattr(create, "__func__", None)
    # The library's check of required arguments is a wrapper around the method.
    plain = getattr(method, "__wrapped__", method)
    names = {"async_maybe_transform": _async_body, "maybe_transform": _body}
    if not isinstance(plain, FunctionType) or not names.keys() & set(plain.__code__.co_names):
        return create  # of another version of the library: slower, and as correct
    encoding = {"async_maybe_transform": _async_encoded, "maybe_transform": _encoded}
    resource = create.__self__  # type: ignore[attr-defined]
    sending = copy.copy(resource)
    sending._post = partial(_post, resource._post)
    walkless = MethodType(_with_globals(plain, names), resource)
    encoded = MethodType(_with_globals(plain, encoding), sending)

    def call(*args: Any, **fields: Any) -> Any:
        if args or "model" not in fields or not any(name in fields for name in HISTORIES):
            return create(*args, **fields)
        # The library adds `extra_body` to the body, which must be a dict for that.
        return (walkless if fields.get("extra_body") else encoded)(**fields)

    return call


def _post(original: Callable[..., Any], path: str, *, body: Any, **others: Any) -> Any:
    """The client's `post`, which takes an encoded body under another name."""
    kind = "content" if isinstance(body, bytes) else "body"
    return original(path, **{kind: body}, **others)


def _with_globals(function: FunctionType, names: Mapping[str, Any]) -> FunctionType:
    """The same function with some of the names that it looks up replaced."""
    copied = FunctionType(
        function.__code__,
        {**function.__globals__, **names},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copied.__kwdefaults__ = function.__kwdefaults__
    return copied


def _encoded(data: Mapping[str, Any], expected_type: object) -> Any:
    """The encoded body, if it is JSON as it is; else what `maybe_transform` returns."""
    return _as_json(_given(data)) or _body(data, expected_type)


async def _async_encoded(data: Mapping[str, Any], expected_type: object) -> Any:
    """The encoded body, if it is JSON as it is; else what `async_maybe_transform` returns."""
    return _as_json(_given(data)) or await _async_body(data, expected_type)


def _as_json(fields: dict[str, Any]) -> bytes | None:
    """The bytes that the library would send; None if the fields are not JSON as they are."""
    try:
        text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return text.encode()
    except (TypeError, ValueError, RecursionError):
        return None


def _body(data: Mapping[str, Any], expected_type: object) -> Any:
    """What `maybe_transform` returns."""
    fields = _given(data)
    if is_json(fields):
        return fields
    name, rest = _split(fields)
    if name is None:
        return maybe_transform(data, expected_type)
    body: Any = maybe_transform(rest, expected_type)
    for item in fields[name]:
        if is_json(item):
            body[name].append(item)
        else:
            converted: Any = maybe_transform({name: [item]}, expected_type)
            body[name] += converted[name]
    return body


async def _async_body(data: Mapping[str, Any], expected_type: object) -> Any:
    """What `async_maybe_transform` returns, which reads files without blocking."""
    fields = _given(data)
    if is_json(fields):
        return fields
    name, rest = _split(fields)
    if name is None:
        return await async_maybe_transform(data, expected_type)
    body: Any = await async_maybe_transform(rest, expected_type)
    for item in fields[name]:
        if is_json(item):
            body[name].append(item)
        else:
            converted: Any = await async_maybe_transform({name: [item]}, expected_type)
            body[name] += converted[name]
    return body


def _given(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if not isinstance(value, (NotGiven, Omit))}


def _split(fields: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The name of the parameter with the history, and the other parameters with an empty one."""
    for name in HISTORIES:
        if isinstance(fields.get(name), list):
            return name, {**fields, name: []}
    return None, fields


def is_json(value: Any) -> bool:
    """Whether a value can be written as JSON. The encoder decides, because it is fast."""
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True

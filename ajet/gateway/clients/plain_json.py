"""Requests of OpenAI's clients without the walk over their parameter types.

Before each request, the library walks through the body along its parameter types, to convert what
is not JSON yet: pydantic models, iterators, files. That takes 0.15 ms for each message of the
history, although nearly all messages are plain dicts, which the walk returns as they are. Here it
is called only for the rest. `create` itself stays the library's own code.

Whether a body is JSON is found out by encoding it, so the library gets the encoded body, and does
not encode it once more.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from openai import NotGiven, Omit
from openai._utils import async_maybe_transform, maybe_transform

HISTORIES = ("messages", "input")
"""Parameters that hold the history, which grows with each call."""


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
    """Whether a value is JSON as it is; the encoder says so at the speed of C."""
    try:
        json.dumps(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return True

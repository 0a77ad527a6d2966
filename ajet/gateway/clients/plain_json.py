"""Requests of OpenAI's clients without the walk over their parameter types.

Before each request, the library walks through the body along its parameter types, to convert what
is not JSON yet: pydantic models, iterators, files. That takes 0.15 ms for each message of the
history, although nearly all messages are plain dicts, which the walk returns as they are. Here it
is called only for the rest. `create` itself stays the library's own code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
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
    copied = FunctionType(
        plain.__code__,
        {**plain.__globals__, **names},
        plain.__name__,
        plain.__defaults__,
        plain.__closure__,
    )
    copied.__kwdefaults__ = plain.__kwdefaults__
    fast = MethodType(copied, create.__self__)  # type: ignore[attr-defined]

    def call(*args: Any, **fields: Any) -> Any:
        has_history = "model" in fields and any(name in fields for name in HISTORIES)
        return (fast if has_history and not args else create)(*args, **fields)

    return call


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

"""Answers of a given form: how a model is asked for one, and how it is read."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

_FENCE = re.compile(r"^[^\S\n]*(```|~~~)[^\S\n]*\w*\s*", re.MULTILINE)
# The chat format of some models opens the thinking, so that their answer only closes it.
_THINKING = re.compile(r"^\s*(?![\s{\[`])(?:<think>)?.*?</think>", re.DOTALL)
SHOWN = 300
"""Characters of an answer that a message quotes."""


def response_format(
    form: type[BaseModel], structured: Literal["json_schema", "json_object", "prompt"]
) -> dict[str, Any] | None:
    """The request's `response_format`; None: the prompt alone asks for the form."""
    if structured == "json_schema":
        schema = _schema_of(form)
        # Strict mode of the API needs schemas without further keys.
        is_strict = schema.get("additionalProperties") is False
        named = {"name": form.__name__, "schema": schema, "strict": is_strict}
        return {"type": "json_schema", "json_schema": named}
    return {"type": "json_object"} if structured == "json_object" else None


@lru_cache(256)
def _schema_of(form: type[BaseModel]) -> dict[str, Any]:
    return form.model_json_schema()


@lru_cache(256)
def _sentence(form: type[BaseModel]) -> str:
    schema = json.dumps(_schema_of(form))
    return f"Answer with one JSON object and nothing else. Its JSON schema is: {schema}"


def with_form(messages: list[dict[str, Any]], form: type[BaseModel]) -> list[dict[str, Any]]:
    """The messages with a last sentence that asks for the form, for servers that ignore schemas."""
    ask = _sentence(form)
    *before, last = messages
    content = last.get("content")
    if isinstance(content, list):  # parts, of which some may be images
        return [*before, {**last, "content": [*content, {"type": "text", "text": ask}]}]
    return [*before, {**last, "content": f"{content}\n\n{ask}"}]


def read_form(text: str, form: type[BaseModel]) -> BaseModel | str:
    """The object in an answer, or in words why there is none.

    A fence around the object and thinking in front of it are left out. Nothing is guessed: of an
    answer with two objects, with two values for a key, or with a value outside of its limits,
    nothing is used.
    """
    body = _without_fence(_THINKING.sub("", text).strip().lstrip("\ufeff"))
    try:
        value = form.model_validate_json(body)
        json.loads(body, object_pairs_hook=_once_each, parse_int=str)
        return value
    except _TwoValues as error:
        why = str(error)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        why = f"{where}: {first['msg']}" if where else first["msg"]
    return f"{why}, in the answer {quoted(text)}"


def _without_fence(text: str) -> str:
    """The JSON between fences; the text itself if there is none, or more than one."""
    opening = _FENCE.search(text)
    if opening is None or text.startswith(("{", "[")):
        return text
    inside = text[opening.end() :]
    try:
        # Read to its end, and not to the next fence: a string may have one.
        end = json.JSONDecoder().raw_decode(inside)[1]
    except (ValueError, RecursionError):
        return text
    after = inside[end:].lstrip()
    is_closed = not after or after.startswith(opening[1])
    return inside[:end] if is_closed and not _FENCE.search(after[3:]) else text


class _TwoValues(Exception):
    pass


def _once_each(pairs: list[tuple[str, Any]]) -> None:
    keys = [key for key, _ in pairs]
    if len(set(keys)) < len(keys):
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _TwoValues(f'"{twice}" has two values')


def quoted(text: str) -> str:
    """The beginning of a text, as Python would write it."""
    return repr(text if len(text) <= SHOWN else f"{text[:SHOWN]} [{len(text):,} characters]")

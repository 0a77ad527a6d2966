"""Checks a request's parameters, `response_format` included, and honours or refuses each."""

from __future__ import annotations

import json
import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from ajet.errors import RequestError

logger = logging.getLogger(__name__)

_LONGEST_SHOWN = 200
"""Characters of a wrong value that an error message shows at most."""

Model = TypeVar("Model", bound=BaseModel)


class Parameters(BaseModel):
    """Parameters within a parameter: unknown ones are refused, null is the same as absent."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _leave_out_nulls(cls, given: Any) -> Any:
        return without_nulls(given)


def without_nulls(value: Any) -> Any:
    """A JSON value without object entries that are null, which clients send for absent ones."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return value


PROVIDER = "they concern another provider's accounts, caches or speed"
THINKING = "the chat format decides how the model thinks (ajet.model.enable_thinking)"
LENGTH = "ask for short or long answers in the prompt"
HISTORY = "the prompt stays what the agent sends"


class Notices:
    """Says once that requests set a parameter that is accepted and has no effect."""

    def __init__(self) -> None:
        self.report: Callable[[dict[str, str]], None] = _log
        """Gets the parameters that were not named before, each with the reason."""
        self._lock = threading.Lock()
        self._named: set[str] = set()

    def of_request(self, body: Any, without_effect: Mapping[str, str]) -> None:
        """Report the parameters of a request's JSON that stand in `without_effect`."""
        self.add({path: why for path, why in without_effect.items() if _is_set(body, path)})

    def add(self, found: Mapping[str, str]) -> None:
        """Report those parameters that were not reported before; safe to call from any thread."""
        with self._lock:
            new = {path: why for path, why in found.items() if path not in self._named}
            self._named.update(new)
        if new:
            self.report(new)


def _log(found: dict[str, str]) -> None:
    by_reason = defaultdict(list)
    for path, why in found.items():
        by_reason[why].append(path)
    for why, paths in by_reason.items():
        logger.warning("requests set %s, accepted without effect: %s", ", ".join(paths), why)


def _is_set(body: Any, path: str) -> bool:
    for name in path.split("."):
        body = body.get(name) if isinstance(body, dict) else None
    return body is not None


def read_parameters(
    body: Any,
    model: type[Model],
    *,
    without_effect: Collection[str],
    neutral: Mapping[str, tuple[Any, ...]],
    instead: Mapping[str, str] = MappingProxyType({}),
) -> Model:
    """Check a request's body and return its parameters; null is the same as absent.

    Args:
        body: the parsed JSON.
        model: its fields are the parameters that are honoured.
        without_effect: parameters that are accepted and do not change the answer.
        neutral: parameters that cannot be honoured, with the values that ask for nothing special
            and are accepted.
        instead: what to do about some of these; for the others: leave them out.

    Raises:
        RequestError: names the parameter that is wrong or cannot be honoured.
    """
    if not isinstance(body, dict):
        raise RequestError(f"body: got {type(body).__name__}; expected a JSON object")
    kept = {
        name: value
        for name, value in body.items()
        if value is not None and name not in without_effect
    }
    for name in neutral.keys() & kept.keys():
        if without_nulls(kept.pop(name)) not in neutral[name]:
            raise unsupported(name, body[name], instead.get(name, "leave it out"))
    try:
        return model.model_validate(kept)
    except ValidationError as error:
        raise _request_error(body, error.errors(include_url=False)[0]) from error


def unsupported(param: str, value: Any, why: str = "leave it out") -> RequestError:
    """The error for a value that cannot be honoured."""
    return RequestError(
        f"{param}: {_shown(value)} is not supported by this engine; {why}",
        param=param,
        code="unsupported_parameter",
    )


def invalid(param: str, value: Any, expected: str) -> RequestError:
    """The error for a value that is wrong."""
    return RequestError(
        f"{param}: got {_shown(value)}; expected {expected}", param=param, code="invalid_value"
    )


def _request_error(body: dict[str, Any], problem: ErrorDetails) -> RequestError:
    param = _place(body, problem["loc"])
    if problem["type"] == "extra_forbidden":
        return RequestError(
            f"{param}: this parameter is not supported; leave it out",
            param=param,
            code="unknown_parameter",
        )
    return RequestError(
        f"{param}: got {_shown(problem['input'])}; {problem['msg']}",
        param=param,
        code="invalid_value",
    )


def _place(body: Any, loc: tuple[int | str, ...]) -> str:
    """The path to a value, without the type names that pydantic adds for unions."""
    path = [loc[0]]
    for part in loc[1:]:
        try:
            body = body[path[-1]]
            body[part]
        except (LookupError, TypeError):
            break
        path.append(part)
    return ".".join(map(str, path))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


ResponseFormatMode = Literal["prompt", "constrain", "refuse"]

FENCE = "```"
"""What opens and closes a block of code in Markdown."""


def demands_json(response_format: dict[str, Any] | None) -> bool:
    """Whether the answer to a request with this `response_format` must be JSON."""
    return response_format is not None and response_format["type"] != "text"


def check_response_format(response_format: dict[str, Any]) -> None:
    """Raise `RequestError` for a format that no schema can be read from."""
    kind = response_format.get("type")
    if kind in ("text", "json_object"):
        return
    if kind != "json_schema":
        raise unsupported("response_format", response_format, "use json_schema or json_object")
    given = response_format.get("json_schema")
    schema = given.get("schema") if isinstance(given, dict) else 0
    if not (schema is None or isinstance(schema, dict)):
        expected = '{"type": "json_schema", "json_schema": {"name": ..., "schema": {...}}}'
        raise invalid("response_format", response_format, expected)


def with_instruction(
    messages: list[dict[str, Any]],
    response_format: dict[str, Any] | None,
    mode: ResponseFormatMode,
) -> list[dict[str, Any]]:
    """The messages with the demanded format in the system prompt.

    Raises:
        RequestError: the mode is `refuse`, and a format is demanded.
    """
    if not messages or response_format is None or response_format["type"] == "text":
        return messages
    if mode == "refuse":
        why = "leave it out, or set rollout.response_format: prompt"
        raise unsupported("response_format", response_format, why)
    instruction = _instruction(response_format)
    first = messages[0]
    # In the system prompt, which every later request repeats: a conversation continues its
    # timeline as long as it demands the same format.
    if first.get("role") not in ("system", "developer"):
        return [{"role": "system", "content": instruction}, *messages]
    content = first.get("content")
    if isinstance(content, list):
        return [{**first, "content": [*content, f"\n\n{instruction}"]}, *messages[1:]]
    return [{**first, "content": f"{content or ''}\n\n{instruction}".lstrip()}, *messages[1:]]


def without_fence(message: dict[str, Any]) -> dict[str, Any]:
    """The message without a code fence around its JSON, which client libraries do not expect."""
    text = (message.get("content") or "").strip()
    # No regular expression: a model may write white space without end between the fences.
    language, line_feed, inside = text.removeprefix(FENCE).removesuffix(FENCE).partition("\n")
    is_fenced = text.startswith(FENCE) and text.endswith(FENCE) and bool(line_feed)
    if not is_fenced or language.strip().lower() not in ("", "json"):
        return message
    try:
        json.loads(inside)
    except (ValueError, RecursionError):
        return message
    return {**message, "content": inside.strip()}


def _instruction(response_format: dict[str, Any]) -> str:
    given = response_format.get("json_schema") or {}
    if not given.get("schema"):
        return "Your final answer must be one JSON object and nothing else."
    schema = json.dumps(given["schema"], ensure_ascii=False)
    return (
        "Your final answer must be one JSON value that matches this schema, and nothing else:\n"
        f"{schema}"
    )

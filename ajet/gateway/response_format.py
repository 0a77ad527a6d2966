"""Answers in a given JSON shape: the schema is part of the prompt, and the model may miss it.

Nothing about the policy changes: no token is forbidden, so the logprobs stay those that the trainer
computes. The client library parses and validates the answer; an answer that does not fit the schema
is its error, as with any other model.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from ajet.gateway.parameters import invalid, unsupported

ResponseFormatMode = Literal["prompt", "refuse"]

_FENCED = re.compile(r"```(?:json)?\s*\n(.*?)\n?\s*```", re.DOTALL)


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
    fenced = _FENCED.fullmatch((message.get("content") or "").strip())
    if fenced is None:
        return message
    try:
        json.loads(fenced[1])
    except ValueError:
        return message
    return {**message, "content": fenced[1].strip()}


def _instruction(response_format: dict[str, Any]) -> str:
    given = response_format.get("json_schema") or {}
    if not given.get("schema"):
        return "Your final answer must be one JSON object and nothing else."
    schema = json.dumps(given["schema"], ensure_ascii=False)
    return (
        "Your final answer must be one JSON value that matches this schema, and nothing else:\n"
        f"{schema}"
    )

"""Answers in a demanded JSON shape (`response_format`): in words in the prompt, and as a grammar.

The grammar is for engines that enforce it. What stands around the JSON stays free: a model may
think first, and may call a tool instead of giving its final answer. The text in front of the engine
is the same as without enforcement.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any, Literal

from ajet.context_tracker.chat_format import ChatFormat
from ajet.context_tracker.tracker import Prompt
from ajet.errors import RequestError
from ajet.gateway.request import unsupported

ResponseFormatMode = Literal["prompt", "constrain", "refuse"]

FENCE = "```"
"""What opens and closes a block of code in Markdown."""


_EXAMPLE = '{"a": 1}'
_LAYOUT = {"whitespace_flexible": True, "whitespace_pattern": " ?"}
"""At most one space between two tokens of JSON: a model may repeat white space without end."""
_RECENT = 8
"""Tokens at the end of a prompt in which a format opens or closes the model's thinking."""


def grammar_of(chat_format: ChatFormat, prompt: Prompt, response_format: dict[str, Any]) -> str:
    """The grammar of a completion, in llguidance's variant of Lark.

    Raises:
        RequestError: the format cannot be enforced in this chat format, or in this request.
    """
    if prompt.num_prefilled:
        raise _impossible("with an answer whose beginning is given")
    if not _is_plain(chat_format):
        raise _impossible("in this model's chat format")
    given = response_format.get("json_schema") or {}
    schema = {**(given.get("schema") or {"type": "object"}), "x-guidance": _LAYOUT}
    turn, rules = "answer", [f"answer: %json {json.dumps(schema)}"]
    if prompt.tools:
        turn = "(answer | call)"
        if chat_format.call_mark is None:
            raise _impossible("beside tools in this model's chat format")
        rules.append(f"call: <[{chat_format.call_mark}]> <[*]>*")
    if (thinking := _thinking(chat_format, prompt.ids[-_RECENT:])) is not None:
        rules += [f"thinking: {thinking} GAP", "TEXT: /(.|\\n)*/", "GAP: /\\n*/"]
        is_open = thinking.startswith("TEXT")
        turn = f"thinking{'' if is_open else '?'} {turn}"
    return "\n".join([f"start: {turn}", *rules])


def _impossible(where: str) -> RequestError:
    return RequestError(
        f"response_format: a schema cannot be enforced {where}; set rollout.response_format to "
        "prompt",
        param="response_format",
        code="unsupported_value",
    )


def _thinking(chat_format: ChatFormat, end_of_prompt: list[int]) -> str | None:
    """What the turn begins with; None: the prompt has closed the thinking, or there is none."""
    marks = chat_format.tokenizer.convert_tokens_to_ids(["<think>", "</think>"])
    if None in marks or marks[0] == marks[1]:
        return None
    opening, closing = marks
    seen = [token for token in end_of_prompt if token in marks]
    if seen:
        return None if seen[-1] == closing else f"TEXT <[{closing}]>"
    return f"<[{opening}]> TEXT <[{closing}]>"


@lru_cache(maxsize=8)
def _is_plain(chat_format: ChatFormat) -> bool:
    """Whether a turn that is only text is its content, without markup of the format's own."""
    ids = [*chat_format.tokenizer.encode(_EXAMPLE), chat_format.stop_token_ids[0]]
    prompt = chat_format.render([{"role": "user", "content": "?"}], None)
    parsed = chat_format.parse(ids, prompt, None)
    return parsed.content == _EXAMPLE or (parsed.reasoning or "").strip() == _EXAMPLE


def with_instruction(
    messages: list[dict[str, Any]],
    response_format: dict[str, Any],
    mode: ResponseFormatMode,
) -> list[dict[str, Any]]:
    """The messages with the demanded format in the system prompt.

    Raises:
        RequestError: the mode is `refuse`, and a format is demanded.
    """
    if not messages:
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

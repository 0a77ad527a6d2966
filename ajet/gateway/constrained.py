"""The grammar of an answer in a demanded JSON shape, for engines that enforce it.

What stands around the JSON stays free: a model may think first, and may call a tool instead of
giving its final answer. The text in front of the engine is the same as without enforcement.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from ajet.context_tracker.chat_format import ChatFormat
from ajet.context_tracker.tracker import Prompt
from ajet.errors import RequestError

_EXAMPLE = '{"a": 1}'
_LAYOUT = {"whitespace_flexible": True, "whitespace_pattern": " ?"}
"""At most one space between two tokens of JSON: a model may repeat white space without end."""
_RECENT = 8
"""Tokens at the end of a prompt in which a format opens or closes the model's thinking."""


def grammar_of(
    chat_format: ChatFormat, prompt: Prompt, response_format: dict[str, Any] | None
) -> str | None:
    """The grammar of a completion, in llguidance's variant of Lark; None if any text is allowed.

    Raises:
        RequestError: the format cannot be enforced in this chat format, or in this request.
    """
    if response_format is None or response_format["type"] == "text":
        return None
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

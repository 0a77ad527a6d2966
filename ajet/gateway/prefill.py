"""Turns of the assistant that the request itself begins: with text, or with a demanded tool call.

The prefill is appended to the prompt as unsampled tokens: the model must continue it, and it gets
no loss.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ajet.context_tracker.call_markup import call_opening
from ajet.context_tracker.chat_format import ChatFormat
from ajet.context_tracker.history import normalize_messages
from ajet.context_tracker.tracker import Prompt
from ajet.errors import RequestError
from ajet.gateway.apis.chat_completions.request import ChatRequest
from ajet.gateway.parameters import invalid, unsupported


def split_prefill(request: ChatRequest) -> tuple[list[dict[str, Any]], str]:
    """Split a request's messages into the history and the text that the assistant must continue.

    Raises:
        RequestError: the request asks to continue its last message, and that is not possible.
    """
    if not request.continue_final_message:
        return request.messages, ""
    last = normalize_messages(request.messages[-1:])[0] if request.messages else {}
    if last.get("role") != "assistant" or last.get("tool_calls") or not last["content"]:
        raise invalid("continue_final_message", True, "an assistant's text as the last message")
    text: str = last["content"]
    if text != text.strip():
        # The text of a whole turn is stripped, so this prefill could not be told from the rest.
        raise RequestError(
            "messages: the text to continue begins or ends with white space; remove it",
            param="messages",
            code="invalid_value",
        )
    return request.messages[:-1], text


def with_prefill(
    chat_format: ChatFormat, prompt: Prompt, request: ChatRequest, prefill: str
) -> Prompt:
    """The prompt with the beginning of the assistant's turn that the request gives, if any.

    Raises:
        RequestError: no turn of the chat format can begin like that.
    """
    names = request.demanded_tools if chat_format.parses_tool_calls else ()
    if not names and not prefill:
        return prompt
    if names and prefill:
        raise unsupported("tool_choice", request.tool_choice, "the answer begins with text")
    if names:
        ids = list(call_opening(chat_format, names) or ())
        parsed = chat_format.parse(ids, prompt.ids, prompt.tools)
        # Parsed as reasoning: the turn begins with thinking, and the call would be part of it.
        if not ids or parsed.reasoning:
            why = "in the model's chat format no turn begins with a call"
            raise unsupported("tool_choice", request.tool_choice, why)
    else:
        ids = chat_format.tokenizer.encode(prefill)
        parsed = chat_format.parse(ids, prompt.ids, prompt.tools)
        if parsed.content != prefill or parsed.reasoning:
            why = "in the model's chat format no turn begins with this text"
            raise unsupported("messages", prefill, why)
    return replace(prompt, ids=prompt.ids + ids, num_prefilled=len(ids))

"""Turns of the assistant that the request begins: by a demanded tool call, or by text.

What the request begins stands at the end of the prompt, as ids that nobody sampled, so the model
cannot but continue it, and the mask is right.
"""

from __future__ import annotations

from typing import Any

from ajet.context_tracker.call_markup import call_opening
from ajet.context_tracker.chat_format import ChatFormat
from ajet.context_tracker.messages import normalize_messages
from ajet.context_tracker.tracker import Prompt
from ajet.errors import RequestError
from ajet.gateway.apis.chat_completions.request import ChatRequest
from ajet.gateway.parameters import invalid, unsupported


def split_prefill(request: ChatRequest) -> tuple[list[dict[str, Any]], str]:
    """The request's history, and the text with which the answer is to begin.

    Raises:
        RequestError: there is no such text, or it cannot be continued.
    """
    if not request.continue_final_message:
        return request.messages, ""
    last = normalize_messages(request.messages[-1:])[0] if request.messages else {}
    if last.get("role") != "assistant" or last.get("tool_calls") or not last["content"]:
        raise invalid("continue_final_message", True, "an assistant's text as the last message")
    text: str = last["content"]
    if text != text.strip():
        raise RequestError(
            "messages: the text to continue begins or ends with white space; cut it off",
            param="messages",
            code="invalid_value",
        )
    return request.messages[:-1], text


def begin_turn(chat_format: ChatFormat, prompt: Prompt, request: ChatRequest, prefill: str) -> None:
    """Add to the prompt what the request begins of the assistant's turn.

    Raises:
        RequestError: the chat format cannot begin a turn like that.
    """
    names = request.demanded_tools
    if not names and not prefill:
        return
    if names and prefill:
        raise unsupported("tool_choice", request.tool_choice, "the answer begins with text")
    if names:
        ids = list(call_opening(chat_format, names) or ())
        begun = chat_format.parse(ids, prompt.ids, prompt.tools)
        if not ids or begun.reasoning:
            why = "in the model's chat format no turn begins with a call"
            raise unsupported("tool_choice", request.tool_choice, why)
    else:
        ids = chat_format.tokenizer.encode(prefill)
        begun = chat_format.parse(ids, prompt.ids, prompt.tools)
        if begun.content != prefill or begun.reasoning:
            why = "in the model's chat format no turn begins with this text"
            raise unsupported("messages", prefill, why)
    prompt.ids = prompt.ids + ids
    prompt.num_prefilled = len(ids)

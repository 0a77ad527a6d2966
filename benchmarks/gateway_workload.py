"""Requests of the gateway benchmark: conversations of about 2,000 tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

ANSWER = "The calculator says 12 * 7 = 84, so I add 15 to it and report 99."
CALLS = 14
"""Of one episode; its history grows from about 1,600 to 2,400 tokens."""

_SYSTEM = "You are an agent that computes with a calculator, one operation at a time. " * 33
_TURN = "The tool returned 84. Now add 15 and say what comes out."


class Conversation:
    """One episode's messages, as its agent sends them."""

    def __init__(self, system: str = _SYSTEM, turn: str = _TURN) -> None:
        self._turn = turn
        self.messages: list[dict[str, Any]] = [
            {"role": "system", "content": system},
            {"role": "user", "content": "What is 12 * 7 + 15?"},
        ]

    def body(self, *, stream: bool = False) -> bytes:
        """The next request."""
        request: dict[str, Any] = {"model": "policy", "messages": self.messages}
        return json.dumps(request | ({"stream": True} if stream else {})).encode()

    def go_on(self, answer: str) -> None:
        """Append the model's answer and the next question."""
        self.messages += [
            {"role": "assistant", "content": answer},
            {"role": "user", "content": self._turn},
        ]


def completion() -> dict[str, Any]:
    """Answer of a backend that is not the gateway."""
    message = {"role": "assistant", "content": ANSWER}
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 1,
        "model": "policy",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 2000, "completion_tokens": 48, "total_tokens": 2048},
    }


def stream_events() -> Iterator[bytes]:
    """The same answer as two deltas, as the gateway sends text that its engine returned at once."""
    head = {key: completion()[key] for key in ("id", "created", "model")}
    for delta, reason in (
        ({"role": "assistant", "content": ""}, None),
        ({"content": ANSWER}, None),
        ({}, "stop"),
    ):
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        chunk = {**head, "object": "chat.completion.chunk", "choices": [choice]}
        yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


def streamed_text(answer: bytes) -> str:
    """The content of all deltas of a stream."""
    events = [line[6:] for line in answer.split(b"\n\n") if line.startswith(b"data: {")]
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)

"""What the gateway's benchmark asks: conversations around 2,000 tokens, an answer that costs nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ANSWER = "The calculator says 12 * 7 = 84, so I add 15 to it and report 99."
CALLS = 14
"""Of one episode; its history grows from about 1,600 to 2,400 tokens."""

_SYSTEM = "You are an agent that computes with a calculator, one operation at a time. " * 33
_TURN = "The tool returned 84. Now add 15 and say what comes out."


@dataclass(slots=True)
class Conversation:
    """One episode's messages, as its agent would send them."""

    messages: list[dict[str, Any]]

    @classmethod
    def begin(cls) -> Conversation:
        """The system prompt and the first question."""
        return cls(
            [
                {"role": "system", "content": _SYSTEM},
                {"role": "user", "content": "What is 12 * 7 + 15?"},
            ]
        )

    def body(self, *, model: str, stream: bool) -> bytes:
        """The next request."""
        request: dict[str, Any] = {"model": model, "messages": self.messages}
        if stream:
            request["stream"] = True
        return json.dumps(request).encode()

    def go_on(self, answer: dict[str, Any]) -> None:
        """The model's answer, and the next question."""
        self.messages += [answer, {"role": "user", "content": _TURN}]


def completion() -> dict[str, Any]:
    """What a backend that is no gateway answers."""
    return {
        "id": "chatcmpl-0",
        "object": "chat.completion",
        "created": 1,
        "model": "policy",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": ANSWER},
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {"prompt_tokens": 2000, "completion_tokens": 48, "total_tokens": 2048},
    }


def stream_events(tokens: list[str]) -> Iterator[bytes]:
    """The same as server-sent events, one for each token."""
    chunk = {key: completion()[key] for key in ("id", "created", "model")}
    chunk["object"] = "chat.completion.chunk"
    for text in tokens:
        delta = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
        yield b"data: " + json.dumps({**chunk, "choices": [delta]}).encode() + b"\n\n"
    last = {"index": 0, "delta": {}, "finish_reason": "stop"}
    yield b"data: " + json.dumps({**chunk, "choices": [last]}).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"

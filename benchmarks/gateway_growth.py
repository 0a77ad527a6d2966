"""Whether later calls of an episode cost more than early ones with a history of equal length."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from benchmarks.gateway_workload import Conversation

EPISODES = 20
LATE, EARLY = 200, 10
"""The calls that are compared: the last ones of long episodes, and of short ones."""
SPAN = 10
"""So many calls up to each are measured together."""


def growth(ask: Callable[..., dict[str, Any]]) -> dict[str, float]:
    """Measure CPU milliseconds of late and of early calls, and their ratio.

    Args:
        ask: sends a command to the gateway's process.
    """
    ask(say="3")  # short turns, so that 200 of them make a history of ordinary length
    late_ms, late_tokens = _cost_of(ask, LATE, "")
    _, early_tokens = _cost_of(ask, EARLY, "")
    filler = "1" * (late_tokens - early_tokens)  # one token each
    early_ms, early_tokens = _cost_of(ask, EARLY, filler)
    return {
        "late_cpu_ms": late_ms,
        "early_cpu_ms": early_ms,
        "late_prompt_tokens": late_tokens,
        "early_prompt_tokens": early_tokens,
        "ratio": late_ms / early_ms,
    }


def _cost_of(ask: Callable[..., dict[str, Any]], number: int, filler: str) -> tuple[float, int]:
    """CPU milliseconds of the `SPAN` calls up to this number, and tokens of the last prompt."""
    opened = ask(open=EPISODES)
    connection = http.client.HTTPConnection(urlsplit(opened["base_url"]).netloc)
    system = f"You add. {filler}"
    conversations = {key: Conversation(system, turn="+ 1?") for key in opened["api_keys"]}

    def call_all(times: int) -> int:
        tokens = 0
        for key, conversation in conversations.items():
            for _ in range(times):
                headers = {"Authorization": f"Bearer {key}"}
                connection.request("POST", "/v1/chat/completions", conversation.body(), headers)
                answer = json.load(connection.getresponse())
                tokens = answer["usage"]["prompt_tokens"]
                conversation.go_on(answer["choices"][0]["message"]["content"])
        return tokens

    call_all(number - SPAN)
    before_s = ask(usage=True)["cpu_s"]
    tokens = call_all(SPAN)
    used_s = ask(usage=True)["cpu_s"] - before_s
    connection.close()
    ask(close=True)
    return 1e3 * used_s / (SPAN * EPISODES), tokens

"""Every parameter of the clients' `create()` is honoured, noticed or refused.

1. The tables name all parameters that the installed libraries have: a new one fails here until
   somebody decides about it.
2. Honoured: a field of the API's request, which the other tests of this folder are about.
3. Noticed: the answer is the same with and without it, and one line of the run says so.
4. Refused: a 400 that names it, and nothing is sampled.
"""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from anthropic.resources.beta.messages import AsyncMessages as BetaMessages
from anthropic.resources.messages import AsyncMessages
from openai.resources.chat.completions import AsyncCompletions
from openai.resources.responses import AsyncResponses

from ajet.gateway.apis.routes import load_api
from tests.gateway.gateway_fakes import HELLO, Agent, agent_of, run

CHAT, RESPONSES, MESSAGES = "/v1/chat/completions", "/v1/responses", "/v1/messages"
NEEDED: dict[str, dict[str, Any]] = {
    CHAT: {"model": "m", "messages": HELLO},
    RESPONSES: {"model": "m", "input": "hello"},
    MESSAGES: {"model": "m", "messages": HELLO, "max_tokens": 50},
}
CREATE: list[tuple[str, Callable[..., Any]]] = [
    (CHAT, AsyncCompletions.create),
    (RESPONSES, AsyncResponses.create),
    (MESSAGES, AsyncMessages.create),
    (MESSAGES, BetaMessages.create),
]

OF_THE_CLIENT = {"self", "extra_headers", "extra_query", "extra_body", "timeout"}
"""Settings of the call itself: `extra_body` becomes parameters like all others."""

HONOURED: dict[str, set[str]] = {
    CHAT: {"model", "messages", "tools", "tool_choice", "parallel_tool_calls", "n", "max_tokens"}
    | {"max_completion_tokens", "temperature", "top_p", "seed", "response_format", "stop"}
    | {"logprobs", "stream", "stream_options"},
    RESPONSES: {"model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls"}
    | {"max_output_tokens", "temperature", "top_p", "stream", "previous_response_id", "store"}
    | {"metadata"},
    MESSAGES: {"model", "messages", "max_tokens", "system", "tools", "tool_choice", "stream"}
    | {"stop_sequences"},
}
"""`model` may be any name: the policy answers."""

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
NOTICED: dict[str, list[tuple[str, Any]]] = {
    CHAT: [
        *[("reasoning_effort", effort) for effort in EFFORTS],
        *[("verbosity", verbosity) for verbosity in ("low", "medium", "high")],
        ("metadata", {"run": "7"}),
        ("prediction", {"type": "content", "content": "hello"}),
        ("prompt_cache_key", "k"),
        ("prompt_cache_options", {"mode": "explicit"}),
        ("prompt_cache_retention", "24h"),
        ("safety_identifier", "s"),
        ("service_tier", "flex"),
        ("store", True),
        ("user", "me"),
    ],
    RESPONSES: [
        *[("reasoning", {"effort": effort}) for effort in EFFORTS],
        ("reasoning", {"effort": "low", "summary": "auto", "context": "auto"}),
        ("reasoning", {"generate_summary": "concise"}),
        ("reasoning", {"mode": "standard"}),
        *[("text", {"verbosity": verbosity}) for verbosity in ("low", "medium", "high")],
        ("access_programs", {"cyber": "standard"}),
        ("background_options", {"completion_window": "soonest"}),
        ("context_management", [{"type": "compaction", "compact_threshold": 100_000}]),
        ("include", ["reasoning.encrypted_content", "file_search_call.results"]),
        ("max_tool_calls", 4),
        ("prompt_cache_key", "k"),
        ("prompt_cache_options", {"mode": "explicit"}),
        ("prompt_cache_retention", "24h"),
        ("safety_identifier", "s"),
        ("service_tier", "priority"),
        ("stream_options", {"include_obfuscation": False}),
        ("user", "me"),
    ],
    MESSAGES: [
        ("thinking", {"type": "adaptive"}),
        ("thinking", {"type": "enabled", "budget_tokens": 1024}),
        ("output_config", {"effort": "xhigh"}),
        ("betas", ["context-1m-2025-08-07"]),
        ("billing_policy", {"type": "billing_policy", "bill_to": "self"}),
        ("cache_control", {"type": "ephemeral"}),
        ("context_management", {"edits": [{"type": "clear_tool_uses_20250919"}]}),
        ("diagnostics", {"previous_message_id": "msg_1"}),
        ("fallback_credit_token", "t"),
        ("fallbacks", "default"),
        ("inference_geo", "eu"),
        ("metadata", {"user_id": "me"}),
        ("service_tier", "standard_only"),
        ("speed", "fast"),
        ("user_profile_id", "u"),
        ("workspace_id", "w"),
    ],
}
REFUSED: dict[str, list[tuple[str, Any]]] = {
    CHAT: [
        ("audio", {"format": "wav", "voice": "x"}),
        ("frequency_penalty", 0.5),
        ("function_call", {"name": "f"}),
        ("functions", [{"name": "f"}]),
        ("logit_bias", {"5": 1}),
        ("modalities", ["text", "audio"]),
        ("moderation", {"model": "omni-moderation-latest"}),
        ("presence_penalty", 0.5),
        ("top_logprobs", 3),
        ("web_search_options", {}),
    ],
    RESPONSES: [
        ("background", True),
        ("conversation", "conv_1"),
        ("image", {"context_compression": "auto"}),
        ("include", ["message.output_text.logprobs"]),
        ("moderation", {"model": "omni-moderation-latest"}),
        ("prompt", {"id": "p"}),
        ("reasoning", {"context": "all_turns"}),
        ("text", {"verbose": True}),
        ("top_logprobs", 3),
        ("truncation", "auto"),
    ],
    MESSAGES: [
        ("compaction", {"type": "summarize"}),
        ("container", "c"),
        ("mcp_servers", [{"type": "url", "name": "n", "url": "u"}]),
        ("thread", {"type": "create"}),
        ("output_config", {"effort": "low", "task_budget": {"type": "tokens"}}),
    ],
}


def cases(table: dict[str, list[tuple[str, Any]]]) -> list[Any]:
    return [
        pytest.param(path, name, value, id=f"{path}-{name}-{index}")
        for path, rows in table.items()
        for index, (name, value) in enumerate(rows)
    ]


def post(agent: Agent, path: str, **body: Any) -> tuple[int, dict[str, Any]]:
    reply = run(lambda: agent.post(path, {**NEEDED[path], **body}))
    return reply.status, json.loads(reply.body)


def notices(log: pytest.LogCaptureFixture) -> list[str]:
    return [text for text in log.messages if "accepted without effect" in text]


# 1, 2


@pytest.mark.parametrize(("path", "create"), CREATE)
def test_each_parameter_of_the_library_is_decided_about(
    path: str, create: Callable[..., Any]
) -> None:
    decided = {name for name, _ in [*NOTICED[path], *REFUSED[path]]} | HONOURED[path]
    assert set(inspect.signature(create).parameters) - OF_THE_CLIENT - decided == set()


@pytest.mark.parametrize("path", HONOURED)
def test_what_is_honoured_is_a_field_of_the_request(path: str) -> None:
    assert HONOURED[path] - {"model"} <= set(load_api(path).parameters.model_fields)


# 3


@pytest.mark.parametrize(("path", "name", "value"), cases(NOTICED))
def test_what_has_no_effect_is_noticed_once(
    path: str, name: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    plain, agent = agent_of(["ok"]), agent_of(["ok", "ok"])
    expected = post(plain, path)
    assert notices(caplog) == [], "a request that sets nothing special is silent"
    with caplog.at_level(logging.WARNING):
        status, answer = post(agent, path, **{name: value})
        post(agent, path, **{name: value})
    for body in (expected[1], answer):  # when they were made differs
        body.pop("created", None), body.pop("created_at", None)
    assert (status, answer) == expected
    first, asked = plain.engine.requests[0], agent.engine.requests[0]
    assert (asked.prompt_ids, asked.params) == (first.prompt_ids, first.params)
    (notice,) = notices(caplog)
    assert name in notice


def test_a_notice_is_one_for_each_parameter_of_all_agents(
    caplog: pytest.LogCaptureFixture,
) -> None:
    agent = agent_of(["ok"] * 3)
    other = agent_of(["ok"], notices=agent.session.notices)
    post(agent, CHAT, user="me", reasoning_effort="high")
    post(agent, CHAT, user="you", verbosity="low")
    post(agent, CHAT, user=None, verbosity=None)
    post(other, RESPONSES, user="me", text={"verbosity": "low"})
    texts = [text.partition(",")[0] for text in notices(caplog)]
    names = ["user", "reasoning_effort", "verbosity", "text.verbosity"]
    assert texts == [f"requests set {name}" for name in names]


# 4


@pytest.mark.parametrize(("path", "name", "value"), cases(REFUSED))
def test_what_would_change_the_answer_is_refused_by_name(
    path: str, name: str, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    agent = agent_of(["unasked"])
    status, answer = post(agent, path, **{name: value})
    assert status == 400
    assert answer["error"]["message"].startswith(name)
    assert agent.engine.requests == []
    assert notices(caplog) == [], "a refused request changes nothing"

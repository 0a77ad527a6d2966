"""Random agents that treat their history in every way that agents do, driven by hypothesis.

An agent extends its conversation, repeats a request, edits history, changes tools, asks for
several completions at once, starts again, or is cut by length. The engine samples ids at random,
text that no tokenizer would produce included.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from ajet.context_tracker.chat_format import ChatFormat, load_chat_format
from ajet.context_tracker.tracker import ContextTracker, EpisodeRecord
from ajet.engine.base import OnToken
from ajet.gateway.apis.chat_completions.api import completion_body
from ajet.gateway.gateway import AgentSession, Gateway
from ajet.gateway.request import SamplingDefaults, parse_chat_request
from ajet.schema.episode import Generation, SamplingParams
from tests.property.toy_tokenizer import ToyTokenizer

FORMATS: list[tuple[str, dict[str, Any]]] = [
    ("qwen3", {"enable_thinking": False}),
    ("qwen3", {"enable_thinking": True}),
    ("qwen3.5", {}),
    ("llama-3", {}),
    ("glm-4.5", {}),
    ("glm-5", {}),
    ("deepseek-v3", {}),
    ("deepseek-r1", {}),
    ("kimi-k2", {}),
    ("minimax-m2", {}),
    ("nemotron-3", {}),
]
TOOL = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Look at it.",
        "parameters": {"type": "object", "properties": {"what": {"type": "string"}}},
    },
}
_tokenizer = ToyTokenizer()
_formats: dict[int, ChatFormat] = {}


def chat_format(index: int) -> ChatFormat:
    """One of FORMATS over the toy tokenizer."""
    if index not in _formats:
        name, options = FORMATS[index]
        _formats[index] = load_chat_format(_tokenizer, name, options)  # type: ignore[arg-type]
    return _formats[index]


@dataclass
class Request:
    """One request to the engine and its result."""

    prompt_ids: list[int]
    params: SamplingParams
    generation: Generation


@dataclass
class RandomEngine:
    """Samples ids at random; keeps a log of every request."""

    seed: int
    stop_ids: tuple[int, ...]
    vocabulary: int = len(_tokenizer)
    max_model_len: int = 1 << 20
    policy_version: int = 0
    log: list[Request] = field(default_factory=list)

    async def generate(
        self,
        prompt_ids: list[int],
        params: SamplingParams,
        *,
        session: str,
        on_token: OnToken | None = None,
    ) -> Generation:
        rng = random.Random(f"{self.seed}/{len(self.log)}")
        await asyncio.sleep(0)
        ids = [self._token(rng) for _ in range(rng.randint(1, params.max_tokens))]
        stopped = len(ids) < params.max_tokens or rng.random() < 0.5
        if stopped:
            ids[-1] = rng.choice(self.stop_ids)
        self.policy_version += rng.random() < 0.2
        generation = Generation(
            token_ids=ids,
            logprobs=[-rng.random() for _ in ids],
            policy_versions=[self.policy_version for _ in ids],
            finish_reason="stop" if stopped else "length",
        )
        if on_token is not None:
            for token, logprob in zip(ids, generation.logprobs, strict=True):
                on_token(token, logprob)
                await asyncio.sleep(0)
        self.log.append(Request(list(prompt_ids), params, generation))
        return generation

    def _token(self, rng: random.Random) -> int:
        while True:
            plain = rng.random() < 0.9
            token = rng.randrange(256) if plain else rng.randrange(256, self.vocabulary)
            if token not in self.stop_ids:
                return token


OPERATIONS = ["extend", "extend", "extend", "repeat", "edit", "tools", "many", "new", "drop"]
programs = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(OPERATIONS), st.integers(0, 1 << 30)),
    min_size=1,
    max_size=12,
)


Ask = Callable[[AgentSession, dict[str, Any]], Awaitable[list[dict[str, Any]]]]
"""Sends a body, gives the messages of its choices."""


async def ask_at_once(session: AgentSession, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Request an answer without streaming."""
    answer = completion_body(await session.complete(session.prepare(parse_chat_request(body))))
    return [choice["message"] for choice in answer["choices"]]


@dataclass
class Conversation:
    """One agent's view of its history."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None = None
    answer: dict[str, Any] | None = None


def run_program(
    program: list[tuple[int, str, int]],
    format_index: int,
    seed: int,
    untrained: int = -1,
    ask: Ask = ask_at_once,
) -> tuple[ContextTracker, RandomEngine]:
    """Play a program; agent number `untrained` answers without being trained."""
    form = chat_format(format_index)
    engine = RandomEngine(seed=seed, stop_ids=form.stop_token_ids)
    tracker = ContextTracker(form, episode_id="episode", task_id="task")
    record = EpisodeRecord(tracker)
    gateway = Gateway(chat_format=form, engine=engine, defaults=SamplingDefaults(max_tokens=9))
    sessions = [
        AgentSession(
            gateway, record, agent_name=f"agent{i}", target_tag="t", trained=i != untrained
        )
        for i in range(3)
    ]
    asyncio.run(_play(program, sessions, ask))
    return tracker, engine


async def _play(
    program: list[tuple[int, str, int]], sessions: list[AgentSession], ask: Ask
) -> None:
    conversations: dict[int, Conversation] = {}
    for agent, operation, number in program:
        rng = random.Random(number)
        old = conversations.get(agent)
        state = _start(rng) if old is None or operation == "new" else old
        if old is not None:
            _change(state, operation, rng)
        conversations[agent] = state
        body: dict[str, Any] = {"messages": state.messages, "n": 2 if operation == "many" else 1}
        if state.tools:
            body["tools"] = state.tools
        state.answer = rng.choice(await ask(sessions[agent], body))


def _start(rng: random.Random) -> Conversation:
    messages = [{"role": "user", "content": rng.choice(["hi", "π é", "one two"])}]
    if rng.random() < 0.7:
        messages.insert(0, {"role": "system", "content": "Be brief."})
    return Conversation(messages=messages, tools=[TOOL] if rng.random() < 0.5 else None)


def _change(state: Conversation, operation: str, rng: random.Random) -> None:
    if operation in ("extend", "tools", "many") and state.answer is not None:
        state.messages = [*state.messages, state.answer, *_observation(state.answer, rng)]
    if operation == "tools":
        state.tools = None if state.tools else [TOOL]
    if operation == "edit":
        position = rng.randrange(len(state.messages))
        edited = {**state.messages[position], "content": f"edited {rng.randrange(3)}"}
        state.messages = [*state.messages[:position], edited, *state.messages[position + 1 :]]
    if operation == "drop" and len(state.messages) > 3:
        state.messages = [*state.messages[:1], *state.messages[-1:]]


def _observation(answer: dict[str, Any], rng: random.Random) -> list[dict[str, Any]]:
    calls = answer.get("tool_calls") or []
    if calls:
        return [
            {"role": "tool", "tool_call_id": call["id"], "content": f"saw {rng.randrange(9)}"}
            for call in calls
        ]
    return [{"role": "user", "content": f"more {rng.randrange(9)}"}]

"""An agent's session over the scripted engine, and the genuine clients that lead to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx2
from anthropic import AsyncAnthropic
from openai import AsyncOpenAI

from ajet.context_tracker.chat_format import ChatFormat, load_chat_format
from ajet.context_tracker.tracker import ContextTracker, EpisodeRecord
from ajet.engine.base import Engine
from ajet.engine.scripted import ScriptedEngine
from ajet.gateway.apis.routes import Reply, respond
from ajet.gateway.clients.openai_client import InProcessTransport, openai_client
from ajet.gateway.gateway import AgentSession, Gateway
from ajet.gateway.request import SamplingDefaults
from tests.property.toy_tokenizer import ToyTokenizer

TOKENIZER = ToyTokenizer()
LOOK = {
    "name": "look",
    "description": "Look at it.",
    "parameters": {"type": "object", "properties": {"what": {"type": "string"}}},
}
TOOL = {"type": "function", "function": LOOK}
CALL = '<tool_call>\n{"name": "look", "arguments": {"what": "door"}}\n</tool_call>'
HELLO = [{"role": "user", "content": "hello"}]

Result = TypeVar("Result")


@dataclass
class Agent:
    """One agent of one episode, seen from both ends."""

    session: AgentSession
    record: EpisodeRecord
    engine: Any

    @property
    def tracker(self) -> ContextTracker:
        return self.record.tracker

    @property
    def openai(self) -> AsyncOpenAI:
        return openai_client(self.session)

    @property
    def anthropic(self) -> AsyncAnthropic:
        http_client = httpx2.AsyncClient(
            transport=InProcessTransport(self.session), trust_env=False
        )
        return AsyncAnthropic(
            base_url="http://ajet.invalid", api_key="k", http_client=http_client, max_retries=0
        )

    @property
    def prompts(self) -> list[str]:
        """The prompts that the engine got, as text."""
        return [TOKENIZER.decode(request.prompt_ids) for request in self.engine.requests]

    @property
    def timelines(self) -> list[str | None]:
        """The reason of each recorded call's new timeline; None if it continued one."""
        return [call.new_timeline for call in self.tracker.calls]

    async def post(self, path: str, body: Any) -> Reply:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await respond(self.session, "POST", path, content)

    async def chat(self, **body: Any) -> dict[str, Any]:
        """The body that `POST /v1/chat/completions` answers with, error or not."""
        reply = await self.post("/v1/chat/completions", {"messages": HELLO, **body})
        return json.loads(reply.body)


def agent_of(
    texts: Sequence[str],
    *,
    form: str = "qwen3",
    options: dict[str, Any] | None = None,
    delay_s: float = 0.0,
    engine: Engine | None = None,
    without_tool_calls: bool = False,
    **gateway: Any,
) -> Agent:
    """An agent whose model says `texts`, one after the other, each ended by the end of turn."""
    chat_format = format_of(form, options)
    if without_tool_calls:
        chat_format = chat_format.without_tool_calls()
    engine = engine or ScriptedEngine.from_texts(
        TOKENIZER,
        texts,
        stop_id=chat_format.stop_token_ids[0],
        max_model_len=1 << 14,
        delay_s=delay_s,
    )
    tracker = ContextTracker(chat_format, episode_id="episode", task_id="task")
    shared = Gateway(
        chat_format=chat_format,
        engine=engine,
        defaults=SamplingDefaults(max_tokens=500),
        **gateway,
    )
    record = EpisodeRecord(tracker)
    session = AgentSession(shared, record, agent_name="a", target_tag="t", trained=True)
    return Agent(session, record, engine)


def format_of(form: str, options: dict[str, Any] | None = None) -> ChatFormat:
    """A chat format over the toy tokenizer; without thinking by default."""
    if options is None:
        options = {"enable_thinking": False} if form == "qwen3" else {}
    return load_chat_format(TOKENIZER, form, options)  # type: ignore[arg-type]


def run(scenario: Callable[[], Awaitable[Result]]) -> Result:
    """Run a scenario in a new event loop."""
    return asyncio.run(scenario())  # type: ignore[arg-type]


async def only_this_task_is_left() -> bool:
    """Wait for the other tasks of the loop to end; False after 15 s, while a request takes 30 s."""
    for _ in range(1500):
        if len(asyncio.all_tasks()) == 1:
            return True
        await asyncio.sleep(0.01)
    return False


async def collect(stream: Any) -> list[Any]:
    """All items of a stream."""
    return [item async for item in stream]


async def stream_chunks(agent: Agent, **body: Any) -> list[Any]:
    return await collect(
        await agent.openai.chat.completions.create(
            model="policy", messages=HELLO, stream=True, **body
        )
    )


def joined(chunks: list[Any], index: int = 0) -> dict[str, Any]:
    """A choice's message put together from its chunks."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
    for chunk in chunks:
        for choice in chunk.choices:
            if choice.index == index:
                delta = choice.delta.model_dump()
                message["content"] += delta.get("content") or ""
                message["reasoning_content"] += delta.get("reasoning_content") or ""
                message["tool_calls"] += delta.get("tool_calls") or []
                message["finish_reason"] = choice.finish_reason
    return message

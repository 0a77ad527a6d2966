"""A policy behind a URL, whose tokens nobody knows: its conversations are recorded as text.

For trying an agent against any OpenAI-compatible server. Conversations, timelines and rewards per
call are the same as in training. Only chat completions are recorded; requests of other APIs are
forwarded without a record.
"""

from __future__ import annotations

import time
from typing import Any

from ajet.boundary import caught_error
from ajet.context_tracker.chat_format import ChatFormat, Messages, Tools
from ajet.context_tracker.tracker import EpisodeRecord
from ajet.errors import EngineError
from ajet.gateway.completion import Reply, parse_json
from ajet.gateway.upstream import Upstream, UpstreamModel
from ajet.schema.episode import Generation, SamplingParams

CHAT_COMPLETIONS = "/v1/chat/completions"
SHOWN = 200
"""Bytes of a wrong answer in the error."""


class TextOnly(ChatFormat):
    """Replaces the chat format where no text becomes token ids."""

    def __init__(self) -> None:
        self.tokenizer = None  # type: ignore[assignment]
        self.stop_token_ids = ()

    def render(self, messages: Messages, tools: Tools) -> list[int]:
        """Always no ids."""
        return []

    def extend(self, *history: Any) -> list[int]:
        """Always no ids, so that every request that continues a call extends its timeline."""
        return []


class RecordedUpstream(Upstream):
    """Forwards one agent's requests and records its chat completions as text."""

    def __init__(
        self, model: UpstreamModel, record: EpisodeRecord, agent_name: str, target_tag: str
    ) -> None:
        super().__init__(model, record)
        self._agent_name = agent_name
        self._target_tag = target_tag

    async def forward(self, path: str, body: dict[str, Any]) -> Reply:
        """Answer a request and record it.

        Raises:
            RequestError: a message that could not be used in training either.
            EngineError: the model could not be reached, or its answer is no chat completion.
        """
        if path != CHAT_COMPLETIONS:
            return await super().forward(path, body)
        started_s = time.time()
        tracker = self._record.tracker
        prompt = tracker.prompt(self._agent_name, body.get("messages") or [], body.get("tools"))
        reply = await super().forward(path, body)
        if reply.status != 200:
            return reply
        # Of other bodies, the SDK's reader of streams raises errors of many classes.
        with caught_error() as caught:
            choice, usage = _answer_of(reply.body, is_stream=bool(body.get("stream")))
        if caught.error:
            fault = EngineError(
                f"{self._model.model}: the server's answer is no chat completion: "
                f"{reply.body[:SHOWN]!r}"
            )
            self._record.add_engine_error(fault)
            raise fault from caught.error
        # The server says how many tokens there were, but not which: zeros keep the counts right.
        ids = [0] * max(1, usage.get("completion_tokens") or 0)
        call = tracker.record(
            prompt,
            Generation(token_ids=ids, logprobs=[0.0] * len(ids), policy_versions=[0] * len(ids)),
            params=SamplingParams(max_tokens=len(ids)),
            response=choice["message"] | {"role": "assistant"},  # a stream may leave the role out
            target_tag=self._target_tag,
            trained=False,
            started_s=started_s,
            ended_s=time.time(),
            finish_reason=choice.get("finish_reason") or "stop",
        )
        call.prompt_length = usage.get("prompt_tokens") or 0
        return reply


def _answer_of(body: bytes, *, is_stream: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """The first choice of an answer, and its usage. Of another body it raises any error."""
    completion = _streamed_completion(body) if is_stream else parse_json(body)
    choice, usage = completion["choices"][0], completion.get("usage") or {}
    if not isinstance(choice["message"], dict) or not isinstance(usage, dict):
        raise TypeError("a message and the usage are objects")
    return choice, usage


def _streamed_completion(body: bytes) -> dict[str, Any]:
    """The completion that a stream of chunks adds up to."""
    from openai.lib.streaming.chat import ChatCompletionStreamState
    from openai.types.chat import ChatCompletionChunk

    state = ChatCompletionStreamState()
    for line in body.splitlines():
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data != b"[DONE]":
            state.handle_chunk(ChatCompletionChunk.model_validate_json(data))
    # Not the final completion: the SDK refuses to make one of an answer that was cut by its limit.
    return state.current_completion_snapshot.model_dump(exclude_none=True)

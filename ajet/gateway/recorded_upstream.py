"""A policy that answers elsewhere, behind a URL: nothing is known of its tokens.

For trying an agent against any OpenAI-compatible server. Chat completions are recorded as text, so
that the conversation, its timelines and rewards per call are what they would be in training;
requests of other APIs go on to the server unrecorded.
"""

from __future__ import annotations

import time
from typing import Any

from ajet.context_tracker.chat_format import ChatFormat, Messages, Tools
from ajet.context_tracker.tracker import ContextTracker
from ajet.gateway.reply import Reply, parse_json
from ajet.gateway.upstream import Upstream, UpstreamModel
from ajet.schema.generation import Generation, SamplingParams

CHAT_COMPLETIONS = "/v1/chat/completions"


class TextOnly(ChatFormat):
    """Stands in for the chat format where no text becomes token ids."""

    def __init__(self) -> None:
        self.tokenizer = None  # type: ignore[assignment]
        self.stop_token_ids = ()

    def render(self, messages: Messages, tools: Tools) -> list[int]:
        """No ids."""
        return []

    def extend(self, *history: Any) -> list[int]:
        """None that are added."""
        return []


class RecordedUpstream(Upstream):
    """Sends one agent's requests on and records what was said."""

    def __init__(
        self, model: UpstreamModel, tracker: ContextTracker, agent_name: str, target_tag: str
    ) -> None:
        super().__init__(model, tracker)
        self._agent_name = agent_name
        self._target_tag = target_tag

    async def forward(self, path: str, body: dict[str, Any]) -> Reply:
        """Answer a request.

        Raises:
            RequestError: messages that could not be trained on either.
            EngineError: there is no answer.
        """
        if path != CHAT_COMPLETIONS:
            return await super().forward(path, body)
        started_s = time.time()
        prompt = self._tracker.prompt(
            self._agent_name, body.get("messages") or [], body.get("tools")
        )
        reply = await super().forward(path, body)
        if reply.status != 200:
            return reply
        completion = _streamed(reply.body) if body.get("stream") else parse_json(reply.body)
        choice, usage = completion["choices"][0], completion.get("usage") or {}
        # As many ids as the server counted: which ones, it does not say.
        ids = [0] * max(1, usage.get("completion_tokens", 0))
        call = self._tracker.record(
            prompt,
            Generation(token_ids=ids, logprobs=[0.0] * len(ids), policy_versions=[0] * len(ids)),
            params=SamplingParams(max_tokens=len(ids)),
            response=choice["message"] | {"role": "assistant"},  # a stream may not say it
            target_tag=self._target_tag,
            trained=False,
            started_s=started_s,
            ended_s=time.time(),
            finish_reason=choice["finish_reason"],
        )
        call.prompt_length = usage.get("prompt_tokens", 0)
        return reply


def _streamed(body: bytes) -> dict[str, Any]:
    """The completion that a stream of chunks is the parts of."""
    from openai.lib.streaming.chat import ChatCompletionStreamState
    from openai.types.chat import ChatCompletionChunk

    state = ChatCompletionStreamState()
    for line in body.splitlines():
        data = line.removeprefix(b"data:").strip()
        if line.startswith(b"data:") and data != b"[DONE]":
            state.handle_chunk(ChatCompletionChunk.model_validate_json(data))
    return state.get_final_completion().model_dump(exclude_none=True)

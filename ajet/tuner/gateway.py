"""The one door-keeper between agents and the engine.

A request comes in as an OpenAI chat-completion body, becomes token ids, is answered by the engine
and recorded as ids; the answer goes out as the API's own object. Every door leads here.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from dataclasses import dataclass, field
from typing import Any

from ajet.context_tracker.chat_format import ChatFormat
from ajet.context_tracker.tracker import ContextTracker, Prompt
from ajet.engine.base import Engine
from ajet.errors import ContextLengthError, EngineError, RequestError
from ajet.schema.generation import SamplingParams
from ajet.tuner.chat_completion import Choice, completion_body, make_choice
from ajet.tuner.chat_request import ChatRequest, SamplingDefaults, parse_chat_request
from ajet.tuner.http_door import HttpDoor

MODEL_NAME = "policy"
"""What the policy is called in requests and answers; any other name is accepted too."""


@dataclass(slots=True, kw_only=True)
class Gateway:
    """What all episodes of a run share."""

    chat_format: ChatFormat
    engine: Engine
    defaults: SamplingDefaults
    call_timeout_s: float = 300.0
    http_door: HttpDoor = field(default_factory=HttpDoor)


class AgentPort:
    """One agent of one episode: its requests are answered and recorded here."""

    def __init__(
        self,
        gateway: Gateway,
        tracker: ContextTracker,
        *,
        agent_name: str,
        target_tag: str,
        trained: bool,
    ) -> None:
        self.agent_name = agent_name
        self.closed = False
        self._gateway = gateway
        self._tracker = tracker
        self._target_tag = target_tag
        self._trained = trained

    async def chat_completions(self, body: Any) -> dict[str, Any]:
        """Answer one request.

        Raises:
            RequestError: the request is at fault; nothing is recorded.
            EngineError: the engine is; kept in `tracker.engine_error` as well, because client
                libraries turn it into an exception of their own.
        """
        if self.closed:
            raise RequestError("this episode is over", code="episode_over", status=410)
        request = parse_chat_request(body)
        started_s = time.time()
        prompts = [
            self._tracker.prompt(self.agent_name, request.messages, request.visible_tools)
            for _ in range(request.n)
        ]
        try:
            choices = await asyncio.gather(
                *(self._answer(request, prompt, started_s) for prompt in prompts)
            )
        except EngineError as error:
            self._tracker.engine_error = self._tracker.engine_error or error
            raise
        name = f"chatcmpl-{self._tracker.episode_id}-{prompts[0].arrival}"
        return completion_body(name, MODEL_NAME, int(started_s), len(prompts[0].ids), choices)

    async def _answer(self, request: ChatRequest, prompt: Prompt, started_s: float) -> Choice:
        gateway, tracker = self._gateway, self._tracker
        room = gateway.engine.max_model_len - len(prompt.ids)
        if room < 1:
            raise ContextLengthError(len(prompt.ids), gateway.engine.max_model_len)
        params = request.sampling(
            gateway.defaults,
            gateway.chat_format.stop_token_ids,
            seed=call_seed(tracker.episode_id, prompt.arrival),
        )
        generation = await self._generate(prompt, params)
        choice = make_choice(
            gateway.chat_format,
            prompt,
            generation,
            params,
            call_name=f"{tracker.episode_id[:8]}_{prompt.arrival}",
            with_logprobs=bool(request.logprobs),
        )
        if self.closed:
            raise RequestError("this episode is over", code="episode_over", status=410)
        tracker.record(
            prompt,
            generation,
            params=params,
            response=choice.message,
            target_tag=self._target_tag,
            trained=self._trained,
            started_s=started_s,
            ended_s=time.time(),
            finish_reason=choice.finish_reason,
        )
        return choice

    async def _generate(self, prompt: Prompt, params: SamplingParams) -> Any:
        limit_s = self._gateway.call_timeout_s
        session = self._tracker.episode_id
        try:
            async with asyncio.timeout(limit_s):
                return await self._gateway.engine.generate(prompt.ids, params, session=session)
        except TimeoutError:
            raise EngineError(
                f"no answer within {limit_s:g} s (rollout.call_timeout_s) to a call of "
                f"{len(prompt.ids)} prompt tokens"
            ) from None


def call_seed(episode_id: str, arrival: int) -> int:
    """The sampling seed of a call: a function of names, never of timing. 63 bits."""
    digest = hashlib.blake2b(f"{episode_id}/{arrival}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1

"""The one door-keeper between agents and the engine.

A request becomes token ids, is answered by the engine and recorded as ids. Every door, and every
API that a door speaks, leads here.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ajet.context_tracker.call_markup import call_closing
from ajet.context_tracker.chat_format import ChatFormat
from ajet.context_tracker.tracker import ContextTracker, Prompt, check_generation
from ajet.engine.base import Engine, OnToken
from ajet.errors import ContextLengthError, EngineError, RequestError
from ajet.gateway.apis.chat_completions.request import ChatRequest, SamplingDefaults
from ajet.gateway.bell import StreamNotifier
from ajet.gateway.clients.http_endpoint import HttpEndpoint
from ajet.gateway.completion import Choice, Completion, Delta, make_choice
from ajet.gateway.pending import PendingCompletion, PendingRequest
from ajet.gateway.prefill import begin_turn, split_prefill
from ajet.gateway.stored_turns import StoredTurns
from ajet.gateway.stream import ChoiceStream
from ajet.gateway.upstream import Upstream
from ajet.schema.generation import Generation, SamplingParams

MODEL_NAME = "policy"
"""What the policy is called in requests and answers; any other name is accepted too."""


@dataclass(slots=True, kw_only=True)
class Gateway:
    """What all episodes of a run share."""

    chat_format: ChatFormat
    engine: Engine
    defaults: SamplingDefaults
    call_timeout_s: float = 300.0
    http_endpoint: HttpEndpoint = field(default_factory=HttpEndpoint)
    make_upstream: Callable[[ContextTracker, str, str], Upstream] | None = None
    """From tracker, agent_name and target_tag to what answers in the engine's place; None: the
    engine answers."""


class AgentSession:
    """One agent of one episode: its requests are answered and recorded here.

    What is refused, fails or is cancelled leaves no trace in the record. Engine errors are kept in
    `tracker.engine_error` as well, because client libraries turn them into their own.
    """

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
        self.upstream: Upstream | None = None
        """Answers instead of the policy, where it is set."""
        self.stored_turns = StoredTurns()
        self._gateway = gateway
        self._tracker = tracker
        self._target_tag = target_tag
        self._trained = trained

    def ask(self, request: ChatRequest) -> PendingRequest:
        """Check a request and render it.

        Raises:
            RequestError: it cannot be honoured, or the episode is over.
        """
        self.check_open()
        started_s = time.time()
        history, prefill = split_prefill(request)
        wanted = [self._want(request, history, prefill, i) for i in range(request.num_choices)]
        length, max_model_len = len(wanted[0].prompt.ids), self._gateway.engine.max_model_len
        if length >= max_model_len:
            self._tracker.context_overflows += 1
            raise ContextLengthError(length, max_model_len)
        name = f"{self._tracker.episode_id}-{wanted[0].prompt.arrival}"
        return PendingRequest(request=request, name=name, wanted=wanted, started_s=started_s)

    async def answer(self, asked: PendingRequest) -> Completion:
        """Answer all at once.

        Raises:
            EngineError: the engine failed.
            RequestError: the episode ended meanwhile.
        """
        generations = await self._generate_all(asked)
        return self._record(asked, generations, self._choices(asked, generations))

    async def stream(self, asked: PendingRequest) -> AsyncGenerator[Delta | Completion, None]:
        """Answer piece by piece: deltas, and the whole answer at last.

        Closing the iterator cancels the request. It is recorded just before the answer is given.

        Raises:
            EngineError: the engine failed.
            RequestError: the episode ended meanwhile.
        """
        bell, chat_format = StreamNotifier(), self._gateway.chat_format
        streams = [ChoiceStream(i, chat_format, w, bell) for i, w in enumerate(asked.wanted)]
        asking = asyncio.create_task(self._generate_all(asked, [s.put for s in streams]))
        asking.add_done_callback(bell.end)
        try:
            while not asking.done():
                await bell.wait()
                for stream in streams:
                    if (delta := stream.advance()) is not None:
                        yield delta
            generations = asking.result()
        finally:
            asking.cancel()
        choices = self._choices(asked, generations)
        rests = [s.finish(choice.message) for s, choice in zip(streams, choices, strict=True)]
        answer = self._record(asked, generations, choices)
        for rest in rests:
            if rest is not None:
                yield rest
        yield answer

    def check_open(self) -> None:
        """Raise `RequestError` if the episode is over."""
        if self.closed:
            raise RequestError("this episode is over", code="episode_over", status=410)

    def _want(
        self, request: ChatRequest, history: list[dict[str, Any]], prefill: str, index: int
    ) -> PendingCompletion:
        """Number `index` of the completions that the request asks for."""
        chat_format, episode_id = self._gateway.chat_format, self._tracker.episode_id
        prompt = self._tracker.prompt(self.agent_name, history, request.visible_tools)
        begin_turn(chat_format, prompt, request, prefill)
        seed = call_seed(episode_id, prompt.arrival)
        if request.seed is not None:
            seed = request.seed + index
        stop_ids, one_call = chat_format.stop_token_ids, request.parallel_tool_calls is False
        if one_call and request.visible_tools:
            closing = call_closing(chat_format)
            stop_ids += () if closing is None else (closing,)
        return PendingCompletion(
            prompt=prompt,
            params=request.sampling(self._gateway.defaults, stop_ids, seed),
            name=f"{episode_id[:8]}_{prompt.arrival}",
            prefill=prefill,
            max_calls=1 if one_call else None,
            with_logprobs=bool(request.logprobs),
        )

    async def _generate_all(
        self, asked: PendingRequest, on_token: Sequence[OnToken | None] = ()
    ) -> list[Generation]:
        """One generation for each completion; the first failure cancels the others."""
        listeners = on_token or [None] * len(asked.wanted)
        calls = [
            self._generate(wanted.prompt, wanted.params, listener)
            for wanted, listener in zip(asked.wanted, listeners, strict=True)
        ]
        if len(calls) == 1:
            return [await calls[0]]
        tasks = [asyncio.create_task(call) for call in calls]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _generate(
        self, prompt: Prompt, params: SamplingParams, on_token: OnToken | None
    ) -> Generation:
        limit_s, engine = self._gateway.call_timeout_s, self._gateway.engine
        session = self._tracker.episode_id
        try:
            async with asyncio.timeout(limit_s):
                generation = await engine.generate(
                    prompt.ids, params, session=session, on_token=on_token
                )
            check_generation(generation)
            return generation
        except TimeoutError:
            error = EngineError(
                f"no answer within {limit_s:g} s (rollout.call_timeout_s) to a call of "
                f"{len(prompt.ids)} prompt tokens"
            )
        except EngineError as fault:
            error = fault
        self._tracker.engine_error = self._tracker.engine_error or error
        raise error

    def _choices(self, asked: PendingRequest, generations: list[Generation]) -> list[Choice]:
        return [
            make_choice(self._gateway.chat_format, wanted, generation)
            for wanted, generation in zip(asked.wanted, generations, strict=True)
        ]

    def _record(
        self, asked: PendingRequest, generations: list[Generation], choices: list[Choice]
    ) -> Completion:
        self.check_open()
        for wanted, generation, choice in zip(asked.wanted, generations, choices, strict=True):
            self._tracker.record(
                wanted.prompt,
                generation,
                params=wanted.params,
                response=choice.message,
                target_tag=self._target_tag,
                trained=self._trained,
                started_s=asked.started_s,
                ended_s=time.time(),
                finish_reason=choice.finish_reason,
            )
        return Completion(
            name=asked.name,
            created=asked.created,
            prompt_tokens=asked.prompt_tokens,
            choices=choices,
        )


def call_seed(episode_id: str, arrival: int) -> int:
    """The sampling seed of a call: a function of names, never of timing. 63 bits."""
    digest = hashlib.blake2b(f"{episode_id}/{arrival}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1

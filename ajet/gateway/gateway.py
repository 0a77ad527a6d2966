"""The gateway between agents and the engine.

A request becomes token ids, the engine continues them, and the tracker records both. Every client
and every wire API ends here, so what this module does holds for all of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ajet.context_tracker.call_markup import call_closing
from ajet.context_tracker.chat_format import ChatFormat
from ajet.context_tracker.tracker import EpisodeRecord, Prompt, check_generation
from ajet.engine.base import Engine, OnToken
from ajet.errors import ContextLengthError, EngineError, RequestError
from ajet.gateway.completion import (
    Choice,
    Completion,
    Delta,
    PendingCompletion,
    PendingRequest,
    make_choice,
    split_prefill,
    with_prefill,
)
from ajet.gateway.completion_checks import CheckedCompletion, failed_checks
from ajet.gateway.request import ChatRequest, Notices, SamplingDefaults
from ajet.gateway.response_format import (
    ResponseFormatMode,
    grammar_of,
    with_instruction,
    without_fence,
)
from ajet.gateway.stream import ChoiceStream, StreamNotifier
from ajet.gateway.upstream import Upstream
from ajet.schema.episode import Generation, SamplingParams

MODEL_NAME = "policy"
"""The policy's name in requests and answers; requests may use any other name too."""


@dataclass(slots=True, kw_only=True)
class Gateway:
    """What all episodes of a phase share."""

    chat_format: ChatFormat
    engine: Engine
    defaults: SamplingDefaults
    call_timeout_s: float = 300.0
    response_format: ResponseFormatMode = "prompt"
    """What a request's `response_format` does: its schema becomes part of the prompt, which the
    engine may also enforce, or the request is refused."""
    checklist: tuple[str, ...] = ()
    """Names of the rules (`completion_checks.CHECKS`) that completions of trained agents must
    pass."""
    ends_at_failed_check: bool = False
    """End an episode at its first completion that fails a rule."""
    make_upstream: Callable[[EpisodeRecord, str, str], Upstream] | None = None
    """Makes, from record, agent_name and target_tag, the model that answers instead of the engine.
    None: the engine answers."""
    notices: Notices = field(default_factory=Notices)
    """Says what requests set without effect, once for each parameter."""


class AgentSession:
    """One agent of one episode: answers its requests and records them.

    A request that is refused, fails or is cancelled leaves no trace in the record of tokens.
    """

    def __init__(
        self,
        gateway: Gateway,
        record: EpisodeRecord,
        *,
        agent_name: str,
        target_tag: str,
        trained: bool,
    ) -> None:
        self.agent_name = agent_name
        self.closed = False
        """The episode is over: refuse every request."""
        self.upstream: Upstream | None = None
        """The model that answers instead of the policy, if there is one."""
        self.stored_turns = StoredTurns()
        self._gateway = gateway
        self._record = record
        self._tracker = record.tracker
        self._target_tag = target_tag
        self._trained = trained
        self._close_callbacks: list[Callable[[], None]] = []

    @property
    def max_model_len(self) -> int:
        """Tokens that prompt and completion may have together."""
        return self._gateway.engine.max_model_len

    @property
    def notices(self) -> Notices:
        """Reports request parameters that have no effect."""
        return self._gateway.notices

    def prepare(self, request: ChatRequest) -> PendingRequest:
        """Check a request and render it to token ids.

        Raises:
            RequestError: it cannot be honoured, or the episode is over.
        """
        self.check_open()
        started_s = time.time()
        history, prefill = split_prefill(request)
        completions = [
            self._pending_completion(request, history, prefill, index)
            for index in range(request.num_choices)
        ]
        prompt = completions[0].prompt
        if len(prompt.ids) >= self.max_model_len:
            self._record.add_context_overflow()
            raise ContextLengthError(len(prompt.ids), self.max_model_len)
        name = f"{self._tracker.episode_id}-{prompt.arrival}"
        return PendingRequest(
            request=request, name=name, completions=completions, started_s=started_s
        )

    def count_tokens(self, request: ChatRequest) -> int:
        """Number of tokens in the prompt of a request that is not answered.

        Raises:
            RequestError: it cannot be honoured, or the episode is over.
        """
        self.check_open()
        history, prefill = split_prefill(request)
        return len(self._prompt(request, history, prefill, is_counted=False).ids)

    async def complete(self, pending: PendingRequest) -> Completion:
        """Sample all completions of a request and record them.

        Raises:
            EngineError: the engine failed.
            RequestError: the episode ended meanwhile.
        """
        generations = await self._generate_all(pending)
        choices = self._choices(pending, generations)
        return self._record_all(pending, generations, choices)

    async def stream(self, pending: PendingRequest) -> AsyncGenerator[Delta | Completion, None]:
        """Sample all completions of a request: yields deltas, and at last the completion.

        The request is recorded just before the completion is yielded. Closing the iterator cancels
        the request.

        Raises:
            EngineError: the engine failed.
            RequestError: the episode ended meanwhile.
        """
        notifier, chat_format = StreamNotifier(), self._gateway.chat_format
        streams = [
            ChoiceStream(
                index,
                chat_format,
                pending_completion,
                notifier,
                is_json=pending.request.demanded_format is not None,
            )
            for index, pending_completion in enumerate(pending.completions)
        ]
        # A task of its own, so that this loop can emit deltas while the engine works.
        generating = asyncio.create_task(self._generate_all(pending, [s.put for s in streams]))
        generating.add_done_callback(notifier.end)
        try:
            while not generating.done():
                await notifier.wait()
                for stream in streams:
                    if (delta := stream.advance()) is not None:
                        yield delta
            generations = generating.result()
        finally:
            generating.cancel()  # reached with a running task if the reader closes the iterator
        choices = self._choices(pending, generations)
        # Before recording: `finish` may change a message to match what was already streamed, and
        # the record must hold the message that the agent got.
        rests = [s.finish(choice.message) for s, choice in zip(streams, choices, strict=True)]
        completion = self._record_all(pending, generations, choices)
        for rest in rests:
            if rest is not None:
                yield rest
        yield completion

    def check_open(self) -> None:
        """Raise `RequestError` if the episode is over."""
        self._check_not_closed()
        if (rule := self._record.ended_by_check) is not None:
            raise RequestError(
                f"a completion failed the check {rule}, which ends the episode "
                "(rollout.agent_madness_termination)",
                code="failed_check",
            )

    def on_close(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the session is closed."""
        self._close_callbacks.append(callback)

    def close(self) -> None:
        """Refuse every later request, because the episode is over; safe to call from any thread."""
        self.closed = True
        for callback in self._close_callbacks:
            callback()

    def _check_not_closed(self) -> None:
        if self.closed:
            raise RequestError("this episode is over", code="episode_over", status=410)

    def _pending_completion(
        self, request: ChatRequest, history: list[dict[str, Any]], prefill: str, index: int
    ) -> PendingCompletion:
        chat_format, episode_id = self._gateway.chat_format, self._tracker.episode_id
        prompt = self._prompt(request, history, prefill)
        seed = call_seed(episode_id, prompt.arrival)
        if request.seed is not None:
            seed = request.seed + index
        stop_ids, one_call = chat_format.stop_token_ids, request.parallel_tool_calls is False
        if one_call and prompt.tools:
            closing = call_closing(chat_format)
            stop_ids += () if closing is None else (closing,)
        params = request.sampling(self._gateway.defaults, stop_ids, seed)
        demanded = request.demanded_format
        if demanded is not None and self._gateway.response_format == "constrain":
            grammar = grammar_of(chat_format, prompt, demanded)
            params = replace(params, grammar=grammar)
        return PendingCompletion(
            prompt=prompt,
            params=params,
            name=f"{episode_id[:8]}_{prompt.arrival}",
            prefill=prefill,
            max_calls=1 if one_call else None,
            with_logprobs=bool(request.logprobs),
        )

    def _prompt(
        self,
        request: ChatRequest,
        history: list[dict[str, Any]],
        prefill: str,
        is_counted: bool = True,
    ) -> Prompt:
        chat_format = self._gateway.chat_format
        request.check_thinking(chat_format.enable_thinking)
        if (demanded := request.demanded_format) is not None:
            history = with_instruction(history, demanded, self._gateway.response_format)
        tools = request.visible_tools if chat_format.parses_tool_calls else None
        prompt = self._tracker.prompt(self.agent_name, history, tools, is_counted=is_counted)
        return with_prefill(chat_format, prompt, request, prefill)

    async def _generate_all(
        self, pending: PendingRequest, on_token: Sequence[OnToken | None] = ()
    ) -> list[Generation]:
        """One generation per pending completion; the first failure cancels the others."""
        listeners = on_token or [None] * len(pending.completions)
        calls = [
            self._generate(pending_completion.prompt, pending_completion.params, listener)
            for pending_completion, listener in zip(pending.completions, listeners, strict=True)
        ]
        if len(calls) == 1:  # the usual case, without the cost of a task
            return [await calls[0]]
        tasks = [asyncio.create_task(call) for call in calls]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:  # `gather` leaves the others running when one fails
                task.cancel()

    async def _generate(
        self, prompt: Prompt, params: SamplingParams, on_token: OnToken | None
    ) -> Generation:
        limit_s, engine = self._gateway.call_timeout_s, self._gateway.engine
        session = self._tracker.episode_id
        try:
            async with asyncio.timeout(limit_s):
                with self._record.open_call(self.agent_name):
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
        except EngineError as engine_error:
            error = engine_error
        self._record.add_engine_error(error)
        raise error

    def _choices(self, pending: PendingRequest, generations: list[Generation]) -> list[Choice]:
        choices = [
            make_choice(self._gateway.chat_format, pending_completion, generation)
            for pending_completion, generation in zip(pending.completions, generations, strict=True)
        ]
        if pending.request.demanded_format is not None:
            for choice in choices:
                choice.message = without_fence(choice.message)
        return choices

    def _record_all(
        self, pending: PendingRequest, generations: list[Generation], choices: list[Choice]
    ) -> Completion:
        # Again, because the episode may have ended while the engine worked: its samples are
        # already built then, and a late call must not appear in the record.
        self._check_not_closed()
        for pending_completion, generation, choice in zip(
            pending.completions, generations, choices, strict=True
        ):
            self._tracker.record(
                pending_completion.prompt,
                generation,
                params=pending_completion.params,
                response=choice.message,
                target_tag=self._target_tag,
                trained=self._trained,
                started_s=pending.started_s,
                ended_s=time.time(),
                finish_reason=choice.finish_reason,
                failed_checks=self._failed_checks(pending_completion.prompt, choice),
            )
        # After recording, so that the completion that ended the episode is trained.
        self.check_open()
        return Completion(
            name=pending.name,
            created=pending.created,
            prompt_tokens=pending.prompt_tokens,
            choices=choices,
        )

    def _failed_checks(self, prompt: Prompt, choice: Choice) -> list[str]:
        gateway = self._gateway
        if not (self._trained and gateway.checklist):
            return []
        checked = CheckedCompletion(
            message=choice.message,
            malformed_tool_calls=choice.malformed_tool_calls,
            tools=prompt.tools or [],
        )
        failed = failed_checks(checked, gateway.checklist)
        if failed and gateway.ends_at_failed_check:
            self._record.ended_by_check = failed[0]
        return failed


def call_seed(episode_id: str, arrival: int) -> int:
    """The sampling seed of a call, 63 bits."""
    # Derived from names only, so that timing cannot change what a run samples.
    digest = hashlib.blake2b(f"{episode_id}/{arrival}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@dataclass(slots=True, kw_only=True)
class StoredTurn:
    """One request and its answer."""

    previous: StoredTurn | None
    messages: list[dict[str, Any]]
    """The messages that the request added, without its instructions, and the answer."""

    def history(self) -> list[dict[str, Any]]:
        """All messages from the first turn up to this turn's answer."""
        turns: list[StoredTurn] = []
        turn: StoredTurn | None = self
        while turn is not None:
            turns.append(turn)
            turn = turn.previous
        return [message for turn in reversed(turns) for message in turn.messages]


class StoredTurns:
    """The stored turns of one agent in one episode."""

    def __init__(self) -> None:
        self._turns: dict[str, StoredTurn] = {}

    def find(self, response_id: str | None) -> StoredTurn | None:
        """The turn with that id; None if the id is None.

        Raises:
            RequestError: there is no such turn.
        """
        if response_id is None:
            return None
        turn = self._turns.get(response_id)
        if turn is None:
            raise RequestError(
                f"previous_response_id: {response_id!r} is no stored response of this agent",
                param="previous_response_id",
                code="previous_response_not_found",
            )
        return turn

    def add(
        self, response_id: str, previous: StoredTurn | None, messages: list[dict[str, Any]]
    ) -> None:
        """Store a turn."""
        self._turns[response_id] = StoredTurn(previous=previous, messages=messages)

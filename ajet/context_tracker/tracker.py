"""Records one episode: its calls as token ids, which call continues which, and its faults."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from ajet.context_tracker.chat_format import ChatFormat, Tools
from ajet.context_tracker.history import History, Match, normalize_messages
from ajet.context_tracker.samples import SampleLimits, build_samples
from ajet.errors import EngineError
from ajet.schema.episode import Call, Generation, NewTimelineReason, Sample, SamplingParams


@dataclass(slots=True, kw_only=True)
class Prompt:
    """A request as token ids, before the engine answers it."""

    arrival: int
    """Position among the episode's requests, from 0."""
    agent_name: str
    ids: list[int]
    """The whole prompt, as the engine gets it."""
    parent: Call | None
    new_timeline: NewTimelineReason | None
    messages: list[dict[str, Any]]
    """All of the request's messages, normalized."""
    num_covered: int
    """Leading messages that the parent's request and answer cover."""
    tools: Tools
    match: Match | None = None
    """The request's place in the agent's history; a prompt can be recorded only with it."""
    num_prefilled: int = 0
    """Ids at the end of the prompt that begin the assistant's turn; they are unsampled."""


class ContextTracker:
    """Records an episode's calls and merges them into samples.

    `prompt` turns a request into ids; `record` stores it with the engine's completion. Both are
    short and safe to call from any thread. Nothing is recorded between them, so a request that is
    cancelled leaves no trace.
    """

    def __init__(self, chat_format: ChatFormat, *, episode_id: str = "", task_id: str = "") -> None:
        self.chat_format = chat_format
        self.episode_id = episode_id
        self.task_id = task_id
        self._histories: dict[str, History] = {}
        self._calls: dict[str, Call] = {}
        self._contexts: dict[str, tuple[list[int], list[int]]] = {}
        """Newest call of each timeline -> its prompt and completion, which are not copied."""
        self._num_requests = 0
        self._lock = threading.Lock()

    @property
    def calls(self) -> list[Call]:
        """The answered calls in the order of their requests, with `index` set from 0."""
        with self._lock:
            calls = sorted(self._calls.values(), key=lambda call: call.call_id)
        for index, call in enumerate(calls):
            call.index = index
        return calls

    def samples(self, limits: SampleLimits | None = None) -> tuple[list[Sample], dict[str, int]]:
        """The training samples, and the dropped tokens by rule; see `build_samples`."""
        return build_samples(self.calls, self.episode_id, self.task_id, limits)

    def prompt(
        self,
        agent_name: str,
        messages: list[dict[str, Any]],
        tools: Tools,
        *,
        is_counted: bool = True,
    ) -> Prompt:
        """Turn a request into ids: the recorded ids of the call that it continues, then the new.

        Args:
            agent_name: of the agent that asks.
            messages: of the request.
            tools: that the model gets to see.
            is_counted: False: the request is not one of the episode's, and is never recorded.

        Raises:
            RequestError: a message cannot be rendered.
        """
        # Rendering, the expensive part, happens outside the lock.
        with self._lock:
            history = self._histories.setdefault(agent_name, History())
            match = history.find(messages)
            arrival = self._num_requests
            self._num_requests += is_counted
            first = history.empty
            parent = self._calls[match.call_id] if match.call_id is not None else None
            is_of_another = parent is None and any(
                other.find(messages).call_id is not None for other in self._histories.values()
            )
        messages = match.messages
        reason: NewTimelineReason | None = None
        ids: list[int] | None = None
        if is_of_another:
            reason = "another_agent"
        elif parent is None:
            reason = "first_call" if first else _why_unknown(match, messages)
        elif parent.tools != tools:
            reason = "tools_changed"
        else:
            ids = self._continue(parent, messages[match.num_messages :], tools)
            if ids is None:
                added = messages[match.num_messages :]
                foreign = not added or any(message["role"] == "assistant" for message in added)
                reason = "history_edited" if foreign else "template_rewrote_history"
        return Prompt(
            arrival=arrival,
            agent_name=agent_name,
            ids=ids if ids is not None else self.chat_format.render(messages, tools),
            parent=parent if reason is None else None,
            new_timeline=reason,
            messages=messages,
            num_covered=match.num_messages if reason is None else 0,
            tools=tools,
            match=match,
        )

    def record(
        self,
        prompt: Prompt,
        generation: Generation,
        *,
        params: SamplingParams,
        response: dict[str, Any],
        target_tag: str,
        trained: bool,
        started_s: float,
        ended_s: float,
        finish_reason: str,
        failed_checks: list[str] | None = None,
    ) -> Call:
        """Store an answered request. Its generation must have passed `check_generation`."""
        assert prompt.match is not None
        parent_length = 0 if prompt.parent is None else _context_length(prompt.parent)
        call = Call(
            call_id=f"c{prompt.arrival:06d}",
            index=prompt.arrival,
            agent_name=prompt.agent_name,
            target_tag=target_tag,
            trained=trained,
            parent_id=None if prompt.parent is None else prompt.parent.call_id,
            new_timeline=prompt.new_timeline,
            prompt_length=len(prompt.ids),
            delta_ids=np.array(prompt.ids[parent_length:], np.int32),
            completion_ids=np.array(generation.token_ids, np.int32),
            logprobs=np.array(generation.logprobs, np.float32),
            policy_versions=np.array(generation.policy_versions, np.int32),
            temperature=params.temperature if params.temperature > 0 else 1.0,
            grammar=params.grammar or "",
            finish_reason=finish_reason,
            messages=prompt.messages[prompt.num_covered :],
            tools=prompt.tools,
            response=response,
            failed_checks=failed_checks or [],
            started_s=started_s,
            ended_s=ended_s,
        )
        response_message = normalize_messages([response])[0]
        with self._lock:
            self._calls[call.call_id] = call
            self._contexts[call.call_id] = prompt.ids, generation.token_ids
            if prompt.parent is not None:
                self._contexts.pop(prompt.parent.call_id, None)
            self._histories[prompt.agent_name].add(prompt.match, response_message, call.call_id)
        return call

    def _continue(
        self, parent: Call, new_messages: list[dict[str, Any]], tools: Tools
    ) -> list[int] | None:
        if not new_messages:
            return None
        prompt_ids, completion_ids = self._context(parent)
        delta = self.chat_format.extend(prompt_ids, completion_ids, new_messages, tools)
        return None if delta is None else [*prompt_ids, *completion_ids, *delta]

    def _context(self, call: Call) -> tuple[list[int], list[int]]:
        """Prompt and completion: kept for the newest call of a timeline, else put together."""
        with self._lock:
            kept = self._contexts.get(call.call_id)
            if kept is not None:
                return kept
            parts: list[np.ndarray] = []
            ancestor: Call | None = call
            while ancestor is not None:
                parts += [ancestor.completion_ids, ancestor.delta_ids]
                parent_id = ancestor.parent_id
                ancestor = None if parent_id is None else self._calls[parent_id]
        ids: list[int] = np.concatenate(parts[::-1]).tolist()
        return ids[: call.prompt_length], ids[call.prompt_length :]


def _context_length(call: Call) -> int:
    return call.prompt_length + len(call.completion_ids)


def _why_unknown(match: Match, messages: list[dict[str, Any]]) -> NewTimelineReason:
    if match.num_known == len(messages):
        return "repeated_request"
    head = next(
        (i for i, message in enumerate(messages) if message["role"] != "system"), len(messages)
    )
    return "new_conversation" if match.num_known <= head else "history_edited"


def check_generation(generation: Generation) -> None:
    """Check the assumptions that the record relies on.

    Raises:
        EngineError: the generation has no token, or ids and logprobs differ in number.
    """
    lengths = (
        len(generation.token_ids),
        len(generation.logprobs),
        len(generation.policy_versions),
    )
    if not lengths[0] or len(set(lengths)) > 1:
        raise EngineError(
            "the engine returned {} token ids, {} logprobs and {} policy versions; "
            "expected equally many, and at least one".format(*lengths)
        )


@dataclass(slots=True, kw_only=True, frozen=True)
class OpenCall:
    """A request that the engine has not answered yet."""

    agent_name: str
    since_s: float
    """Unix time, seconds."""


class EpisodeRecord:
    """The record of one episode, shared by all of its agents; safe to use from any thread.

    Tokens are in `tracker`. Faults are kept here because client libraries turn exceptions into
    their own, so that the runner could not tell a failed engine from a failed workflow.
    """

    def __init__(self, tracker: ContextTracker) -> None:
        self.tracker = tracker
        self.engine_error: EngineError | None = None
        """The first infrastructure fault of the episode."""
        self.context_overflows = 0
        """Requests that were refused because the context was full."""
        self.ended_by_check: str | None = None
        """The rule that ended the episode (`rollout.agent_madness_termination`), if one did."""
        self._lock = threading.Lock()
        self._open_calls: dict[int, OpenCall] = {}

    @contextmanager
    def open_call(self, agent_name: str) -> Iterator[None]:
        """Note that an agent waits for the engine until the block ends."""
        call = OpenCall(agent_name=agent_name, since_s=time.time())
        self._open_calls[id(call)] = call
        try:
            yield
        finally:
            del self._open_calls[id(call)]

    @property
    def open_calls(self) -> list[OpenCall]:
        """The requests that the engine has not answered yet."""
        return list(self._open_calls.values())

    @property
    def context_overflow(self) -> bool:
        """Whether a request of this episode was refused because the context was full."""
        return self.context_overflows > 0

    @property
    def calls(self) -> list[Call]:
        """The answered calls, in the order of their requests."""
        return self.tracker.calls

    def add_engine_error(self, error: EngineError) -> None:
        """Keep an infrastructure fault, if it is the first: later ones may follow from it."""
        with self._lock:
            self.engine_error = self.engine_error or error

    def add_context_overflow(self) -> None:
        """Count a request that was refused because the context was full."""
        with self._lock:  # agents of one episode may be served by different threads
            self.context_overflows += 1

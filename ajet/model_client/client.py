"""Asks one model: limits, retries, kept answers, a budget, and a record of every call.

All work of all clients of a process happens on one event loop in a thread of its own, so a client
can be made in `__init__` and used from any number of threads and event loops.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from ajet.background_loop import BackgroundLoop
from ajet.config.sections.model_client import ModelClientConfig
from ajet.errors import ModelCallError
from ajet.model_client.answer_cache import AnswerCache
from ajet.model_client.answer_form import response_format, with_form
from ajet.model_client.attempts import Attempts
from ajet.model_client.call_log import CallBudget, CallLog
from ajet.model_client.endpoint import (
    POLICY,
    ChatSender,
    ModelEndpoint,
    endpoint_of,
    policy_sender,
    remote_sender,
)
from ajet.model_client.place import PLACE

_LOOP = BackgroundLoop("ajet-model-client")


@dataclass(slots=True, kw_only=True, frozen=True)
class ModelAnswer:
    """What a model said."""

    text: str
    value: Any = None
    """The object of the form that was asked for; None without a form."""
    seconds: float = 0.0
    """Of all attempts; 0 for a kept answer."""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    attempts: int = 1
    is_kept: bool = False
    """The answer comes from disk, or from an equal question that was asked at the same time."""


@dataclass(slots=True, kw_only=True, frozen=True)
class _Question:
    request: dict[str, Any]
    form: type[BaseModel] | None
    session: str
    key: str
    """Key of its answer in the cache; empty if answers are not kept."""


@dataclass(slots=True, eq=False)
class _Flight:
    """A question that is being asked, and how many wait for its answer."""

    task: asyncio.Task[ModelAnswer]
    num_waiting: int = 0


@dataclass(slots=True, eq=False)
class _OnLoop:
    """What belongs to the event loop of this process; a forked child makes its own."""

    pid: int
    slots: asyncio.Semaphore
    budget: CallBudget
    cache: AnswerCache
    run_folder: Path | None
    flights: dict[str, _Flight] = field(default_factory=dict)

    def forget(self, key: str, flight: _Flight) -> None:
        """Let the next asker of the question ask it anew."""
        if self.flights.get(key) is flight:
            del self.flights[key]


class ModelClient:
    """Asks one model. One object serves all threads and event loops of a process.

    Args:
        config: the model and the limits.
        purpose: what it is asked for (`judge`, `data_generation`), for records and the budget.

    Raises:
        ConfigError: no model is named, or the environment variable with its key is not set.
    """

    def __init__(self, config: ModelClientConfig, *, purpose: str) -> None:
        self.config = config
        self.purpose = purpose
        self.is_policy = config.model == POLICY
        none = ModelEndpoint(url=POLICY, key="none")
        self._endpoint = none if self.is_policy else endpoint_of(config)
        self._log = CallLog()
        self._state: _OnLoop | None = None

    async def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        form: type[BaseModel] | None = None,
        sample: int = 0,
        session: str = "",
    ) -> ModelAnswer:
        """Ask a question; await it on any event loop.

        Args:
            messages: the conversation so far, in the form of the OpenAI API.
            form: asks for JSON of this form; an answer without it is asked for again.
            sample: tells several answers to one question apart: each has its own kept answer.
            session: the id of the episode that it is about; only the policy needs it.

        Raises:
            ModelBudgetError: the budget is used up.
            ModelCallError: no usable answer in time; the message has the reason.
        """
        asked = asyncio.wrap_future(_LOOP.start(self._ask(messages, form, sample, session)))
        try:
            return await asked
        finally:
            asked.cancel()  # reached with an unfinished question if the asker is cancelled

    def ask_blocking(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        form: type[BaseModel] | None = None,
        sample: int = 0,
        session: str = "",
    ) -> ModelAnswer:
        """Like `ask`, for code that blocks; any thread but that of a running event loop."""
        return _LOOP.start(self._ask(messages, form, sample, session)).result()

    # The methods below run on the loop of all clients.

    async def _ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        form: type[BaseModel] | None,
        sample: int,
        session: str,
    ) -> ModelAnswer:
        question = self._question(messages, form, sample, session)
        state = self._on_loop()
        if not self._keeps_answers:
            return await self._answered(state, question)
        # Equal questions at the same time are asked once: their answers would differ where the
        # model samples, and only one could be kept.
        flight = state.flights.get(question.key)
        is_first = flight is None
        if flight is None:
            flight = _Flight(asyncio.create_task(self._answered(state, question)))
            state.flights[question.key] = flight
            flight.task.add_done_callback(lambda _: state.forget(question.key, flight))
        flight.num_waiting += 1
        try:
            answer = await asyncio.shield(flight.task)
        finally:
            flight.num_waiting -= 1
            if not flight.num_waiting:
                # Before it ends: who asks meanwhile must not wait for what was given up.
                state.forget(question.key, flight)
                flight.task.cancel()
        return answer if is_first else replace(answer, is_kept=True, seconds=0.0, attempts=0)

    async def _answered(self, state: _OnLoop, question: _Question) -> ModelAnswer:
        kept = state.cache.get(question.key) if self._keeps_answers else None
        if kept:
            answer = self._read(question, kept, seconds=0.0, attempts=0, is_kept=True)
            self._record(question, answer)
            return answer
        if PLACE.offline:
            raise ModelCallError(
                f"model {self.config.model}: no kept answer to this question, and calls are "
                "switched off (--offline)"
            )
        started_s = time.monotonic()
        try:
            sender = await self._sender(question)
        except ModelCallError as error:
            self._record(question, None, str(error), started_s=started_s)
            raise
        attempts = Attempts(sender, self.config, self._endpoint, state.budget)
        try:
            async with state.slots:
                started_s = time.monotonic()
                raw = await attempts.run(question.request, question.form)
        except ModelCallError as error:
            self._record(question, None, str(error), attempts.number, started_s)
            raise
        tokens = [raw.prompt_tokens, raw.completion_tokens]
        stored: dict[str, Any] = {"text": raw.text, "value": raw.value, "tokens": tokens}
        if self._keeps_answers:
            stored = state.cache.put(question.key, stored)
        seconds = time.monotonic() - started_s
        answer = self._read(question, stored, seconds=seconds, attempts=attempts.number)
        self._record(question, answer)
        return answer

    @property
    def _keeps_answers(self) -> bool:
        # The policy is another model after each step.
        return self.config.cache and not self.is_policy

    def _question(
        self,
        messages: Sequence[Mapping[str, Any]],
        form: type[BaseModel] | None,
        sample: int,
        session: str,
    ) -> _Question:
        asked = [_encodable(message) for message in messages]
        request = {**self.config.request(), "messages": with_form(asked, form) if form else asked}
        if form and (wanted := response_format(form, self.config.structured)):
            request["response_format"] = wanted
        key = ""
        if self._keeps_answers:
            content = [self._endpoint.url, request, PLACE.first_sample + sample]
            key = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        return _Question(request=request, form=form, session=session, key=key)

    def _read(self, question: _Question, stored: dict[str, Any], **about: Any) -> ModelAnswer:
        value = question.form.model_validate_json(stored["value"]) if question.form else None
        prompt_tokens, completion_tokens = stored["tokens"]
        return ModelAnswer(
            text=stored["text"],
            value=value,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
            **about,
        )

    def _on_loop(self) -> _OnLoop:
        state = self._state
        if state is None or state.pid != os.getpid() or state.run_folder != PLACE.run_folder:
            folder = Path(self.config.cache_dir) if self.config.cache_dir else PLACE.cache_dir
            state = self._state = _OnLoop(
                pid=os.getpid(),
                slots=asyncio.Semaphore(self.config.max_concurrent),
                budget=CallBudget(self.config, self.purpose, PLACE.run_folder),
                cache=AnswerCache(folder if self._keeps_answers else None),
                run_folder=PLACE.run_folder,
            )
        return state

    async def _sender(self, question: _Question) -> ChatSender:
        if self.is_policy:
            return await policy_sender(question.session)
        return await remote_sender(self._endpoint)

    def _record(
        self,
        question: _Question,
        answer: ModelAnswer | None,
        error: str | None = None,
        attempts: int = 0,
        started_s: float = 0.0,
    ) -> None:
        seconds = answer.seconds if answer else time.monotonic() - started_s
        self._log.write(
            PLACE.run_folder,
            {
                "time": time.time(),
                "purpose": self.purpose,
                "model": self.config.model,
                "url": self._endpoint.url,
                "messages": question.request["messages"],
                "answer": answer.text if answer else None,
                "error": error,
                "is_kept": bool(answer and answer.is_kept),
                "attempts": answer.attempts if answer else attempts,
                "seconds": round(seconds, 4),
                "prompt_tokens": answer.prompt_tokens if answer else None,
                "completion_tokens": answer.completion_tokens if answer else None,
            },
        )


def _encodable(value: Any) -> Any:
    """The value without lone surrogates, which no request can carry."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {key: _encodable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encodable(item) for item in value]
    return value

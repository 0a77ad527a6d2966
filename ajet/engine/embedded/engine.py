"""Continuous batching over a transformers model in this process."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Literal, Protocol

import torch
from transformers import PreTrainedModel

from ajet.engine.base import OnToken
from ajet.engine.completion_room import max_new_tokens
from ajet.engine.embedded.batch import EngineBatch, EngineCounters
from ajet.engine.embedded.load import check_model
from ajet.engine.embedded.request import Request
from ajet.engine.embedded.schedule import ContinuousSchedule, LockstepSchedule
from ajet.engine.embedded.slots import SlotTable
from ajet.errors import EngineError, ModelError
from ajet.schema.generation import Generation, SamplingParams

logger = logging.getLogger(__name__)


class Decoder(Protocol):
    """What the engine needs of a tokenizer, for stop strings only."""

    def decode(self, token_ids: list[int], /) -> str:
        """The ids' text."""
        ...


class EmbeddedEngine:
    """Serves a stock transformers causal LM to many episodes at once.

    One thread runs the model; `generate` may be awaited from any loop of any other. The model
    object stays the caller's: its weights are used as they are at each moment, so that a trainer
    which changes them says so with `weights_update`. A session is an episode: its key-values are
    kept from call to call, and the lockstep waits for it if `open_session` announced it.

    Args:
        model: any causal LM of transformers with attention over a key-value cache.
        tokenizer: decodes, for stop strings.
        max_model_len: longest prompt plus completion.
        max_num_seqs: requests that run at once, and sequences whose key-values are kept.
        schedule: `lockstep` batches the same requests together in every run (see
            `LockstepSchedule`); `continuous` never waits for anybody.
        lockstep_patience_s: how long the lockstep waits for a session.
        prefill_chunk_tokens: tokens of prompts in one forward pass. None: 1024 on a CPU, where
            more does not fit its caches, 8192 elsewhere.
        seed: of requests that bring none.
        policy_version: of the weights as they are now.

    Raises:
        ModelError: the model is none that the engine can serve.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Decoder,
        *,
        max_model_len: int,
        max_num_seqs: int = 128,
        schedule: Literal["lockstep", "continuous"] = "lockstep",
        lockstep_patience_s: float = 30.0,
        prefill_chunk_tokens: int | None = None,
        seed: int = 0,
        policy_version: int = 0,
    ) -> None:
        check_model(model, max_model_len)
        self._max_model_len = max_model_len
        self._vocab_size = model.config.get_text_config().vocab_size
        self._seed = seed
        self._policy_version = policy_version
        self._schedule = (
            ContinuousSchedule(max_num_seqs)
            if schedule == "continuous"
            else LockstepSchedule(max_num_seqs, lockstep_patience_s)
        )
        if prefill_chunk_tokens is None:
            prefill_chunk_tokens = 1024 if model.device.type == "cpu" else 8192
        slots = SlotTable(max_num_seqs, max_model_len, self._schedule.sessions)
        self._batch = EngineBatch(model, tokenizer.decode, slots, prefill_chunk_tokens)
        self._changed = threading.Condition()  # guards the schedule and all that follows
        self._is_stepping = False
        self._is_held = False
        self._has_cancelled = False
        self._closing = False
        self._end: EngineError | None = None
        self._thread = threading.Thread(target=self._serve, name="ajet-engine", daemon=True)
        self._thread.start()

    @property
    def max_model_len(self) -> int:
        """Longest prompt plus completion, in tokens."""
        return self._max_model_len

    @property
    def policy_version(self) -> int:
        """0 for the base model; one more after each weight update."""
        return self._policy_version

    @property
    def lockstep_missed(self) -> int:
        """Times that the engine went on without a session because it stayed away too long."""
        return self._schedule.num_missed

    @property
    def counters(self) -> EngineCounters:
        """What it has done since it was made."""
        return self._batch.counters

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        session: str,
        on_token: OnToken | None = None,
    ) -> Generation:
        """Sample one completion. Cancelling it frees its place in the batch.

        `on_token` is called in the engine's thread: what it raises ends the engine.

        Raises:
            ContextLengthError: the prompt leaves no room for a token.
            EngineError: the engine failed or was closed.
            ModelError: the prompt is empty or has ids that the model does not know.
        """
        ids = list(prompt_ids)
        max_new = max_new_tokens(len(ids), params, self._max_model_len)
        if not ids or min(ids) < 0 or max(ids) >= self._vocab_size:
            raise ModelError(
                f"a prompt has ids from 0 to {self._vocab_size - 1}, at least one: got {ids}"
            )
        request = Request(
            session=session,
            params=params,
            ids=ids,
            max_new=max_new,
            on_token=on_token,
        )
        with self._changed:
            if self._end is not None:
                raise _copy_of(self._end)
            self._schedule.submit(request)
            self._changed.notify_all()
        request.future.add_done_callback(self._note_cancelled)
        return await asyncio.wrap_future(request.future)

    def open_session(self, session: str) -> None:
        """Announce an episode, for the lockstep to wait for. Any thread."""
        with self._changed:
            self._schedule.open(session)

    def close_session(self, session: str) -> None:
        """The episode is over: its rows are free to be reused. Any thread."""
        with self._changed:
            self._schedule.close(session)
            self._changed.notify_all()

    @contextmanager
    def weights_update(self) -> Iterator[None]:
        """Hold the engine between two steps while the caller changes the model's weights.

        Everything kept is forgotten. A completion that is under way goes on under the new
        weights, its whole context computed again by them: each token's logprob is what the
        weights of its own policy version give it.
        """
        with self._changed:
            self._is_held = True
            self._changed.wait_for(lambda: not self._is_stepping)
        try:
            yield
        finally:
            with self._changed:
                self._policy_version += 1
                self._batch.forget()
                self._is_held = False
                self._changed.notify_all()

    def forget(self) -> None:
        """Drop what is kept of earlier calls, and its memory: as in a new engine.

        What is computed next, to the last bit, does not depend on anything before.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._is_stepping)
            self._batch.forget()

    def weights_changed(self) -> None:
        """The weights were changed while no request was inside: the next version begins."""
        with self.weights_update():
            pass

    async def aclose(self) -> None:
        """End the engine's thread. Pending and later requests end in `EngineError`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        await asyncio.to_thread(self._thread.join)

    def _note_cancelled(self, future: Future[Generation]) -> None:
        if future.cancelled():
            with self._changed:
                self._has_cancelled = True
                self._changed.notify_all()

    def _serve(self) -> None:
        end = EngineError("the engine was closed")
        try:
            with torch.inference_mode():
                while self._admit():
                    self._deliver(self._batch.step(self._policy_version))
        except BaseException as error:  # the thread's boundary: callers learn of whatever it was
            logger.exception("the embedded engine failed")
            end = EngineError(f"the embedded engine failed: {type(error).__name__}: {error}")
            end.__cause__ = error
        with self._changed:
            self._end = end
            self._is_stepping = False
            self._changed.notify_all()
            pending = self._schedule.waiting + self._batch.requests
            self._batch.forget()
        for request in pending:
            if request.future.set_running_or_notify_cancel():
                request.future.set_exception(_copy_of(end))

    def _admit(self) -> bool:
        """Wait until there is something to compute; False when the engine is to end."""
        with self._changed:
            while not self._closing:
                if self._has_cancelled:
                    self._drop_cancelled()
                if not self._is_held and self._fill_batch():
                    self._is_stepping = True
                    return True
                self._changed.wait(None if self._is_held else self._schedule.wake_s())
            return False

    def _fill_batch(self) -> bool:
        admitted = self._schedule.admit(self._batch.requests)
        for request in admitted or []:
            request.draw(self._seed)
        self._batch.join(admitted or [])
        return admitted is not None

    def _drop_cancelled(self) -> None:
        self._has_cancelled = False
        inside = self._schedule.waiting + self._batch.requests
        cancelled = [request for request in inside if request.future.cancelled()]
        self._batch.leave(cancelled)
        self._schedule.leave(cancelled)

    def _deliver(self, ended: list[Request]) -> None:
        with self._changed:
            self._schedule.leave(ended)
            self._is_stepping = False
            self._changed.notify_all()
        for request in ended:
            if request.future.set_running_or_notify_cancel():
                request.future.set_result(request.generation)


def _copy_of(error: EngineError) -> EngineError:
    """An exception object of its own for each caller: raising one adds to its traceback."""
    copy = EngineError(*error.args)
    copy.__cause__ = error.__cause__
    return copy

"""An engine in this process: continuous batching over a transformers model."""

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
from ajet.engine.embedded.batch import EngineBatch, EngineCounters, SlotTable
from ajet.engine.embedded.load import check_model
from ajet.engine.embedded.model_runner import ModelRunner, keeps_states
from ajet.engine.embedded.schedule import ContinuousSchedule, LockstepSchedule, Request
from ajet.engine.grammar import Grammars, GrammarState
from ajet.errors import EngineError, ModelError, RequestError
from ajet.schema.episode import Generation, SamplingParams, max_new_tokens

logger = logging.getLogger(__name__)


class Decoder(Protocol):
    """The method of a tokenizer that the engine calls, for stop strings only."""

    def decode(self, token_ids: list[int], /) -> str:
        """Turn token ids into text."""
        ...


class EmbeddedEngine:
    """Serves an unmodified transformers causal LM to many episodes at the same time.

    One thread of the engine runs the model; `generate` may be awaited from any event loop of any
    other thread. The caller still owns the model object. The engine reads its weights in each step,
    so a trainer must change them inside `weights_update`. A session is an episode: its keys and
    values are kept from call to call, and the lockstep waits for it if `open_session` announced it.

    Args:
        model: any causal LM of transformers with attention over a key-value cache, or a hybrid
            of `load.HYBRIDS`.
        tokenizer: decodes tokens, for stop strings.
        max_model_len: the longest prompt plus completion, in tokens.
        max_num_seqs: how many requests run at the same time, and how many sequences keep their
            keys and values.
        grammars: for requests with a grammar; None: such requests are refused.
        schedule: `lockstep` batches the same requests together in every run (see
            `LockstepSchedule`); `continuous` never waits for a session.
        lockstep_patience_s: how long the lockstep waits for a session.
        prefill_chunk_tokens: the most prompt tokens in one forward pass. None: 1024 on a CPU,
            because more does not fit its caches, and 8192 on other devices.
        seed: the seed of requests that have none.
        policy_version: the version of the weights as they are now.

    Raises:
        ModelError: the engine cannot serve this model.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Decoder,
        *,
        max_model_len: int,
        max_num_seqs: int = 128,
        grammars: Grammars | None = None,
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
        self._grammars = grammars
        self._policy_version = policy_version
        self._schedule = (
            ContinuousSchedule(max_num_seqs)
            if schedule == "continuous"
            else LockstepSchedule(max_num_seqs, lockstep_patience_s)
        )
        if prefill_chunk_tokens is None:
            prefill_chunk_tokens = 1024 if model.device.type == "cpu" else 8192
        slots = SlotTable(
            max_num_seqs,
            max_model_len,
            self._schedule.sessions,
            whole_rows=keeps_states(model),
        )
        self._batch = EngineBatch(ModelRunner(model), tokenizer.decode, slots, prefill_chunk_tokens)
        # The lock guards the schedule and all fields below. The batch needs no lock: only the
        # engine's thread uses it, or another thread while `_is_stepping` is False and the lock is
        # held. The lock is never held during a forward pass, so callers never wait for the model.
        self._changed = threading.Condition()
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
        """How often the engine continued without a session that stayed away too long."""
        return self._schedule.num_missed

    @property
    def counters(self) -> EngineCounters:
        """Counts of the engine's work since it was made."""
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
            RequestError: the grammar cannot be enforced.
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
            grammar=self._grammar_state(params),
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
        """Announce an episode, so that the lockstep waits for it; any thread may call this."""
        with self._changed:
            self._schedule.open(session)

    def close_session(self, session: str) -> None:
        """End an episode and free its rows for reuse; any thread may call this."""
        with self._changed:
            self._schedule.close(session)
            self._changed.notify_all()

    @contextmanager
    def weights_update(self) -> Iterator[None]:
        """Hold the engine between two steps while the caller changes the model's weights.

        All keys and values are dropped. A running completion continues under the new weights,
        which compute its whole context again. So the logprob of each token is the one under the
        weights of the token's own policy version.
        """
        with self._changed:
            # Held first and waited for afterwards: otherwise the engine could start another step
            # before this thread gets the lock back.
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
        """Drop everything that is kept of earlier calls, as in a new engine.

        Later results do not depend on earlier requests, not even in the last bit.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._is_stepping)
            self._batch.forget()

    def weights_changed(self) -> None:
        """Begin the next policy version, after the weights were changed while no request ran."""
        with self.weights_update():
            pass

    async def aclose(self) -> None:
        """End the engine's thread. Pending and later requests end in `EngineError`."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        # Joined in another thread: a step may take long, and the event loop must not block.
        await asyncio.to_thread(self._thread.join)

    def _grammar_state(self, params: SamplingParams) -> GrammarState | None:
        if params.grammar is None:
            return None
        if self._grammars is None:
            raise RequestError(
                "response_format: this engine was started without grammars, so no schema can be "
                "enforced",
                param="response_format",
            )
        return self._grammars.start(params.grammar)

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
        except BaseException as error:
            # Nobody waits for this thread, so an error must reach the callers through their
            # futures; without that they would wait for ever.
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
        """Wait until there is something to compute; return False if the engine must end."""
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
        # Outside of the lock: a result may run callbacks of the caller, which take the lock.
        for request in ended:
            if not request.future.set_running_or_notify_cancel():
                continue
            if request.failure is None:
                request.future.set_result(request.generation)
            else:
                request.future.set_exception(request.failure)


def _copy_of(error: EngineError) -> EngineError:
    """A copy of the error for one caller: raising one object in many threads mixes tracebacks."""
    copy = EngineError(*error.args)
    copy.__cause__ = error.__cause__
    return copy

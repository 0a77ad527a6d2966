"""The requests that run together, and the forward passes of one step for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel

from ajet.engine.embedded.model_runner import ModelRunner
from ajet.engine.embedded.request import Request
from ajet.engine.embedded.sampling import sample
from ajet.engine.embedded.slots import SlotTable
from ajet.engine.stopping import finish_reason
from ajet.errors import EngineError

NOT_FINITE = (
    "the model's logits are NaN or infinite for this request, so no token can be sampled; its "
    "weights are finite, so the prompt or the dtype is the cause"
)


@dataclass(slots=True, kw_only=True)
class EngineCounters:
    """Counts the work of an engine since it was made."""

    passes: int = 0
    """Forward passes."""
    computed_tokens: int = 0
    """Tokens that went through the model."""
    sampled_tokens: int = 0
    """Tokens that were sampled."""


class EngineBatch:
    """The admitted requests: first they wait for their prompts to be computed, then they run.

    Args:
        model: the model.
        decode: turns token ids into text, for stop strings.
        slots: the cache rows of the requests.
        prefill_chunk_tokens: the most prompt tokens in one forward pass.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        decode: Callable[[list[int]], str],
        slots: SlotTable,
        prefill_chunk_tokens: int,
    ) -> None:
        self.counters = EngineCounters()
        self._runner = ModelRunner(model)
        self._decode = decode
        self._slots = slots
        self._prefill_chunk_tokens = prefill_chunk_tokens
        self._line: list[Request] = []

    @property
    def requests(self) -> list[Request]:
        """All requests that were admitted and have not ended."""
        running = [request for request in self._slots.requests if request is not None]
        return running + [request for request in self._line if request.row < 0]

    def join(self, requests: list[Request]) -> None:
        """Add requests to the batch."""
        self._line += requests

    def leave(self, requests: Collection[Request]) -> None:
        """Remove requests; their keys and values stay in the cache rows for later calls."""
        for request in requests:
            if request.row >= 0:
                self._slots.release(request)
        self._leave_line(requests)

    def forget(self) -> None:
        """Drop all keys and values and their memory; running requests compute theirs again."""
        self._line = self.requests
        for request in self._line:
            request.row = -1
        self._slots.clear()
        self._runner.cache.clear()

    def step(self, policy_version: int) -> list[Request]:
        """Compute the prompts that wait; if none does, sample one token for each running request.

        Returns:
            The requests that ended in this step; they are no longer in the batch. One whose
            logits are NaN or infinite has its `failure` set; the others continue.

        Raises:
            EngineError: the model's weights are NaN or infinite.
        """
        parts = self._prefill_parts() if self._line else [self._decode_rows()]
        ended = []
        for part in parts:
            ended += self._advance(part, policy_version)
        self.leave(ended)
        return ended

    def _prefill_parts(self) -> Iterator[list[Request]]:
        """The requests of each forward pass, of bounded size and with chunks of similar length."""
        plan = self._slots.plan(self._line)
        self._fit_cache()
        if plan.copies:
            self._runner.cache.copy([*plan.copies.values()], [*plan.copies], plan.num_copied)
        # Similar lengths go together, because every chunk of a pass is padded to the longest.
        requests = sorted(plan.requests, key=lambda request: -len(self._todo(request)))
        while requests:
            count = max(1, self._prefill_chunk_tokens // len(self._todo(requests[0])))
            yield requests[:count]
            requests = requests[count:]

    def _decode_rows(self) -> list[Request]:
        """All running requests, moved to the first rows so that the model reads them in place."""
        sources, targets = self._slots.pack()
        if sources:
            self._runner.cache.copy(sources, targets, int(self._slots.length[targets].max()))
        running = self.requests
        self._slots.reach(max(len(request.ids) for request in running))
        self._fit_cache()
        return running

    def _fit_cache(self) -> None:
        if self._slots.shape != self._runner.cache.shape:
            self._runner.cache.resize(*self._slots.shape)

    def _todo(self, request: Request) -> list[int]:
        """The tokens of the request that go through the model next."""
        start = self._slots.length[request.row]
        return request.ids[start : start + self._prefill_chunk_tokens]

    def _advance(self, requests: list[Request], policy_version: int) -> list[Request]:
        """Run one forward pass, and sample for the requests whose prompt is complete.

        Returns:
            The requests that end with the sampled token.
        """
        rows = [request.row for request in requests]
        chunks = [self._todo(request) for request in requests]
        logits = self._runner.forward(rows, self._slots.length[rows], chunks)
        for row, chunk in zip(rows, chunks, strict=True):
            self._slots.hold(row, chunk)
        self.counters.passes += 1
        self.counters.computed_tokens += sum(map(len, chunks))
        is_ready = [int(self._slots.length[r.row]) == len(r.ids) for r in requests]
        if not all(is_ready):
            logits = logits[torch.tensor(is_ready)]
            requests = [request for request, ready in zip(requests, is_ready, strict=True) if ready]
        self._leave_line(requests)
        return self._sample(requests, logits, policy_version) if requests else []

    def _sample(
        self, requests: list[Request], logits: torch.Tensor, policy_version: int
    ) -> list[Request]:
        uniforms = [request.uniforms[len(request.generation.token_ids)] for request in requests]
        params = [request.params for request in requests]
        tokens, logprobs = (values.tolist() for values in sample(logits, params, uniforms))
        ended = []
        for request, token, logprob in zip(requests, tokens, logprobs, strict=True):
            if not math.isfinite(logprob):
                # Rows do not influence each other: with good weights, only this request fails.
                self._runner.check_weights()
                request.failure = EngineError(NOT_FINITE)
                ended.append(request)
                continue
            self.counters.sampled_tokens += 1
            request.append(token, logprob, policy_version)
            generation = request.generation
            reason = finish_reason(
                generation.token_ids, request.params, request.max_new, self._decode
            )
            if reason is not None:
                generation.finish_reason = reason
                ended.append(request)
        return ended

    def _leave_line(self, requests: Collection[Request]) -> None:
        if self._line:
            gone = set(requests)
            self._line = [request for request in self._line if request not in gone]

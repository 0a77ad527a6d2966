"""The requests that run together: the forward passes and the sampling of one step for them."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from transformers import PreTrainedModel

from ajet.engine.embedded.model_runner import ModelRunner
from ajet.engine.embedded.schedule import Request
from ajet.engine.embedded.slots import SlotTable
from ajet.errors import EngineError
from ajet.schema.call import SamplingParams, finish_reason

NOT_FINITE = (
    "the model's logits are NaN or infinite for this request, so no token can be sampled; its "
    "weights are finite, so the prompt or the dtype is the cause"
)

STUCK = (
    "no token of the model's vocabulary can follow in the demanded JSON schema; set "
    "rollout.response_format: prompt"
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
        logits = _with_grammars(logits, requests)
        tokens, logprobs = (values.tolist() for values in sample(logits, params, uniforms))
        ended = []
        for request, token, logprob in zip(requests, tokens, logprobs, strict=True):
            if not math.isfinite(logprob):
                # Rows do not influence each other: with good weights, only this request fails.
                self._runner.check_weights()
                request.failure = EngineError(NOT_FINITE if request.grammar is None else STUCK)
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


def sample(
    logits: torch.Tensor, params: Sequence[SamplingParams], uniforms: Sequence[float]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Sample one token per row.

    A row's token depends only on its own logits, parameters and random number: it is the first
    token in vocabulary order at which the cumulative probability (float64) exceeds that number.

    Args:
        logits: [N, V], any float type.
        params: [N] parameters of each row.
        uniforms: [N] random numbers in [0, 1).

    Returns:
        Tokens [N] int64, and logprobs [N] float32 as `Generation.logprobs` defines them.
    """
    logits = logits.float()
    temperatures = [p.temperature or 1.0 for p in params]
    if any(t != 1.0 for t in temperatures):
        logits = logits / logits.new_tensor(temperatures)[:, None]
    logprobs = logits.log_softmax(-1)
    probabilities = logprobs.double().exp()
    _cut_tails(probabilities, params)
    cumulated = probabilities.cumsum(-1)
    cumulated /= cumulated[:, -1:].clone()
    targets = cumulated.new_tensor(uniforms)[:, None]
    tokens = torch.searchsorted(cumulated, targets, right=True)
    # Only NaN exceeds the vocabulary. It must not fail here: the engine sees it in the logprobs.
    tokens = tokens.clamp_(max=logits.shape[-1] - 1)
    greedy = [p.temperature == 0 for p in params]
    if any(greedy):
        is_greedy = torch.tensor(greedy, device=logits.device)[:, None]
        tokens = torch.where(is_greedy, logits.argmax(-1, keepdim=True), tokens)
    return tokens[:, 0], logprobs.gather(-1, tokens)[:, 0]


def _cut_tails(probabilities: torch.Tensor, params: Sequence[SamplingParams]) -> None:
    """Set to 0, in place, the probabilities of tokens that top-k and top-p exclude."""
    vocabulary = probabilities.shape[-1]
    cut = [i for i, p in enumerate(params) if p.top_p < 1 or 0 < p.top_k < vocabulary]
    if not cut:
        return
    top_p = probabilities.new_tensor([params[i].top_p for i in cut])[:, None]
    top_k = probabilities.new_tensor([params[i].top_k or vocabulary for i in cut])[:, None]
    rows = torch.tensor(cut, device=probabilities.device)
    ordered, order = probabilities[rows].sort(dim=-1, descending=True, stable=True)
    ordered = ordered * (torch.arange(vocabulary, device=order.device) < top_k)
    # top-p applies to the tokens that top-k left, renormalised. A token stays if the tokens before
    # it have less than top_p together, so the first token always stays.
    ordered /= ordered.sum(-1, keepdim=True)
    ordered = ordered * (ordered.cumsum(-1) - ordered < top_p)
    probabilities[rows] = torch.zeros_like(ordered).scatter_(-1, order, ordered)


def _with_grammars(logits: torch.Tensor, requests: list[Request]) -> torch.Tensor:
    """The logits [N, V], minus infinity where a row's grammar does not allow the token."""
    rows = [row for row, request in enumerate(requests) if request.grammar is not None]
    if not rows:
        return logits
    allowed = np.stack([request.grammar.allowed() for request in requests if request.grammar])
    logits = logits.float()  # a copy: the model's own logits stay as they are
    index = torch.tensor(rows, device=logits.device)
    forbidden = torch.from_numpy(~allowed).to(logits.device)
    return logits.index_copy(0, index, logits[index].masked_fill(forbidden, -math.inf))

"""Which tokens may come next in a completion that must match a grammar.

The engine asks before it samples a token, and the trainer asks again for the sampled tokens. Both
get the same answer from the same code, so both compute the same logprobs.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ajet.errors import MissingExtraError, RequestError


class Grammars:
    """Compiles grammars for the vocabulary of one model.

    Args:
        tokenizer_file: the model's `tokenizer.json`.
        vocab_size: V, the number of logits that the model has.
        stop_token_ids: the ids that may follow a text that matches as a whole.
    """

    def __init__(
        self, tokenizer_file: Path, *, vocab_size: int, stop_token_ids: tuple[int, ...]
    ) -> None:
        self._tokenizer_file = tokenizer_file
        self._vocab_size = vocab_size
        self._stop_token_ids = list(stop_token_ids)

    def start(self, grammar: str) -> GrammarState:
        """The state before the first token of a completion.

        Args:
            grammar: a grammar in llguidance's variant of Lark.

        Raises:
            RequestError: the grammar cannot be compiled, for example because of a keyword of JSON
                schema that llguidance does not support.
            MissingExtraError: llguidance is not installed.
        """
        try:
            from llguidance import LLMatcher
        except ModuleNotFoundError:
            raise MissingExtraError("llguidance", "local") from None
        matcher = LLMatcher(self._tokenizer, LLMatcher.grammar_from_lark(grammar), log_level=0)
        if matcher.is_error():
            reason = matcher.get_error().strip().splitlines()[0]
            raise RequestError(
                f"response_format: the schema cannot be enforced: {reason}; simplify it, or set "
                "rollout.response_format: prompt",
                param="response_format",
                code="unsupported_value",
            )
        return GrammarState(matcher, self._vocab_size)

    def allowed_along(self, grammar: str, token_ids: np.ndarray) -> np.ndarray:
        """[C, V] bool: which tokens were allowed at each position of a completion [C]."""
        state = self.start(grammar)
        allowed = np.zeros((len(token_ids), self._vocab_size), np.bool_)
        for row, token in enumerate(token_ids.tolist()):
            allowed[row] = state.allowed()
            state.accept(token)
        return allowed

    @cached_property
    def _tokenizer(self) -> Any:
        from llguidance import LLTokenizer

        # Compiling a vocabulary of 150,000 tokens takes about a second, once per run.
        text = self._tokenizer_file.read_text(encoding="utf-8")
        return LLTokenizer(text, n_vocab=self._vocab_size, eos_token=self._stop_token_ids)


class GrammarState:
    """How far one completion has come."""

    def __init__(self, matcher: Any, vocab_size: int) -> None:
        self._matcher = matcher
        self._vocab_size = vocab_size
        self._bits = np.zeros((1, -(-vocab_size // 32)), np.int32)

    def allowed(self) -> np.ndarray:
        """[V] bool: the tokens that may come next."""
        from llguidance.numpy import fill_next_token_bitmask

        fill_next_token_bitmask(self._matcher, self._bits)
        bits = np.unpackbits(self._bits.view(np.uint8)[0], bitorder="little")
        return bits[: self._vocab_size].astype(np.bool_)

    def accept(self, token: int) -> None:
        """Take the next token, which must be an allowed one."""
        self._matcher.consume_token(token)

"""An engine that answers from a script, for tests: it needs no model and no torch."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from ajet.engine.base import OnToken
from ajet.errors import EngineError
from ajet.schema.episode import Generation, SamplingParams, finish_reason, max_new_tokens

Script = Callable[[list[int], SamplingParams, str], Generation | list[int]]
"""From prompt ids, parameters and session to the completion: its token ids, or a `Generation`."""


class Tokenizer(Protocol):
    """The methods of a tokenizer that the scripted engine calls."""

    def encode(self, text: str, add_special_tokens: bool = ...) -> list[int]:
        """Turn text into token ids."""
        ...

    def decode(self, token_ids: list[int], /) -> str:
        """Turn token ids into text."""
        ...


@dataclass(slots=True, kw_only=True, frozen=True)
class ScriptedRequest:
    """One call of `ScriptedEngine.generate` and its answer."""

    prompt_ids: list[int]
    params: SamplingParams
    session: str
    generation: Generation


class ScriptedEngine:
    """Answers with given completions, and keeps every request for assertions.

        engine = ScriptedEngine.from_texts(tokenizer, ["4 + 4 is", "Answer: 8"], stop_id=2)

    Args:
        script: a function from prompt, parameters and session to a completion; or a list of
            completions as token ids, which each session gets one after the other. If only ids are
            given, the logprobs are made up: negative numbers that depend on the token and its
            position. A function may raise `EngineError` to simulate a fault.
        max_model_len: the longest prompt plus completion, in tokens.
        delay_s: seconds that each answer takes; its tokens are spread over that time.
        policy_version: the policy version of every answer; tests may change it.
        tokenizer: needed if requests have stop strings.
    """

    def __init__(
        self,
        script: Script | Sequence[Sequence[int]],
        *,
        max_model_len: int = 4096,
        delay_s: float = 0.0,
        policy_version: int = 0,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        self.max_model_len = max_model_len
        self.policy_version = policy_version
        self.requests: list[ScriptedRequest] = []
        """The answered requests, in the order of the answers."""
        self.open_sessions: set[str] = set()
        self._script = script if callable(script) else _replay(script)
        self._delay_s = delay_s
        self._tokenizer = tokenizer
        self._is_closed = False
        self._lock = threading.Lock()

    @classmethod
    def from_texts(
        cls,
        tokenizer: Tokenizer,
        texts: Sequence[str],
        stop_id: int,
        *,
        max_model_len: int = 4096,
        delay_s: float = 0.0,
    ) -> ScriptedEngine:
        """Make an engine that gives each session these texts in order, each ended by `stop_id`."""
        completions = [
            [*tokenizer.encode(text, add_special_tokens=False), stop_id] for text in texts
        ]
        return cls(completions, max_model_len=max_model_len, delay_s=delay_s, tokenizer=tokenizer)

    async def generate(
        self,
        prompt_ids: Sequence[int],
        params: SamplingParams,
        *,
        session: str,
        on_token: OnToken | None = None,
    ) -> Generation:
        """Answer from the script; the parameters or the end of the context may cut the answer.

        Raises:
            ContextLengthError: the prompt leaves no room for a token.
            EngineError: the script is exhausted or raised it, or the engine is closed.
        """
        prompt = list(prompt_ids)
        max_new = max_new_tokens(len(prompt), params, self.max_model_len)
        if on_token is None:
            await asyncio.sleep(self._delay_s)
        generation = self._answer(prompt, params, session, max_new)
        if on_token is not None:
            await self._stream(generation, on_token)
        self.requests.append(
            ScriptedRequest(
                prompt_ids=prompt, params=params, session=session, generation=generation
            )
        )
        return generation

    def open_session(self, session: str) -> None:
        """Add the session to `open_sessions`."""
        self.open_sessions.add(session)

    def close_session(self, session: str) -> None:
        """Remove the session from `open_sessions`."""
        self.open_sessions.discard(session)

    async def aclose(self) -> None:
        """Close the engine: later requests end in `EngineError`."""
        self._is_closed = True

    def _answer(
        self, prompt: list[int], params: SamplingParams, session: str, max_new: int
    ) -> Generation:
        with self._lock:  # a script may have state, and the callers are in many threads
            if self._is_closed:
                raise EngineError("the engine was closed")
            answer = self._complete(self._script(prompt, params, session))
            return self._cut(answer, params, max_new)

    async def _stream(self, generation: Generation, on_token: OnToken) -> None:
        pause_s = self._delay_s / len(generation.token_ids)
        await asyncio.sleep(0)
        for token, logprob in zip(generation.token_ids, generation.logprobs, strict=True):
            if pause_s:
                await asyncio.sleep(pause_s)
            on_token(token, logprob)

    def _complete(self, answer: Generation | list[int]) -> Generation:
        if isinstance(answer, Generation):
            return answer
        if not answer:
            raise EngineError(
                "the script returned an empty completion; a completion has at least one token"
            )
        return Generation(
            token_ids=answer,
            logprobs=[-(1 + (7 * token + i) % 31) / 32 for i, token in enumerate(answer)],
            policy_versions=[self.policy_version] * len(answer),
        )

    def _cut(self, script: Generation, params: SamplingParams, max_new: int) -> Generation:
        """The part of the answer up to the token at which a real engine would have stopped."""
        for length in range(1, len(script.token_ids) + 1):
            reason = finish_reason(script.token_ids[:length], params, max_new, self._decode)
            if reason is not None:
                return Generation(
                    token_ids=script.token_ids[:length],
                    logprobs=script.logprobs[:length],
                    policy_versions=script.policy_versions[:length],
                    finish_reason=reason,
                )
        return script

    def _decode(self, ids: list[int]) -> str:
        if self._tokenizer is None:
            raise EngineError(
                "a request has stop strings, so the scripted engine needs a tokenizer; give it one"
            )
        return self._tokenizer.decode(ids)


def _replay(completions: Sequence[Sequence[int]]) -> Script:
    """A script that gives each session the completions in order."""
    num_given: dict[str, int] = defaultdict(int)

    def script(prompt_ids: list[int], params: SamplingParams, session: str) -> list[int]:
        index = num_given[session]
        if index == len(completions):
            raise EngineError(
                f"the script has {len(completions)} completions, but session {session!r} requests "
                "one more"
            )
        num_given[session] += 1
        return list(completions[index])

    return script
